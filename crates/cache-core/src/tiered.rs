//! Several storages, the fastest first, of which the slowest has everything.

use std::fmt;
use std::sync::Arc;

use crate::entry::NewEntry;
use crate::error::{CacheError, Operation, Result};
use crate::fills::Fills;
use crate::key::CacheKey;
use crate::layer::Front;
use crate::observer::{Event, Observers};
use crate::storage::CacheStorage;

mod access;
mod batches;
mod builder;
mod ends;
mod owed;
mod promotion;
mod reads;
mod search;
mod storage;
mod tier;
mod writes;

pub use access::TierAccess;
pub use builder::{TierOptions, TieredBuilder};
pub use tier::TierStatus;

use access::Access;
use tier::Tier;

/// Several storages, fastest first, such as memory over Redis over DynamoDB.
///
/// The slowest, the *last* tier, has everything, and what it says is the truth; the others have
/// copies. A copy lives for what is left of the entry's time to live, at most for the
/// [cap](TierOptions::ttl_cap) of its tier, which bounds how long the writes of *other* processes
/// stay unseen.
///
/// * **Reads** ask the fastest tier first. The first fresh entry is the answer; it is written to the
///   faster tiers that did not have it (*promoted*), over no fresh entry and never after a write of
///   its key by this process. A tier in trouble is skipped, counted and told. A stale entry does not
///   end the search: where no tier has a fresh one, that of the fastest tier is the answer. "Absent"
///   is what the last tier says, or what every tier says; otherwise the answer is the trouble of
///   those that could not say.
/// * **Writes** go to the last tier first, and have failed if it fails. Then the others get their
///   copies. What the last tier may have missed in trouble is not read any more, so after a failed
///   write this process reads neither the old value nor an older one.
///   Of writes of one key at the same moment in this process, the order of the last tier counts: they
///   leave no copies.
/// * **Deletes** go to every tier, the last one first, even if one fails, and have succeeded when
///   the last one acknowledged them; it says whether there was an entry.
///   [`expire`](CacheStorage::expire) drops the copies.
/// * **Counters, conditional writes and compare-and-delete** are decided by one tier, the last
///   unless [`counters_in`](TieredBuilder::counters_in) names another, and the other tiers drop
///   their copies.
/// * **Times to live** ([`get_ttl`](CacheStorage::get_ttl)) are what the last tier says.
///   `expires_at` of an entry is the end of the copy that was read, which a cap may have moved
///   forward.
/// * **Clear** goes to every tier, and is complete where all are. It is not remembered.
///
/// # Numbers
///
/// The decimal text of an integer without metadata may be a counter, and nobody could tell a copy of
/// it from one that has been counted on since. So it lives in the tier of the counters alone: the
/// others drop what they have under its key, and it is never promoted. That a value is a plain
/// number therefore costs a read of that tier each time.
///
/// # Nothing is resurrected
///
/// What a tier missed of deletes and overwrites stands in its journal, and the tier is not read for
/// such a key until it was deleted there, much as in a [`FallbackStorage`](crate::FallbackStorage).
/// So within this process what was deleted or overwritten is never read again once that was
/// acknowledged. Another process may read its copies until they end. It may also have read an entry
/// of the last tier just before a delete, and promote it just after, into a tier that processes
/// share; a cap on that tier bounds how long it stays.
///
/// # Where it belongs
///
/// Around breakers, one a server, and inside of a prefix. Right:
/// `Prefix("app", Tiered(Memory, Breaker(Redis)))`. Wrong: `Breaker(Tiered(Memory, Redis))`, which
/// keeps callers from the memory for the trouble of Redis.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cache_core::CacheError> {
/// use cache_core::{CacheService, TierOptions, TieredStorage, mins, secs};
/// use cache_memory::MemoryCacheStorage;
///
/// # let slow = MemoryCacheStorage::new();
/// let fast = TierOptions::default().with_name("local").with_ttl_cap(secs(10));
/// let tiers = TieredStorage::builder()
///     .tier_with(MemoryCacheStorage::new(), fast)
///     .tier(slow)
///     .build()?;
/// let places = CacheService::builder(tiers).prefix("geo").ttl(mins(5)).build()?;
/// places.set("10.0.0.7", "Vienna").await?;
/// # Ok(())
/// # }
/// ```
pub struct TieredStorage {
    shared: Arc<Shared>,
    /// What this view leaves out.
    access: Access,
}

