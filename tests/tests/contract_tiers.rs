//! The contract suite over tiers: memory over a real Redis, and both over DynamoDB.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{CacheStorage, PrefixStorage, Result, TieredStorage, millis, secs};
use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions, KeySchema};
use cache_memory::MemoryCacheStorage;
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::contract::{self, Harness, Subject};
use cache_testkit::servers::RedisServer;
use tokio::sync::OnceCell;

#[expect(dead_code, reason = "the other suites use the rest")]
#[path = "dynamodb/tables.rs"]
mod tables;

use tables::Server;

/// Longer than an application would wait: the suite tests what is answered, not how soon.
const PATIENCE: Duration = secs(20);

/// Memory of their own over one database, each below a prefix of its own.
struct OverRedis {
    options: RedisOptions,
    next: AtomicU32,
}

#[async_trait]
impl Harness for OverRedis {
    fn name(&self) -> String {
        "memory_redis".to_owned()
    }

    async fn subject(&self) -> Subject {
        let stack = TieredStorage::new(MemoryCacheStorage::new(), redis(&self.options));
        Subject::in_real_time(below("two", &self.next, stack), millis(40))
    }
}

/// The same over one partition of a table.
struct OverDynamoDb {
    redis: RedisOptions,
    server: Server,
    table: OnceCell<DynamoDbOptions>,
    next: AtomicU32,
}

#[async_trait]
impl Harness for OverDynamoDb {
    fn name(&self) -> String {
        "memory_redis_dynamodb".to_owned()
    }

    async fn subject(&self) -> Subject {
        let make = || async {
            let schema = KeySchema::constant_partition("PK", "cache", "SK");
            let options = self.server.options().with_key_schema(schema);
            self.server.create(&options).await;
            options
        };
        let options = self.table.get_or_init(make).await.clone();
        let dynamodb = DynamoDbCacheStorage::new(options).expect("the options are sound");
        let stack = TieredStorage::builder()
            .tier(MemoryCacheStorage::new())
            .tier(redis(&self.redis))
            .tier(dynamodb)
            .build();
        Subject::in_real_time(below("three", &self.next, stack), millis(80))
    }
}

fn redis(options: &RedisOptions) -> RedisCacheStorage {
    RedisCacheStorage::new(options.clone()).expect("the options are complete")
}

fn below(family: &str, next: &AtomicU32, stack: Result<TieredStorage>) -> impl CacheStorage {
    let number = next.fetch_add(1, Ordering::Relaxed);
    let stack = stack.expect("the names differ");
    PrefixStorage::new(&format!("{family}{number}"), stack).expect("the prefix is a key")
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let server = RedisServer::start()?;
    let options = RedisOptions::from_url(&server.url(0))?
        .with_connect_timeout(PATIENCE)
        .with_attempt_timeout(PATIENCE)
        .with_timeout(PATIENCE)
        .with_bulk_timeout(PATIENCE);
    Ok(contract::main(vec![
        Arc::new(OverRedis {
            options: options.clone(),
            next: 0.into(),
        }),
        Arc::new(OverDynamoDb {
            redis: options,
            server: Server::start()?,
            table: OnceCell::new(),
            next: 0.into(),
        }),
    ]))
}
