//! A cache that keeps nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::entry::{ClearScope, Cleared, Condition, Counter, Entry, NewEntry, StorageStats};
use crate::error::{CacheError, Operation, Result};
use crate::key::CacheKey;
use crate::stats::StorageCounters;
use crate::storage::{CacheStorage, Shard, StorageInfo};
use crate::tiered::TierAccess;
use crate::ttl::{TimeLeft, Ttl};

/// Caching switched off (`CACHE_STORAGE_TYPE=none`): a storage that forgets each entry as soon as
/// it is written.
///
/// Keys and sizes are checked as anywhere else, so that switching the cache on later brings no
/// surprises. Reads miss; a set succeeds unless it requires a fresh entry; a counter always starts
/// anew and so answers its own delta. Nothing may rely on it for mutual exclusion.
///
/// It keeps the contract of [`CacheStorage`] except that nothing stays.
pub struct DisabledStorage {
    info: StorageInfo,
    closed: AtomicBool,
    counters: StorageCounters,
}

impl DisabledStorage {
    /// A storage that keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            info: StorageInfo::new("none").keeping_nothing(),
            closed: AtomicBool::new(false),
            counters: StorageCounters::default(),
        }
    }

    fn check(&self, operation: Operation, key: &CacheKey) -> Result<()> {
        self.check_open(operation)?;
        self.info
            .check_key(key)
            .map_err(|error| error.with_operation(operation))
    }

    fn check_write(&self, operation: Operation, key: &CacheKey, value: &[u8]) -> Result<()> {
        self.check(operation, key)?;
        self.info
            .check_value(value)
            .map_err(|error| error.with_operation(operation).with_key(key))
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CacheError::closed(self.info.backend, operation));
        }
        Ok(())
    }

    fn miss(&self, operation: Operation, key: &CacheKey) -> Result<Option<Entry>> {
        let outcome = self.check(operation, key).map(|()| None);
        self.counters.read(&outcome);
        outcome
    }
}

impl Default for DisabledStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DisabledStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disabled")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for DisabledStorage {
    fn info(&self) -> &StorageInfo {
        &self.info
    }

    fn shard(&self, _: &CacheKey) -> Option<Shard> {
        None
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.miss(Operation::Get, key)
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let miss = |key| self.miss(Operation::GetMany, key);
        keys.iter().map(miss).collect()
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.miss(Operation::Lookup, key)
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let miss = |key| self.miss(Operation::LookupMany, key);
        keys.iter().map(miss).collect()
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let outcome = self
            .check_write(Operation::Set, key, &entry.value)
            .map(|()| matches!(condition, Condition::Always | Condition::IfAbsent));
        self.counters.conditional_write(&outcome);
        outcome
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let write = |(key, entry): &(CacheKey, NewEntry)| {
            let outcome = self.check_write(Operation::SetMany, key, &entry.value);
            self.counters.write(&outcome);
            outcome
        };
        entries.iter().map(write).collect()
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let outcome = self.check(Operation::Delete, key).map(|()| false);
        self.counters.delete(&outcome);
        outcome
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let delete = |key| {
            let outcome = self.check(Operation::DeleteMany, key);
            self.counters.delete(&outcome);
            outcome
        };
        keys.iter().map(delete).collect()
    }

    async fn compare_and_delete(&self, key: &CacheKey, _: &[u8]) -> Result<bool> {
        self.check(Operation::CompareAndDelete, key).map(|()| false)
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.check(Operation::Has, key).map(|()| false)
    }

    async fn expire(&self, key: &CacheKey, _: Ttl) -> Result<bool> {
        self.check(Operation::Expire, key).map(|()| false)
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.check(Operation::ExpireNow, key).map(|()| false)
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.check(Operation::GetTtl, key)
            .map(|()| TimeLeft::Missing)
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let outcome = self
            .check(Operation::Increment, key)
            .map(|()| Counter::new(delta, ttl.as_duration()));
        self.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, _: &ClearScope) -> Result<Cleared> {
        self.check_open(Operation::Clear)
            .map(|()| Cleared::new(0, true))
    }

    fn get_stats(&self) -> StorageStats {
        StorageStats {
            entries: Some(0),
            bytes: Some(0),
            ..self.counters.snapshot()
        }
    }

    async fn ping(&self) -> Result<()> {
        self.check_open(Operation::Ping)
    }

    async fn shutdown(&self, _: Duration) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
