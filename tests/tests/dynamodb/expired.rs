//! What has expired and is still there: DynamoDB collects days later, or never.

use std::sync::Arc;

use cache_core::{CacheKey, CacheStorage, Condition, TimeLeft, Ttl};
use cache_dynamo::KeySchema;

use crate::support::{Table, entry, fetch, minute, storage};
use crate::tables::expired_item;

fn schemas() -> [KeySchema; 3] {
    [
        KeySchema::default(),
        KeySchema::constant_sort("PK", "SK", "cache"),
        KeySchema::constant_partition("PK", "cache", "SK"),
    ]
}

/// A table with an entry that expired six years ago under `k`.
async fn with_expired(schema: KeySchema) -> Table {
    let table = Table::with_schema(schema).await;
    put_expired(&table).await;
    table
}

async fn put_expired(table: &Table) {
    let item = expired_item(&table.options.key_schema, "k");
    table.put_item(item).await;
}

#[tokio::test]
async fn it_is_absent_for_every_operation_and_left_where_it_is() {
    for schema in schemas() {
        let table = with_expired(schema).await;
        let (storage, key) = (&table.storage, CacheKey::from("k"));
        let before = table.item("k").await;
        let keys = [key.clone()];
        assert!(storage.get(&key).await.unwrap().is_none());
        assert!(storage.lookup(&key).await.unwrap().is_none());
        assert!(storage.get_many(&keys).await.remove(0).unwrap().is_none());
        assert!(
            storage
                .lookup_many(&keys)
                .await
                .remove(0)
                .unwrap()
                .is_none()
        );
        assert!(!storage.has(&key).await.unwrap());
        assert_eq!(storage.get_ttl(&key).await.unwrap(), TimeLeft::Missing);
        assert!(!storage.expire(&key, minute()).await.unwrap());
        assert!(!storage.expire(&key, Ttl::FOREVER).await.unwrap());
        assert!(!storage.expire_now(&key).await.unwrap());
        assert!(!storage.compare_and_delete(&key, b"41").await.unwrap());
        for condition in [Condition::IfPresent, Condition::IfEquals("41".into())] {
            assert!(!storage.set(&key, entry("new"), condition).await.unwrap());
        }
        assert_eq!(table.item("k").await, before);
    }
}

#[tokio::test]
async fn writes_succeed_over_it() {
    for schema in schemas() {
        let table = with_expired(schema).await;
        let (storage, key) = (&table.storage, CacheKey::from("k"));
        assert!(
            storage
                .set(&key, entry("new"), Condition::IfAbsent)
                .await
                .unwrap()
        );
        assert_eq!(fetch(storage, "k").await.unwrap().as_deref(), Some("new"));
        put_expired(&table).await;
        let counter = storage.increment(&key, 1, minute()).await.unwrap();
        assert_eq!(counter.value, 1, "the old 41 does not count");
        assert!(counter.expires_in.is_some());
        put_expired(&table).await;
        assert!(
            storage
                .set(&key, entry("new"), Condition::Always)
                .await
                .unwrap()
        );
        put_expired(&table).await;
        assert!(!storage.delete(&key).await.unwrap(), "no fresh entry went");
        assert_eq!(table.item("k").await, None);
    }
}

#[tokio::test]
async fn concurrent_counters_start_once_over_it() {
    let table = with_expired(KeySchema::default()).await;
    let storage = Arc::new(storage(table.options.clone()));
    let counts: Vec<_> = (0..16)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.increment(&"k".into(), 1, minute()).await })
        })
        .collect();
    let mut sums = Vec::new();
    for counted in counts {
        sums.push(counted.await.unwrap().unwrap().value);
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=16).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_clear_deletes_it_without_counting_it() {
    for schema in schemas() {
        let table = with_expired(schema).await;
        let scope = cache_core::ClearScope::everything();
        let cleared = table.storage.clear(&scope).await.unwrap();
        assert_eq!((cleared.deleted, cleared.complete), (0, true));
        assert_eq!(table.item("k").await, None);
    }
}
