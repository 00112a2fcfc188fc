//! Rows 77, 82 to 84 and 88: breakers, monitors and recorders under trouble of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use cache_breaker::{BreakerOptions, CallError, CircuitBreaker, Outcome};
use cache_core::{CacheError, ErrorKind, ManualClock, millis, secs};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, Health, MeteredStorage, Metrics, names};
use cache_testkit::proxy::{Direction, Fault};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebuggingRecorder, Snapshotter};
use tokio::sync::Notify;

use crate::metrics_b::{Measured, Meter};
use crate::support::{Bench, SLACK, fetch, put, timed, value_of};

/// Of ten thousand callers who come at a breaker that is half open, one goes and the others are
/// turned away; the probe and those others are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_77_a_stampede_at_a_half_open_breaker() {
    const CALLERS: usize = 10_000;
    let (clock, meter) = (ManualClock::new(), Meter::new());
    let options = BreakerOptions::default()
        .with_consecutive_failures(1)
        .with_open_for(secs(10), secs(10))
        .with_jitter(0.0);
    let breaker = CircuitBreaker::new("b", options)
        .unwrap()
        .with_clock(clock.clone())
        .with_observers(meter.observers());
    breaker.admit().unwrap().fail(Outcome::Failure);
    clock.advance(secs(10));

    let inside = Arc::new(AtomicUsize::new(0));
    let the_rest_is_through = Arc::new(Notify::new());
    let caller = |_| {
        let breaker = breaker.clone();
        let (inside, end) = (Arc::clone(&inside), Arc::clone(&the_rest_is_through));
        tokio::spawn(async move {
            let probe = async {
                inside.fetch_add(1, Ordering::SeqCst);
                end.notified().await;
                Ok::<_, CacheError>(())
            };
            breaker.call(probe).await
        })
    };
    let mut callers: Vec<_> = (0..CALLERS).map(caller).collect();
    let labels = [("breaker", "b")];
    let rejected = || meter.count(names::BREAKER_REJECTED_TOTAL, &labels);
    crate::support::eventually(async || (rejected() == CALLERS as u64 - 1).then_some(())).await;
    assert_eq!(inside.load(Ordering::SeqCst), 1, "one goes at a time");
    the_rest_is_through.notify_one();
    let mut gone = 0;
    for caller in callers.drain(..) {
        match caller.await.unwrap() {
            Ok(()) => gone += 1,
            Err(error) => assert!(matches!(error, CallError::Rejected(_)), "{error}"),
        }
    }
    assert_eq!(gone, 1);
    let probes = [("breaker", "b"), ("result", "success")];
    assert_eq!(meter.count(names::BREAKER_PROBE_TOTAL, &probes), 1);
    assert_eq!(meter.count(names::BREAKER_PROBE_TOTAL, &labels), 1);
}

/// A second shutdown is the same report at once, whether the monitor was ever started or not, and
/// one end is counted.
#[tokio::test]
async fn row_82_a_shutdown_twice_and_without_a_start() {
    for is_started in [false, true] {
        let measured = Measured::new(&[
            ("CACHE_STORAGE_TYPE", "memory"),
            ("CACHE_MONITOR_MODE", "server"),
        ]);
        if is_started {
            measured.stack.monitor().start();
            measured.stack.monitor().start();
        }
        for _ in 0..2 {
            let (report, took) = timed(measured.stack.shutdown(secs(10))).await;
            report.into_result().unwrap();
            assert!(took < secs(1), "it took {took:?}");
        }
        measured.stack.monitor().start();
        assert_eq!(measured.count(names::SHUTDOWN_TOTAL, &[]), 1);
        let drained = [("result", "drained")];
        assert_eq!(measured.count(names::SHUTDOWN_TOTAL, &drained), 1);
    }
}

/// A monitor that is dropped, started or not, ends nothing: the storage works on, and no end is
/// counted.
#[tokio::test]
async fn row_82_a_monitor_that_is_dropped() {
    for is_started in [false, true] {
        let meter = Meter::new();
        let monitor = CacheMonitor::builder(MemoryCacheStorage::new())
            .metrics(meter.metrics())
            .build()
            .unwrap();
        if is_started {
            monitor.start();
        }
        let storage = Arc::clone(monitor.storage());
        drop(monitor);
        put(&*storage, "k", "v").await.unwrap();
        assert_eq!(fetch(&*storage, "k").await.unwrap().unwrap(), "v");
        assert_eq!(meter.count(names::SHUTDOWN_TOTAL, &[]), 0);
    }
}

/// A full server that still answers reads is not up: each step of a check is told by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_83_a_server_that_answers_reads_only_is_not_up() {
    let bench = Bench::patient().await;
    let measured = Measured::redis(bench.server.port());
    let monitor = measured.stack.monitor();
    assert_eq!(monitor.check_now().await.health, Health::Up);
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    bench.server.command(&full).unwrap();
    let status = monitor.check_now().await;
    assert_eq!(status.health, Health::Degraded, "{status:?}");
    assert!(!status.backends[0].is_up());
    let steps = |step, result| {
        let labels = [("backend", "redis"), ("step", step), ("result", result)];
        measured.count(names::HEALTH_PROBE_TOTAL, &labels)
    };
    assert_eq!((steps("write", "ok"), steps("write", "oom")), (1, 1));
    assert_eq!((steps("read", "ok"), steps("delete", "ok")), (2, 2));
    let room = ["CONFIG", "SET", "maxmemory", "0"];
    bench.server.command(&room).unwrap();
    assert_eq!(monitor.check_now().await.health, Health::Up);
}

