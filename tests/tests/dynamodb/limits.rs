//! The largest entries.

use cache_core::{
    CacheKey, CacheStorage, CodecId, Condition, ErrorKind, MAX_KEY_BYTES, NewEntry, Timestamp, Ttl,
    hours,
};
use cache_dynamo::KeySchema;

use crate::support::{Table, entry, minute};

#[tokio::test]
async fn the_largest_value_fits_beside_the_longest_key_and_all_metadata() {
    for schema in [
        KeySchema::default(),
        KeySchema::constant_sort("PK", "SK", "s".repeat(1024)),
        KeySchema::constant_partition("PK", "p".repeat(2048), "SK"),
    ] {
        let table = Table::with_schema(schema).await;
        let most = table.storage.info().max_value_bytes;
        let key = CacheKey::from("k".repeat(MAX_KEY_BYTES));
        for value in [vec![b'v'; most], vec![0xFF; most]] {
            let largest = NewEntry::new(value.clone(), minute())
                .with_stale_for(hours(1))
                .unwrap()
                .with_created_at(Timestamp::from_millis(u64::MAX))
                .with_codec(CodecId::Json);
            let written = table
                .storage
                .set(&key, largest.clone(), Condition::Always)
                .await;
            assert!(written.unwrap());
            let read = table.storage.get(&key).await.unwrap().unwrap();
            assert!(read.value == value, "the value came back changed");
            let written = table.storage.set_many(vec![(key.clone(), largest)]).await;
            assert!(written[0].is_ok(), "{written:?}");
            let hour = Ttl::new(hours(1)).unwrap();
            assert!(table.storage.expire(&key, hour).await.unwrap());
        }
        assert!(most > 395 * 1024, "{most}");
    }
}

#[tokio::test]
async fn one_byte_more_is_refused_before_any_request() {
    let table = Table::new().await;
    // Nobody listens there any more: whatever were sent would fail otherwise.
    let options = table.options.clone().with_endpoint("http://127.0.0.1:9");
    let storage = crate::support::storage(options);
    let most = storage.info().max_value_bytes;
    let (key, too_large) = (CacheKey::from("k"), entry(vec![0; most + 1]));
    let set = storage.set(&key, too_large, Condition::Always).await;
    let error = set.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(!error.may_have_happened());
    let outcomes = storage
        .set_many(vec![("k".into(), entry(vec![0; most + 1]))])
        .await;
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

#[tokio::test]
async fn the_configured_limit_counts_where_it_is_lower() {
    let table = Table::with(|options| options.with_max_value_bytes(10)).await;
    assert_eq!(table.storage.info().max_value_bytes, 10);
    let key = CacheKey::from("k");
    let set = |bytes| {
        let entry = entry(vec![b'v'; bytes]);
        table.storage.set(&key, entry, Condition::Always)
    };
    assert!(set(10).await.unwrap());
    assert_eq!(set(11).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let generous = table.options.clone().with_max_value_bytes(usize::MAX);
    let storage = crate::support::storage(generous);
    assert!(storage.info().max_value_bytes < 400 * 1024);
}

#[tokio::test]
async fn what_is_longer_than_any_item_equals_none() {
    let table = Table::new().await;
    let key = CacheKey::from("k");
    table
        .storage
        .set(&key, entry("v"), Condition::Always)
        .await
        .unwrap();
    let long = vec![b'v'; 500_000];
    let condition = Condition::IfEquals(long.clone().into());
    assert!(
        !table
            .storage
            .set(&key, entry("w"), condition)
            .await
            .unwrap()
    );
    assert!(!table.storage.compare_and_delete(&key, &long).await.unwrap());
}
