//! Rows 3 to 31 through a whole stack, Redis else memory: callers see nothing of the trouble, and
//! metrics say what it was.

use std::time::Duration;

use cache_core::{CacheService, millis};
use cache_testkit::proxy::FaultProxy;
use cache_testkit::servers::{RedisServer, RedisServerBuilder};

use crate::stacked::Measured;
use crate::support::{SLACK, eventually, timed, value_of};

mod network;
mod server;

/// What a call to Redis and then to memory may take.
const CALL: Duration = millis(120);

/// Time limits that nothing reaches.
const PATIENT: [(&str, &str); 4] = [
    ("CACHE_REDIS_CONNECT_TIMEOUT", "5s"),
    ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
    ("CACHE_REDIS_TIMEOUT", "10s"),
    ("CACHE_BREAKER_PATIENCE", "10s"),
];

/// A server, a proxy in front of it, and a stack that knows only the proxy.
struct Row {
    stack: Measured,
    service: CacheService,
    proxy: FaultProxy,
    server: RedisServer,
}

impl Row {
    async fn new() -> Self {
        Self::with(RedisServer::builder(), &[]).await
    }

    /// Asks Redis each time, whatever happened before.
    async fn without_breaker() -> Self {
        Self::with(RedisServer::builder(), &[("CACHE_BREAKER", "off")]).await
    }

    /// With time limits that nothing reaches, for rows about what happens rather than when.
    async fn patient(server: RedisServerBuilder) -> Self {
        Self::with(server, &PATIENT).await
    }

    async fn with(server: RedisServerBuilder, settings: &[(&str, &str)]) -> Self {
        let server = server.start().expect("redis-server starts");
        let target = server.address().parse().expect("the address is one");
        let proxy = FaultProxy::start(target).await.expect("a port is free");
        let all = [&[("CACHE_FALLBACK", "memory")], settings].concat();
        let stack = Measured::of_redis(proxy.address().port(), &all);
        Self {
            service: stack.service(),
            stack,
            proxy,
            server,
        }
    }

    /// Writes a value, and returns when Redis has it.
    async fn given(&self, key: &str) {
        let ok = [("backend", "redis"), ("op", "set"), ("outcome", "ok")];
        let before = self.stack.count("cache_ops_total", &ok);
        eventually(async || {
            self.writes(key).await;
            (self.stack.count("cache_ops_total", &ok) > before).then_some(())
        })
        .await;
    }

    /// Writes without an error and in time, wherever it goes.
    async fn writes(&self, key: &str) {
        let (written, took) = timed(self.service.set(key, &value_of(key))).await;
        written.expect("there is a fallback");
        assert!(took < CALL + SLACK, "a write took {took:?}");
    }

    /// Reads its own value or none, without an error and in time, wherever it comes from.
    async fn reads(&self, key: &str) -> bool {
        let (read, took) = timed(self.service.get::<String>(key)).await;
        let read = read.expect("there is a fallback");
        assert!(took < CALL + SLACK, "a read took {took:?}");
        if let Some(value) = &read {
            assert_eq!(*value, value_of(key), "somebody else's value");
        }
        read.is_some()
    }

    /// Waits until this was counted so often.
    async fn counts(&self, name: &str, labels: &[(&str, &str)], least: u64) {
        eventually(async || {
            let counted = self.stack.count(name, labels);
            (counted >= least).then_some(())
        })
        .await;
    }

    /// Waits until a key asked of Redis came to this.
    async fn comes_to(&self, outcome: &str) {
        let labels = [("backend", "redis"), ("outcome", outcome)];
        self.counts("cache_ops_total", &labels, 1).await;
    }

    /// Waits until this was told of a connection.
    async fn connection(&self, event: &str, reason: &str) {
        let labels = [("backend", "redis"), ("event", event), ("reason", reason)];
        self.counts("cache_conn_total", &labels, 1).await;
    }

    /// Waits until this time limit was reached.
    async fn time_limit(&self, phase: &str) {
        let labels = [("backend", "redis"), ("phase", phase)];
        self.counts("cache_timeouts_total", &labels, 1).await;
    }

    /// Waits until memory answered for Redis.
    async fn fell_back(&self) {
        let labels = [("from", "redis"), ("to", "memory")];
        self.counts("cache_fallback_total", &labels, 1).await;
    }

    fn transitions(&self) -> u64 {
        self.stack.count("cache_breaker_transitions_total", &[])
    }

    fn command(&self, words: &[&str]) {
        self.server.command(words).expect("the server answers");
    }
}
