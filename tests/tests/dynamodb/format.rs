//! What stands in a table, for those who look at it with other tools.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use cache_core::{
    CacheKey, CacheService, CacheStorage, Codec, CodecId, Condition, ManualClock, NewEntry,
    Timestamp, Ttl, hours, mins, secs,
};

use crate::support::{Table, minute, storage};
use crate::tables::{item, number, text};

/// 1 January 2026, where a manual clock starts.
const START: i64 = 1_767_225_600;

async fn on_manual_clock() -> (Table, ManualClock) {
    let clock = ManualClock::new();
    let table = Table::with(|options| options.with_clock(clock.clone())).await;
    (table, clock)
}

async fn set(table: &Table, entry: NewEntry) {
    let key = CacheKey::from("k");
    let written = table.storage.set(&key, entry, Condition::Always).await;
    assert!(written.expect("the storage writes"));
}

#[tokio::test]
async fn json_is_text_that_others_read() {
    let (table, _) = on_manual_clock().await;
    let sessions = CacheService::builder(storage(table.options.clone()))
        .prefix("session")
        .ttl(mins(1))
        .build()
        .unwrap();
    sessions.set("42", &("alice", 7)).await.unwrap();
    let expected = item([
        ("PK", text("session:42")),
        ("value", text(r#"["alice",7]"#)),
        ("ttl", number(START + 60)),
        ("cache_v", number(1)),
        ("cache_expires", number((START + 60) * 1000)),
    ]);
    assert_eq!(table.item("session:42").await, Some(expected));
}

#[tokio::test]
async fn a_counter_is_a_number() {
    let (table, clock) = on_manual_clock().await;
    let expected = |count| {
        Some(item([
            ("PK", text("n")),
            ("value", number(count)),
            ("ttl", number(START + 60)),
            ("cache_v", number(1)),
            ("cache_expires", number((START + 60) * 1000)),
        ]))
    };
    for (delta, sum) in [
        (9_007_199_254_740_993, 9_007_199_254_740_993),
        (-9_007_199_254_740_995, -2),
    ] {
        let counter = table.storage.increment(&"n".into(), delta, minute()).await;
        assert_eq!(counter.unwrap().value, sum);
        assert_eq!(table.item("n").await, expected(sum));
    }
    clock.advance(mins(1));
    table
        .storage
        .increment(&"n".into(), 5, Ttl::FOREVER)
        .await
        .unwrap();
    let for_ever = item([
        ("PK", text("n")),
        ("value", number(5)),
        ("cache_v", number(1)),
    ]);
    assert_eq!(table.item("n").await, Some(for_ever));
}

#[tokio::test]
async fn a_number_that_others_write_is_counted() {
    let table = Table::new().await;
    table
        .put_item(item([
            ("PK", text("n")),
            ("value", number(41)),
            ("cache_v", number(1)),
        ]))
        .await;
    let counter = table.storage.increment(&"n".into(), 1, minute()).await;
    assert_eq!(counter.unwrap(), cache_core::Counter::new(42, None));
}

#[tokio::test]
async fn bytes_are_bytes_and_metadata_has_attributes() {
    let (table, _) = on_manual_clock().await;
    let value: &[u8] = &[0xFF, 0x00, 0x01];
    let entry = NewEntry::new(value, Ttl::new(secs(90)).unwrap())
        .with_stale_for(hours(1))
        .unwrap()
        .with_created_at(Timestamp::from_millis(1_700_000_000_123))
        .with_codec(CodecId::Postcard);
    set(&table, entry).await;
    let expected = item([
        ("PK", text("k")),
        ("value", AttributeValue::B(Blob::new(value))),
        ("ttl", number(START + 90 + 3600)),
        ("cache_v", number(1)),
        ("cache_expires", number((START + 90) * 1000)),
        ("cache_stale", number(3_600_000)),
        ("cache_created", number(1_700_000_000_123)),
        ("cache_codec", text("postcard")),
    ]);
    assert_eq!(table.item("k").await, Some(expected));
}

#[tokio::test]
async fn a_service_with_a_binary_codec_stores_bytes() {
    let table = Table::new().await;
    let cache = CacheService::builder(storage(table.options.clone()))
        .codec(Codec::Postcard)
        .ttl(mins(1))
        .build()
        .unwrap();
    cache.set("k", "alice").await.unwrap();
    let stored = table.item("k").await.unwrap();
    let bytes = AttributeValue::B(Blob::new(b"\x05alice"));
    assert_eq!(stored["value"], bytes);
    assert_eq!(stored["cache_codec"], text("postcard"));
}

#[tokio::test]
async fn the_collectors_time_is_rounded_up() {
    let (table, _) = on_manual_clock().await;
    for (milliseconds, seconds) in [(1, 1), (999, 1), (1000, 1), (1001, 2)] {
        let span = std::time::Duration::from_millis(milliseconds);
        set(&table, NewEntry::new("v", Ttl::new(span).unwrap())).await;
        let stored = table.item("k").await.unwrap();
        assert_eq!(stored["ttl"], number(START + seconds), "{milliseconds} ms");
    }
}

#[tokio::test]
async fn deadlines_move_in_one_step_with_the_collectors_time() {
    let (table, _) = on_manual_clock().await;
    let plain = NewEntry::new("v", minute());
    let with_budget = plain.clone().with_stale_for(mins(5)).unwrap();
    for (entry, budget) in [(plain, 0), (with_budget, 300)] {
        set(&table, entry).await;
        let hour = Ttl::new(hours(1)).unwrap();
        assert!(table.storage.expire(&"k".into(), hour).await.unwrap());
        let stored = table.item("k").await.unwrap();
        assert_eq!(stored["cache_expires"], number((START + 3600) * 1000));
        assert_eq!(stored["ttl"], number(START + 3600 + budget));
        assert_eq!(stored.contains_key("cache_stale"), budget > 0);
        assert!(
            table
                .storage
                .expire(&"k".into(), Ttl::FOREVER)
                .await
                .unwrap()
        );
        let for_ever = item([
            ("PK", text("k")),
            ("value", text("v")),
            ("cache_v", number(1)),
        ]);
        assert_eq!(table.item("k").await, Some(for_ever));
    }
}

#[tokio::test]
async fn ending_an_entry_now_keeps_its_stale_budget_or_deletes_it() {
    let (table, _) = on_manual_clock().await;
    let entry = NewEntry::new("v", minute());
    set(&table, entry.clone().with_stale_for(mins(5)).unwrap()).await;
    assert!(table.storage.expire_now(&"k".into()).await.unwrap());
    let stored = table.item("k").await.unwrap();
    assert_eq!(stored["cache_expires"], number(START * 1000));
    assert_eq!(stored["ttl"], number(START + 300));
    set(&table, entry).await;
    assert!(table.storage.expire_now(&"k".into()).await.unwrap());
    assert_eq!(table.item("k").await, None);
}

#[tokio::test]
async fn attributes_may_have_any_names() {
    let change = |options: cache_dynamo::DynamoDbOptions| {
        options
            .with_value_attribute("size")
            .with_ttl_attribute("a-b.c #")
            .with_key_schema(cache_dynamo::KeySchema::partition("name"))
    };
    let table = Table::with(change).await;
    set(&table, NewEntry::new("41", minute())).await;
    let counter = table.storage.increment(&"k".into(), 1, minute()).await;
    assert_eq!(counter.unwrap().value, 42);
    let stored = table.item("k").await.unwrap();
    assert_eq!(stored["size"], number(42));
    assert!(stored.contains_key("a-b.c #"));
}
