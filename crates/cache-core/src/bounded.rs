//! A concurrent map within bounds: what `cache-memory` and the decoded tier keep their values in.
//!
//! For those who write storages in memory; applications use a
//! [`CacheService`](crate::CacheService).

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use dashmap::{DashMap, Entry as Place};

use crate::clock::Moment;
use crate::error::{CacheError, ErrorKind, Result};

mod eviction;

use eviction::{Queue, Queues, Reads, Record};

/// What an entry takes beside its key and its value: its place in the map at a usual load, the
/// header of the key, its place in a queue, and what allocators round up.
const ENTRY_BYTES: usize = 256;

/// How many records each write looks at for expired entries. Two, so that garbage goes faster than
/// writes can make it.
const LOOKS: usize = 2;

/// How many entries may be spared before one goes in any case, so that a write among entries that
/// are all hot does not pass through all of them.
const MOST_SPARED: usize = 32;

/// What a [`Table`] keeps.
pub trait Kept: Send + Sync + 'static {
    /// The bytes it takes, its key and what every entry takes not counted.
    fn length(&self) -> usize;

    /// Whether it is still fresh.
    fn is_fresh(&self, now: Moment) -> bool;

    /// Whether its time is over altogether.
    fn is_gone(&self, now: Moment) -> bool;
}

/// A concurrent map that stays within a number of entries and of bytes.
///
/// What goes when it is full is decided by S3-FIFO (Yang et al., SOSP 2023): what is read now and
/// then stays, and a scan passes through. Entries whose time is over go when they are met: by
/// reads, and a few at each write. There is no task that does it.
///
/// Locks are taken in one order: the queues, then a shard of the map, never the reverse. The map
/// hashes with the standard library's keyed SipHash, since keys often come from outside.
pub struct Table<V> {
    map: DashMap<Arc<str>, Slot<V>>,
    /// Counted here because asking the map locks each of its shards.
    entries: AtomicUsize,
    bytes: AtomicUsize,
    generations: AtomicU64,
    queues: Mutex<Queues>,
    max_entries: usize,
    max_bytes: usize,
    evictions: AtomicU64,
}

struct Slot<V> {
    stored: V,
    /// Tells this entry from an earlier one of the same key, whose record may still be queued.
    generation: u64,
    reads: Reads,
}

/// What becomes of an entry.
#[derive(Debug)]
pub enum Change<V> {
    /// It stays as it is, or away.
    Keep,
    /// This takes its place.
    Store(V),
    /// It goes.
    Remove,
}

enum Verdict {
    Dangling,
    Expired,
    Spared,
    Evicted,
}

impl<V: Kept> Table<V> {
    /// An empty table with room for so many entries of so many bytes, keys and an allowance of
    /// 256 bytes each included.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            map: DashMap::new(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            generations: AtomicU64::new(0),
            queues: Mutex::default(),
            max_entries,
            max_bytes,
            evictions: AtomicU64::new(0),
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many entries went because the table was full.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Refuses an entry that would be over the bounds by itself.
    ///
    /// # Errors
    ///
    /// `TooLarge`, with both sizes.
    pub fn check_fits(&self, key: &str, length: usize) -> Result<()> {
        let cost = cost(key, length);
        if cost <= self.max_bytes {
            return Ok(());
        }
        let message = format!(
            "the entry takes {cost} bytes with its key, the storage holds {} in all",
            self.max_bytes
        );
        Err(CacheError::new(ErrorKind::TooLarge, message))
    }

    /// What `look` sees in the entry of `key`. Where it sees nothing, the entry is dropped if its
    /// time is over. `look` must not come back to the table.
    pub fn read<R>(&self, key: &str, now: Moment, look: impl FnOnce(&V) -> Option<R>) -> Option<R> {
        let slot = self.map.get(key)?;
        let seen = look(&slot.stored);
        if seen.is_some() {
            slot.reads.note();
            return seen;
        }
        drop(slot);
        self.remove_if(key, |slot| slot.stored.is_gone(now));
        None
    }

    /// Changes the entry of `key` as `decide` says, which sees it if it is fresh. No other change
    /// of the same key comes in between. `decide` must not come back to the table.
    ///
    /// # Errors
    ///
    /// What `decide` fails with; nothing has changed then.
    pub fn change<R>(
        &self,
        key: &Arc<str>,
        now: Moment,
        decide: impl FnOnce(Option<&V>) -> Result<(Change<V>, R)>,
    ) -> Result<R> {
        let (answer, admitted) = match self.map.entry(Arc::clone(key)) {
            Place::Occupied(mut place) => {
                let stored = &place.get().stored;
                let (change, answer) = decide(stored.is_fresh(now).then_some(stored))?;
                match change {
                    Change::Keep => return Ok(answer),
                    Change::Remove => {
                        let slot = place.remove();
                        self.count_out(key, &slot.stored);
                        return Ok(answer);
                    }
                    Change::Store(stored) => {
                        // The same generation and reads: a key stays as hot as it was.
                        let slot = place.get_mut();
                        let (before, after) = (slot.stored.length(), stored.length());
                        self.bytes.fetch_sub(before, Ordering::Relaxed);
                        self.bytes.fetch_add(after, Ordering::Relaxed);
                        slot.stored = stored;
                        (answer, None)
                    }
                }
            }
            Place::Vacant(place) => {
                let (change, answer) = decide(None)?;
                let Change::Store(stored) = change else {
                    return Ok(answer);
                };
                // Counted before the shard is unlocked, or a delete could count it out first.
                self.entries.fetch_add(1, Ordering::Relaxed);
                let cost = cost(key, stored.length());
                self.bytes.fetch_add(cost, Ordering::Relaxed);
                let generation = self.generations.fetch_add(1, Ordering::Relaxed);
                place.insert(Slot {
                    stored,
                    generation,
                    reads: Reads::default(),
                });
                let key = Arc::clone(key);
                (answer, Some(Record { key, generation }))
            }
        };
        self.settle(admitted, now);
        Ok(answer)
    }

