//! Rows 50, 53, 54, 57, 58 and 87: callers, their runtimes and their processes come and go.

use cache_core::{CacheKey, CacheStorage, Condition, ManualClock, NewEntry, millis, secs};
use cache_redis::RedisOptions;
use cache_testkit::proxy::{Direction, End, Fault};
use cache_testkit::servers::RedisServer;
use tokio::runtime::{Builder, Runtime};

use crate::support::{Bench, CONNECT, SLACK, count, eventually, minute, patient, read, timed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_callers_with_less_time_than_an_attempt() {
    let bench = Bench::patient().await;
    for key in ["a", "b"] {
        bench.given(key).await;
    }
    bench.proxy.set(Fault::Delay(Direction::Down, millis(20)));
    for _ in 0..20 {
        let hurried = tokio::time::timeout(millis(1), read(&*bench.storage, "a"));
        assert!(hurried.await.is_err(), "replies take 20 ms");
        assert!(read(&*bench.storage, "b").await.unwrap());
    }
    assert_eq!(
        bench.proxy.counters().accepted,
        1,
        "nothing is wrong with it"
    );
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has a runtime left")
}

#[test]
fn row_53_the_runtime_ends_with_calls_in_flight() {
    let first = runtime();
    let (bench, calls) = first.block_on(async {
        let bench = Bench::patient().await;
        bench.given("k").await;
        bench.server.pause().unwrap();
        let reading = bench.in_flight(|s| async move { read(&*s, "k").await.is_ok() });
        let reading = reading.await;
        let counting = bench.in_flight(|s| async move { count(&*s).await.is_ok() });
        let counting = counting.await;
        (bench, [reading, counting])
    });
    drop(first);
    bench.server.resume().unwrap();
    runtime().block_on(async {
        for call in calls {
            assert!(call.await.unwrap_err().is_cancelled());
        }
        assert!(read(&*bench.storage, "k").await.unwrap());
        let counted = eventually(async || count(&*bench.storage).await.ok()).await;
        assert!((1..=2).contains(&counted), "{counted}");
    });
    // Outside of any runtime.
    drop(bench);
}

#[test]
fn row_54_two_runtimes_take_turns() {
    // Both run all the time: the tasks of a runtime that nobody drives do nothing, and calls on its
    // connection time out until it is given up.
    let runtimes = [1, 2].map(|threads| {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
    });
    let bench = runtimes[0].block_on(Bench::patient());
    for round in 0..20_i64 {
        runtimes[round as usize % 2].block_on(async {
            bench.given("k").await;
            assert!(read(&*bench.storage, "k").await.unwrap());
            assert_eq!(count(&*bench.storage).await.unwrap(), round + 1);
        });
    }
}

async fn frozen(clock: &ManualClock) -> Bench {
    let clock = clock.clone();
    let frozen = |options: RedisOptions| options.with_clock(clock);
    let bench = Bench::with(RedisServer::builder(), frozen).await;
    bench.given("k").await;
    eventually(async || count(&*bench.storage).await.ok()).await;
    bench
}

/// Has the network forget the connection: what is sent on it is neither answered nor refused.
async fn lose_connection(bench: &Bench) {
    let fired = bench.proxy.counters().fired;
    bench.proxy.set(Fault::Cut(Direction::Up, 0, End::Hang));
    let unanswered = read(&*bench.storage, "k");
    let lost = bench.proxy.wait_for(|counters| counters.fired > fired);
    tokio::select! {
        _ = lost => {}
        _ = unanswered => unreachable!("nobody answers"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_57_the_connection_was_lost_during_a_freeze() {
    let clock = ManualClock::new();
    for freeze in [secs(31), secs(600)] {
        let bench = frozen(&clock).await;
        let before: i64 = bench.stored("n").parse().unwrap();
        lose_connection(&bench).await;
        clock.freeze(freeze);
        let (reading, took) = timed(read(&*bench.storage, "k")).await;
        assert!(reading.unwrap(), "after {freeze:?}");
        assert!(took < CONNECT + SLACK, "it took {took:?}");
        lose_connection(&bench).await;
        clock.freeze(freeze);
        let (counted, took) = timed(count(&*bench.storage)).await;
        assert_eq!(counted.unwrap(), before + 1, "after {freeze:?}");
        assert!(took < CONNECT + SLACK, "it took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_a_thousand_freezes() {
    let clock = ManualClock::new();
    let own = clock.clone();
    let frozen = |options: RedisOptions| patient(options.with_clock(own));
    let bench = Bench::with(RedisServer::builder(), frozen).await;
    bench.given("k").await;
    for cycle in 0..1_000 {
        clock.freeze(secs(cycle % 60));
        assert!(read(&*bench.storage, "k").await.unwrap(), "cycle {cycle}");
    }
    let counters = bench.proxy.counters();
    assert_eq!((counters.accepted, counters.open), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_87_the_server_forgets_its_scripts() {
    let bench = Bench::patient().await;
    let key = CacheKey::from("lock");
    let token = || NewEntry::new("token", minute());
    for _ in 0..5 {
        bench.server.command(&["SCRIPT", "FLUSH"]).unwrap();
        let set = bench.storage.set(&key, token(), Condition::IfAbsent);
        assert!(set.await.unwrap());
        bench.server.command(&["SCRIPT", "FLUSH"]).unwrap();
        let deleted = bench.storage.compare_and_delete(&key, b"token");
        assert!(deleted.await.unwrap());
    }
}
