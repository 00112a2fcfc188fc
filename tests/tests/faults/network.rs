//! Rows 21 to 26 and 28: the network loses, refuses or delays what is sent.

use cache_core::{ErrorKind, millis};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::proxy::{Direction, End, Fault};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    ATTEMPT, Bench, CONNECT, SLACK, count, error_within, eventually, fetch, put, read, timed,
    value_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_a_reset_in_the_middle_of_a_reply() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    bench.proxy.set(Fault::Cut(Direction::Down, 10, End::Reset));
    assert!(
        read(&*bench.storage, "k").await.unwrap(),
        "it was read again"
    );
    let counters = bench.proxy.counters();
    assert_eq!((counters.fired, counters.accepted), (1, 2));
    bench.proxy.set(Fault::Cut(Direction::Down, 3, End::Reset));
    assert!(put(&*bench.storage, "w", "v").await.unwrap());
    assert_eq!(bench.proxy.counters().accepted, 3);
    bench.tells(&["Connection", "close", "reset"]).await;
    bench.tells(&["Retry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_a_reset_in_the_middle_of_every_reply() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    // Past the greeting of a new connection, before the end of the value.
    bench
        .proxy
        .set(Fault::CutEach(Direction::Down, 15, End::Reset));
    let reading = read(&*bench.storage, "k");
    error_within(ErrorKind::Connection, ATTEMPT + CONNECT, reading).await;
    assert_eq!(bench.proxy.counters().fired, 2, "two attempts");
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_a_reset_in_the_middle_of_an_increments_reply() {
    let bench = Bench::patient().await;
    assert_eq!(count(&*bench.storage).await.unwrap(), 1);
    bench.proxy.set(Fault::Cut(Direction::Down, 3, End::Reset));
    let counting = count(&*bench.storage);
    let error = error_within(ErrorKind::Connection, ATTEMPT + CONNECT, counting).await;
    assert!(error.may_have_happened(), "nobody knows");
    assert_eq!(bench.stored("n"), "2", "it was sent once");
    assert_eq!(count(&*bench.storage).await.unwrap(), 3);
    bench.tells(&["Connection", "close", "reset"]).await;
    assert_eq!(bench.told.times(&["Retry"]), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_22_a_blackhole_both_ways() {
    let bench = Bench::new().await;
    bench.given("k").await;
    bench.proxy.set(Fault::Blackhole(Direction::Both));
    for _ in 0..2 {
        error_within(ErrorKind::Timeout, ATTEMPT, read(&*bench.storage, "k")).await;
    }
    assert_eq!(bench.proxy.counters().accepted, 1);
    error_within(ErrorKind::Timeout, CONNECT, read(&*bench.storage, "k")).await;
    assert_eq!(bench.proxy.counters().accepted, 2, "replaced after two");
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
    // Neither the connection of before nor the one that came to nothing is left behind. (The proxy
    // acknowledges what it swallows, so it is not the kernel that gives them up here.)
    bench.proxy.wait_until_open(1).await;
    bench.tells(&["Timeout", "read"]).await;
    bench.tells(&["Connection", "close", "silent"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_a_blackhole_for_replies_only() {
    let bench = Bench::new().await;
    bench.given("k").await;
    eventually(async || count(&*bench.storage).await.ok()).await;
    let before: i64 = bench.stored("n").parse().unwrap();
    bench.proxy.set(Fault::Blackhole(Direction::Down));
    let counting = count(&*bench.storage);
    let error = error_within(ErrorKind::Timeout, ATTEMPT, counting).await;
    assert!(error.may_have_happened(), "and it has");
    let write = put(&*bench.storage, "w", "written");
    let error = error_within(ErrorKind::Timeout, ATTEMPT, write).await;
    assert!(error.may_have_happened(), "and it has");
    eventually(async || (bench.stored("w") == "written").then_some(())).await;
    assert_eq!(bench.stored("n"), (before + 1).to_string(), "counted once");
    // No network loses replies and then delivers others of the same connection.
    bench.proxy.reset_all();
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
    assert_eq!(count(&*bench.storage).await.unwrap(), before + 2);
    bench.tells(&["Timeout", "read"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_a_blackhole_while_connecting() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Nobody accepts: once the backlog is full, the system drops whatever asks for a connection.
    while let Ok(connected) = tokio::time::timeout(millis(100), TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    let storage = RedisCacheStorage::new(RedisOptions::new("127.0.0.1", address.port())).unwrap();
    error_within(ErrorKind::Timeout, CONNECT, fetch(&storage, "k")).await;
    let write = put(&storage, "k", "v");
    let error = error_within(ErrorKind::Timeout, CONNECT, write).await;
    assert!(!error.may_have_happened(), "it was never sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_connections_are_rejected() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    bench.proxy.set(Fault::Refuse);
    bench.proxy.reset_all();
    for _ in 0..5 {
        let reading = read(&*bench.storage, "k");
        error_within(ErrorKind::Connection, millis(5), reading).await;
    }
    let error = error_within(ErrorKind::Connection, millis(5), count(&*bench.storage)).await;
    assert!(!error.may_have_happened(), "it was never sent");
    bench.proxy.set(Fault::Pass);
    // A server that refused is left alone for up to two seconds.
    let found = eventually(async || read(&*bench.storage, "k").await.ok()).await;
    assert!(found);
    bench.tells(&["Connection", "dial_fail", "refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_late_replies_reach_nobody_else() {
    let bench = Bench::new().await;
    for key in ["a", "b", "c", "d"] {
        bench.given(key).await;
    }
    bench.proxy.set(Fault::Delay(Direction::Down, 5 * ATTEMPT));
    let accepted = bench.proxy.counters().accepted;
    error_within(ErrorKind::Timeout, ATTEMPT, read(&*bench.storage, "a")).await;
    // The reply comes now, on the connection that the next calls use.
    bench.proxy.set(Fault::Pass);
    eventually(async || read(&*bench.storage, "b").await.ok()).await;
    assert_eq!(bench.proxy.counters().accepted, accepted, "one late reply");
    bench.proxy.set(Fault::Delay(Direction::Down, 5 * ATTEMPT));
    for key in ["a", "b", "c", "d"] {
        let reading = read(&*bench.storage, key);
        error_within(ErrorKind::Timeout, CONNECT, reading).await;
    }
    bench.proxy.set(Fault::Pass);
    for key in ["d", "c", "b", "a"] {
        eventually(async || read(&*bench.storage, key).await.ok()).await;
    }
    bench.tells(&["Timeout", "read"]).await;
}

/// What a lossy network looks like above TCP: everything arrives, some of it late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_jitter_in_place_of_losses() {
    let bench = Bench::patient().await;
    let jitter = Fault::Jitter(Direction::Both, millis(0)..millis(30), 28);
    bench.proxy.set(jitter);
    for round in 0..40 {
        let key = round.to_string();
        let (written, took) = timed(put(&*bench.storage, &key, &value_of(&key))).await;
        assert!(written.unwrap());
        assert!(took < millis(500) + SLACK, "a write took {took:?}");
        let (found, took) = timed(read(&*bench.storage, &key)).await;
        assert!(found.unwrap());
        assert!(took < millis(500) + SLACK, "a read took {took:?}");
    }
    assert_eq!(bench.proxy.counters().accepted, 1);
}
