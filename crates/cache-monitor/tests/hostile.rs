//! Recorders that misbehave, and what callers notice of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{CacheKey, CacheStorage, Condition, Event, NewEntry, Observers, Ttl, mins};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{MeteredStorage, Metrics, MetricsObserver, names};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Panics at whatever it is asked to do.
struct Panicking;

#[expect(clippy::panic, reason = "it is what is tested")]
fn refuse() -> ! {
    panic!("a recorder panics on purpose")
}

impl Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        refuse()
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        refuse()
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        refuse()
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        refuse()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        refuse()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        refuse()
    }
}

/// Gives counters that go wrong as `count` does, after they were registered; the rest is as it
/// should be.
struct Counting<F> {
    count: Arc<F>,
    inner: DebuggingRecorder,
}

impl<F: Fn() + Send + Sync + 'static> Counting<F> {
    fn new(count: F) -> (Self, Snapshotter) {
        let inner = DebuggingRecorder::new();
        let snapshotter = inner.snapshotter();
        let count = Arc::new(count);
        (Self { count, inner }, snapshotter)
    }
}

struct Counts<F> {
    count: Arc<F>,
    inner: Counter,
}

impl<F: Fn()> CounterFn for Counts<F> {
    fn increment(&self, value: u64) {
        (self.count)();
        self.inner.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.inner.absolute(value);
    }
}

impl<F: Fn() + Send + Sync + 'static> Recorder for Counting<F> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.inner.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.inner.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.inner.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let inner = self.inner.register_counter(key, metadata);
        if key.name() != names::OPS_TOTAL {
            return inner;
        }
        let count = Arc::clone(&self.count);
        Counter::from_arc(Arc::new(Counts { count, inner }))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.inner.register_histogram(key, metadata)
    }
}

/// The sum of a counter over its labels, since the last snapshot.
fn sum(snapshotter: &Snapshotter, name: &str) -> u64 {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    entries
        .filter(|(key, ..)| key.key().name() == name)
        .map(|(.., value)| match value {
            DebugValue::Counter(count) => count,
            _ => 0,
        })
        .sum()
}

#[tokio::test]
async fn a_recorder_that_always_panics_is_counted_and_the_caller_unaffected() {
    let metrics = Metrics::to(Arc::new(Panicking));
    names::describe(&metrics);
    assert!(metrics.panics() >= names::ALL.len() as u64);
    let before = metrics.panics();
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics.clone());
    let key = CacheKey::from("a");
    let entry = NewEntry::new("1", Ttl::new(mins(1)).unwrap());
    assert!(storage.set(&key, entry, Condition::Always).await.unwrap());
    assert_eq!(storage.get(&key).await.unwrap().unwrap().value, "1");
    // Each of two calls is timed and counted, and each time the recorder is told of its panic.
    assert_eq!(metrics.panics() - before, 8);
    metrics.gauge(names::INFLIGHT, &[], 1.0);
    metrics.time(names::OP_SECONDS, &[], Duration::ZERO);
    assert_eq!(metrics.panics() - before, 12);
    let observers = Observers::new(MetricsObserver::new(metrics));
    observers.tell(&Event::InvalidKey);
    assert_eq!(observers.panics(), 0);
}

#[tokio::test]
async fn a_metric_that_panics_once_registered_is_contained_too_and_shown() {
    let is_hostile = Arc::new(AtomicBool::new(false));
    let hostile = Arc::clone(&is_hostile);
    let (recorder, snapshotter) = Counting::new(move || {
        if hostile.load(Ordering::Relaxed) {
            refuse();
        }
    });
    let metrics = Metrics::to(Arc::new(recorder));
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics.clone());
    storage.get(&CacheKey::from("a")).await.unwrap();
    is_hostile.store(true, Ordering::Relaxed);
    storage.get(&CacheKey::from("a")).await.unwrap();
    assert_eq!(metrics.panics(), 1);
    assert_eq!(sum(&snapshotter, names::PANICS_TOTAL), 1);
    is_hostile.store(false, Ordering::Relaxed);
    storage.get(&CacheKey::from("a")).await.unwrap();
    assert_eq!(sum(&snapshotter, names::OPS_TOTAL), 1);
}

/// Holds the first who comes until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            return;
        }
        state.0 = true;
        self.changed.notify_all();
        let opened = self.changed.wait_while(state, |state| !state.1);
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }

    fn wait_for_the_first(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let came = self.changed.wait_while(state, |state| !state.0);
        drop(came.unwrap_or_else(PoisonError::into_inner));
    }

    fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn a_recorder_that_blocks_delays_nobody_else() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let (recorder, snapshotter) = Counting::new(move || held.pass());
    let metrics = Metrics::to(Arc::new(recorder));
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics);
    let key = CacheKey::from("a");
    std::thread::scope(|scope| {
        let get = || futures_util::FutureExt::now_or_never(storage.get(&key));
        let blocked = scope.spawn(get);
        gate.wait_for_the_first();
        // The same metric, which the one that is blocked has not even kept yet.
        let other = get();
        let was_blocked = !blocked.is_finished();
        gate.open();
        assert!(other.is_some_and(|outcome| outcome.is_ok()));
        assert!(was_blocked);
        assert!(blocked.join().is_ok_and(|outcome| outcome.is_some()));
    });
    assert_eq!(sum(&snapshotter, names::OPS_TOTAL), 2);
}
