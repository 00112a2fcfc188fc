//! The contract suite over real Redis: one server, one with TLS, and a cluster.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{PrefixStorage, Topology, millis, secs};
use cache_redis::{RedisCacheStorage, RedisOptions, TlsOptions};
use cache_testkit::contract::{self, Harness, Subject};
use cache_testkit::servers::{Certificates, RedisCluster, RedisServer};

const PATIENCE: Duration = secs(20);

/// Each storage has a database of its own.
struct Databases {
    name: &'static str,
    options: RedisOptions,
    /// The first is that of [`Prefixes`].
    next: AtomicU32,
}

#[async_trait]
impl Harness for Databases {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn subject(&self) -> Subject {
        let database = self.next.fetch_add(1, Ordering::Relaxed);
        let storage = connect(self.options.clone().with_database(database));
        Subject::in_real_time(storage, millis(40))
    }
}

/// All storages share one database, each below a prefix of its own.
struct Prefixes {
    name: &'static str,
    options: RedisOptions,
    next: AtomicU32,
}

#[async_trait]
impl Harness for Prefixes {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn subject(&self) -> Subject {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let storage = PrefixStorage::new(&format!("app{number}"), connect(self.options.clone()));
        Subject::in_real_time(storage.expect("the prefix is a key"), millis(40))
    }
}

fn databases(name: &'static str, options: RedisOptions) -> Arc<dyn Harness> {
    let next = AtomicU32::new(1);
    Arc::new(Databases {
        name,
        options,
        next,
    })
}

fn prefixes(name: &'static str, options: RedisOptions) -> Arc<dyn Harness> {
    let next = AtomicU32::new(0);
    Arc::new(Prefixes {
        name,
        options,
        next,
    })
}

/// A storage that waits long.
///
/// The suite tests what is answered, not how soon: on a busy machine an answer may take longer than
/// an application would wait.
fn connect(options: RedisOptions) -> RedisCacheStorage {
    let options = options
        .with_connect_timeout(PATIENCE)
        .with_attempt_timeout(PATIENCE)
        .with_timeout(PATIENCE)
        .with_bulk_timeout(PATIENCE);
    RedisCacheStorage::new(options).expect("the options are complete")
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
    let plain = RedisOptions::from_url(&server.url(0))?;

    let authority = Certificates::new()?;
    let encrypted_server = RedisServer::builder().tls(&authority).start()?;
    let trusting = TlsOptions::new().with_roots_pem(authority.authority_pem());
    let encrypted = RedisOptions::from_url(&encrypted_server.url(0))?.with_tls(trusting);

    let cluster = RedisCluster::start()?;
    let clustered = RedisOptions::from_url(&cluster.url())?.with_topology(Topology::Cluster);

    Ok(contract::main(vec![
        databases("redis", plain.clone()),
        prefixes("prefix_in_redis", plain),
        databases("redis_tls", encrypted),
        prefixes("redis_cluster", clustered),
    ]))
}
