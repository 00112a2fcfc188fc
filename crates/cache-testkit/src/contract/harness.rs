//! What a storage has to provide to be tested.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{CacheStorage, ManualClock};

/// How to make storages of one kind for the suite.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The name in front of every case, such as `memory`.
    fn name(&self) -> String;

    /// A fresh, empty storage that shares neither entries nor statistics with any other.
    ///
    /// Cases run at the same time, so entries of different subjects must not meet.
    ///
    /// # Panics
    ///
    /// The storage cannot be made; the case then fails.
    async fn subject(&self) -> Subject;
}

/// A storage under test and the time it lives in.
pub struct Subject {
    pub(super) storage: Arc<dyn CacheStorage>,
    pub(super) time: Time,
}

#[derive(Clone)]
pub(super) enum Time {
    Manual(ManualClock),
    Real { tick: Duration },
}

impl Subject {
    /// A storage that judges its entries by `clock`, a clock of its own.
    #[must_use]
    pub fn on_clock(storage: impl CacheStorage, clock: ManualClock) -> Self {
        Self {
            storage: Arc::new(storage),
            time: Time::Manual(clock),
        }
    }

    /// A storage for which time passes only by waiting. `tick` is the shortest time to live that
    /// the suite uses, at least the storage's
    /// [`ttl_resolution`](cache_core::StorageInfo::ttl_resolution): 40 ms suit a server on the same
    /// machine.
    #[must_use]
    pub fn in_real_time(storage: impl CacheStorage, tick: Duration) -> Self {
        Self {
            storage: Arc::new(storage),
            time: Time::Real { tick },
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.storage).finish()
    }
}
