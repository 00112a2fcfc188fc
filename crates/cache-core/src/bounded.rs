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
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::ttl::secs;

    /// So many bytes for a while.
    struct Parcel {
        length: usize,
        written: Moment,
        ttl: std::time::Duration,
    }

    impl Kept for Parcel {
        fn length(&self) -> usize {
            self.length
        }

        fn is_fresh(&self, now: Moment) -> bool {
            now.since(self.written) < self.ttl
        }

        fn is_gone(&self, now: Moment) -> bool {
            !self.is_fresh(now)
        }
    }

    const ROOM: usize = 1 << 40;

    impl Table<Parcel> {
        fn put(&self, key: &str, length: usize, ttl: u64, now: Moment) {
            let parcel = Parcel {
                length,
                written: now,
                ttl: secs(ttl),
            };
            let store = |_: Option<&Parcel>| Ok((Change::Store(parcel), ()));
            self.change(&key.into(), now, store)
                .expect("the table takes it");
        }

        fn hit(&self, key: &str, now: Moment) -> bool {
            let fresh = |parcel: &Parcel| parcel.is_fresh(now).then_some(());
            self.read(key, now, fresh).is_some()
        }

        fn delete(&self, key: &str, now: Moment) {
            let remove = |_: Option<&Parcel>| Ok((Change::Remove, ()));
            self.change(&key.into(), now, remove)
                .expect("nothing refuses it");
        }

        /// What is counted is what is there, and every entry has exactly one record. Takes the
        /// queues apart, so the table is of no use afterwards.
        fn check(self) {
            assert!(!self.is_over());
            assert_eq!(self.entries(), self.map.len());
            let costs = self
                .map
                .iter()
                .map(|slot| cost(slot.key(), slot.stored.length()));
            assert_eq!(self.bytes(), costs.sum::<usize>());
            let mut queues = self.queues();
            let mut owners = HashSet::new();
            while let Some((record, _)) = queues.pop(0) {
                let slot = self.map.get(&*record.key);
                if slot.is_some_and(|slot| slot.generation == record.generation) {
                    assert!(owners.insert(record.key));
                }
            }
            assert_eq!(owners.len(), self.entries());
        }
    }

    #[test]
    fn never_holds_more_entries_than_allowed() {
        let now = ManualClock::new().now();
        for most in [1, 2, 10, 100] {
            let table = Table::new(most, ROOM);
            for number in 0..1_000 {
                table.put(&number.to_string(), 1, 60, now);
                assert!(table.entries() <= most);
                assert!(table.hit(&number.to_string(), now), "the newest stays");
            }
            assert_eq!(table.evictions(), 1_000 - most as u64);
            table.check();
        }
    }

    #[test]
    fn never_holds_more_bytes_than_allowed() {
        let now = ManualClock::new().now();
        let most = 20_000;
        let table = Table::new(ROOM, most);
        fastrand::seed(1);
        for _ in 0..5_000 {
            let key = fastrand::u8(..).to_string();
            // Overwrites grow and shrink entries.
            table.put(&key, fastrand::usize(..10_000), 60, now);
            assert!(table.bytes() <= most);
        }
        table.put("whole", most - cost("whole", 0), 60, now);
        assert!(table.hit("whole", now));
        assert_eq!(table.entries(), 1);
        table.check();
    }

    #[test]
    fn an_entry_among_hot_ones_displaces_one_after_a_bounded_search() {
        let now = ManualClock::new().now();
        let table = Table::new(1_000, ROOM);
        for number in 0..1_000 {
            table.put(&number.to_string(), 1, 60, now);
        }
        for number in 0..3_000 {
            assert!(table.hit(&(number % 1_000).to_string(), now));
        }
        table.put("new", 1, 60, now);
        assert_eq!(table.queues().len(), 1_000);
        table.check();
    }

    #[test]
    fn a_scan_does_not_displace_what_is_read() {
        let now = ManualClock::new().now();
        let table = Table::new(1_000, ROOM);
        for number in 0..800 {
            table.put(&number.to_string(), 1, 60, now);
            assert!(table.hit(&number.to_string(), now));
        }
        for number in 0..10_000 {
            table.put(&format!("scan:{number}"), 1, 60, now);
        }
        let kept = (0..800).filter(|number| table.hit(&number.to_string(), now));
        // A few go at the beginning, when no more than so many may be spared at a time.
        assert!(kept.count() > 760);
    }

    #[test]
    fn keeps_what_a_skewed_traffic_asks_for() {
        let now = ManualClock::new().now();
        let table = Table::new(1_000, ROOM);
        let weights: Vec<f64> = (1..=10_000)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / f64::from(rank);
                Some(*sum)
            })
            .collect();
        fastrand::seed(2);
        let mut hits = 0;
        for _ in 0..100_000 {
            let drawn = fastrand::f64() * weights.last().unwrap();
            let key = weights
                .partition_point(|weight| *weight < drawn)
                .to_string();
            if table.hit(&key, now) {
                hits += 1;
            } else {
                table.put(&key, 1, 60, now);
            }
        }
        // Always holding the thousand most frequent keys would give 0.76, LRU gives 0.65.
        assert!(hits > 69_000, "{hits}");
    }

    #[test]
    fn records_stay_in_proportion_to_the_entries() {
        let now = ManualClock::new().now();
        let table = Table::new(ROOM, ROOM);
        for number in 0..100_000 {
            let key = (number % 10).to_string();
            table.put(&key, 1, 60, now);
            table.delete(&key, now);
            assert!(table.queues().len() <= 70);
        }
        for number in 0..10_000 {
            table.put(&number.to_string(), 1, 60, now);
        }
        table.remove_all(|_| true);
        assert_eq!(table.queues().len(), 0);
        table.check();
    }

    #[test]
    fn expired_entries_that_nobody_reads_go_with_further_writes() {
        for overwriting in [false, true] {
            let clock = ManualClock::new();
            let table = Table::new(ROOM, ROOM);
            for number in 0..1_000 {
                table.put(&number.to_string(), 1, 1 + number % 2, clock.now());
            }
            clock.advance(secs(2));
            for number in 0..1_000 {
                let key = if overwriting { 0 } else { number };
                table.put(&format!("new:{key}"), 1, 60, clock.now());
            }
            assert_eq!(table.entries(), if overwriting { 1 } else { 1_000 });
            assert!(table.queues().len() <= 2 * table.entries() + 64);
            assert_eq!(table.evictions(), 0);
            table.check();
        }
    }

    #[test]
    fn an_expired_entry_goes_before_a_live_one_is_evicted() {
        let clock = ManualClock::new();
        let table = Table::new(10, ROOM);
        for number in 0..10 {
            table.put(&number.to_string(), 1, 1, clock.now());
        }
        clock.advance(secs(1));
        for number in 10..20 {
            table.put(&number.to_string(), 1, 1, clock.now());
        }
        assert!((10..20).all(|number| table.hit(&number.to_string(), clock.now())));
        assert_eq!(table.evictions(), 0);
    }

    #[test]
    fn counts_stay_right_under_contention() {
        let clock = ManualClock::new();
        let table = Table::new(100, 50_000);
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let (table, clock) = (&table, &clock);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..20_000 {
                        let key = random.u8(..).to_string();
                        let now = clock.now();
                        match random.u32(..200) {
                            0 => clock.advance(secs(1)),
                            1 => drop(table.remove_all(|key| key.starts_with('1'))),
                            2..50 => table.delete(&key, now),
                            50..100 => table.put(&key, random.usize(..2_000), 1, now),
                            _ => drop(table.hit(&key, now)),
                        }
                    }
                });
            }
        });
        table.check();
    }
}
