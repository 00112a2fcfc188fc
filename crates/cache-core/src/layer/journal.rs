//! What one layer missed, and which of its copies are outdated: pure bookkeeping.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Moment, Timestamp};
use crate::key::CacheKey;

/// A copy is remembered for this much longer than it lives, for clocks that differ.
const LATE: Duration = Duration::from_secs(5);

/// The memory of one layer.
pub(crate) struct Journal {
    capacity: usize,
    /// Whether keys wait to be deleted. Written under the lock, read without it.
    has_missed: AtomicBool,
    /// Whether entries have to be judged. Written under the lock, read without it.
    has_doubts: AtomicBool,
    is_draining: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Keys to be deleted, with the number of the miss: a key that is missed again while its delete
    /// is under way stays.
    missed: HashMap<CacheKey, u64>,
    misses: u64,
    /// Copies that this process wrote here because an earlier layer was in trouble.
    lent: HashMap<CacheKey, Lent>,
    overflow: Option<Overflow>,
}

struct Lent {
    since: Moment,
    /// None for ever.
    life: Option<Duration>,
    /// Whether an earlier layer has taken a newer value since.
    is_superseded: bool,
}

impl Lent {
    fn is_over(&self, now: Moment) -> bool {
        self.life
            .is_some_and(|life| now.since(self.since) >= life.saturating_add(LATE))
    }
}

/// The journal was given up.
struct Overflow {
    at: Timestamp,
    /// Keys that this process has written here since.
    renewed: HashSet<CacheKey>,
}

/// A key that waits to be deleted, as it was when it was asked for.
pub(crate) type Missed = (CacheKey, u64);

/// The right to drain; given back on drop.
pub(crate) struct Draining<'a>(&'a Journal);

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.is_draining.store(false, Ordering::Release);
    }
}

impl Journal {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            has_missed: AtomicBool::new(false),
            has_doubts: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// Whether keys wait to be deleted here.
    pub(crate) fn has_missed(&self) -> bool {
        self.has_missed.load(Ordering::Acquire)
    }

    /// Whether entries of the layer have to be judged by [`is_current`](Self::is_current).
    pub(crate) fn has_doubts(&self) -> bool {
        self.has_doubts.load(Ordering::Acquire)
    }

    /// Notes a delete or overwrite that the layer did not see; true when that was one too many.
    ///
    /// What `was_sent` may still be carried out after a delete that is under way, so it has to be
    /// deleted once more. What was not sent need not: a key that is written all the time would never
    /// leave.
    pub(crate) fn missed(&self, key: &CacheKey, was_sent: bool, now: Timestamp) -> bool {
        let mut inner = self.lock();
        inner.misses += 1;
        let number = inner.misses;
        if let Some(overflow) = &mut inner.overflow {
            overflow.renewed.remove(key);
        }
        if let Some(known) = inner.missed.get_mut(key) {
            if was_sent {
                *known = number;
            }
            return false;
        }
        if inner.missed.len() >= self.capacity {
            self.give_up(&mut inner, now);
            return true;
        }
        inner.missed.insert(key.clone(), number);
        self.has_missed.store(true, Ordering::Release);
        false
    }

    /// Up to `most` keys that wait to be deleted.
    pub(crate) fn waiting(&self, most: usize) -> Vec<Missed> {
        let inner = self.lock();
        let missed = inner.missed.iter().take(most);
        missed.map(|(key, number)| (key.clone(), *number)).collect()
    }

    /// Those of `keys` that wait to be deleted.
    pub(crate) fn waiting_of(&self, keys: &[CacheKey]) -> Vec<Missed> {
        let inner = self.lock();
        let missed = keys.iter().filter_map(|key| {
            let number = inner.missed.get(key)?;
            Some((key.clone(), *number))
        });
        missed.collect()
    }

    /// The number of the last miss so far: what is acknowledged later was sent after it.
    pub(crate) fn last_miss(&self) -> u64 {
        if self.has_missed() {
            self.lock().misses
        } else {
            0
        }
    }

