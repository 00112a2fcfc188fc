//! Other drills under load: Redis dies and comes back empty, the network swallows everything or
//! resets whatever there is, the server is full, or may not be written.

use std::time::{Duration, Instant};

use cache_breaker::State;
use cache_core::{ErrorKind, millis, secs};
use cache_testkit::proxy::{Direction, Fault, FaultProxy};
use cache_testkit::servers::RedisServer;
use tokio::time::{interval, sleep};

use super::load::{Call, Load};
use super::{SLACK, alone, long_or, until};
use crate::stacked::Measured;

/// How long the trouble lasts.
pub(super) const TROUBLE: Duration = long_or(secs(30), secs(2));

/// How long connections are reset over and over.
const RESETS: Duration = long_or(secs(60), secs(5));

/// What the longest time of being open allows.
const BACK: Duration = secs(6);

pub(super) fn errors(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.error.is_some()).collect()
}

/// Waits until both lanes are closed again, and calls go to Redis.
pub(super) async fn back(stack: &Measured) {
    let returned = Instant::now();
    let answered = || {
        let of = |outcome| stack.count("cache_ops_total", &[("backend", "redis"), outcome]);
        of(("outcome", "hit")) + of(("outcome", "miss")) + of(("outcome", "ok"))
    };
    let before = answered();
    until(|| {
        let is_closed = |lane| stack.is(lane, State::Closed);
        is_closed("read") && is_closed("write") && answered() > before
    })
    .await;
    let took = returned.elapsed();
    assert!(took <= BACK + SLACK, "back after {took:?}");
}

/// A server behind a proxy.
async fn behind_proxy() -> (RedisServer, FaultProxy) {
    let server = RedisServer::start().expect("redis-server starts");
    let target = server.address().parse().expect("the address is one");
    let proxy = FaultProxy::start(target).await.expect("a port is free");
    (server, proxy)
}

#[test]
fn row_1_killed_under_load_and_started_empty() {
    alone(async {
        let mut server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        let load = Load::on(&stack.service()).await;
        let killed = Instant::now();
        server.kill().unwrap();
        until(|| stack.is("read", State::Open) || stack.is("write", State::Open)).await;
        assert!(killed.elapsed() <= millis(250) + SLACK);
        sleep(TROUBLE).await;
        server.restart().unwrap();
        back(&stack).await;
        let calls = load.end().await;
        assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
        let slowest = calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(millis(150) + SLACK), "{slowest:?}");
        let close = [("backend", "redis"), ("event", "close")];
        assert!(stack.has("cache_conn_total", &close));
        let refused = [("event", "dial_fail"), ("reason", "refused")];
        assert!(stack.has("cache_conn_total", &refused));
        let fallback = [("from", "redis"), ("to", "memory")];
        assert!(stack.has("cache_fallback_total", &fallback));
    });
}

#[test]
fn row_22_a_blackhole_under_load() {
    alone(async {
        let (_server, proxy) = behind_proxy().await;
        let stack = Measured::else_memory(proxy.address().port());
        let load = Load::on(&stack.service()).await;
        let began = Instant::now();
        proxy.set(Fault::Blackhole(Direction::Both));
        until(|| stack.is("read", State::Open) || stack.is("write", State::Open)).await;
        assert!(began.elapsed() <= millis(250) + SLACK);
        sleep(TROUBLE).await;
        // No network swallows bytes and then delivers others of the same connection.
        proxy.reset_all();
        proxy.set(Fault::Pass);
        back(&stack).await;
        let calls = load.end().await;
        assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
        let slowest = calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(millis(150) + SLACK), "{slowest:?}");
        assert!(stack.has("cache_timeouts_total", &[("backend", "redis")]));
        let opened = [("to", "open"), ("reason", "timeout")];
        assert!(stack.has("cache_breaker_transitions_total", &opened));
    });
}

#[test]
fn row_21_connections_reset_under_load_over_and_over() {
    alone(async {
        let (_server, proxy) = behind_proxy().await;
        let stack = Measured::else_memory(proxy.address().port());
        let load = Load::on(&stack.service()).await;
        let began = Instant::now();
        let mut pace = interval(millis(100));
        while began.elapsed() < RESETS {
            pace.tick().await;
            proxy.reset_all();
        }
        back(&stack).await;
        // Each caller has checked its values.
        let calls = load.end().await;
        assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
        let close = [("backend", "redis"), ("event", "close")];
        let closed = stack.count("cache_conn_total", &close);
        assert!(closed > RESETS.as_secs(), "{closed} connections ended");
        let reset = [("event", "close"), ("reason", "reset")];
        assert!(stack.has("cache_conn_total", &reset));
    });
}

/// What only writes are refused for: reads go on, and no lane but theirs opens.
async fn only_writes(set: &[&str], unset: &[&str], outcome: &str, kind: ErrorKind) {
    let server = RedisServer::start().expect("redis-server starts");
    let stack = Measured::of_redis(server.port(), &[]);
    let load = Load::on(&stack.service()).await;
    server.command(set).expect("the server answers");
    until(|| stack.is("write", State::Open)).await;
    sleep(TROUBLE).await;
    server.command(unset).expect("the server answers");
    back(&stack).await;
    for call in errors(&load.end().await) {
        let error = call.error.as_ref().expect("it has one");
        assert!(call.is_write, "reads go on: {error}");
        let kinds = [kind, ErrorKind::Rejected];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
    let refused = [("op", "set"), ("outcome", outcome)];
    assert!(stack.has("cache_ops_total", &refused));
    let changes = |lane| stack.count("cache_breaker_transitions_total", &[("lane", lane)]);
    assert_eq!(changes("read"), 0, "reads go on");
    assert!(changes("write") >= 3, "it opened, probed, and closed");
    assert_eq!(stack.count("cache_retries_total", &[]), 0);
}

#[test]
fn row_9_a_full_server_under_load_goes_on_answering_reads() {
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    let roomy = ["CONFIG", "SET", "maxmemory", "0"];
    alone(only_writes(&full, &roomy, "oom", ErrorKind::Overloaded));
}

#[test]
fn row_12_too_few_replicas_under_load_stop_writes_only() {
    let careful = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    let careless = ["CONFIG", "SET", "min-replicas-to-write", "0"];
    alone(only_writes(
        &careful,
        &careless,
        "noreplicas",
        ErrorKind::Connection,
    ));
}
