//! Redis loads its data under load: every command is refused at once, on connections that are fine.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Instant;

use cache_breaker::State;
use cache_core::{ErrorKind, millis};
use cache_testkit::servers::RedisServer;
use tokio::time::sleep;

use super::load::{Call, Load, p99};
use super::outages::{TROUBLE, back, errors};
use super::{SLACK, alone, until};
use crate::stacked::Measured;

/// How many microseconds the server takes for each of its 20,000 keys: longer than the trouble
/// lasts in all.
const KEY_LOAD_DELAY: &str = if cfg!(feature = "drills") {
    "2000"
} else {
    "500"
};

/// What callers saw while the server loaded its data.
struct Loading {
    calls: Vec<Call>,
    began: Instant,
    ended: Instant,
}

impl Loading {
    async fn of(stack: &Measured, server: &RedisServer) -> Self {
        let load = Load::on(&stack.service()).await;
        let began = Instant::now();
        let reload = reload(server);
        until(|| stack.is("read", State::Open) || stack.is("write", State::Open)).await;
        let opening = began.elapsed();
        assert!(opening <= millis(250) + SLACK, "open after {opening:?}");
        sleep(TROUBLE).await;
        assert!(is_loading(server), "it takes longer than that");
        let ended = Instant::now();
        let hurry = ["CONFIG", "SET", "key-load-delay", "0"];
        server.command(&hurry).expect("the server answers");
        until(|| !is_loading(server)).await;
        back(stack).await;
        drop(reload);
        let loading = Self {
            calls: load.end().await,
            began,
            ended,
        };
        loading.is_measured(stack);
        loading
    }

    /// What was called while the server loaded.
    fn meanwhile(&self) -> impl Iterator<Item = &Call> {
        let loading = self.began..self.ended;
        let calls = self.calls.iter();
        calls.filter(move |call| loading.contains(&call.began))
    }

    /// A refusal is an answer: nobody waits, and no connection is blamed for it.
    fn is_measured(&self, stack: &Measured) {
        let usual = p99(self.meanwhile());
        assert!(usual <= millis(2) + SLACK, "{usual:?}");
        let slowest = self.calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(millis(150) + SLACK), "{slowest:?}");
        let loading = [("backend", "redis"), ("outcome", "loading")];
        assert!(stack.count("cache_ops_total", &loading) >= 3);
        let changes = |labels: &[_]| stack.count("cache_breaker_transitions_total", labels);
        let opened = [("from", "closed"), ("to", "open"), ("reason", "failure")];
        assert!((1..=2).contains(&changes(&opened)), "once a lane");
        assert_eq!(changes(&[("to", "closed")]), changes(&opened));
    }
}

/// A server with much to load, which takes its time.
fn slow_to_load() -> RedisServer {
    // Large and stored as they are, so that the server looks up from its work at each of them.
    let server = RedisServer::builder()
        .args(["--key-load-delay", KEY_LOAD_DELAY])
        .args(["--loading-process-events-interval-bytes", "1024"])
        .args(["--rdbcompression", "no"])
        .start();
    let server = server.expect("redis-server starts");
    let fill = ["DEBUG", "POPULATE", "20000", "filler", "1024"];
    server.command(&fill).expect("the server answers");
    server.command(&["SAVE"]).expect("the server answers");
    server
}

/// Has the server load its data anew, for as long as this is kept.
fn reload(server: &RedisServer) -> TcpStream {
    let mut connection = TcpStream::connect(server.address()).expect("the server is there");
    let reload = connection.write_all(b"DEBUG RELOAD NOSAVE\r\n");
    reload.expect("the server is there");
    connection
}

fn is_loading(server: &RedisServer) -> bool {
    let info = server.command(&["INFO", "persistence"]);
    info.expect("the server answers").contains("loading:1")
}

#[test]
fn row_7_loading_under_load_costs_callers_nothing_where_there_is_a_fallback() {
    alone(async {
        let server = slow_to_load();
        let stack = Measured::else_memory(server.port());
        let loading = Loading::of(&stack, &server).await;
        let failed = errors(&loading.calls);
        assert!(failed.is_empty(), "{failed:?}");
        let fallback = [("from", "redis"), ("to", "memory")];
        assert!(stack.has("cache_fallback_total", &fallback));
    });
}

#[test]
fn row_7_loading_under_load_is_misses_where_there_is_no_fallback() {
    alone(async {
        let server = slow_to_load();
        let stack = Measured::alone(server.port());
        let loading = Loading::of(&stack, &server).await;
        for call in errors(&loading.calls) {
            let error = call.error.as_ref().unwrap();
            // A write that went nowhere says so, whatever reads take trouble for.
            assert!(call.is_write, "{error}");
            let kinds = [ErrorKind::Connection, ErrorKind::Rejected];
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(!error.may_have_happened(), "it was refused: {error}");
        }
        assert!(stack.has("cache_degraded_total", &[("reason", "breaker_open")]));
    });
}
