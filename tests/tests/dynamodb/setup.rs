//! Making the table, and saying what is wrong with it.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TimeToLiveSpecification};
use cache_core::{CacheError, CacheStorage, ConfigurationErrors, ErrorKind};
use cache_dynamo::{DynamoDbOptions, KeySchema};
use std::error::Error as _;

use crate::support::{fetch, put, refusal, storage};
use crate::tables::{Server, create_raw};

const STRING: ScalarAttributeType = ScalarAttributeType::S;

fn server() -> Server {
    Server::start().expect("the server starts")
}

/// Everything that `check_table` objects to.
async fn problems(options: &DynamoDbOptions) -> Vec<String> {
    let checked = storage(options.clone()).check_table().await;
    listed(&refusal(checked))
}

fn listed(error: &CacheError) -> Vec<String> {
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    let source = error.source().expect("the problems are kept");
    let problems = source.downcast_ref::<ConfigurationErrors>();
    let problems = &problems.expect("the problems are kept").0;
    problems.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_table_is_made_once_and_is_sound() {
    let server = server();
    for schema in [
        KeySchema::default(),
        KeySchema::constant_sort("id", "kind", "cache"),
        KeySchema::constant_partition("id", "cache", "name"),
    ] {
        let options = server.options().with_key_schema(schema);
        let storage = storage(options);
        storage.create_table().await.unwrap();
        storage.check_table().await.unwrap();
        storage.create_table().await.unwrap();
        put(&storage, "k", "v").await.unwrap();
        storage.create_table().await.unwrap();
        assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn a_missing_table_is_named_by_the_check_and_by_every_call() {
    let server = server();
    let options = server.options();
    let name = &options.table;
    let expected =
        format!("there is no table {name} in eu-west-1; create it, or correct its name and region");
    assert_eq!(problems(&options).await, [&*expected]);
    let storage = storage(options);
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(error.message(), expected);
    assert!(!error.is_transient());
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(!error.may_have_happened());
    for outcome in storage.get_many(&["a".into(), "b".into()]).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Configuration);
    }
    let error = storage.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn other_keys_and_types_and_no_collecting_are_all_named_at_once() {
    let server = server();
    let options = server.options();
    let keys = [
        ("id", ScalarAttributeType::N, KeyType::Hash),
        ("SK", STRING, KeyType::Range),
    ];
    create_raw(&server.raw(), &options.table, &keys).await;
    let name = &options.table;
    assert_eq!(
        problems(&options).await,
        [
            format!(
                "table {name} has partition key \"id\" and sort key \"SK\", the options say \
                 partition key \"PK\" and no sort key; correct the options or take another table"
            ),
            format!("key attribute \"id\" of table {name} has type N, not S; take another table"),
            format!(
                "table {name} does not collect expired items; switch time to live on for \
                 attribute \"ttl\", or they stay and cost"
            ),
        ]
    );
    let made = storage(options.clone()).create_table().await;
    assert_eq!(listed(&made.unwrap_err()).len(), 3, "nothing was changed");
    let error = fetch(&storage(options), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

#[tokio::test]
async fn collecting_by_another_attribute_is_named() {
    let server = server();
    let options = server.options();
    create_raw(
        &server.raw(),
        &options.table,
        &[("PK", STRING, KeyType::Hash)],
    )
    .await;
    let other = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name("expires");
    let raw = server.raw();
    let update = raw.update_time_to_live().table_name(&options.table);
    let update = update.time_to_live_specification(other.build().unwrap());
    update.send().await.unwrap();
    let name = &options.table;
    let expected = format!(
        "table {name} collects by attribute \"expires\", the options say \"ttl\"; correct one of \
         them"
    );
    assert_eq!(problems(&options).await, [&*expected]);
    let made = storage(options).create_table().await;
    assert_eq!(listed(&made.unwrap_err()), [expected]);
}

#[tokio::test]
async fn a_table_that_was_made_without_collecting_gets_it() {
    let server = server();
    let options = server.options();
    create_raw(
        &server.raw(),
        &options.table,
        &[("PK", STRING, KeyType::Hash)],
    )
    .await;
    let storage = storage(options);
    assert!(storage.check_table().await.is_err());
    storage.create_table().await.unwrap();
    storage.check_table().await.unwrap();
}

#[tokio::test]
async fn a_storage_says_which_table_it_is_and_where() {
    let options = DynamoDbOptions::new("cache").with_region("eu-west-1");
    let storage = storage(options.clone());
    assert_eq!(format!("{storage:?}"), "DynamoDb(cache@eu-west-1)");
    assert_eq!(storage.info().backend, "dynamodb");
    assert_eq!(storage.info().address.as_deref(), Some("cache@eu-west-1"));
    let local = crate::support::storage(options.with_endpoint("http://localhost:8000"));
    assert_eq!(
        local.info().address.as_deref(),
        Some("cache@http://localhost:8000")
    );
}
