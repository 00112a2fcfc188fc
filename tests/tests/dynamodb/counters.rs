//! Counters of many tasks, and both ends of their range.

use std::sync::Arc;

use cache_core::{CacheKey, CacheStorage, ErrorKind};

use crate::support::{Table, minute, storage};
use crate::tables::{item, number, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_of_several_processes_are_exact() {
    let table = Table::new().await;
    // Each storage has a client of its own, as another process has.
    let storages: Vec<_> = (0..4)
        .map(|_| Arc::new(storage(table.options.clone())))
        .collect();
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let storage = Arc::clone(&storages[task % storages.len()]);
            tokio::spawn(async move {
                let key = CacheKey::from("n");
                for _ in 0..25 {
                    storage
                        .increment(&key, 1, minute())
                        .await
                        .expect("it counts");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    assert_eq!(table.item("n").await.unwrap()["value"], number(800));
}

#[tokio::test]
async fn a_sum_outside_the_range_is_refused_and_changes_nothing() {
    let table = Table::new().await;
    let key = CacheKey::from("n");
    for (start, deltas) in [
        (i64::MAX, [1, i64::MAX]),
        (i64::MIN, [-1, i64::MIN]),
        (1, [i64::MAX, i64::MAX]),
        (-1, [i64::MIN, i64::MIN]),
    ] {
        let counter = item([
            ("PK", text("n")),
            ("value", number(start)),
            ("cache_v", number(1)),
        ]);
        table.put_item(counter.clone()).await;
        for delta in deltas {
            let error = table
                .storage
                .increment(&key, delta, minute())
                .await
                .unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Overflow,
                "{start} + {delta}: {error}"
            );
            assert!(!error.may_have_happened());
        }
        assert_eq!(table.item("n").await, Some(counter));
    }
}

#[tokio::test]
async fn a_number_beyond_64_bits_is_no_counter() {
    let table = Table::new().await;
    for digits in [
        "9223372036854775808",
        "1.5",
        "1000000000000000000000000000000",
    ] {
        let value = aws_sdk_dynamodb::types::AttributeValue::N(digits.to_owned());
        let foreign = item([("PK", text("n")), ("value", value), ("cache_v", number(1))]);
        table.put_item(foreign.clone()).await;
        let counted = table.storage.increment(&"n".into(), 1, minute()).await;
        let error = counted.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::NotACounter | ErrorKind::Serialization
            ),
            "{digits}: {error}"
        );
    }
}
