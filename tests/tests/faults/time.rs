//! Rows 57 to 60 and row 87: what freezes, jumps of the clock and forgotten scripts leave in the
//! metrics, and what storages of every kind make of a clock that was set.

use std::sync::Arc;
use std::time::Duration;

use cache_breaker::{BreakerOptions, CircuitBreaker, Outcome};
use cache_core::{CacheKey, CacheStorage, Condition, ManualClock, NewEntry, hours, mins, secs};
use cache_dynamo::{AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, Mode, MonitorOptions, names};
use cache_testkit::servers::{DynamoDb, RedisServer};

use crate::metrics_b::{Measured, Meter};
use crate::support::{Bench, CONNECT, SLACK, fetch, minute, patient, put, read, timed};

/// A bench by this clock, whose storage is measured.
async fn measured(clock: &ManualClock, meter: &Meter) -> Bench {
    let (clock, observers) = (clock.clone(), meter.observers());
    let bench = Bench::with(RedisServer::builder(), |options| {
        patient(options.with_clock(clock).with_observers(observers))
    })
    .await;
    bench.given("k").await;
    bench
}

/// A monitor that checks alongside every call that comes a second or more after the last check.
fn watching(storage: impl CacheStorage, clock: &ManualClock, meter: &Meter) -> CacheMonitor {
    let storage: Arc<dyn CacheStorage> = Arc::new(storage);
    let options = MonitorOptions::default()
        .with_mode(Mode::Lambda)
        .with_interval(secs(2))
        .with_timeout(secs(2))
        .with_retries(0);
    CacheMonitor::builder(Arc::clone(&storage))
        .watch("watched", storage)
        .options(options)
        .metrics(meter.metrics())
        .clock(clock.clone())
        .build()
        .expect("the options are sound")
}

/// The first call after a freeze succeeds within the time of a new connection, and what was done
/// about the old connection is counted: looked at, doubted, or replaced unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_57_the_first_call_after_a_freeze_is_measured() {
    for (freeze, action) in [(secs(10), "look"), (secs(60), "doubt"), (secs(600), "dial")] {
        let (clock, meter) = (ManualClock::new(), Meter::new());
        let bench = measured(&clock, &meter).await;
        assert!(read(&*bench.storage, "k").await.unwrap());
        assert_eq!(meter.count(names::THAW_TOTAL, &[]), 0, "there was none");
        clock.freeze(freeze);
        let (reading, took) = timed(read(&*bench.storage, "k")).await;
        assert!(reading.unwrap(), "after {freeze:?}");
        assert!(took < CONNECT + SLACK, "it took {took:?}");
        let thaws = meter.count(names::THAW_TOTAL, &[("action", action)]);
        assert_eq!(thaws, 1, "after {freeze:?}");
    }
}

/// The server closes what is idle during each of a thousand freezes: no call fails, there is one
/// connection at any time, and health is checked at most once a thaw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_a_thousand_freezes_of_idle_connections_are_measured() {
    let (clock, meter) = (ManualClock::new(), Meter::new());
    let bench = measured(&clock, &meter).await;
    let monitor = watching(Arc::clone(&bench.storage), &clock, &meter);
    let mut closes = 0;
    for cycle in 0..1_000_u64 {
        clock.freeze(secs(4));
        if cycle % 50 == 49 {
            bench.proxy.close_all();
            bench.proxy.wait_for(|counters| counters.open == 0).await;
            closes += 1;
        }
        let reading = read(&**monitor.storage(), "k").await;
        assert!(reading.unwrap(), "cycle {cycle}");
    }
    let counters = bench.proxy.counters();
    assert_eq!((counters.accepted, counters.open), (closes + 1, 1));
    for step in ["write", "read", "delete"] {
        let checks = meter.count(names::HEALTH_PROBE_TOTAL, &[("step", step)]);
        assert!((1..=1_000).contains(&checks), "{step}: {checks}");
    }
}

/// Sets the clock an hour ahead, an hour back, and to 1970.
fn settings_of_the_clock() -> [fn(&ManualClock); 3] {
    [
        |clock| clock.freeze(hours(1)),
        |clock| clock.set_back(hours(1)),
        |clock| clock.set_back(Duration::MAX),
    ]
}

/// However the wall clock is set, a breaker stays open for as long as it said and no longer.
#[tokio::test]
async fn row_59_a_breaker_does_not_look_at_the_wall_clock() {
    for set in settings_of_the_clock() {
        let clock = ManualClock::new();
        let options = BreakerOptions::default()
            .with_consecutive_failures(1)
            .with_open_for(secs(10), secs(10))
            .with_jitter(0.0);
        let breaker = CircuitBreaker::new("b", options).unwrap();
        let breaker = breaker.with_clock(clock.clone());
        breaker.admit().unwrap().fail(Outcome::Failure);
        set(&clock);
        assert!(breaker.admit().is_err(), "it is open");
        clock.advance(secs(9));
        assert!(breaker.admit().is_err(), "it is open still");
        clock.advance(secs(1));
        assert!(breaker.admit().is_ok(), "its time is over");
    }
}

