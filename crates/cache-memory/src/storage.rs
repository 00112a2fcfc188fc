//! The storage trait over the table.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::bounded::{Change, Kept as _, Table};
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Clock, Condition, ConfigurationErrors,
    Counter, Entry, ErrorKind, Moment, NewEntry, Operation, Result, Shard, StorageCounters,
    StorageInfo, StorageStats, TierAccess, TimeLeft, Ttl,
};

use crate::entry::Stored;
use crate::options::MemoryOptions;

const BACKEND: &str = "memory";

/// A storage in the memory of this process, for tests, for a single process, and as a fast tier.
///
/// # Bounds
///
/// Never more entries, nor more bytes of keys and values with an allowance for each entry, than
/// [`MemoryOptions`] says once the writes under way are done. When it is full, what was read least
/// goes first: entries read once or never soon, entries read often last (S3-FIFO). An entry that
/// does not fit by itself is refused as `TooLarge` and displaces nothing.
///
/// # Expiry
///
/// By the longer of what wall clock and monotonic clock say has passed, so that neither setting the
/// clock back nor freezing the machine makes an entry live longer. Nothing runs in the background:
/// an expired entry goes when it is read, when the storage is full, or when one of the following
/// writes comes across it, each of which looks at two entries.
///
/// # Sharing
///
/// Two of these share nothing; one is shared through an `Arc`. No call waits for I/O, and no lock
/// is held for longer than a few map accesses, except while a [`clear`](CacheStorage::clear) passes
/// over all keys.
pub struct MemoryCacheStorage {
    info: StorageInfo,
    closed: AtomicBool,
    table: Table<Stored>,
    counters: StorageCounters,
}

impl MemoryCacheStorage {
    /// A storage with the default [`MemoryOptions`].
    #[must_use]
    pub fn new() -> Self {
        Self::build(&MemoryOptions::default())
    }

    /// A storage with the default options whose entries expire by `clock`.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::build(&MemoryOptions::default().with_clock(clock))
    }

    /// A storage with the given options.
    ///
    /// # Errors
    ///
    /// `Configuration` where a bound is zero or the longest value exceeds the bytes in all.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "every storage takes its options away"
    )]
    pub fn with_options(options: MemoryOptions) -> Result<Self> {
        let problems = options.problems();
        if problems.is_empty() {
            return Ok(Self::build(&options));
        }
        Err(ConfigurationErrors(problems).into())
    }

    fn build(options: &MemoryOptions) -> Self {
        Self {
            info: StorageInfo::new(BACKEND)
                .with_in_process(true)
                .with_max_value_bytes(options.longest_value())
                .with_clock(Arc::clone(&options.clock)),
            closed: AtomicBool::new(false),
            table: Table::new(options.max_entries, options.max_bytes),
            counters: StorageCounters::default(),
        }
    }

    fn read(&self, operation: Operation, key: &CacheKey) -> Result<Option<Entry>> {
        let outcome = self.look(operation, key, Stored::to_entry);
        self.counters.read(&outcome);
        outcome
    }

    fn write(
        &self,
        operation: Operation,
        key: &CacheKey,
        entry: &NewEntry,
        condition: &Condition,
    ) -> Result<bool> {
        let outcome = self.try_write(operation, key, entry, condition);
        self.counters.conditional_write(&outcome);
        outcome
    }

    fn try_write(
        &self,
        operation: Operation,
        key: &CacheKey,
        entry: &NewEntry,
        condition: &Condition,
    ) -> Result<bool> {
        self.check(operation, key)?;
        self.check_size(key, &entry.value)
            .map_err(|error| in_context(error, operation, key))?;
        let now = self.info.clock.now();
        let stored = Stored::new(entry, now);
        self.change(operation, key, now, |fresh| {
            if holds(condition, fresh)? {
                Ok((Change::Store(stored), true))
            } else {
                Ok((Change::Keep, false))
            }
        })
    }

    fn remove(&self, operation: Operation, key: &CacheKey) -> Result<bool> {
        let outcome = self.alter(operation, key, |fresh, _| (Change::Remove, fresh.is_some()));
        self.counters.delete(&outcome);
        outcome
    }

    /// What `look` sees in an entry.
    fn look<R>(
        &self,
        operation: Operation,
        key: &CacheKey,
        look: impl FnOnce(&Stored, Moment) -> Option<R>,
    ) -> Result<Option<R>> {
        self.check(operation, key)?;
        let now = self.info.clock.now();
        let look = |stored: &Stored| look(stored, now);
        Ok(self.table.read(key.as_str(), now, look))
    }

    /// A change of an entry that cannot fail by itself.
    fn alter<R>(
        &self,
        operation: Operation,
        key: &CacheKey,
        decide: impl FnOnce(Option<&Stored>, Moment) -> (Change<Stored>, R),
    ) -> Result<R> {
        self.check(operation, key)?;
        let now = self.info.clock.now();
        self.change(operation, key, now, |fresh| Ok(decide(fresh, now)))
    }

    fn change<R>(
        &self,
        operation: Operation,
        key: &CacheKey,
        now: Moment,
        decide: impl FnOnce(Option<&Stored>) -> Result<(Change<Stored>, R)>,
    ) -> Result<R> {
        let changed = self.table.change(&key.to_shared(), now, |fresh| {
            // Once more, now that the entry is locked: a shutdown may have emptied the table since
            // the call began, and nobody would empty it again.
            self.check_open(operation)?;
            decide(fresh)
        });
        changed.map_err(|error| in_context(error, operation, key))
    }

    fn check(&self, operation: Operation, key: &CacheKey) -> Result<()> {
        self.check_open(operation)?;
        self.info
            .check_key(key)
            .map_err(|error| error.with_operation(operation))
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CacheError::closed(self.info.backend, operation));
        }
        Ok(())
    }

    fn check_size(&self, key: &CacheKey, value: &[u8]) -> Result<()> {
        self.info.check_value(value)?;
        self.table.check_fits(key.as_str(), value.len())
    }
}

