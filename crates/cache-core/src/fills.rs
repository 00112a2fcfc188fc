//! Keeps what was read or loaded before a write from being stored after it.
//!
//! A *fill* begins before a value is read or loaded and ends once it was stored where it was
//! missing. A *write* (a set, a delete) of the same key dooms the fills under way: one that is
//! storing right now is waited for, so that the write comes after it, and the others will store
//! nothing. A fill that begins while a write is under way is doomed from the start, since nobody
//! can say whether it read the old value or the new one.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slots;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::ClearScope;
use crate::key::CacheKey;

/// The fills and writes under way in one process, over one set of keys.
pub(crate) struct Fills<F> {
    shards: Box<[Mutex<Shard<F>>]>,
    /// How many fills and writes have ended.
    epoch: AtomicU64,
    /// What is being cleared. The count spares others the lock.
    clears: AtomicUsize,
    scopes: Mutex<Vec<ClearScope>>,
}

type Shard<F> = HashMap<CacheKey, Slot<F>>;

/// What is under way for one key.
struct Slot<F> {
    writers: usize,
    /// Whether writers under way are or were several, or met a clear.
    is_contended: bool,
    /// A fill that others may still join.
    fill: Option<Arc<Fill<F>>>,
    /// More of them, where one does not suit everybody, which is rare.
    others: Vec<Arc<Fill<F>>>,
    /// Those that were doomed and have not ended. They may be storing, and then each write waits
    /// for them, not only the one that doomed them.
    doomed: Vec<Arc<Fill<F>>>,
}

/// One value on its way into a storage.
pub(crate) struct Fill<F> {
    /// What its users keep with it.
    pub(crate) payload: F,
    doomed: AtomicBool,
    /// Held while storing.
    gate: tokio::sync::Mutex<()>,
}

impl<F: Send + Sync> Fills<F> {
    const SHARDS: usize = 16;

    pub(crate) fn new() -> Self {
        Self {
            shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect(),
            epoch: AtomicU64::new(0),
            clears: AtomicUsize::new(0),
            scopes: Mutex::default(),
        }
    }

    /// Begins a fill of `key`, whatever else is under way.
    pub(crate) fn begin(&self, key: &CacheKey, payload: F) -> Arc<Fill<F>> {
        self.join_or_begin(key, |_| false, || payload).0
    }

    /// The fill of `key` that suits, or else a new one; the flag says whether it is new. What
    /// suits is decided under a lock.
    pub(crate) fn join_or_begin(
        &self,
        key: &CacheKey,
        suits: impl Fn(&F) -> bool,
        payload: impl FnOnce() -> F,
    ) -> (Arc<Fill<F>>, bool) {
        let mut shard = self.shard(key);
        let slot = shard.entry(key.clone()).or_default();
        if let Some(fill) = slot.fills().find(|fill| suits(&fill.payload)) {
            return (Arc::clone(fill), false);
        }
        let fill = Arc::new(Fill {
            payload: payload(),
            doomed: AtomicBool::new(slot.writers > 0),
            gate: tokio::sync::Mutex::default(),
        });
        slot.add(&fill);
        drop(shard);
        // After it can be found: a clear either finds it or is found.
        if self.is_being_cleared(key) {
            fill.doom();
        }
        (fill, true)
    }

    /// Ends a fill: nobody joins it any more.
    pub(crate) fn end(&self, key: &CacheKey, fill: &Arc<Fill<F>>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(key);
        if let Slots::Occupied(mut slot) = shard.entry(key.clone()) {
            slot.get_mut().remove(fill);
            slot_left(slot);
        }
    }

    /// Runs `store`, which must neither wait nor come back here, unless the fill is doomed. For what
    /// is stored in this process.
    pub(crate) fn store_at_once(&self, key: &CacheKey, fill: &Fill<F>, store: impl FnOnce()) {
        let shard = self.shard(key);
        if !fill.is_doomed() {
            store();
        }
        drop(shard);
    }

    /// Tells that the value of `fill` was stored: the other fills under way, which may have read
    /// what was there before, will store nothing. Runs `then` with that, which must neither
    /// wait nor come back here. Neither happens if the fill is doomed itself.
    #[cfg(feature = "decoded")]
    pub(crate) fn overtake(&self, key: &CacheKey, fill: &Fill<F>, then: impl FnOnce()) {
        let shard = self.shard(key);
        if fill.is_doomed() {
            return;
        }
        let others = shard.get(key).into_iter().flat_map(Slot::fills);
        for other in others.filter(|other| !std::ptr::eq(Arc::as_ptr(other), fill)) {
            other.doom();
        }
        then();
        drop(shard);
    }

