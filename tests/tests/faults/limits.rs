//! Rows 49 to 55: callers that give up, are too many, panic, or end with their runtime.

use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::{BuildHasher, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use cache_core::{
    CacheError, CacheKey, ErrorKind, Event, LoadOptions, LoaderOutcome, NewEntry, Observer,
    Observers, millis, mins, secs,
};
use cache_monitor::{MetricsObserver, names};
use cache_redis::RedisOptions;
use cache_testkit::proxy::{Direction, Fault};
use cache_testkit::servers::RedisServer;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::metrics_a::{Measured, Measurements, PATIENT};
use crate::support::{
    Bench, SLACK, count, eventually, minute, patient, put, read, timed, value_of,
};

/// How many calls are given up.
const DROPS: usize = if cfg!(feature = "drills") {
    2_000_000
} else {
    20_000
};

fn stack(bench: &Bench, more: &[(&str, &str)]) -> Measured {
    let url = format!("redis://{}", bench.proxy.address());
    Measured::redis(&url, &[PATIENT, more].concat())
}

/// Drives a call until it is done, or was driven so often; that is where it is given up.
async fn driven<T>(times: u32, call: impl Future<Output = T>) -> Option<T> {
    let (mut call, mut left) = (pin!(call), times);
    poll_fn(|context| {
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Calls that are given up wherever they wait leave nothing behind: no reply reaches anybody else,
/// and every place among the calls under way is free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_calls_are_given_up_wherever_they_wait() {
    let bench = Bench::patient().await;
    let keys: Vec<_> = (0..16).map(|number| format!("k{number}")).collect();
    for key in &keys {
        bench.given(key).await;
    }
    let measured = stack(&bench, &[("CACHE_BREAKER_MAX_IN_FLIGHT", "16")]);
    let mut callers = JoinSet::new();
    for key in keys.clone() {
        let storage = Arc::clone(measured.stack.storage());
        callers.spawn(async move {
            let mut given_up = 0;
            for _ in 0..DROPS / 16 {
                let times = fastrand::u32(1..3);
                match driven(times, read(&*storage, &key)).await {
                    Some(reading) => assert!(reading.expect("the server lives")),
                    None => given_up += 1,
                }
            }
            given_up
        });
    }
    let mut given_up = 0;
    while let Some(caller) = callers.join_next().await {
        given_up += caller.expect("no caller sees the value of another");
    }
    assert!(given_up > DROPS / 4, "{given_up} were given up");
    assert_eq!(measured.stack.monitor().in_flight(), 0);
    assert_eq!(measured.count(names::SATURATED_TOTAL, &[]), 0);
    let calls = keys.iter().map(|key| read(measured.storage(), key));
    for reading in calls {
        assert!(reading.await.unwrap());
    }
    let transitions = measured.count(names::BREAKER_TRANSITIONS_TOTAL, &[]);
    assert_eq!(transitions, 0, "giving up is no failure");
}

/// A caller that has less time than an attempt may take says nothing about the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_caller_in_a_hurry_does_not_open_the_breaker() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let measured = stack(&bench, &[]);
    assert!(read(measured.storage(), "k").await.unwrap());
    bench.proxy.set(Fault::Delay(Direction::Down, millis(20)));
    for _ in 0..50 {
        let hurried = tokio::time::timeout(millis(1), read(measured.storage(), "k"));
        assert!(hurried.await.is_err(), "replies take 20 ms");
    }
    assert!(read(measured.storage(), "k").await.unwrap());
    let transitions = measured.count(names::BREAKER_TRANSITIONS_TOTAL, &[]);
    assert_eq!(transitions, 0);
    assert_eq!(measured.count(names::BREAKER_REJECTED_TOTAL, &[]), 0);
}

/// Where as many calls are under way as may be, others wait for their turn for a moment and are
/// turned away then, which is not the server's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_51_too_many_calls_are_under_way() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let measured = stack(&bench, &[("CACHE_BREAKER_MAX_IN_FLIGHT", "8")]);
    assert!(read(measured.storage(), "k").await.unwrap());
    bench.server.pause().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let storage = Arc::clone(measured.stack.storage());
        callers.spawn(async move { timed(read(&*storage, "k")).await });
    }
    for _ in 0..992 {
        let (reading, took) = callers.join_next().await.unwrap().unwrap();
        let error = reading.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(took < millis(20) + SLACK, "{took:?}");
    }
    assert_eq!(measured.stack.monitor().in_flight(), 8);
    let saturated = [("backend", "redis")];
    assert_eq!(measured.count(names::SATURATED_TOTAL, &saturated), 992);
    let transitions = measured.count(names::BREAKER_TRANSITIONS_TOTAL, &[]);
    assert_eq!(transitions, 0, "the server has not failed");
    bench.server.resume().unwrap();
    while let Some(caller) = callers.join_next().await {
        assert!(caller.unwrap().0.unwrap());
    }
    assert_eq!(measured.stack.monitor().in_flight(), 0);
}

