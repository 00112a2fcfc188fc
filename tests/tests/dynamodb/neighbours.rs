//! A table with items of others in it.

use aws_sdk_dynamodb::types::AttributeValue;
use cache_core::{
    CacheError, CacheKey, CacheService, CacheStorage, ClearScope, Condition, ErrorKind, OnTrouble,
    Ttl, mins,
};
use cache_dynamo::KeySchema;

use crate::support::{Table, entry, fetch, minute, put, refusal, storage};
use crate::tables::{foreign_item, item, number, text};

/// What every single-key operation answers about `k`, by name.
async fn single_operations(storage: &dyn CacheStorage) -> Vec<(&'static str, CacheError)> {
    let key = CacheKey::from("k");
    let set = async |condition| refusal(storage.set(&key, entry("new"), condition).await);
    let equal = Condition::IfEquals("somebody's".into());
    vec![
        ("get", refusal(storage.get(&key).await)),
        ("lookup", refusal(storage.lookup(&key).await)),
        ("has", refusal(storage.has(&key).await)),
        ("get_ttl", refusal(storage.get_ttl(&key).await)),
        ("set absent", set(Condition::IfAbsent).await),
        ("set present", set(Condition::IfPresent).await),
        ("set equal", set(equal).await),
        ("expire", refusal(storage.expire(&key, minute()).await)),
        ("stay", refusal(storage.expire(&key, Ttl::FOREVER).await)),
        ("expire_now", refusal(storage.expire_now(&key).await)),
        (
            "increment",
            refusal(storage.increment(&key, 1, minute()).await),
        ),
        (
            "compare_and_delete",
            refusal(storage.compare_and_delete(&key, b"somebody's").await),
        ),
    ]
}

#[tokio::test]
async fn single_operations_refuse_somebody_elses_item_and_leave_it_alone() {
    for schema in [
        KeySchema::default(),
        KeySchema::constant_sort("PK", "SK", "cache"),
        KeySchema::constant_partition("PK", "cache", "SK"),
    ] {
        let table = Table::with_schema(schema).await;
        let foreign = foreign_item(&table.options.key_schema, "k");
        table.put_item(foreign.clone()).await;
        let key = CacheKey::from("k");
        let mut refused = single_operations(&table.storage).await;
        let written = put(&table.storage, "k", "new").await;
        refused.push(("set", written.unwrap_err()));
        refused.push(("delete", table.storage.delete(&key).await.unwrap_err()));
        for (operation, error) in refused {
            assert_eq!(
                error.kind(),
                ErrorKind::Serialization,
                "{operation}: {error}"
            );
            assert!(!error.may_have_happened(), "{operation}");
            assert_eq!(error.key(), Some("k"), "{operation}");
        }
        let read = table.storage.get_many(&[key, "other".into()]).await;
        assert!(read[0].is_err() && read[1].is_ok(), "{read:?}");
        assert_eq!(table.item("k").await, Some(foreign));
    }
}

#[tokio::test]
async fn a_service_may_read_somebody_elses_item_as_a_miss() {
    let table = Table::new().await;
    table
        .put_item(foreign_item(&table.options.key_schema, "k"))
        .await;
    let cache = CacheService::builder(storage(table.options.clone()))
        .on_trouble(OnTrouble::Miss)
        .ttl(mins(1))
        .build()
        .unwrap();
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
}

#[tokio::test]
async fn batches_overwrite_whatever_is_under_their_keys() {
    let table = Table::new().await;
    let foreign = foreign_item(&table.options.key_schema, "k");
    table.put_item(foreign.clone()).await;
    let written = table
        .storage
        .set_many(vec![("k".into(), entry("new"))])
        .await;
    assert!(written[0].is_ok());
    assert_eq!(
        fetch(&table.storage, "k").await.unwrap().as_deref(),
        Some("new")
    );
    table.put_item(foreign).await;
    assert!(table.storage.delete_many(&["k".into()]).await[0].is_ok());
    assert_eq!(table.item("k").await, None);
}

