//! What a stack has measured, asked by name and labels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cache_breaker::{BreakerOptions, BreakerStorage};
use cache_core::settings::Settings;
use cache_core::{CacheStorage, Observers};
use cache_factory::{CacheStorageFactory, Caches};
use cache_monitor::{MeteredStorage, Metrics, MetricsObserver};
use metrics::Key;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// A recorder that adds up what it is told.
pub(crate) struct Meter {
    metrics: Metrics,
    snapshotter: Snapshotter,
    /// A snapshot begins the counters anew, so what was seen is kept.
    totals: Mutex<HashMap<Key, u64>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        Self::of(Metrics::to(Arc::new(recorder)), snapshotter)
    }

    /// Of metrics that end in the recorder of `snapshotter`.
    pub(crate) fn of(metrics: Metrics, snapshotter: Snapshotter) -> Self {
        Self {
            metrics,
            snapshotter,
            totals: Mutex::default(),
        }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// For storages that are built by hand, as those with a clock of their own are.
    pub(crate) fn observers(&self) -> Observers {
        Observers::new(MetricsObserver::new(self.metrics()))
    }

    /// A backend as the factory stands it: metered, behind a breaker.
    pub(crate) fn stack(&self, backend: impl CacheStorage) -> BreakerStorage {
        let metered = MeteredStorage::new(backend, self.metrics());
        BreakerStorage::new(metered, BreakerOptions::default())
            .expect("the defaults are sound")
            .with_observers(self.observers())
    }

    /// The sum of the counters of this name that have all of these labels.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            if let DebugValue::Counter(count) = value {
                *totals.entry(key.key().clone()).or_default() += count;
            }
        }
        let is_meant = |key: &Key| {
            let has = |(label, value): &(&str, &str)| {
                key.labels()
                    .any(|other| other.key() == *label && other.value() == *value)
            };
            key.name() == name && labels.iter().all(has)
        };
        let meant = totals.iter().filter(|(key, _)| is_meant(key));
        meant.map(|(_, count)| count).sum()
    }
}

/// A stack of the factory, and what it measures.
pub(crate) struct Measured {
    pub(crate) stack: Caches,
    meter: Meter,
}

impl Measured {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let meter = Meter::new();
        let settings = Settings::from_pairs(pairs.iter().copied());
        let stack = CacheStorageFactory::from_settings_with(settings, meter.metrics());
        Self {
            stack: stack.expect("the settings are sound"),
            meter,
        }
    }

    /// On Redis at this port, with time limits that nothing reaches.
    pub(crate) fn redis(port: u16) -> Self {
        let url = format!("redis://127.0.0.1:{port}");
        Self::new(&[
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_URL", &url),
            ("CACHE_REDIS_CONNECT_TIMEOUT", "5s"),
            ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
            ("CACHE_REDIS_TIMEOUT", "10s"),
            ("CACHE_REDIS_BULK_TIMEOUT", "10s"),
            ("CACHE_MONITOR_MODE", "server"),
            ("CACHE_MONITOR_TIMEOUT", "10s"),
        ])
    }

    /// In memory.
    pub(crate) fn memory() -> Self {
        Self::new(&[("CACHE_STORAGE_TYPE", "memory")])
    }

    pub(crate) fn storage(&self) -> &dyn CacheStorage {
        &**self.stack.storage()
    }

    /// As [`Meter::count`].
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.meter.count(name, labels)
    }
}