/// What all views of the same tiers have in common.
struct Shared {
    tiers: Vec<Tier>,
    front: Front,
    counters_in: usize,
    observers: Observers,
    fills: Fills<()>,
}

impl TieredStorage {
    /// How many keys a tier's journal holds, by default.
    pub const JOURNAL_CAPACITY: usize = 50_000;

    /// `fast` over `slow`, each called as its backend.
    ///
    /// # Errors
    ///
    /// `Configuration` where both have the same backend; [`builder`](Self::builder) names them.
    pub fn new(fast: impl CacheStorage, slow: impl CacheStorage) -> Result<Self> {
        Self::builder().tier(fast).tier(slow).build()
    }

    /// Starts a stack without tiers.
    pub fn builder() -> TieredBuilder {
        TieredBuilder::new()
    }

    /// What each tier did and what is known about it, fastest first. Costs no I/O.
    #[must_use]
    pub fn tiers(&self) -> Vec<TierStatus> {
        self.shared.tiers.iter().map(Tier::status).collect()
    }

    /// This storage, less what `access` leaves out.
    fn view(&self, access: &TierAccess) -> Result<Self> {
        let names: Vec<_> = self.shared.tiers.iter().map(|tier| tier.name).collect();
        Ok(Self {
            shared: Arc::clone(&self.shared),
            access: self.access.without(access, &names)?,
        })
    }

    fn tier(&self, position: usize) -> &Tier {
        &self.shared.tiers[position]
    }

    /// The tier that has everything.
    fn last(&self) -> usize {
        self.shared.tiers.len() - 1
    }

    /// The tier that decides whether a write of `entry` has succeeded: of those that this view
    /// writes to, the one of the counters for a number, and the slowest for all else.
    fn home_of(&self, entry: &NewEntry) -> usize {
        let counters_in = self.shared.counters_in;
        if is_number(entry) && self.access.writes(counters_in) {
            return counters_in;
        }
        self.home()
    }

    /// The slowest tier that this view writes to.
    fn home(&self) -> usize {
        let last = self.last();
        self.slowest_first().next().unwrap_or(last)
    }

    /// The tiers that this view writes to.
    fn slowest_first(&self) -> impl Iterator<Item = usize> + Send + '_ {
        (0..self.shared.tiers.len())
            .rev()
            .filter(|position| self.access.writes(*position))
    }

    /// The tiers that this view writes to, but for one.
    fn others(&self, home: usize) -> Vec<usize> {
        let others = self.slowest_first().filter(|position| *position != home);
        others.collect()
    }

    /// Refuses a key before anything is sent or remembered.
    fn check_key(&self, operation: Operation, key: &CacheKey) -> Result<()> {
        let checked = self.shared.front.info.check_key(key);
        checked.map_err(|error| error.with_operation(operation).with_key(key))
    }

    /// Refuses what the last tier would refuse, before anything is sent or remembered.
    fn check_entry(&self, operation: Operation, key: &CacheKey, entry: &NewEntry) -> Result<()> {
        self.check_key(operation, key)?;
        let checked = self.shared.front.info.check_value(&entry.value);
        checked.map_err(|error| error.with_operation(operation).with_key(key))
    }

    /// Counts and tells that a call went on without a tier.
    fn skipped(&self, position: usize, error: &CacheError) {
        let tier = self.tier(position);
        tier.count_skip();
        self.shared.observers.tell(&Event::TierSkipped {
            tier: tier.name,
            reason: error.code(),
        });
    }

    /// Notes that a tier did not see a delete or an overwrite of `key`, or may see it late.
    fn missed(&self, position: usize, key: &CacheKey, may_have_happened: bool) {
        let layer = &self.tier(position).layer;
        if layer.journal.missed(key, may_have_happened, layer.wall()) {
            self.shared.observers.tell(&Event::JournalOverflow {
                backend: layer.backend(),
            });
        }
    }
}

impl fmt::Debug for TieredStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Tiered");
        for tier in &self.shared.tiers {
            tuple.field(&tier.layer.storage);
        }
        tuple.finish()
    }
}

/// Whether an entry looks like a counter, and may be one.
fn is_number(entry: &NewEntry) -> bool {
    entry.codec.is_none()
        && entry.created_at.is_none()
        && entry.stale_for.is_none()
        && crate::counter::parse(&entry.value).is_some()
}
