//! Counting what a storage does, for those who write one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::entry::StorageStats;
use crate::error::Result;

/// The counters behind [`CacheStorage::get_stats`](crate::CacheStorage::get_stats): one relaxed
/// atomic addition an event.
#[derive(Debug, Default)]
pub struct StorageCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    writes: AtomicU64,
    deletes: AtomicU64,
    errors: AtomicU64,
}

impl StorageCounters {
    /// Counts the read of one key: a hit, a miss or an error.
    pub fn read<T>(&self, outcome: &Result<Option<T>>) {
        match outcome {
            Ok(Some(_)) => &self.hits,
            Ok(None) => &self.misses,
            Err(_) => &self.errors,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the write of one entry: done or an error.
    pub fn write<T>(&self, outcome: &Result<T>) {
        Self::done_or_error(outcome, &self.writes, &self.errors);
    }

    /// Counts a conditional write or delete: nothing where its condition did not hold.
    pub fn conditional_write(&self, outcome: &Result<bool>) {
        if !matches!(outcome, Ok(false)) {
            self.write(outcome);
        }
    }

    /// Counts a compare-and-delete: nothing where its condition did not hold.
    pub fn conditional_delete(&self, outcome: &Result<bool>) {
        if !matches!(outcome, Ok(false)) {
            self.delete(outcome);
        }
    }

    /// Counts the delete of one key: acknowledged or an error.
    pub fn delete<T>(&self, outcome: &Result<T>) {
        Self::done_or_error(outcome, &self.deletes, &self.errors);
    }

    /// Counts any other call if it failed.
    pub fn other<T>(&self, outcome: &Result<T>) {
        if outcome.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts so far. Evictions are the storage's own to count.
    #[must_use]
    pub fn snapshot(&self) -> StorageStats {
        let Self {
            hits,
            misses,
            writes,
            deletes,
            errors,
        } = self;
        StorageStats {
            hits: hits.load(Ordering::Relaxed),
            misses: misses.load(Ordering::Relaxed),
            writes: writes.load(Ordering::Relaxed),
            deletes: deletes.load(Ordering::Relaxed),
            errors: errors.load(Ordering::Relaxed),
            evictions: 0,
            entries: None,
            bytes: None,
        }
    }

    fn done_or_error<T>(outcome: &Result<T>, done: &AtomicU64, errors: &AtomicU64) {
        let counter = if outcome.is_ok() { done } else { errors };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
