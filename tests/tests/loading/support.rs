//! What the cases share.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::{
    CacheService, CacheStorage, Codec, LoadOptions, LoadStatus, Loaded, LoaderOutcome, ManualClock,
    Result, TieredStorage, mins, secs,
};
use cache_dynamo::DynamoDbCacheStorage;
use cache_memory::MemoryCacheStorage;
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::RedisServer;

use crate::tables::Server;

/// A server, and the services of a process over it.
pub(crate) struct Bench {
    pub(crate) clock: ManualClock,
    pub(crate) cache: CacheService,
    pub(crate) source: Source,
    /// Connects once more, as another process would.
    connect: Box<dyn Fn() -> Arc<dyn CacheStorage> + Send + Sync>,
    _server: Box<dyn Any + Send + Sync>,
}

impl Bench {
    pub(crate) async fn redis() -> Self {
        let server = RedisServer::start().expect("redis-server starts");
        let (clock, port) = (ManualClock::new(), server.port());
        let options = patient(port).with_clock(clock.clone());
        let connect = move || -> Arc<dyn CacheStorage> {
            let storage = RedisCacheStorage::new(options.clone());
            Arc::new(storage.expect("the options are sound"))
        };
        Self::over(clock, Box::new(connect), Box::new(server))
    }

    /// Memory over Redis; each process has a memory of its own.
    pub(crate) async fn tiers() -> Self {
        let server = RedisServer::start().expect("redis-server starts");
        let (clock, port) = (ManualClock::new(), server.port());
        let (options, time) = (patient(port).with_clock(clock.clone()), clock.clone());
        let connect = move || -> Arc<dyn CacheStorage> {
            let redis = RedisCacheStorage::new(options.clone());
            let redis = redis.expect("the options are sound");
            let memory = MemoryCacheStorage::with_clock(time.clone());
            Arc::new(TieredStorage::new(memory, redis).expect("the names differ"))
        };
        Self::over(clock, Box::new(connect), Box::new(server))
    }

    pub(crate) async fn dynamodb() -> Self {
        let server = Server::start().expect("the server starts");
        let clock = ManualClock::new();
        let options = server.options().with_clock(clock.clone());
        server.create(&options).await;
        let connect = move || -> Arc<dyn CacheStorage> {
            let storage = DynamoDbCacheStorage::new(options.clone());
            Arc::new(storage.expect("the options are sound"))
        };
        Self::over(clock, Box::new(connect), Box::new(server))
    }

    fn over(
        clock: ManualClock,
        connect: Box<dyn Fn() -> Arc<dyn CacheStorage> + Send + Sync>,
        server: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            clock,
            cache: service(connect(), Codec::Json),
            source: Source::default(),
            connect,
            _server: server,
        }
    }

    /// A service of another process.
    pub(crate) fn other(&self) -> CacheService {
        self.with_codec(Codec::Json)
    }

    pub(crate) fn with_codec(&self, codec: Codec) -> CacheService {
        service((self.connect)(), codec)
    }

    /// Puts a value under `k` that is past its time to live, and stale for four minutes more.
    pub(crate) async fn put_stale(&self, value: u64) {
        let put = self.cache.set("k", &value).await;
        put.expect("the server takes every number");
        self.clock.advance(mins(2));
    }

    /// One call for `k`, whose loader comes back at once.
    pub(crate) async fn load(
        &self,
        options: &LoadOptions,
        outcome: LoaderOutcome<u64>,
    ) -> Result<Loaded<u64>> {
        let source = self.source.clone();
        let loader = |_| async move {
            source.asked();
            outcome
        };
        self.cache.load("k", options, loader).await
    }

    /// As [`load`](Self::load), for a call that gets something.
    pub(crate) async fn got(
        &self,
        options: &LoadOptions,
        outcome: LoaderOutcome<u64>,
    ) -> (Option<u64>, LoadStatus) {
        let loaded = self.load(options, outcome).await;
        let loaded = loaded.expect("this call gets something");
        (loaded.value.as_deref().copied(), loaded.status)
    }
}

/// Time limits that nothing reaches on a busy machine.
pub(crate) fn patient(port: u16) -> RedisOptions {
    RedisOptions::new("127.0.0.1", port)
        .with_connect_timeout(secs(2))
        .with_attempt_timeout(secs(2))
        .with_timeout(secs(5))
        .with_bulk_timeout(secs(10))
}

/// Values are fresh for a minute and stale for five more.
pub(crate) fn service(storage: Arc<dyn CacheStorage>, codec: Codec) -> CacheService {
    CacheService::builder(storage)
        .prefix("t")
        .codec(codec)
        .ttl(mins(1))
        .stale_for(mins(5))
        .build()
        .expect("the service is sound")
}

/// Counts how often it is asked to load.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<AtomicU64>);

impl Source {
    pub(crate) fn loads(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until the server holds `value` under `k`, which a background load has written.
pub(crate) async fn until_stored(cache: &CacheService, value: u64) {
    let waiting = async {
        while cache.get::<u64>("k").await.ok().flatten() != Some(value) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(secs(10), waiting).await;
    waited.expect("the load in the background ends");
}
