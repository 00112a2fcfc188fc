//! One tier, and how long it keeps what it is given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::entry::{Entry, NewEntry};
use crate::layer::Layer;
use crate::storage::CacheStorage;
use crate::ttl::{Expiry, Ttl};

/// One storage of a [`TieredStorage`](super::TieredStorage).
pub(super) struct Tier {
    pub(super) name: &'static str,
    cap: Option<Ttl>,
    pub(super) layer: Layer,
    hits: AtomicU64,
    misses: AtomicU64,
    skips: AtomicU64,
}

/// What one tier did in this process, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStatus {
    /// What the tier is called.
    pub name: &'static str,
    /// The backend of the tier.
    pub backend: &'static str,
    /// Keys that were read and answered by this tier.
    pub hits: u64,
    /// Keys for which this tier was asked and had nothing fresh.
    pub misses: u64,
    /// Calls that went on without this tier, because it was in trouble or refused the value.
    pub skips: u64,
    /// How many keys it has missed and not deleted yet.
    pub journalled: usize,
    /// When its journal was given up, if it was.
    pub overflowed_at: Option<Timestamp>,
}

impl Tier {
    pub(super) fn new(name: &'static str, cap: Option<Ttl>, layer: Layer) -> Self {
        Self {
            name,
            cap,
            layer,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            skips: AtomicU64::new(0),
        }
    }

    pub(super) fn storage(&self) -> &dyn CacheStorage {
        self.layer.storage()
    }

    pub(super) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_skip(&self) {
        self.skips.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> TierStatus {
        let layer = self.layer.status();
        TierStatus {
            name: self.name,
            backend: layer.backend,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            skips: self.skips.load(Ordering::Relaxed),
            journalled: layer.journalled,
            overflowed_at: layer.overflowed_at,
        }
    }

    /// Whether nobody else can write to it.
    pub(super) fn is_private(&self) -> bool {
        let info = self.storage().info();
        info.address.is_none() && info.patience.is_none()
    }

    /// Whether the tier takes a value of this length.
    pub(super) fn takes(&self, value: &[u8]) -> bool {
        value.len() <= self.storage().info().max_value_bytes
    }

    pub(super) fn is_fresh(&self, entry: &Entry) -> bool {
        !entry.expires_at.has_passed(|| self.layer.wall())
    }

    /// A time to live, at most the cap of this tier.
    pub(super) fn capped(&self, ttl: Ttl) -> Ttl {
        match (self.cap, ttl.as_duration()) {
            (Some(cap), None) => cap,
            (Some(cap), Some(span)) if Some(span) > cap.as_duration() => cap,
            _ => ttl,
        }
    }

    /// What this tier keeps of an entry.
    pub(super) fn copy_of(&self, entry: &NewEntry) -> NewEntry {
        let mut copy = entry.clone();
        copy.ttl = self.capped(entry.ttl);
        copy.stale_for = match (entry.ttl.as_duration(), entry.stale_for) {
            // Without effect on what does not expire, and so it stays when that is capped.
            (None, _) => None,
            (Some(_), span) => span.map(|span| self.capped_budget(span)),
        };
        copy
    }

    /// What this tier keeps of a fresh entry that a slower tier had; none where nothing is left of
    /// it, or it is not known how much.
    pub(super) fn promoted(&self, entry: &Entry) -> Option<NewEntry> {
        let now = self.layer.wall();
        let ttl = match entry.expires_at {
            Expiry::At(end) => Ttl::new(end.since(now)).ok()?,
            Expiry::Never => Ttl::FOREVER,
            Expiry::AtServer => return None,
        };
        let mut copy = NewEntry::new(entry.value.clone(), ttl);
        copy.created_at = entry.created_at;
        copy.codec = entry.codec;
        if let (Expiry::At(end), Expiry::At(until)) = (entry.expires_at, entry.stale_until) {
            copy.stale_for = Some(until.since(end)).filter(|budget| !budget.is_zero());
        }
        Some(self.copy_of(&copy))
    }

    fn capped_budget(&self, budget: Duration) -> Duration {
        let cap = self.cap.and_then(Ttl::as_duration);
        cap.map_or(budget, |cap| budget.min(cap))
    }
}