/// With a fallback, whoever was turned away is answered by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_51_a_fallback_answers_those_who_were_turned_away() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let more = [
        ("CACHE_BREAKER_MAX_IN_FLIGHT", "1"),
        ("CACHE_FALLBACK", "memory"),
    ];
    let measured = stack(&bench, &more);
    assert!(read(measured.storage(), "k").await.unwrap());
    bench.server.pause().unwrap();
    let storage = Arc::clone(measured.stack.storage());
    // Under way only once it has its place, which is what was sent for it.
    let sent = bench.proxy.counters().bytes_up;
    let first = tokio::spawn(async move { read(&*storage, "k").await });
    eventually(async || (bench.proxy.counters().bytes_up > sent).then_some(())).await;
    let (reading, took) = timed(read(measured.storage(), "k")).await;
    assert!(!reading.unwrap(), "the fallback has not got it");
    assert!(took < millis(20) + SLACK, "{took:?}");
    let reason = [("from", "redis"), ("to", "memory"), ("reason", "saturated")];
    assert_eq!(measured.count(names::FALLBACK_TOTAL, &reason), 1);
    bench.server.resume().unwrap();
    assert!(first.await.unwrap().unwrap());
}

/// Panics at everything it is told but that.
#[derive(Debug)]
struct Hostile(MetricsObserver);

impl Observer for Hostile {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Panicked { .. } => self.0.observe(event),
            _ => unreachable!("it panics on purpose"),
        }
    }
}

/// Whoever measures may panic: no caller notices, and it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_a_hook_panics() {
    let (metrics, measured) = Measurements::new();
    let observers = Observers::new(Hostile(MetricsObserver::new(metrics)));
    let own = observers.clone();
    let hostile = |options: RedisOptions| patient(options.with_observers(own));
    let bench = Bench::with(RedisServer::builder(), hostile).await;
    bench.given("k").await;
    for _ in 0..10 {
        bench.proxy.reset_all();
        assert!(read(&*bench.storage, "k").await.unwrap());
    }
    let panics = observers.panics();
    assert!(panics >= 11, "each connection was told, not {panics}");
    let hook = [("where", "hook")];
    assert!(measured.count(names::PANICS_TOTAL, &hook) >= 11);
}

/// Panics when a set is made of it.
#[derive(Debug)]
struct Shy;

impl Default for Shy {
    fn default() -> Self {
        unreachable!("it panics on purpose")
    }
}

impl BuildHasher for Shy {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        unreachable!("there is none")
    }
}

/// A value whose own code panics is an error of its caller, is counted, and is no trouble to
/// anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_the_code_of_a_value_panics() {
    let bench = Bench::patient().await;
    let measured = stack(&bench, &[]);
    let service = measured.stack.service("shy").ttl(secs(60)).build();
    let service = service.unwrap();
    service.set("k", &[1_u8]).await.unwrap();
    for _ in 0..10 {
        let error = service.get::<HashSet<u8, Shy>>("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
    }
    assert_eq!(service.get::<Vec<u8>>("k").await.unwrap(), Some(vec![1]));
    let codec = [("where", "codec")];
    assert_eq!(measured.count(names::PANICS_TOTAL, &codec), 10);
    let transitions = measured.count(names::BREAKER_TRANSITIONS_TOTAL, &[]);
    assert_eq!(transitions, 0, "the server has not failed");
    assert_eq!(measured.stack.monitor().in_flight(), 0);
}

/// A stack may be dropped outside of any runtime, with a call of it under way when its runtime
/// ended.
#[test]
fn row_53_a_whole_stack_outlives_its_runtime() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (bench, measured, call) = first.block_on(async {
        let bench = Bench::patient().await;
        let measured = stack(&bench, &[]);
        measured.stack.monitor().start();
        assert!(!read(measured.storage(), "k").await.unwrap());
        bench.server.pause().unwrap();
        let storage = Arc::clone(measured.stack.storage());
        let call = tokio::spawn(async move { read(&*storage, "k").await });
        eventually(async || (measured.stack.monitor().in_flight() == 1).then_some(())).await;
        (bench, measured, call)
    });
    drop(first);
    bench.server.resume().unwrap();
    assert_eq!(measured.stack.monitor().in_flight(), 0);
    runtime().block_on(async {
        assert!(call.await.unwrap_err().is_cancelled());
        put(measured.storage(), "k", &value_of("k")).await.unwrap();
        assert!(read(measured.storage(), "k").await.unwrap());
    });
    // Outside of any runtime.
    drop(measured);
    drop(bench);
}

