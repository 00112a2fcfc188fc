//! The contract suite over DynamoDB, in every layout of keys.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cache_core::{CacheStorage, ManualClock, PrefixStorage};
use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions, KeySchema};
use cache_testkit::contract::{self, Harness, Subject};
use tokio::sync::OnceCell;

#[path = "dynamodb/tables.rs"]
mod tables;

use tables::{Server, expired_item, foreign_item, get_raw, key_item, put_raw};

/// Where somebody else's item stands in every table, below a prefix that cases clear.
const FOREIGN: &str = "user:somebody";

/// Where an entry stands that expired six years ago.
const EXPIRED: &str = "user:gone";

/// Each storage has a table of its own.
struct Tables {
    name: &'static str,
    schema: KeySchema,
    server: Arc<Server>,
    made: Arc<Made>,
}

/// The tables that were made.
#[derive(Default)]
struct Made(Mutex<Vec<DynamoDbOptions>>);

impl Made {
    /// Makes the table of `options`, with somebody else's item and an expired entry in it.
    async fn table(&self, server: &Server, options: &DynamoDbOptions) {
        server.create(options).await;
        let (raw, schema) = (server.raw(), &options.key_schema);
        put_raw(&raw, &options.table, foreign_item(schema, FOREIGN)).await;
        put_raw(&raw, &options.table, expired_item(schema, EXPIRED)).await;
        let mut made = self.0.lock().expect("no case panics in between");
        made.push(options.clone());
    }

    /// Asserts that no case has touched what is not the cache's, or brought back what has expired.
    async fn check(&self, server: &Server) {
        let made = std::mem::take(&mut *self.0.lock().expect("every case has ended"));
        let raw = server.raw();
        for options in made {
            let (table, schema) = (options.table.clone(), options.key_schema.clone());
            let foreign = get_raw(&raw, &table, key_item(&schema, FOREIGN)).await;
            assert_eq!(foreign, Some(foreign_item(&schema, FOREIGN)), "{table}");
            let storage = storage(options, ManualClock::new());
            let expired = storage.get(&EXPIRED.into()).await;
            assert!(expired.expect("the storage reads").is_none(), "{table}");
            let delete = raw.delete_table().table_name(&table);
            delete.send().await.expect("the table goes");
        }
    }
}

#[async_trait]
impl Harness for Tables {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn subject(&self) -> Subject {
        let options = self.server.options().with_key_schema(self.schema.clone());
        self.made.table(&self.server, &options).await;
        let clock = ManualClock::new();
        Subject::on_clock(storage(options, clock.clone()), clock)
    }
}

/// All storages share one partition of one table, each below a prefix of its own. A clear would
/// otherwise scan what all other cases wrote.
struct Prefixed {
    server: Arc<Server>,
    made: Arc<Made>,
    table: OnceCell<DynamoDbOptions>,
    prefixes: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl Harness for Prefixed {
    fn name(&self) -> String {
        "prefix_in_dynamodb".to_owned()
    }

    async fn subject(&self) -> Subject {
        let make = || async {
            let schema = KeySchema::constant_partition("PK", "cache", "SK");
            let options = self.server.options().with_key_schema(schema);
            self.made.table(&self.server, &options).await;
            options
        };
        let options = self.table.get_or_init(make).await.clone();
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let number = self.prefixes.fetch_add(1, relaxed);
        let clock = ManualClock::new();
        let inner = storage(options, clock.clone());
        let storage = PrefixStorage::new(&format!("app{number}"), inner);
        Subject::on_clock(storage.expect("the prefix is a key"), clock)
    }
}

fn storage(options: DynamoDbOptions, clock: ManualClock) -> DynamoDbCacheStorage {
    DynamoDbCacheStorage::new(options.with_clock(clock)).expect("the options are sound")
}

fn main() -> ExitCode {
    let server = match Server::start() {
        Ok(server) => Arc::new(server),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let made = Arc::new(Made::default());
    let tables = |name, schema| {
        let (server, made) = (Arc::clone(&server), Arc::clone(&made));
        Arc::new(Tables {
            name,
            schema,
            server,
            made,
        })
    };
    let code = contract::main(vec![
        tables("dynamodb", KeySchema::default()),
        tables(
            "dynamodb_constant_sort",
            KeySchema::constant_sort("id", "kind", "cache"),
        ),
        tables(
            "dynamodb_constant_partition",
            KeySchema::constant_partition("PK", "cache", "SK"),
        ),
        Arc::new(Prefixed {
            server: Arc::clone(&server),
            made: Arc::clone(&made),
            table: OnceCell::new(),
            prefixes: 0.into(),
        }),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime is to be had");
    runtime.block_on(made.check(&server));
    code
}
