//! Stacks as services have them, from settings, with a recorder that can be asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::settings::Settings;
use cache_core::{CacheStorage, Observers};
use cache_factory::{CacheStorageFactory, Caches};
use cache_monitor::{Metrics, MetricsObserver};
use metrics::Key;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Time limits that nothing reaches, for rows about what happens rather than when.
pub(crate) const PATIENT: &[(&str, &str)] = &[
    ("CACHE_REDIS_CONNECT_TIMEOUT", "5s"),
    ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
    ("CACHE_REDIS_TIMEOUT", "10s"),
    ("CACHE_REDIS_BULK_TIMEOUT", "10s"),
];

/// A stack from settings, and what it has measured.
pub(crate) struct Measured {
    pub(crate) stack: Caches,
    recorded: Measurements,
}

impl Measured {
    /// The stack that these settings describe.
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let (metrics, recorded) = Measurements::new();
        let settings = Settings::from_pairs(pairs.iter().copied());
        let stack = CacheStorageFactory::from_settings_with(settings, metrics)
            .expect("the settings are sound");
        Self { stack, recorded }
    }

    /// The stack on the Redis of this URL that `more` settings describe.
    pub(crate) fn redis(url: &str, more: &[(&str, &str)]) -> Self {
        let redis = [("CACHE_STORAGE_TYPE", "redis"), ("CACHE_REDIS_URL", url)];
        Self::new(&[&redis[..], more].concat())
    }

    /// The storage below all services.
    pub(crate) fn storage(&self) -> &dyn CacheStorage {
        &**self.stack.storage()
    }

    /// As [`Measurements::count`].
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.recorded.count(name, labels)
    }

    /// As [`Measurements::gauge`].
    pub(crate) fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.recorded.gauge(name, labels)
    }
}

/// What a recorder was told. It forgets what it was asked for, so that is kept here.
pub(crate) struct Measurements {
    snapshotter: Snapshotter,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    counters: Vec<(Key, u64)>,
    gauges: Vec<(Key, f64)>,
}

impl Measurements {
    /// Where measurements may go, and what knows them then.
    pub(crate) fn new() -> (Metrics, Self) {
        let recorder = DebuggingRecorder::new();
        let recorded = Self {
            snapshotter: recorder.snapshotter(),
            told: Mutex::default(),
        };
        (Metrics::to(Arc::new(recorder)), recorded)
    }

    /// A handle for storages that are made by hand.
    pub(crate) fn observers() -> (Observers, Self) {
        let (metrics, recorded) = Self::new();
        (Observers::new(MetricsObserver::new(metrics)), recorded)
    }

    /// The sum of a counter over all measurements with these labels, so far.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let told = self.told();
        let meant = told.counters.iter();
        let meant = meant.filter(|(key, _)| is_meant(key, name, labels));
        meant.map(|(_, count)| count).sum()
    }

    /// The values that a gauge with these labels was found to have whenever something was asked.
    pub(crate) fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let told = self.told();
        let meant = told.gauges.iter();
        let meant = meant.filter(|(key, _)| is_meant(key, name, labels));
        meant.map(|(_, level)| *level).collect()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key().clone();
            match value {
                // Nothing new since the last question.
                DebugValue::Counter(0) | DebugValue::Histogram(_) => {}
                DebugValue::Counter(count) => told.counters.push((key, count)),
                DebugValue::Gauge(level) => told.gauges.push((key, *level)),
            }
        }
        told
    }
}

fn is_meant(key: &Key, name: &str, labels: &[(&str, &str)]) -> bool {
    let has = |(label, value): &(&str, &str)| {
        let mut own = key.labels();
        own.any(|own| own.key() == *label && own.value() == *value)
    };
    key.name() == name && labels.iter().all(has)
}