/// However the wall clock is set, no entry in memory lives longer than its writer said, and a
/// jump ahead ends it early at most.
#[tokio::test]
async fn row_59_a_clock_set_back_prolongs_nothing_in_memory() {
    for set in settings_of_the_clock() {
        let clock = ManualClock::new();
        let storage = MemoryCacheStorage::with_clock(clock.clone());
        put(&storage, "k", "v").await.unwrap();
        set(&clock);
        // An early end is allowed, an error is not.
        fetch(&storage, "k").await.unwrap();
        clock.advance(mins(1));
        assert_eq!(fetch(&storage, "k").await.unwrap(), None);
    }
}

/// DynamoDB goes by the wall clock, as the server does: a jump ends entries or gives them back,
/// and every call goes on working.
#[tokio::test]
async fn row_59_dynamodb_goes_by_the_wall_clock() {
    let server = DynamoDb::start().unwrap();
    let clock = ManualClock::new();
    let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter1"));
    let options = DynamoDbOptions::new("cache")
        .with_region("eu-west-1")
        .with_endpoint(server.endpoint())
        .with_credentials(credentials)
        .with_connect_timeout(secs(10))
        .with_attempt_timeout(secs(10))
        .with_timeout(secs(10))
        .with_clock(clock.clone());
    let storage = DynamoDbCacheStorage::new(options).unwrap();
    storage.create_table().await.unwrap();
    put(&storage, "k", "v").await.unwrap();
    clock.freeze(hours(1));
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
    for set in settings_of_the_clock().into_iter().skip(1) {
        set(&clock);
        assert_eq!(fetch(&storage, "k").await.unwrap().unwrap(), "v");
        let left = storage.get_ttl(&CacheKey::from("k")).await;
        assert!(left.is_ok(), "{left:?}");
        put(&storage, "l", "v").await.unwrap();
        assert_eq!(fetch(&storage, "l").await.unwrap().unwrap(), "v");
    }
}

/// A jump of the wall clock is counted by its direction, even where no time has passed since.
#[tokio::test]
async fn row_59_jumps_of_the_wall_clock_are_measured() {
    let (clock, meter) = (ManualClock::new(), Meter::new());
    let monitor = watching(MemoryCacheStorage::new(), &clock, &meter);
    let jumps = |direction| meter.count(names::CLOCK_JUMP_TOTAL, &[("direction", direction)]);
    clock.advance(hours(1));
    monitor.check_now().await;
    assert_eq!((jumps("forward"), jumps("back")), (0, 0), "time has passed");
    clock.freeze(hours(1));
    monitor.check_now().await;
    assert_eq!((jumps("forward"), jumps("back")), (1, 0));
    clock.set_back(hours(1));
    monitor.check_now().await;
    assert_eq!((jumps("forward"), jumps("back")), (1, 1));
    clock.advance(secs(30));
    clock.set_back(Duration::MAX);
    monitor.check_now().await;
    assert_eq!((jumps("forward"), jumps("back")), (1, 2));
    clock.advance(secs(30));
    monitor.check_now().await;
    assert_eq!((jumps("forward"), jumps("back")), (1, 2));
}

/// A monotonic clock that stood still while the machine was paused hides no silence: the storage
/// doubts its connection, and the monitor sees that the process stood still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_60_a_pause_that_the_monotonic_clock_missed() {
    let (clock, meter) = (ManualClock::new(), Meter::new());
    let bench = measured(&clock, &meter).await;
    let monitor = watching(MemoryCacheStorage::new(), &clock, &meter);
    monitor.check_now().await;
    assert_eq!(meter.count(names::THAW_TOTAL, &[]), 0);
    clock.freeze(mins(1));
    assert!(read(&*bench.storage, "k").await.unwrap());
    let doubts = meter.count(names::THAW_TOTAL, &[("action", "doubt")]);
    assert_eq!(doubts, 1);
    monitor.check_now().await;
    let freezes = meter.count(names::THAW_TOTAL, &[("action", "freeze")]);
    assert_eq!(freezes, 1);
}

/// A server that has forgotten a script is sent it again, and each time counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_87_scripts_that_were_forgotten_are_measured() {
    let server = RedisServer::start().unwrap();
    let measured = Measured::redis(server.port());
    let (key, missing) = (CacheKey::from("lock"), [("backend", "redis")]);
    for round in 1..=3 {
        let entry = NewEntry::new("token", minute());
        let set = measured.storage().set(&key, entry, Condition::IfAbsent);
        assert!(set.await.unwrap());
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        let deleted = measured.storage().compare_and_delete(&key, b"token");
        assert!(deleted.await.unwrap());
        let scripts = measured.count(names::NOSCRIPT_TOTAL, &missing);
        assert!(scripts >= round, "{scripts} in round {round}");
    }
}
