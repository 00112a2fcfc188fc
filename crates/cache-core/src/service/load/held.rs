//! A decoded value with its deadlines, whatever its type.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::loaded::{LoadStatus, Loaded};
use crate::clock::Timestamp;
use crate::entry::Entry;
use crate::ttl::Expiry;

/// A value of any type.
pub(super) type AnyValue = Arc<dyn Any + Send + Sync>;

/// A value that was read or loaded. Cheap to clone.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) value: AnyValue,
    pub(super) expires_at: Expiry,
    /// Until when it may be served as stale.
    pub(super) stale_until: Expiry,
    pub(super) created_at: Option<Timestamp>,
    /// None for a value that was just loaded.
    pub(super) tier: Option<&'static str>,
}

impl Held {
    /// A value that was read.
    pub(super) fn read(value: AnyValue, entry: &Entry, backend: &'static str) -> Self {
        Self {
            value,
            expires_at: entry.expires_at,
            stale_until: entry.stale_until,
            created_at: entry.created_at,
            tier: Some(entry.tier.unwrap_or(backend)),
        }
    }

    /// A value that was loaded at `created_at`.
    pub(super) fn loaded(value: AnyValue, created_at: Timestamp) -> Self {
        Self {
            value,
            expires_at: Expiry::Never,
            stale_until: Expiry::Never,
            created_at: Some(created_at),
            tier: None,
        }
    }

    /// The same, fresh until the first and stale until the second.
    pub(super) fn until(mut self, (expires_at, stale_until): (Expiry, Expiry)) -> Self {
        self.expires_at = expires_at;
        self.stale_until = stale_until;
        self
    }

    pub(super) fn is_fresh(&self, now: impl FnOnce() -> Timestamp) -> bool {
        !self.expires_at.has_passed(now)
    }

    /// Whether it may still be served at all: a load may take longer than its stale budget.
    pub(super) fn is_servable(&self, now: impl FnOnce() -> Timestamp) -> bool {
        !self.stale_until.has_passed(now)
    }

    pub(super) fn age(&self, now: impl FnOnce() -> Timestamp) -> Option<Duration> {
        self.created_at.map(|created_at| now().since(created_at))
    }

    /// Whether more than this fraction of its time to live has passed. Unknown without the time it
    /// was made, and then no.
    pub(super) fn is_due(&self, fraction: f64, now: impl FnOnce() -> Timestamp) -> bool {
        let (Expiry::At(end), Some(created_at)) = (self.expires_at, self.created_at) else {
            return false;
        };
        now().since(created_at) >= end.since(created_at).mul_f64(fraction)
    }

    /// The value as its type; none where it is of another.
    pub(super) fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.value).downcast().ok()
    }

    /// The value as its caller gets it.
    pub(super) fn show<T: Send + Sync + 'static>(
        &self,
        status: LoadStatus,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Loaded<T>> {
        Some(Loaded {
            value: Some(self.value()?),
            status,
            tier: self.tier,
            age: self.age(now),
            joined: false,
            trouble: None,
        })
    }
}
