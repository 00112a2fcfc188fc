//! Keys whose loads have failed and are not tried again yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::held::AnyValue;
use crate::clock::Moment;
use crate::entry::ClearScope;
use crate::error::CacheError;
use crate::key::CacheKey;

/// The failed loads of one service.
#[derive(Default)]
pub(crate) struct Throttles(Mutex<HashMap<CacheKey, Throttled>>);

/// A load that failed a while ago.
#[derive(Clone)]
pub(super) struct Throttled {
    pub(super) error: CacheError,
    pub(super) instead: Instead,
    since: Moment,
    span: Duration,
}

/// What is served while a load is not tried again.
#[derive(Clone)]
pub(super) enum Instead {
    /// The stale value in storage.
    Stale,
    /// The failed loader's own value, to everybody.
    Fallback(AnyValue),
    /// Each caller's own default.
    Default,
}

impl Throttles {
    /// How many keys are remembered at most: beyond that, loads are tried more often than they
    /// should be, and memory stays bounded.
    const MOST: usize = 16_384;

    /// Remembers the failure for `span`.
    pub(super) fn remember(
        &self,
        key: &CacheKey,
        (error, instead): (CacheError, Instead),
        now: Moment,
        span: Duration,
    ) {
        if span.is_zero() {
            return;
        }
        let mut throttled = self.lock();
        // Now and then, so that what has ended takes no more room than what holds.
        if throttled.len().is_power_of_two() {
            throttled.retain(|_, entry| entry.holds(now));
        }
        if throttled.len() >= Self::MOST {
            throttled.clear();
        }
        let entry = Throttled {
            error,
            instead,
            since: now,
            span,
        };
        throttled.insert(key.clone(), entry);
    }

    /// The failure of `key` that still holds.
    pub(super) fn get(&self, key: &CacheKey, now: impl FnOnce() -> Moment) -> Option<Throttled> {
        let throttled = self.lock();
        if throttled.is_empty() {
            return None;
        }
        let entry = throttled.get(key)?;
        entry.holds(now()).then(|| entry.clone())
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        let mut throttled = self.lock();
        if !throttled.is_empty() {
            throttled.remove(key);
        }
    }

    pub(crate) fn forget_within(&self, scope: &ClearScope) {
        self.lock().retain(|key, _| !scope.contains(key.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Throttled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Throttled {
    fn holds(&self, now: Moment) -> bool {
        now.since(self.since) < self.span
    }
}
