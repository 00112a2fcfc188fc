//! What is measured when the network loses, delays, refuses or changes what is sent.

use bytes::Bytes;
use cache_core::millis;
use cache_testkit::proxy::{Direction, Fault};
use cache_testkit::servers::RedisServer;

use super::Row;
use crate::support::{ATTEMPT, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_17_a_host_without_power_is_measured() {
    let row = Row::without_breaker().await;
    row.given("k").await;
    row.proxy.set(Fault::Blackhole(Direction::Both));
    row.proxy.also(Fault::AcceptThenHang);
    for _ in 0..4 {
        row.reads("k").await;
    }
    row.time_limit("read").await;
    row.time_limit("handshake").await;
    row.connection("close", "silent").await;
    row.fell_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_writes_whose_replies_are_lost_are_measured() {
    let row = Row::new().await;
    row.given("k").await;
    row.proxy.set(Fault::Blackhole(Direction::Down));
    row.writes("w").await;
    row.comes_to("unknown").await;
    let retries = row.stack.count("cache_retries_total", &[]);
    assert_eq!(retries, 0, "the time for it was over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_rejected_connections_are_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    row.proxy.set(Fault::Refuse);
    row.proxy.reset_all();
    row.reads("k").await;
    row.connection("close", "reset").await;
    row.connection("dial_fail", "refused").await;
    row.fell_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_late_replies_are_measured() {
    let row = Row::without_breaker().await;
    row.given("k").await;
    row.proxy.set(Fault::Delay(Direction::Down, 2 * ATTEMPT));
    row.reads("k").await;
    row.proxy.set(Fault::Pass);
    // It is told with the next answer on the same connection.
    eventually(async || {
        row.reads("k").await;
        let late = [("backend", "redis")];
        row.stack.has("cache_late_reply_total", &late).then_some(())
    })
    .await;
    row.time_limit("read").await;
    assert!(row.reads("k").await, "its own reply");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_reply_that_drips_is_measured() {
    let row = Row::new().await;
    row.given("k").await;
    row.proxy.set(Fault::Drip(Direction::Down, 1, millis(50)));
    row.reads("k").await;
    row.time_limit("read").await;
    row.fell_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_a_lossy_network_is_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    let jitter = Fault::Jitter(Direction::Both, millis(0)..millis(10), 28);
    row.proxy.set(jitter);
    let calls = || row.stack.count("cache_op_seconds", &[("backend", "redis")]);
    let before = calls();
    for _ in 0..20 {
        row.reads("k").await;
    }
    assert!(calls() >= before + 20, "each call is timed");
    assert!(row.transitions() <= 3, "it does not flap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_a_corrupted_reply_is_measured() {
    let row = Row::without_breaker().await;
    row.given("k").await;
    row.proxy.set(Fault::Corrupt(Direction::Down, 0, 1 << 6));
    row.reads("k").await;
    row.counts("cache_decode_errors_total", &[("reason", "resp")], 1)
        .await;
    row.connection("close", "resp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_30_the_end_instead_of_an_answer_is_measured() {
    let row = Row::patient(RedisServer::builder()).await;
    row.given("k").await;
    row.proxy.set(Fault::HalfClose);
    assert!(row.reads("k").await, "it was read again");
    row.connection("close", "closed").await;
    row.counts("cache_retries_total", &[("backend", "redis")], 1)
        .await;
    assert_eq!(row.transitions(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_arrays_without_end_are_measured() {
    let row = Row::without_breaker().await;
    row.given("k").await;
    let bomb = Bytes::from("*1\r\n".repeat(100_000));
    row.proxy.set(Fault::Reply(bomb));
    eventually(async || {
        row.service.get::<String>("k").await.ok()?;
        let resp = [("reason", "resp")];
        row.stack
            .has("cache_decode_errors_total", &resp)
            .then_some(())
    })
    .await;
    row.fell_back().await;
}
