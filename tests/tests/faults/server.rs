//! Rows 1 to 6, 14, 15 and 17: the server dies, stops, is not there, hangs up, or loses its host.

use std::net::{SocketAddr, TcpStream};

use cache_core::{CacheStorage, ErrorKind, millis};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::proxy::{Direction, Fault};
use cache_testkit::servers::RedisServer;
use tokio::task::JoinSet;

use crate::support::{
    ATTEMPT, Bench, CONNECT, SLACK, count, error_within, eventually, fetch, put, read, timed,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_1_killed_with_calls_in_flight() {
    let mut bench = Bench::patient().await;
    bench.given("k").await;
    count(&*bench.storage).await.unwrap();
    bench.server.pause().unwrap();
    let reading = bench
        .in_flight(|s| async move { read(&*s, "k").await })
        .await;
    let counting = bench.in_flight(|s| async move { count(&*s).await }).await;
    bench.proxy.set(Fault::Refuse);
    bench.server.kill().unwrap();
    // Both would wait for seconds if the end of the connection went unnoticed.
    let ended = error_within(ErrorKind::Connection, millis(10), async {
        reading.await.unwrap()
    });
    assert!(!ended.await.may_have_happened());
    let ended = error_within(ErrorKind::Connection, millis(10), async {
        counting.await.unwrap()
    });
    assert!(ended.await.may_have_happened(), "it was sent");
    let refused = error_within(ErrorKind::Connection, millis(5), read(&*bench.storage, "k"));
    assert!(refused.await.is_transient());
    let refused = error_within(ErrorKind::Connection, millis(5), count(&*bench.storage));
    assert!(!refused.await.may_have_happened(), "nobody was there");
    bench.server.restart().unwrap();
    bench.proxy.set(Fault::Pass);
    // A server that refused is left alone for up to two seconds.
    let found = eventually(async || read(&*bench.storage, "k").await.ok()).await;
    assert!(!found, "it starts empty");
    assert_eq!(count(&*bench.storage).await.unwrap(), 1);
    bench.tells(&["Connection", "close"]).await;
    bench.tells(&["Connection", "dial_fail", "refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_2_stopped_under_a_connection() {
    let bench = Bench::new().await;
    bench.given("k").await;
    let accepted = bench.proxy.counters().accepted;
    bench.server.pause().unwrap();
    error_within(ErrorKind::Timeout, ATTEMPT, read(&*bench.storage, "k")).await;
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Timeout, ATTEMPT, write).await;
    assert!(error.may_have_happened(), "it waits in the server's socket");
    assert_eq!(bench.proxy.counters().accepted, accepted);
    // Two timeouts without a byte: the next call is for a new connection.
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Timeout, CONNECT, write).await;
    assert!(!error.may_have_happened(), "it was never sent");
    assert_eq!(bench.proxy.counters().accepted, accepted + 1);
    bench.server.resume().unwrap();
    bench.recovers().await;
    assert!(read(&*bench.storage, "k").await.unwrap());
    bench.tells(&["Timeout", "read"]).await;
    bench.tells(&["Connection", "close", "silent"]).await;
    bench.tells(&["Timeout", "handshake"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_3_stopped_before_the_first_connection() {
    let bench = Bench::new().await;
    bench.server.pause().unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let storage = std::sync::Arc::clone(&bench.storage);
        callers.spawn(async move {
            let key = caller.to_string();
            let write = put(&*storage, &key, "v");
            let error = error_within(ErrorKind::Timeout, CONNECT, write).await;
            assert!(!error.may_have_happened(), "it was never sent");
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics");
    }
    let dialed = bench.proxy.counters().accepted;
    assert!(dialed <= 2, "one dial serves them all, not {dialed}");
    bench.server.resume().unwrap();
    bench.recovers().await;
    bench.tells(&["Timeout", "handshake"]).await;
    bench.tells(&["Connection", "dial_fail", "timeout"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_4_a_full_backlog() {
    let server = RedisServer::builder()
        .args(["--tcp-backlog", "1"])
        .start()
        .unwrap();
    let storage = RedisCacheStorage::new(RedisOptions::new("127.0.0.1", server.port())).unwrap();
    server.pause().unwrap();
    let waiting = fill_backlog(server.address().parse().unwrap());
    let write = put(&storage, "k", "v");
    let error = error_within(ErrorKind::Timeout, CONNECT, write).await;
    assert!(!error.may_have_happened(), "it was never sent");
    error_within(ErrorKind::Timeout, CONNECT, fetch(&storage, "k")).await;
    server.resume().unwrap();
    drop(waiting);
    eventually(async || put(&storage, "k", "v").await.ok()).await;
}

/// Connects until the system drops what asks for a connection.
fn fill_backlog(address: SocketAddr) -> Vec<TcpStream> {
    let connect = || TcpStream::connect_timeout(&address, millis(100)).ok();
    std::iter::from_fn(connect).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_5_nobody_listens() {
    let bench = Bench::new().await;
    bench.proxy.set(Fault::Refuse);
    for _ in 0..20 {
        let write = put(&*bench.storage, "k", "v");
        let error = error_within(ErrorKind::Connection, millis(2), write).await;
        assert!(error.is_transient());
        assert!(!error.may_have_happened());
    }
    let (read, took) = timed(bench.storage.get_many(&["a".into(), "b".into()])).await;
    assert!(read.iter().all(Result::is_err));
    assert!(took < SLACK, "it took {took:?}");
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
    bench.tells(&["Connection", "dial_fail", "refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_6_restarted_without_its_data() {
    let mut bench = Bench::patient().await;
    for _ in 0..3 {
        bench.given("k").await;
        bench.server.restart().unwrap();
        assert!(
            !read(&*bench.storage, "k").await.unwrap(),
            "a miss, no error"
        );
        assert_eq!(count(&*bench.storage).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_hang_up_with_a_read_in_flight() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    bench.server.pause().unwrap();
    let reading = bench
        .in_flight(|s| async move { read(&*s, "k").await })
        .await;
    let writing = bench
        .in_flight(|s| async move { put(&*s, "w", "v").await })
        .await;
    bench.proxy.reset_all();
    bench.server.resume().unwrap();
    assert!(reading.await.unwrap().unwrap(), "it was read again");
    assert!(writing.await.unwrap().unwrap(), "it was written again");
    bench.tells(&["Connection", "close", "reset"]).await;
    bench.tells(&["Retry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_hang_up_with_an_increment_in_flight() {
    let bench = Bench::patient().await;
    assert_eq!(count(&*bench.storage).await.unwrap(), 1);
    // Holds the transaction back until its connection is gone.
    let pause = ["CLIENT", "PAUSE", "60000", "WRITE"];
    bench.server.command(&pause).unwrap();
    let counting = bench.in_flight(|s| async move { count(&*s).await }).await;
    let kill = ["CLIENT", "KILL", "TYPE", "normal"];
    bench.server.command(&kill).unwrap();
    let ended = error_within(ErrorKind::Connection, ATTEMPT + CONNECT, async {
        counting.await.unwrap()
    });
    assert!(ended.await.may_have_happened(), "nobody knows");
    bench.server.command(&["CLIENT", "UNPAUSE"]).unwrap();
    assert_eq!(bench.stored("n"), "1", "it was not sent again");
    assert_eq!(count(&*bench.storage).await.unwrap(), 2);
    bench.tells(&["Connection", "close"]).await;
    assert_eq!(bench.told.times(&["Retry"]), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_writes_are_paused() {
    let bench = Bench::new().await;
    bench.given("k").await;
    let pause = ["CLIENT", "PAUSE", "60000", "WRITE"];
    bench.server.command(&pause).unwrap();
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Timeout, ATTEMPT, write).await;
    assert!(error.may_have_happened(), "it happens when the pause ends");
    // A server that holds a write back reads nothing else from its connection either, so the reads
    // behind it wait until the connection is given up for silence.
    let mut timeouts = 0;
    while let Err(error) = read(&*bench.storage, "k").await {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        timeouts += 1;
        assert!(timeouts < 5, "reads are not paused: {error}");
    }
    bench.server.command(&["CLIENT", "UNPAUSE"]).unwrap();
    bench.recovers().await;
    bench.tells(&["Timeout", "read"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_17_a_host_without_power() {
    let bench = Bench::new().await;
    bench.given("k").await;
    bench.proxy.set(Fault::Blackhole(Direction::Both));
    bench.proxy.also(Fault::AcceptThenHang);
    for _ in 0..2 {
        error_within(ErrorKind::Timeout, ATTEMPT, read(&*bench.storage, "k")).await;
    }
    for _ in 0..2 {
        error_within(ErrorKind::Timeout, CONNECT, read(&*bench.storage, "k")).await;
    }
    // The host that comes back knows nothing of the connections of before.
    bench.proxy.reset_all();
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
    assert!(read(&*bench.storage, "k").await.unwrap());
    bench.tells(&["Timeout", "read"]).await;
    bench.tells(&["Timeout", "handshake"]).await;
}
