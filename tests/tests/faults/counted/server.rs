//! What is measured when the server stops, refuses or comes back empty.

use std::io::Write;
use std::net::TcpStream;

use cache_testkit::proxy::Fault;
use cache_testkit::servers::RedisServer;

use super::{PATIENT, Row};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_3_a_handshake_that_hangs_is_measured() {
    let row = Row::new().await;
    row.server.pause().unwrap();
    assert!(!row.reads("k").await, "memory has none");
    row.time_limit("handshake").await;
    row.fell_back().await;
    row.server.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_5_refused_connections_are_measured() {
    let row = Row::new().await;
    row.proxy.set(Fault::Refuse);
    for _ in 0..20 {
        row.writes("k").await;
        assert!(row.reads("k").await, "memory has it");
    }
    row.connection("dial_fail", "refused").await;
    row.fell_back().await;
    assert!(row.transitions() >= 1, "it is not asked each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_6_the_misses_of_an_empty_server_are_measured() {
    let mut row = Row::without_breaker().await;
    row.given("k").await;
    row.server.restart().unwrap();
    assert!(!row.reads("k").await, "a miss, no error");
    row.comes_to("miss").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_7_loading_is_measured() {
    let slow_to_load = RedisServer::builder()
        .args(["--key-load-delay", "500"])
        .args(["--loading-process-events-interval-bytes", "1024"])
        .while_loading();
    let mut row = Row::patient(slow_to_load).await;
    eventually(async || {
        row.writes("k").await;
        let ok = [("backend", "redis"), ("outcome", "ok")];
        row.stack.has("cache_ops_total", &ok).then_some(())
    })
    .await;
    row.command(&["DEBUG", "POPULATE", "20000", "filler"]);
    row.command(&["SAVE"]);
    row.server.restart().unwrap();
    row.reads("k").await;
    row.comes_to("loading").await;
    row.fell_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_8_a_busy_server_is_measured() {
    let soon_busy = RedisServer::builder().args(["--busy-reply-threshold", "20"]);
    let row = Row::with(soon_busy, &[("CACHE_BREAKER", "off")]).await;
    row.given("k").await;
    let mut endless = TcpStream::connect(row.server.address()).unwrap();
    endless
        .write_all(b"EVAL 'while true do end' 0\r\n")
        .unwrap();
    eventually(async || {
        row.reads("k").await;
        let busy = [("backend", "redis"), ("outcome", "busy")];
        row.stack.has("cache_ops_total", &busy).then_some(())
    })
    .await;
    row.fell_back().await;
    row.command(&["SCRIPT", "KILL"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_the_misses_of_evicted_keys_are_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    row.given("0").await;
    // Room for nothing: each write evicts what there is before it is refused.
    row.command(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually(async || {
        row.writes("1").await;
        row.reads("0").await;
        let miss = [("backend", "redis"), ("outcome", "miss")];
        row.stack.has("cache_ops_total", &miss).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_11_a_replica_without_its_primary_is_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    row.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    row.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(!row.reads("k").await, "memory has none");
    row.comes_to("masterdown").await;
    row.fell_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_13_a_server_that_cannot_save_is_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    std::fs::remove_dir_all(row.server.directory()).unwrap();
    row.command(&["CONFIG", "SET", "save", "3600 1"]);
    // The server tells whoever asks for it either at once or when its child has failed.
    let _ = row.server.command(&["BGSAVE"]);
    eventually(async || {
        let info = row.server.command(&["INFO", "persistence"]).ok()?;
        info.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    row.writes("w").await;
    row.comes_to("misconf").await;
    let opened = [("lane", "write"), ("to", "open"), ("reason", "config")];
    row.counts("cache_breaker_transitions_total", &opened, 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_hang_ups_are_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    row.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    row.connection("close", "closed").await;
    assert!(row.reads("k").await, "it is there as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_paused_writes_are_measured() {
    let row = Row::new().await;
    row.given("k").await;
    row.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    row.writes("w").await;
    row.time_limit("read").await;
    row.fell_back().await;
    row.command(&["CLIENT", "UNPAUSE"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_a_user_who_may_not_write_is_measured() {
    let reader = [
        ("CACHE_REDIS_USERNAME", "reader"),
        ("CACHE_REDIS_PASSWORD", "hunter2"),
    ];
    let row = Row::with(RedisServer::builder(), &[&PATIENT[..], &reader].concat()).await;
    let user = ["ACL", "SETUSER", "reader", "on", ">hunter2"];
    row.command(&[&user[..], &["~*", "+@all", "-@write"]].concat());
    row.writes("w").await;
    row.comes_to("noperm").await;
    assert_eq!(row.stack.count("cache_retries_total", &[]), 0);
    row.stack.caches.monitor().check_now().await;
    let step = [
        ("backend", "redis"),
        ("step", "write"),
        ("result", "noperm"),
    ];
    row.counts("cache_health_probe_total", &step, 1).await;
}