/// All of a stack works where there is one thread, as in a Lambda function.
#[test]
fn row_54_a_whole_stack_on_a_single_thread() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // The proxy is driven elsewhere.
    let serving = Builder::new_multi_thread().enable_all().build().unwrap();
    let bench = serving.block_on(Bench::patient());
    let more = [
        ("CACHE_FALLBACK", "memory"),
        ("CACHE_MONITOR_MODE", "lambda"),
    ];
    let measured = stack(&bench, &more);
    for round in 1..=20 {
        runtime.block_on(async {
            put(measured.storage(), "k", &value_of("k")).await.unwrap();
            assert!(read(measured.storage(), "k").await.unwrap());
            assert_eq!(count(measured.storage()).await.unwrap(), round);
        });
    }
    assert_eq!(measured.count(names::FALLBACK_TOTAL, &[]), 0);
    runtime.block_on(async {
        let report = measured.stack.shutdown(secs(5)).await;
        report.into_result().unwrap();
    });
    let labels = [("result", "drained")];
    assert_eq!(measured.count(names::SHUTDOWN_TOTAL, &labels), 1);
    drop(serving);
}

/// Ten thousand keys at once are written and read in time, with an outcome for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_55_ten_thousand_keys_at_once() {
    let bench = Bench::patient().await;
    let url = format!("redis://{}", bench.proxy.address());
    // Its own limit is two seconds.
    let measured = Measured::redis(&url, &PATIENT[..3]);
    let keys: Vec<_> = (0..10_000)
        .map(|n| CacheKey::from(format!("k{n}")))
        .collect();
    let entry = |key: &CacheKey| {
        let value = value_of(key.as_str()).into_bytes();
        (key.clone(), NewEntry::new(value, minute()))
    };
    let entries = keys.iter().map(entry).collect();
    let (written, took) = timed(measured.storage().set_many(entries)).await;
    assert!(took < secs(2) + SLACK, "{took:?}");
    assert_eq!(written.len(), keys.len());
    assert!(written.iter().all(Result::is_ok), "nothing went wrong");

    let (found, took) = timed(measured.storage().get_many(&keys)).await;
    assert!(took < secs(2) + SLACK, "{took:?}");
    assert_eq!(found.len(), keys.len());
    for (key, entry) in keys.iter().zip(found) {
        let entry = entry.unwrap().expect("it was written");
        assert_eq!(entry.value, value_of(key.as_str()));
    }
    let batch = |op, outcome| {
        let labels = [("backend", "redis"), ("op", op), ("outcome", outcome)];
        measured.count(names::OPS_TOTAL, &labels)
    };
    assert_eq!(batch("set_many", "ok"), 10_000);
    assert_eq!(batch("get_many", "hit"), 10_000);
}

/// A loader slower than everything else is asked once, however many ask for its key, and a caller
/// in a hurry waits no longer than it wants to. The first may leave: the load goes on for the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_56_ten_thousand_callers_wait_for_one_slow_load() {
    let bench = Bench::patient().await;
    let measured = stack(&bench, &[]);
    let builder = measured.stack.service("origin").ttl(mins(1));
    let service = builder.build().expect("the service is sound");
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let first = service.clone();
    let leader = tokio::spawn(async move {
        let loader = move |_| async move {
            begins.notify_one();
            goes.notified().await;
            Ok::<_, CacheError>(7u64)
        };
        first.get_or_load("k", loader).await
    });
    begun.notified().await;
    let nobody = |_| async { LoaderOutcome::<u64>::failed("there is a load already") };
    let joined = || measured.count(names::SINGLEFLIGHT_JOINED_TOTAL, &[]);
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.get_or_load("k", nobody).await })
        })
        .collect();
    eventually(async || (joined() == 10_000).then_some(())).await;
    leader.abort();
    let hurry = LoadOptions::builder().hard_timeout(millis(50)).build();
    let hurry = hurry.expect("the options are sound");
    let hurried = timed(service.get_or_load_with("k", &hurry, nobody)).await;
    assert_eq!(
        hurried.0.expect_err("it waits no longer").kind(),
        ErrorKind::Timeout
    );
    assert!(hurried.1 <= millis(50) + SLACK, "{:?}", hurried.1);
    go.notify_one();
    for caller in callers {
        let value = caller.await.expect("no caller panics");
        assert_eq!(
            *value.expect("the load goes on without its first caller"),
            7
        );
    }
    let loads = measured.count(names::LOADS_TOTAL, &[("outcome", "value")]);
    assert_eq!((loads, joined()), (1, 10_001));
}
