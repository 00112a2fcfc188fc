//! One storage of a fallback, and what is remembered about it.

use std::sync::Arc;

use super::LayerStatus;
use super::journal::Journal;
use crate::clock::{Moment, Timestamp};
use crate::entry::Entry;
use crate::key::CacheKey;
use crate::storage::CacheStorage;

/// One storage of a fallback.
pub(super) struct Layer {
    pub(super) storage: Arc<dyn CacheStorage>,
    pub(super) journal: Journal,
}

impl Layer {
    pub(super) fn new(storage: Arc<dyn CacheStorage>, capacity: usize) -> Self {
        Self {
            storage,
            journal: Journal::new(capacity),
        }
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    pub(super) fn storage(&self) -> &dyn CacheStorage {
        &*self.storage
    }

    pub(super) fn backend(&self) -> &'static str {
        self.storage.info().backend
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.storage.info().clock.wall()
    }

    pub(super) fn now(&self) -> Moment {
        self.storage.info().clock.now()
    }

    /// The entry, unless it is known to be outdated.
    pub(super) fn judged(&self, key: &CacheKey, found: Option<Entry>) -> Option<Entry> {
        if !self.journal.has_doubts() {
            return found;
        }
        found.filter(|entry| self.journal.is_current(key, entry.created_at, self.now()))
    }

    pub(super) fn status(&self) -> LayerStatus {
        let (journalled, overflowed_at) = self.journal.status();
        let info = self.storage.info();
        LayerStatus {
            backend: info.backend,
            address: info.address.clone(),
            journalled,
            overflowed_at,
        }
    }
}