    /// Begins a write of `key`. The fills under way are doomed, and none of them is storing any
    /// more when this returns.
    pub(crate) async fn write(&self, key: &CacheKey) -> Writing<'_, F> {
        let writing = Writing {
            fills: self,
            key: key.clone(),
        };
        let doomed = {
            let mut shard = self.shard(key);
            let slot = shard.entry(key.clone()).or_default();
            slot.is_contended |= slot.writers > 0;
            slot.writers += 1;
            slot.doom().to_vec()
        };
        // After it can be found, as a fill.
        if self.is_being_cleared(key)
            && let Some(slot) = self.shard(key).get_mut(key)
        {
            slot.is_contended = true;
        }
        all_stored(doomed).await;
        writing
    }

    /// Begins a write of many keys, as [`write`](Self::write).
    pub(crate) async fn write_many(&self, keys: &[CacheKey]) -> Vec<Writing<'_, F>> {
        let mut writings = Vec::new();
        for key in keys {
            writings.push(self.write(key).await);
        }
        writings
    }

    /// Begins a clear, as a write of every key in `scope`.
    pub(crate) async fn clear(&self, scope: &ClearScope) -> Clearing<'_, F> {
        self.clears.fetch_add(1, Ordering::SeqCst);
        self.scopes().push(scope.clone());
        let clearing = Clearing {
            fills: self,
            scope: scope.clone(),
        };
        all_stored(self.take_within(scope)).await;
        clearing
    }

    /// Changes whenever a fill or a write ends: what was read in one epoch is still so in it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many keys have a fill or a write under way.
    pub(crate) fn len(&self) -> usize {
        let lock = |shard: &Mutex<Shard<F>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.len()
        };
        self.shards.iter().map(lock).sum()
    }

    /// Dooms the fills within `scope` and takes them out of everybody's sight.
    fn take_within(&self, scope: &ClearScope) -> Vec<Arc<Fill<F>>> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|key, slot| {
                if scope.contains(key.as_str()) {
                    slot.is_contended |= slot.writers > 0;
                    taken.extend_from_slice(slot.doom());
                }
                !slot.is_empty()
            });
        }
        taken
    }

    fn is_being_cleared(&self, key: &CacheKey) -> bool {
        self.clears.load(Ordering::SeqCst) > 0
            && self
                .scopes()
                .iter()
                .any(|scope| scope.contains(key.as_str()))
    }

    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, Shard<F>> {
        // The ends of keys differ; the map inside hashes well.
        let end = key.as_str().bytes().rev().take(8);
        let sum = end.fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let shard = &self.shards[sum % Self::SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scopes(&self) -> MutexGuard<'_, Vec<ClearScope>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Default for Slot<F> {
    fn default() -> Self {
        Self {
            writers: 0,
            is_contended: false,
            fill: None,
            others: Vec::new(),
            doomed: Vec::new(),
        }
    }
}

impl<F> Slot<F> {
    fn fills(&self) -> impl Iterator<Item = &Arc<Fill<F>>> {
        self.fill.iter().chain(&self.others)
    }

    fn add(&mut self, fill: &Arc<Fill<F>>) {
        let fill = Arc::clone(fill);
        match &self.fill {
            None => self.fill = Some(fill),
            Some(_) => self.others.push(fill),
        }
    }

    fn remove(&mut self, fill: &Arc<Fill<F>>) {
        self.fill.take_if(|other| Arc::ptr_eq(other, fill));
        for fills in [&mut self.others, &mut self.doomed] {
            fills.retain(|other| !Arc::ptr_eq(other, fill));
        }
    }

    /// Dooms the fills and takes them out of sight; all that were doomed and have not ended. Under
    /// the lock of their shard, so that what is stored at once is stored before the write, or not
    /// at all.
    fn doom(&mut self) -> &[Arc<Fill<F>>] {
        let doomed = self.fill.take().into_iter().chain(self.others.drain(..));
        for fill in doomed {
            fill.doom();
            self.doomed.push(fill);
        }
        &self.doomed
    }

    fn is_empty(&self) -> bool {
        self.writers == 0 && self.fills().next().is_none() && self.doomed.is_empty()
    }
}

fn slot_left<F>(slot: std::collections::hash_map::OccupiedEntry<'_, CacheKey, Slot<F>>) {
    if slot.get().is_empty() {
        slot.remove();
    }
}

/// Waits for those that are storing.
async fn all_stored<F: Send + Sync>(fills: Vec<Arc<Fill<F>>>) {
    for fill in fills {
        drop(fill.gate.lock().await);
    }
}

impl<F> Fill<F> {
    fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl<F: Send + Sync> Fill<F> {
    /// Whether a write of the key began since the fill did, so that its value must not be stored.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    /// Runs `store` unless the fill is doomed. A write that begins meanwhile waits for it. A
    /// future dropped in the middle may still store: whoever must not lose the order keeps it.
    pub(crate) async fn store<T>(&self, store: impl Future<Output = T> + Send) -> Option<T> {
        let _storing = self.gate.lock().await;
        if self.is_doomed() {
            return None;
        }
        Some(store.await)
    }
}

/// A write under way; it ends when this is dropped.
pub(crate) struct Writing<'a, F: Send + Sync> {
    fills: &'a Fills<F>,
    key: CacheKey,
}

impl<F: Send + Sync> Writing<'_, F> {
    /// Whether another write of the key, or a clear, has been under way at the same time so far:
    /// nobody can say then in which order they reached several storages.
    pub(crate) fn is_contended(&self) -> bool {
        let shard = self.fills.shard(&self.key);
        shard.get(&self.key).is_some_and(|slot| slot.is_contended)
    }
}

impl<F: Send + Sync> Drop for Writing<'_, F> {
    fn drop(&mut self) {
        self.fills.epoch.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.fills.shard(&self.key);
        if let Slots::Occupied(mut slot) = shard.entry(self.key.clone()) {
            // What began under the write is doomed; what comes now begins anew.
            slot.get_mut().doom();
            slot.get_mut().writers -= 1;
            slot.get_mut().is_contended &= slot.get().writers > 0;
            slot_left(slot);
        }
    }
}

/// A clear under way; it ends when this is dropped.
pub(crate) struct Clearing<'a, F: Send + Sync> {
    fills: &'a Fills<F>,
    scope: ClearScope,
}

impl<F: Send + Sync> Drop for Clearing<'_, F> {
    fn drop(&mut self) {
        self.fills.epoch.fetch_add(1, Ordering::AcqRel);
        drop(self.fills.take_within(&self.scope));
        let mut scopes = self.fills.scopes();
        if let Some(position) = scopes.iter().position(|scope| *scope == self.scope) {
            scopes.swap_remove(position);
        }
        drop(scopes);
        self.fills.clears.fetch_sub(1, Ordering::SeqCst);
    }
}