    /// Removes the entry of `key`, if there is one.
    pub fn remove(&self, key: &str) {
        self.remove_if(key, |_| true);
    }

    /// Removes what `condemn` says and returns how many entries that were.
    pub fn remove_all(&self, condemn: impl Fn(&str) -> bool) -> u64 {
        let mut removed = 0;
        self.map.retain(|key, slot| {
            let keep = !condemn(key);
            if !keep {
                self.count_out(key, &slot.stored);
                removed += 1;
            }
            keep
        });
        self.compact(&mut self.queues());
        removed
    }

    /// Removes everything and gives back the memory.
    pub fn release(&self) {
        self.remove_all(|_| true);
        self.map.shrink_to_fit();
        *self.queues() = Queues::default();
    }

    /// Brings the table back within its bounds after a write.
    fn settle(&self, admitted: Option<Record>, now: Moment) {
        let mut queues = if admitted.is_some() || self.is_over() {
            self.queues()
        } else {
            // Nothing has to be done, and whoever holds the lock is doing it.
            match self.queues.try_lock() {
                Ok(queues) => queues,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            }
        };
        if let Some(record) = admitted {
            let hash = self.hash(&record.key);
            queues.admit(record, hash);
        }
        self.sweep(&mut queues, now);
        self.evict(&mut queues, now);
        self.compact(&mut queues);
    }

    /// Drops expired entries that nobody reads, a few at each write: there is no task to do it,
    /// since a frozen process would stop it.
    fn sweep(&self, queues: &mut Queues, now: Moment) {
        for _ in 0..LOOKS.min(queues.len()) {
            let Some(Record { key, .. }) = queues.look() else {
                return;
            };
            let slot = self.map.get(&**key);
            if slot.is_some_and(|slot| slot.stored.is_gone(now)) {
                self.remove_if(key, |slot| slot.stored.is_gone(now));
            }
        }
    }

    fn evict(&self, queues: &mut Queues, now: Moment) {
        let mut spared = 0;
        while self.is_over() {
            // Both empty: the entries too many belong to writes that wait for this lock.
            let entries = self.entries().min(self.max_entries);
            let Some((record, queue)) = queues.pop(entries) else {
                return;
            };
            match self.judge(&record, queue, spared < MOST_SPARED, now) {
                Verdict::Dangling | Verdict::Expired => {}
                Verdict::Spared => {
                    spared += 1;
                    queues.spare(record);
                }
                Verdict::Evicted => {
                    spared = 0;
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                    if queue == Queue::Small {
                        let entries = self.entries().min(self.max_entries);
                        queues.remember(self.hash(&record.key), entries);
                    }
                }
            }
        }
    }

    /// Judges the entry of `record` and removes it if that is the verdict, in one step: an entry
    /// replaced in between would lose its record.
    fn judge(&self, record: &Record, queue: Queue, may_spare: bool, now: Moment) -> Verdict {
        let mut verdict = Verdict::Dangling;
        self.remove_if(&record.key, |slot| {
            if slot.generation != record.generation {
                return false;
            }
            if slot.stored.is_gone(now) {
                verdict = Verdict::Expired;
                return true;
            }
            if may_spare && slot.reads.spare(queue) {
                verdict = Verdict::Spared;
                return false;
            }
            verdict = Verdict::Evicted;
            true
        });
        verdict
    }

    fn compact(&self, queues: &mut Queues) {
        queues.compact(self.entries(), |record| {
            let slot = self.map.get(&*record.key);
            slot.is_some_and(|slot| slot.generation == record.generation)
        });
    }

    fn remove_if(&self, key: &str, condemn: impl FnOnce(&Slot<V>) -> bool) {
        let removed = self.map.remove_if(key, |_, slot| condemn(slot));
        if let Some((key, slot)) = removed {
            self.count_out(&key, &slot.stored);
        }
    }

    fn count_out(&self, key: &str, stored: &V) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        let cost = cost(key, stored.length());
        self.bytes.fetch_sub(cost, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.entries() > self.max_entries || self.bytes() > self.max_bytes
    }

    fn hash(&self, key: &str) -> u64 {
        self.map.hasher().hash_one(key)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry with a value of `length` takes.
fn cost(key: &str, length: usize) -> usize {
    ENTRY_BYTES.saturating_add(key.len()).saturating_add(length)
}

impl<V> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("entries", &self.entries.load(Ordering::Relaxed))
            .field("bytes", &self.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests;