impl Default for MemoryCacheStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryCacheStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for MemoryCacheStorage {
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
        self.read(Operation::Get, key)
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let read = |key| self.read(Operation::GetMany, key);
        keys.iter().map(read).collect()
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.read(Operation::Lookup, key)
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let read = |key| self.read(Operation::LookupMany, key);
        keys.iter().map(read).collect()
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.write(Operation::Set, key, &entry, &condition)
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let write = |(key, entry): &(CacheKey, NewEntry)| {
            let written = self.write(Operation::SetMany, key, entry, &Condition::Always);
            written.map(|_| ())
        };
        entries.iter().map(write).collect()
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.remove(Operation::Delete, key)
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let remove = |key| self.remove(Operation::DeleteMany, key).map(|_| ());
        keys.iter().map(remove).collect()
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let operation = Operation::CompareAndDelete;
        let outcome = self.alter(operation, key, |fresh, _| {
            if fresh.is_some_and(|stored| stored.value() == expected) {
                (Change::Remove, true)
            } else {
                (Change::Keep, false)
            }
        });
        self.counters.conditional_delete(&outcome);
        outcome
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        let fresh = |stored: &Stored, now| stored.is_fresh(now).then_some(());
        let outcome = self.look(Operation::Has, key, fresh);
        self.counters.other(&outcome);
        Ok(outcome?.is_some())
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let outcome = self.alter(Operation::Expire, key, |fresh, now| match fresh {
            Some(stored) => (Change::Store(stored.renewed(ttl, now)), true),
            None => (Change::Keep, false),
        });
        self.counters.other(&outcome);
        outcome
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        let outcome = self.alter(Operation::ExpireNow, key, |fresh, now| {
            let Some(stored) = fresh else {
                return (Change::Keep, false);
            };
            let change = stored.ended(now).map_or(Change::Remove, Change::Store);
            (change, true)
        });
        self.counters.other(&outcome);
        outcome
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        let outcome = self.look(Operation::GetTtl, key, Stored::time_left);
        self.counters.other(&outcome);
        Ok(outcome?.unwrap_or(TimeLeft::Missing))
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let operation = Operation::Increment;
        let outcome = self.check(operation, key).and_then(|()| {
            let now = self.info.clock.now();
            self.change(operation, key, now, |fresh| {
                let (sum, stored) = match fresh {
                    Some(stored) => stored.incremented(delta)?,
                    None => (delta, Stored::counter(delta, ttl, now)),
                };
                self.check_size(key, stored.value())?;
                let expires_in = match stored.time_left(now) {
                    Some(TimeLeft::Remaining(left)) => Some(left),
                    _ => None,
                };
                let counter = Counter::new(sum, expires_in);
                Ok((Change::Store(stored), counter))
            })
        });
        self.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        let outcome = self.check_open(Operation::Clear).map(|()| {
            let deleted = self.table.remove_all(|key| scope.contains(key));
            Cleared::new(deleted, true)
        });
        self.counters.other(&outcome);
        outcome
    }

    fn get_stats(&self) -> StorageStats {
        let mut stats = self.counters.snapshot();
        stats.evictions = self.table.evictions();
        stats.entries = Some(self.table.entries() as u64);
        stats.bytes = Some(self.table.bytes() as u64);
        stats
    }

    async fn ping(&self) -> Result<()> {
        let outcome = self.check_open(Operation::Ping);
        self.counters.other(&outcome);
        outcome
    }

    async fn shutdown(&self, _: Duration) -> Result<()> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.table.release();
        }
        Ok(())
    }
}

fn holds(condition: &Condition, fresh: Option<&Stored>) -> Result<bool> {
    Ok(match condition {
        Condition::Always => true,
        Condition::IfAbsent => fresh.is_none(),
        Condition::IfPresent => fresh.is_some(),
        Condition::IfEquals(expected) => fresh.is_some_and(|stored| stored.value() == expected),
        _ => {
            let message = "this version of the memory storage does not know the condition";
            return Err(CacheError::new(ErrorKind::Unsupported, message));
        }
    })
}

fn in_context(error: CacheError, operation: Operation, key: &CacheKey) -> CacheError {
    error
        .with_backend(BACKEND)
        .with_operation(operation)
        .with_key(key)
}