#[tokio::test]
async fn a_newer_layout_is_an_error_to_read_and_left_alone() {
    let table = Table::new().await;
    let newer = item([
        ("PK", text("k")),
        ("value", text("somebody's")),
        ("cache_v", number(2)),
        ("cache_shard", number(7)),
    ]);
    table.put_item(newer.clone()).await;
    for (operation, error) in single_operations(&table.storage).await {
        assert_eq!(
            error.kind(),
            ErrorKind::Serialization,
            "{operation}: {error}"
        );
    }
    assert_eq!(table.item("k").await, Some(newer.clone()));
    assert!(table.storage.delete(&"k".into()).await.unwrap());
    assert_eq!(table.item("k").await, None);
    table.put_item(newer).await;
    assert!(put(&table.storage, "k", "new").await.unwrap());
    let stored = table.item("k").await.unwrap();
    assert!(
        !stored.contains_key("cache_shard"),
        "it was replaced as a whole"
    );
}

#[tokio::test]
async fn damaged_items_are_errors_that_show_no_value() {
    let table = Table::new().await;
    for (name, value) in [
        ("value", AttributeValue::Null(true)),
        ("cache_expires", text("soon, hunter2")),
        ("cache_v", text("hunter2")),
    ] {
        let mut damaged = item([
            ("PK", text("k")),
            ("value", text("hunter2")),
            ("cache_v", number(1)),
        ]);
        damaged.insert(name.to_owned(), value);
        table.put_item(damaged).await;
        let error = table.storage.get(&"k".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Serialization, "{name}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn the_cache_shares_a_partition_with_a_services_own_items() {
    let table = Table::with_schema(KeySchema::constant_sort("PK", "SK", "cache")).await;
    let own = item([
        ("PK", text("user:42")),
        ("SK", text("profile")),
        ("name", text("Alice")),
    ]);
    table.put_item(own.clone()).await;
    put(&table.storage, "user:42", "cached").await.unwrap();
    assert_eq!(
        fetch(&table.storage, "user:42").await.unwrap().as_deref(),
        Some("cached")
    );
    let cleared = table
        .storage
        .clear(&ClearScope::everything())
        .await
        .unwrap();
    assert_eq!((cleared.deleted, cleared.complete), (1, true));
    let key = item([("PK", text("user:42")), ("SK", text("profile"))]);
    let kept = crate::tables::get_raw(&table.raw, &table.options.table, key).await;
    assert_eq!(kept, Some(own));
}

#[tokio::test]
async fn caches_in_two_partitions_or_sort_keys_do_not_meet() {
    for (first, second) in [
        (
            KeySchema::constant_sort("PK", "SK", "a"),
            KeySchema::constant_sort("PK", "SK", "b"),
        ),
        (
            KeySchema::constant_partition("PK", "a", "SK"),
            KeySchema::constant_partition("PK", "b", "SK"),
        ),
    ] {
        let table = Table::with_schema(first).await;
        let other = storage(table.options.clone().with_key_schema(second));
        put(&table.storage, "user:1", "first").await.unwrap();
        put(&other, "user:1", "second").await.unwrap();
        let scope = ClearScope::prefix("user").unwrap();
        assert_eq!(other.clear(&scope).await.unwrap().deleted, 1);
        assert_eq!(fetch(&other, "user:1").await.unwrap(), None);
        let kept = fetch(&table.storage, "user:1").await.unwrap();
        assert_eq!(kept.as_deref(), Some("first"));
    }
}

#[tokio::test]
async fn a_clear_takes_a_prefix_literally_and_passes_others_by() {
    for schema in [
        KeySchema::default(),
        KeySchema::constant_sort("PK", "SK", "cache"),
        KeySchema::constant_partition("PK", "cache", "SK"),
    ] {
        let table = Table::with_schema(schema).await;
        let foreign = foreign_item(&table.options.key_schema, "user:theirs");
        table.put_item(foreign.clone()).await;
        for key in ["user:1", "user:2", "users:1", "user", "User:1", "user%:1"] {
            put(&table.storage, key, "v").await.unwrap();
        }
        let cleared = table
            .storage
            .clear(&ClearScope::prefix("user").unwrap())
            .await;
        let cleared = cleared.unwrap();
        assert_eq!((cleared.deleted, cleared.complete), (2, true));
        for key in ["users:1", "user", "User:1", "user%:1"] {
            assert!(table.storage.has(&key.into()).await.unwrap(), "{key}");
        }
        assert_eq!(table.item("user:theirs").await, Some(foreign));
    }
}