    /// The layer has deleted these keys, as they were asked for.
    pub(crate) fn acknowledged<'a>(&self, deleted: impl IntoIterator<Item = (&'a CacheKey, u64)>) {
        let mut inner = self.lock();
        for (key, number) in deleted {
            if inner
                .missed
                .get(key)
                .is_some_and(|missed| *missed <= number)
            {
                inner.missed.remove(key);
            }
        }
        self.has_missed
            .store(!inner.missed.is_empty(), Ordering::Release);
    }

    /// The layer is about to get a copy that lives for `life`; true when that was one too many.
    pub(crate) fn lent(&self, key: &CacheKey, life: Option<Duration>, now: Moment) -> bool {
        let mut inner = self.lock();
        self.has_doubts.store(true, Ordering::Release);
        if inner.lent.len() >= self.capacity && !inner.lent.contains_key(key) {
            inner.lent.retain(|_, lent| !lent.is_over(now));
        }
        let is_full = inner.lent.len() >= self.capacity && !inner.lent.contains_key(key);
        if is_full {
            self.give_up(&mut inner, now.wall);
        }
        // Until the new copy is acknowledged, an outdated one may still be what is there.
        let is_superseded = inner.lent.get(key).is_some_and(|old| old.is_superseded);
        let lent = Lent {
            since: now,
            life,
            is_superseded,
        };
        inner.lent.insert(key.clone(), lent);
        is_full
    }

    /// The layer has acknowledged the copy that it was lent.
    pub(crate) fn landed(&self, key: &CacheKey) {
        if let Some(lent) = self.lock().lent.get_mut(key) {
            lent.is_superseded = false;
        }
    }

    /// The layer has taken a write.
    pub(crate) fn wrote(&self, key: &CacheKey) {
        if !self.has_doubts() {
            return;
        }
        let capacity = self.capacity;
        if let Some(overflow) = &mut self.lock().overflow
            && overflow.renewed.len() < capacity
        {
            overflow.renewed.insert(key.clone());
        }
    }

    /// An earlier layer has taken a newer value than the copy here.
    pub(crate) fn superseded(&self, key: &CacheKey) {
        if !self.has_doubts() {
            return;
        }
        let mut inner = self.lock();
        if let Some(lent) = inner.lent.get_mut(key) {
            lent.is_superseded = true;
        }
        if let Some(overflow) = &mut inner.overflow {
            overflow.renewed.remove(key);
        }
    }

    /// Whether an entry that the layer has, made at `created_at`, may be read.
    pub(crate) fn is_current(
        &self,
        key: &CacheKey,
        created_at: Option<Timestamp>,
        now: Moment,
    ) -> bool {
        if !self.has_doubts() {
            return true;
        }
        let inner = self.lock();
        let is_outdated = inner
            .lent
            .get(key)
            .is_some_and(|lent| lent.is_superseded && !lent.is_over(now));
        let is_too_old = inner.overflow.as_ref().is_some_and(|overflow| {
            created_at.is_none_or(|at| at <= overflow.at) && !overflow.renewed.contains(key)
        });
        !is_outdated && !is_too_old
    }

    /// Whether it will be remembered that this process has written the key. If not, what is there
    /// cannot be told from what this process writes next.
    pub(crate) fn can_remember(&self, key: &CacheKey) -> bool {
        self.lock().overflow.as_ref().is_none_or(|overflow| {
            overflow.renewed.len() < self.capacity || overflow.renewed.contains(key)
        })
    }

    /// The right to drain, unless somebody has it.
    pub(crate) fn begin_drain(&self) -> Option<Draining<'_>> {
        let was_draining = self.is_draining.swap(true, Ordering::AcqRel);
        (!was_draining).then(|| Draining(self))
    }

    /// How many keys wait, and when the journal was given up.
    pub(crate) fn status(&self) -> (usize, Option<Timestamp>) {
        let inner = self.lock();
        let overflowed_at = inner.overflow.as_ref().map(|overflow| overflow.at);
        (inner.missed.len(), overflowed_at)
    }

    fn give_up(&self, inner: &mut Inner, now: Timestamp) {
        inner.missed.clear();
        inner.lent.clear();
        inner.overflow = Some(Overflow {
            at: now,
            renewed: HashSet::new(),
        });
        self.has_missed.store(false, Ordering::Release);
        self.has_doubts.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock as _, SystemClock, secs};

    fn key(name: &str) -> CacheKey {
        CacheKey::from(name)
    }

    fn now() -> Moment {
        SystemClock::new().now()
    }

    #[test]
    fn a_key_missed_again_while_its_delete_is_under_way_stays() {
        let journal = Journal::new(10);
        assert!(!journal.missed(&key("a"), true, now().wall));
        let sent = journal.waiting(10);
        assert!(!journal.missed(&key("a"), true, now().wall));
        journal.acknowledged(sent.iter().map(|(key, number)| (key, *number)));
        assert!(journal.has_missed());
        let sent = journal.waiting(10);
        journal.acknowledged(sent.iter().map(|(key, number)| (key, *number)));
        assert!(!journal.has_missed());
    }

    #[test]
    fn one_key_too_many_gives_the_journal_up() {
        let journal = Journal::new(2);
        let at = now();
        assert!(!journal.missed(&key("a"), true, at.wall));
        assert!(!journal.missed(&key("b"), true, at.wall));
        assert!(!journal.missed(&key("a"), true, at.wall));
        assert!(journal.missed(&key("c"), true, at.wall));
        assert!(!journal.has_missed());
        assert!(!journal.is_current(&key("x"), None, at));
        assert!(!journal.is_current(&key("x"), Some(at.wall), at));
        let later = at.wall.after(Duration::from_millis(1));
        assert!(journal.is_current(&key("x"), Some(later), at));
        journal.wrote(&key("x"));
        assert!(journal.is_current(&key("x"), None, at));
        journal.missed(&key("x"), true, at.wall);
        assert!(!journal.is_current(&key("x"), None, at));
    }

    #[test]
    fn a_superseded_copy_is_outdated_until_it_has_expired() {
        let journal = Journal::new(2);
        let at = now();
        assert!(!journal.lent(&key("a"), Some(secs(60)), at));
        assert!(journal.is_current(&key("a"), None, at));
        journal.superseded(&key("a"));
        assert!(!journal.is_current(&key("a"), None, at));
        assert!(journal.is_current(&key("b"), None, at));
        let mut later = at;
        later.monotonic += secs(65);
        assert!(journal.is_current(&key("a"), None, later));
        journal.lent(&key("a"), Some(secs(60)), at);
        assert!(
            !journal.is_current(&key("a"), None, at),
            "not acknowledged yet"
        );
        journal.landed(&key("a"));
        assert!(journal.is_current(&key("a"), None, at));
    }

    #[test]
    fn only_one_drains_at_a_time() {
        let journal = Journal::new(1);
        let right = journal.begin_drain();
        assert!(right.is_some());
        assert!(journal.begin_drain().is_none());
        drop(right);
        assert!(journal.begin_drain().is_some());
    }
}
