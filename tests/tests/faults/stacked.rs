//! A whole stack, as its variables describe it, and what it measures.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use cache_breaker::{BreakerHandle, State};
use cache_core::settings::Settings;
use cache_core::{CacheService, mins};
use cache_factory::{CacheStorageFactory, Caches};
use cache_monitor::Metrics;
use metrics::Key;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Caches that tell a recorder of their own what happens.
pub(crate) struct Measured {
    pub(crate) caches: Caches,
    pub(crate) meter: Meter,
}

/// What a recorder was told.
pub(crate) struct Meter {
    snapshotter: Snapshotter,
    /// What was counted so far: a snapshot begins anew each time.
    counted: Mutex<Vec<(Key, u64)>>,
}

impl Measured {
    /// What these variables describe.
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let (metrics, meter) = Meter::new();
        let settings = Settings::from_pairs(pairs.iter().copied());
        let caches = CacheStorageFactory::from_settings_with(settings, metrics);
        Self {
            caches: caches.expect("the settings are sound"),
            meter,
        }
    }

    /// Redis on this port, else memory.
    pub(crate) fn else_memory(port: u16) -> Self {
        Self::of_redis(port, &[("CACHE_FALLBACK", "memory")])
    }

    /// Redis on this port, and nothing else; reads take trouble for a miss.
    pub(crate) fn alone(port: u16) -> Self {
        Self::of_redis(port, &[("CACHE_ON_TROUBLE", "miss")])
    }

    /// Redis on this port, and what else is said.
    pub(crate) fn of_redis(port: u16, more: &[(&str, &str)]) -> Self {
        let port = port.to_string();
        let redis = [
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_HOST", "127.0.0.1"),
            ("CACHE_REDIS_PORT", &*port),
        ];
        Self::new(&[&redis[..], more].concat())
    }

    /// A service whose entries outlive every test.
    pub(crate) fn service(&self) -> CacheService {
        let service = self.caches.service("drill").ttl(mins(10)).build();
        service.expect("the prefix and the time to live are sound")
    }

    /// What was counted under this name, all measurements with these labels together.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.meter.count(name, labels)
    }

    /// Whether anything was counted under this name with these labels.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.count(name, labels) > 0
    }

    /// Whether this lane of the first backend's breaker is in this state.
    pub(crate) fn is(&self, lane: &str, state: State) -> bool {
        self.breaker()
            .is_some_and(|breaker| is(breaker, lane, state))
    }

    /// The breaker of the first backend.
    pub(crate) fn breaker(&self) -> Option<&BreakerHandle> {
        self.caches.breakers().next()
    }
}

/// Whether this lane of a breaker is in this state.
pub(crate) fn is(breaker: &BreakerHandle, lane: &str, state: State) -> bool {
    let lanes = breaker.breakers();
    let mut lanes = lanes.iter();
    lanes.any(|snapshot| snapshot.lane == lane && snapshot.state == state)
}

impl Meter {
    /// A meter, and the way to tell it.
    pub(crate) fn new() -> (Metrics, Self) {
        let recorder = DebuggingRecorder::new();
        let meter = Self {
            snapshotter: recorder.snapshotter(),
            counted: Mutex::default(),
        };
        (Metrics::to(Arc::new(recorder)), meter)
    }

    /// What was counted under this name, all measurements with these labels together; of a
    /// distribution, how many values.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let new = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(values) => values.len() as u64,
                DebugValue::Gauge(_) => continue,
            };
            match counted.iter_mut().find(|(known, _)| known == key.key()) {
                Some((_, sum)) => *sum += new,
                None => counted.push((key.key().clone(), new)),
            }
        }
        let is_meant = |key: &Key| {
            let has = |(label, value): &(&str, &str)| {
                let mut all = key.labels();
                all.any(|found| found.key() == *label && found.value() == *value)
            };
            key.name() == name && labels.iter().all(has)
        };
        let meant = counted.iter().filter(|(key, _)| is_meant(key));
        meant.map(|(_, sum)| sum).sum()
    }
}

/// How many sockets this process holds that lead to a port of this host.
///
/// Other tests of the process open files too, so this is what can be said about one of them.
pub(crate) fn sockets_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("the system is a Linux");
    let suffix = format!(":{port:04X}");
    let is_held = |line: &&str| {
        let mut fields = line.split_whitespace();
        let leads_there = fields.nth(2).is_some_and(|to| to.ends_with(&suffix));
        // Sockets that nobody holds any more have no inode.
        leads_there && fields.nth(6).is_some_and(|inode| inode != "0")
    };
    table.lines().filter(is_held).count()
}
