//! What the DynamoDB tests share.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use cache_core::{CacheError, CacheKey, CacheStorage, Condition, Entry, NewEntry, Ttl, mins};
use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions, KeySchema};

use crate::tables::{Item, Server, get_raw, key_item, put_raw};

/// Every call must end within its own deadline plus what a busy machine needs to notice.
pub(crate) const SLACK: Duration = Duration::from_millis(400);

/// A table of a test's own, as the cache sees it and as the plain SDK does.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) storage: DynamoDbCacheStorage,
    pub(crate) raw: Client,
    pub(crate) options: DynamoDbOptions,
    _server: Server,
}

impl Table {
    /// A table with the default attributes.
    pub(crate) async fn new() -> Self {
        Self::with(|options| options).await
    }

    /// A table with the given keys.
    pub(crate) async fn with_schema(schema: KeySchema) -> Self {
        Self::with(|options| options.with_key_schema(schema)).await
    }

    /// A table whose options `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(DynamoDbOptions) -> DynamoDbOptions) -> Self {
        let server = Server::start().expect("the server starts");
        let options = change(server.options());
        server.create(&options).await;
        Self {
            storage: storage(options.clone()),
            raw: server.raw(),
            options,
            _server: server,
        }
    }

    /// The item under a key of the cache, as it stands in the table.
    pub(crate) async fn item(&self, key: &str) -> Option<Item> {
        let key = key_item(&self.options.key_schema, key);
        get_raw(&self.raw, &self.options.table, key).await
    }

    /// Puts an item into the table, past the cache.
    pub(crate) async fn put_item(&self, item: Item) {
        put_raw(&self.raw, &self.options.table, item).await;
    }
}

pub(crate) fn storage(options: DynamoDbOptions) -> DynamoDbCacheStorage {
    DynamoDbCacheStorage::new(options).expect("the options are sound")
}

pub(crate) fn minute() -> Ttl {
    Ttl::new(mins(1)).expect("a minute is a time to live")
}

pub(crate) fn entry(value: impl Into<Vec<u8>>) -> NewEntry {
    NewEntry::new(value.into(), minute())
}

pub(crate) async fn put(
    storage: &dyn CacheStorage,
    key: &str,
    value: &str,
) -> Result<bool, CacheError> {
    storage
        .set(&key.into(), entry(value), Condition::Always)
        .await
}

pub(crate) async fn fetch(
    storage: &dyn CacheStorage,
    key: &str,
) -> Result<Option<String>, CacheError> {
    let entry: Option<Entry> = storage.get(&CacheKey::from(key)).await?;
    Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn refusal<T>(outcome: Result<T, CacheError>) -> CacheError {
    outcome.err().expect("the call is refused")
}

/// How long `future` took, with its output.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (future.await, started.elapsed())
}