/// Ends a stack with calls under way that the server answers after a while, or never; returns
/// what was measured.
async fn ended_under_load(is_answered: bool) -> Measured {
    const CALLS: usize = 50;
    let bench = Bench::patient().await;
    bench.given("k").await;
    let measured = Measured::redis(bench.proxy.address().port());
    let first = fetch(measured.storage(), "k").await;
    assert_eq!(first.expect("the server answers"), Some(value_of("k")));
    if is_answered {
        bench.proxy.set(Fault::Delay(Direction::Down, millis(100)));
    } else {
        bench.server.pause().expect("the server is there");
    }
    let call = |_| {
        let storage = Arc::clone(measured.stack.storage());
        tokio::spawn(async move { fetch(&*storage, "k").await })
    };
    let calls: Vec<_> = (0..CALLS).map(call).collect();
    let monitor = measured.stack.monitor();
    crate::support::eventually(async || (monitor.in_flight() == CALLS as u64).then_some(())).await;

    let budget = if is_answered { secs(5) } else { millis(300) };
    let ending = measured.stack.shutdown(budget);
    let late = async {
        tokio::task::yield_now().await;
        fetch(measured.storage(), "k").await
    };
    let ((report, took), (late, late_took)) = tokio::join!(timed(ending), timed(late));
    assert_eq!(
        late.expect_err("it comes too late").kind(),
        ErrorKind::Closed
    );
    assert!(
        late_took < SLACK,
        "new calls are not kept waiting: {late_took:?}"
    );
    assert!(took < budget + SLACK, "it took {took:?}");
    let (ended, cut_off) = if is_answered { (50, 0) } else { (0, 50) };
    assert_eq!(
        (report.drained, report.cancelled),
        (ended, cut_off),
        "{report:?}"
    );
    for call in calls {
        match call.await.expect("calls do not panic") {
            Ok(value) => assert!(is_answered && value == Some(value_of("k"))),
            Err(error) => {
                assert!(!is_answered, "{error}");
                assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, "cut_off"));
            }
        }
    }
    if !is_answered {
        bench.server.resume().expect("the server is there");
    }
    measured
}

/// Calls under way at the end may finish within the budget, and the end is counted as drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_84_a_shutdown_waits_for_calls_that_are_answered() {
    let measured = ended_under_load(true).await;
    let drained = [("result", "drained")];
    assert_eq!(measured.count(names::SHUTDOWN_TOTAL, &drained), 1);
}

/// With a server that stands still, the end comes with the budget all the same; the calls are cut
/// off, and the end is counted as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_84_a_shutdown_cuts_off_what_a_frozen_server_keeps() {
    let measured = ended_under_load(false).await;
    let cancelled = [("result", "cancelled")];
    assert_eq!(measured.count(names::SHUTDOWN_TOTAL, &cancelled), 1);
}

/// Does as it is told where the counter of reads is registered; takes everything else.
struct Hostile<F> {
    at_reads: F,
    inner: DebuggingRecorder,
}

impl<F: Fn() + Send + Sync + 'static> Hostile<F> {
    fn metrics(at_reads: F) -> (Metrics, Snapshotter) {
        let inner = DebuggingRecorder::new();
        let snapshotter = inner.snapshotter();
        (Metrics::to(Arc::new(Self { at_reads, inner })), snapshotter)
    }
}

impl<F: Fn()> Recorder for Hostile<F> {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        if key.labels().any(|label| label.value() == "get") {
            (self.at_reads)();
        }
        self.inner.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.inner.register_histogram(key, metadata)
    }
}

/// A recorder that panics costs no call anything, and its panics are counted in itself.
#[tokio::test]
async fn row_88_a_recorder_that_panics() {
    let (metrics, snapshotter) = Hostile::metrics(|| panic!("a recorder panics on purpose"));
    let meter = Meter::of(metrics.clone(), snapshotter);
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics.clone());
    for _ in 0..3 {
        put(&storage, "k", "v").await.unwrap();
        assert_eq!(fetch(&storage, "k").await.unwrap().unwrap(), "v");
    }
    assert_eq!(metrics.panics(), 3);
    assert_eq!(meter.count(names::PANICS_TOTAL, &[("where", "hook")]), 3);
    let written = [("op", "set"), ("outcome", "ok")];
    assert_eq!(meter.count(names::OPS_TOTAL, &written), 3);
}

/// A recorder that blocks delays the caller it was told by, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_88_a_recorder_that_blocks() {
    let (blocked, is_blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(Some(released));
    let (metrics, snapshotter) = Hostile::metrics(move || {
        let first = released.lock().ok().and_then(|mut first| first.take());
        if let Some(released) = first {
            blocked.send(()).expect("the test waits for it");
            _ = released.recv_timeout(secs(10));
        }
    });
    let meter = Meter::of(metrics.clone(), snapshotter);
    let storage = Arc::new(MeteredStorage::new(MemoryCacheStorage::new(), metrics));
    put(&*storage, "k", "v").await.unwrap();
    let own = Arc::clone(&storage);
    let delayed = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(fetch(&*own, "k"))
    });
    tokio::task::block_in_place(|| is_blocked.recv_timeout(secs(10))).unwrap();
    for _ in 0..10 {
        let (reading, took) = timed(fetch(&*storage, "k")).await;
        assert_eq!(reading.unwrap().unwrap(), "v");
        assert!(took < SLACK, "it took {took:?}");
    }
    assert!(!delayed.is_finished(), "it is the recorder's guest");
    release.send(()).unwrap();
    assert_eq!(delayed.await.unwrap().unwrap().unwrap(), "v");
    let reads = [("op", "get"), ("outcome", "hit")];
    assert_eq!(meter.count(names::OPS_TOTAL, &reads), 11);
    assert_eq!(meter.count(names::PANICS_TOTAL, &[]), 0);
}
