//! Rows 27 and 29 to 31: what comes is slow, wrong, short or endless.

use bytes::Bytes;
use cache_core::{CacheStorage, ErrorKind, millis};
use cache_testkit::proxy::{Direction, Fault};

use crate::support::{
    ATTEMPT, Bench, CONNECT, SLACK, count, error_within, eventually, put, read, timed,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_reply_drips() {
    let bench = Bench::new().await;
    bench.given("k").await;
    let delivered = bench.proxy.counters().bytes_down;
    bench.proxy.set(Fault::Drip(Direction::Down, 1, millis(50)));
    // A limit for each read would never be reached.
    error_within(ErrorKind::Timeout, ATTEMPT, read(&*bench.storage, "k")).await;
    assert!(bench.proxy.counters().bytes_down > delivered, "bytes came");
    bench.proxy.set(Fault::Pass);
    eventually(async || read(&*bench.storage, "k").await.ok()).await;
    assert_eq!(bench.proxy.counters().accepted, 1, "it was not silent");
    bench.tells(&["Timeout", "read"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_one_bit_of_a_header_is_wrong() {
    let bench = Bench::new().await;
    bench.given("k").await;
    // A sign, two digits and the end of a line come before the value; nothing guards the value
    // itself but TCP and TLS.
    for bit in 0..5 * 8 {
        eventually(async || read(&*bench.storage, "k").await.ok()).await;
        let fired = bench.proxy.counters().fired;
        let flip = Fault::Corrupt(Direction::Down, bit / 8, 1 << (bit % 8));
        bench.proxy.set(flip);
        let (reading, took) = timed(read(&*bench.storage, "k")).await;
        assert!(took < CONNECT + SLACK, "bit {bit} took {took:?}");
        assert!(reading.is_err() || reading.unwrap(), "bit {bit} hid it");
        bench
            .proxy
            .wait_for(|counters| counters.fired > fired)
            .await;
    }
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
    bench.tells(&["DecodeError", "resp"]).await;
    bench.tells(&["Connection", "close", "resp"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_a_reply_comes_twice() {
    let bench = Bench::new().await;
    bench.given("k").await;
    for _ in 0..20 {
        bench.proxy.set(Fault::Duplicate(Direction::Down));
        // Replies carry no number: one that comes while the next call waits is taken for its own.
        // So all calls are the same here.
        eventually(async || read(&*bench.storage, "k").await.ok()).await;
    }
    bench.proxy.reset_all();
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_a_reply_that_belongs_to_another_command() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let accepted = bench.proxy.counters().accepted;
    let somebody_elses = Fault::Reply(Bytes::from_static(b":1\r\n"));
    bench.proxy.set(somebody_elses.clone());
    let error = error_within(ErrorKind::Backend, ATTEMPT, read(&*bench.storage, "k")).await;
    assert_eq!(error.code(), "resp");
    assert!(!error.may_have_happened(), "it was a read");
    bench.tells(&["DecodeError", "resp"]).await;
    bench.tells(&["Connection", "close", "resp"]).await;
    // Nobody is given what comes next on that connection.
    bench.proxy.set(Fault::Pass);
    assert!(read(&*bench.storage, "k").await.unwrap());
    assert_eq!(bench.proxy.counters().accepted, accepted + 1);
    bench.proxy.set(somebody_elses);
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Backend, ATTEMPT, write).await;
    assert!(error.may_have_happened(), "nobody knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_30_the_end_instead_of_an_answer() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    assert_eq!(count(&*bench.storage).await.unwrap(), 1);
    bench.proxy.set(Fault::HalfClose);
    assert!(
        read(&*bench.storage, "k").await.unwrap(),
        "it was read again"
    );
    bench.proxy.set(Fault::HalfClose);
    assert!(put(&*bench.storage, "w", "v").await.unwrap(), "again");
    bench.proxy.set(Fault::HalfClose);
    let counting = count(&*bench.storage);
    let error = error_within(ErrorKind::Connection, ATTEMPT + CONNECT, counting).await;
    assert!(error.may_have_happened(), "nobody knows");
    eventually(async || (bench.stored("n") == "2").then_some(())).await;
    assert_eq!(count(&*bench.storage).await.unwrap(), 3, "counted once");
    assert_eq!(bench.proxy.counters().fired, 3);
    bench.tells(&["Connection", "close", "closed"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_arrays_in_arrays_without_end() {
    let bench = Bench::patient().await;
    for nested in ["*1\r\n", "%1\r\n", "~1\r\n", "*2147483647\r\n"] {
        bench.given("k").await;
        // A connection that is ready for use, on which the proxy answers from here on.
        bench
            .proxy
            .set(Fault::Reply(Bytes::from_static(b"+PONG\r\n")));
        eventually(async || bench.storage.ping().await.ok()).await;
        let bomb = Bytes::from(nested.repeat(1_000_000));
        bench.proxy.set(Fault::Reply(bomb));
        // The first finds out, the second is on a new connection, whose greeting is answered so.
        for _ in 0..2 {
            let (reading, took) = timed(read(&*bench.storage, "k")).await;
            let error = reading.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{nested:?}: {error}");
            assert!(took < millis(5000), "it took {took:?}");
        }
        bench.proxy.set(Fault::Pass);
        bench.recovers().await;
    }
    bench.tells(&["DecodeError", "resp"]).await;
}
