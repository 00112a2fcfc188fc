//! The contract suite over a real Redis.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{PrefixStorage, millis, secs};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::contract::{self, Harness, Subject};
use cache_testkit::servers::RedisServer;

const PATIENCE: Duration = secs(20);

/// Each storage has a database of its own.
struct Redis {
    url: String,
    /// The first is that of [`Prefixed`].
    databases: AtomicU32,
}

#[async_trait]
impl Harness for Redis {
    fn name(&self) -> String {
        "redis".to_owned()
    }

    async fn subject(&self) -> Subject {
        let database = self.databases.fetch_add(1, Ordering::Relaxed);
        Subject::in_real_time(connect(&self.url, database), millis(40))
    }
}

/// All storages share one database, each below a prefix of its own.
struct Prefixed {
    url: String,
    prefixes: AtomicU32,
}

#[async_trait]
impl Harness for Prefixed {
    fn name(&self) -> String {
        "prefix_in_redis".to_owned()
    }

    async fn subject(&self) -> Subject {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        let storage = PrefixStorage::new(&format!("app{number}"), connect(&self.url, 0));
        Subject::in_real_time(storage.expect("the prefix is a key"), millis(40))
    }
}

/// A storage over one database; `url` ends before its number.
///
/// The suite tests what is answered, not how soon: on a busy machine an answer may take longer than
/// an application would wait.
fn connect(url: &str, database: u32) -> RedisCacheStorage {
    let options = RedisOptions::from_url(&format!("{url}{database}"))
        .expect("the URL is one")
        .with_connect_timeout(PATIENCE)
        .with_attempt_timeout(PATIENCE)
        .with_timeout(PATIENCE)
        .with_bulk_timeout(PATIENCE);
    RedisCacheStorage::new(options).expect("the options are complete")
}

fn main() -> ExitCode {
    let server = match RedisServer::start() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let url = format!("redis://{}/", server.address());
    contract::main(vec![
        Arc::new(Redis {
            url: url.clone(),
            databases: AtomicU32::new(1),
        }),
        Arc::new(Prefixed {
            url,
            prefixes: AtomicU32::new(0),
        }),
    ])
}
