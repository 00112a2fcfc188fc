//! The contract that every backend and every decorator keeps.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, SystemClock};
use crate::entry::{ClearScope, Cleared, Condition, Counter, Entry, NewEntry, StorageStats};
use crate::error::Result;
use crate::key::{CacheKey, MAX_KEY_BYTES};
use crate::tiered::TierAccess;
use crate::ttl::{TimeLeft, Ttl};

/// Bytes under keys, with times to live: what a backend offers, whatever the backend.
///
/// Applications use [`CacheService`](crate::CacheService); this trait is for those who write
/// backends and decorators. Everything stated here is tested on every storage by the contract suite
/// of `cache-testkit`, one test a sentence; anyone who writes another storage can run it.
///
/// # Sharing
///
/// A storage is used through `&self` from any number of tasks and threads, usually as
/// `Arc<dyn CacheStorage>`, which is a storage itself. Storages over one server share its entries.
///
/// # Fresh, stale, absent
///
/// An entry is *fresh* until its time to live has passed, then *stale* for as long as its stale
/// budget lasts, then *absent*. Without a stale budget it is never stale. Reads return fresh and
/// stale entries and say when each ends; an absent one is never returned, even where the server
/// deletes late. Everything that asks whether an entry is there ([`has`](Self::has),
/// [`delete`](Self::delete), [`expire`](Self::expire), [`get_ttl`](Self::get_ttl), conditions,
/// counters) counts fresh entries only.
///
/// # Who checks what
///
/// A storage refuses a key that breaks a rule of [`CacheKey`] (kind `Key`), and a value longer than
/// [`StorageInfo::max_value_bytes`] (kind `TooLarge`), before any I/O and without changing
/// anything. In a batch only the entries concerned are refused. After
/// [`shutdown`](Self::shutdown) every call is refused (kind `Closed`), whatever else is wrong with
/// it; [`info`](Self::info) and [`get_stats`](Self::get_stats) still answer.
///
/// # Cancellation
///
/// A future may be dropped at any point. A dropped read has no effect; a dropped write has happened
/// or not. No caller ever receives the answer to another caller's question.
///
/// # Failure
///
/// A failed call says in [`may_have_happened`](crate::CacheError::may_have_happened) whether it may
/// have changed something. Storages repeat only what may safely be repeated.
///
/// # Decorators
///
/// A decorator is a storage around a storage: it takes `impl CacheStorage`, forwards **every**
/// method, provided ones too, passes on `info`, and its `Debug` shows the inner storage:
/// `Prefix("app", Memory)`. `#[deny(clippy::missing_trait_methods)]` on the impl lets clippy find a
/// method that was forgotten. It calls the storage inside through `&dyn CacheStorage`: an `Arc` is
/// a storage too, and calling its methods boxes each future twice.
///
/// Implementations are written with [`async_trait`](macro@async_trait::async_trait) of the crate of
/// that name:
///
/// ```text
/// #[async_trait::async_trait]
/// #[deny(clippy::missing_trait_methods)]
/// impl CacheStorage for Counted {
///     fn info(&self) -> &StorageInfo {
///         self.inner.info()
///     }
///
///     async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
///         self.gets.fetch_add(1, Ordering::Relaxed);
///         self.inner.get(key).await
///     }
///     // and so on
/// }
/// ```
#[async_trait]
pub trait CacheStorage: Debug + Send + Sync + 'static {
    /// Backend, address, limits and clock of this storage. Costs nothing.
    ///
    /// * Decorators pass on what the storage inside says, less what they take themselves.
    fn info(&self) -> &StorageInfo;

    /// Which of the backend's servers answers for `key` at present; none where there is only one.
    /// Waits for nothing.
    ///
    /// Servers of one backend fail apart from each other, so a breaker keeps a state for each.
    ///
    /// * Decorators that change keys pass on the changed key.
    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        _ = key;
        None
    }

    /// Whether the storage was shut down. Waits for nothing; for those who hand out what they have
    /// read of it before.
    ///
    /// * Decorators pass on what the storage inside says.
    fn is_closed(&self) -> bool {
        false
    }

    /// This storage, less the tiers that `access` leaves out; none where there are no tiers.
    ///
    /// The view shares everything with this storage, its end too. Making one costs no I/O.
    ///
    /// * Decorators pass it on and put themselves around the view. Those that belong inside of
    ///   tiers, around one backend, have none: breakers, meters, a fallback.
    ///
    /// # Errors
    ///
    /// `Configuration` where a name is no tier, or no tier is left to read from or to write to.
    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        _ = access;
        Ok(None)
    }

    /// Reads one entry.
    ///
    /// * A key that was never written, or was deleted, is `None`.
    /// * An entry is returned as it was written, byte for byte: any bytes, an empty value too.
    /// * An entry is returned until its stale budget ends and never later.
    /// * `expires_at` is when it stops being fresh: the time of the write plus the time to live.
    ///   It is [`Expiry::AtServer`](crate::Expiry::AtServer) for a fresh entry without metadata
    ///   where reading the deadline would cost more; see [`lookup`](Self::lookup).
    /// * A value without a recorded codec reads back without one, and so for creation time.
    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>>;

    /// Reads many entries.
    ///
    /// * One outcome a key, in the order of the keys.
    /// * A key named twice is answered twice.
    /// * Any number of keys, none included; the storage splits by itself.
    /// * One key's failure is not another's.
    /// * Where the backend holds something that is no string under a key, the key may read as
    ///   absent here, while [`get`](Self::get) fails.
    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>>;

    /// Reads one entry with its deadline: as [`get`](Self::get), but `expires_at` is always known.
    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.get(key).await
    }

    /// Reads many entries with their deadlines: as [`get_many`](Self::get_many), but `expires_at`
    /// is always known.
    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.get_many(keys).await
    }

    /// Writes one entry if `condition` holds, and says whether it did.
    ///
    /// * Always: whatever was there, of whatever type, is replaced, its deadlines and metadata too.
    /// * If absent: an expired entry counts as absent, within its stale budget too.
    /// * If present: only over a fresh entry.
    /// * If equals: only over a fresh entry with exactly these value bytes; metadata is not
    ///   compared.
    /// * A condition that does not hold changes nothing.
    /// * Of several concurrent conditional writes that exclude each other exactly one succeeds.
    /// * Where a conditional write has to be repeated because its answer was lost, finding its own
    ///   bytes counts as success; use random tokens where that matters.
    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool>;

    /// Writes many entries, always.
    ///
    /// * One outcome an entry, in order: done, failed, or unknown (an error with
    ///   `may_have_happened`).
    /// * A key named twice keeps the last value.
    /// * Any number of entries, none included; the storage splits by itself.
    /// * One entry's failure is not another's.
    /// * Not atomic: readers may see some entries before others.
    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>>;

    /// Deletes one entry, stale or not.
    ///
    /// * True when a fresh entry went.
    /// * Deleting what is not there is no error.
    /// * Where the call had to be repeated because its answer was lost, it may answer false
    ///   although the first attempt deleted a fresh entry.
    async fn delete(&self, key: &CacheKey) -> Result<bool>;

    /// Deletes many entries.
    ///
    /// * One outcome a key, in order: done (whether or not it was there), failed, or unknown.
    /// * Any number of keys, duplicates and none included; the storage splits by itself.
    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>>;

    /// Deletes one entry if it is fresh and its value is `expected`, and says whether it was.
    ///
    /// * Anything else is left alone.
    /// * Never repeated after an attempt of unknown outcome.
    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool>;

    /// Whether there is a fresh entry.
    async fn has(&self, key: &CacheKey) -> Result<bool>;

    /// Gives a fresh entry a new time to live from now, and says whether there was one.
    ///
    /// * Shorter, longer, or [`Ttl::FOREVER`].
    /// * False on a missing or expired entry, which it can never create or revive, a stale one
    ///   included.
    /// * Value, metadata and length of the stale budget stay; the budget now counts from the new
    ///   end, and is dropped from an entry made to last for ever.
    /// * Deadline and metadata move in one step.
    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool>;

    /// Ends the time to live of a fresh entry now, and says whether there was one.
    ///
    /// * The stale budget starts now, with its full length.
    /// * An entry without a stale budget is gone.
    /// * Where the call had to be repeated because its answer was lost, it may answer false
    ///   although the first attempt ended a fresh entry.
    async fn expire_now(&self, key: &CacheKey) -> Result<bool>;

    /// What is left of an entry's time to live.
    ///
    /// * Missing for a missing or expired entry, a stale one included.
    /// * For ever for an entry that does not expire.
    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft>;

    /// Adds `delta` to a counter, atomically over all processes, and returns the sum and the time
    /// left.
    ///
    /// * Where there is no fresh entry, a counter starts at zero with `ttl`, in the same step: a
    ///   counter without its expiry never exists.
    /// * An existing counter keeps its expiry.
    /// * `delta` may be negative or zero.
    /// * A counter is its decimal text: [`get`](Self::get) reads it, and setting the decimal text
    ///   of an integer, without metadata, makes one.
    /// * Anything else is refused (kind `NotACounter`) and left alone: other text, leading zeros or
    ///   signs, numbers beyond 64 bits, entries written with a stale budget, a codec or a creation
    ///   time.
    /// * A sum beyond the range of `i64` is refused (kind `Overflow`) and nothing changes.
    /// * Never repeated after an attempt of unknown outcome, neither here nor in a client library.
    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter>;

    /// Deletes every entry in `scope`.
    ///
    /// * An entry stored before the call and not written again meanwhile is gone when the result
    ///   says complete.
    /// * Keys are compared literally: characters that a server's pattern language knows have no
    ///   special meaning.
    /// * Returns how many entries went. Stale and expired ones may be counted or not.
    /// * Bounded in time (60 s by default on servers); what is not finished by then is reported as
    ///   not complete.
    async fn clear(&self, scope: &ClearScope) -> Result<Cleared>;

    /// What this process did through this storage so far. Costs no I/O.
    ///
    /// * Each key read counts as a hit, a miss or an error.
    fn get_stats(&self) -> StorageStats;

    /// One cheap round trip to the backend; only an answer is health.
    async fn ping(&self) -> Result<()>;

    /// Ends the storage within `budget`: connections are closed, later calls are `Closed` errors.
    ///
    /// * Calls under way may finish within their own deadlines.
    /// * Idempotent: a second call returns at once.
    /// * Entries stay in the backend; a memory storage lets go of its entries.
    async fn shutdown(&self, budget: Duration) -> Result<()>;
}

/// One of several servers of a backend, named by its address. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(Arc<str>);

impl Shard {
    /// The server at `address`, which contains no credentials.
    #[must_use]
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self(address.into())
    }

    /// The server's address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a storage says about itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StorageInfo {
    /// The name of the backend, such as `redis`.
    pub backend: &'static str,
    /// Where the backend is; none in memory. Never contains credentials.
    pub address: Option<String>,
    /// The longest key in bytes. Defaults to 1,024; less below a prefix decorator.
    pub max_key_bytes: usize,
    /// The longest encoded value in bytes. Defaults to 1 MiB.
    pub max_value_bytes: usize,
    /// The smallest difference in times to live that the backend tells apart. Defaults to 1 ms.
    pub ttl_resolution: Duration,
    /// How long a single call takes at most where all is well but for a lost answer: one attempt on
    /// Redis (100 ms), a whole operation on DynamoDB (500 ms). A breaker around the storage lets
    /// nobody wait much longer. Defaults to none: not known.
    pub patience: Option<Duration>,
    /// Whether nothing that is written stays, as in [`DisabledStorage`](crate::DisabledStorage).
    /// Defaults to no.
    pub keeps_nothing: bool,
    /// Whether reads are answered from the memory of this process, so that none ever waits.
    /// Defaults to no.
    pub in_process: bool,
    /// The clock by which entries of this storage are judged. Defaults to the system's.
    pub clock: Arc<dyn Clock>,
}

impl StorageInfo {
    /// The longest value unless a storage says otherwise: 1 MiB.
    pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

    /// A storage over `backend` with the default limits.
    #[must_use]
    pub fn new(backend: &'static str) -> Self {
        Self {
            backend,
            address: None,
            max_key_bytes: MAX_KEY_BYTES,
            max_value_bytes: Self::MAX_VALUE_BYTES,
            ttl_resolution: Duration::from_millis(1),
            patience: None,
            keeps_nothing: false,
            in_process: false,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Says where the backend is.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Limits the encoded value to this many bytes.
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Says how long a single call takes at most.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Says that nothing stays.
    #[must_use]
    pub fn keeping_nothing(mut self) -> Self {
        self.keeps_nothing = true;
        self
    }

    /// Says whether reads never wait.
    #[must_use]
    pub fn with_in_process(mut self, in_process: bool) -> Self {
        self.in_process = in_process;
        self
    }

    /// Judges entries by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes on the stricter limits of another storage behind the same front.
    pub(crate) fn narrow(&mut self, other: &Self) {
        self.max_key_bytes = self.max_key_bytes.min(other.max_key_bytes);
        self.ttl_resolution = self.ttl_resolution.max(other.ttl_resolution);
        self.in_process &= other.in_process;
    }

    /// Refuses a key that breaks the rules, for use at the head of every storage method.
    ///
    /// # Errors
    ///
    /// Kind `Key`, naming this backend.
    pub fn check_key(&self, key: &CacheKey) -> Result<()> {
        key.check()
            .map_err(|error| crate::CacheError::from(error).with_backend(self.backend))
    }

    /// Refuses a value that is too large, for use at the head of every write.
    ///
    /// # Errors
    ///
    /// Kind `TooLarge`, naming this backend and both sizes.
    pub fn check_value(&self, value: &[u8]) -> Result<()> {
        check_length(value, self.max_value_bytes).map_err(|error| error.with_backend(self.backend))
    }
}

pub(crate) fn check_length(value: &[u8], most: usize) -> Result<()> {
    if value.len() <= most {
        return Ok(());
    }
    let message = format!(
        "the value has {} bytes, at most {most} are taken",
        value.len()
    );
    Err(crate::CacheError::new(crate::ErrorKind::TooLarge, message))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheStorage + ?Sized> CacheStorage for Arc<S> {
    fn info(&self) -> &StorageInfo {
        (**self).info()
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        (**self).shard(key)
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }

    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        (**self).with_tiers(access)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        (**self).get(key).await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        (**self).get_many(keys).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        (**self).lookup(key).await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        (**self).lookup_many(keys).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        (**self).set(key, entry, condition).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        (**self).set_many(entries).await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        (**self).delete(key).await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        (**self).delete_many(keys).await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        (**self).compare_and_delete(key, expected).await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        (**self).has(key).await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        (**self).expire(key, ttl).await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        (**self).expire_now(key).await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        (**self).get_ttl(key).await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        (**self).increment(key, delta, ttl).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        (**self).clear(scope).await
    }

    fn get_stats(&self) -> StorageStats {
        (**self).get_stats()
    }

    async fn ping(&self) -> Result<()> {
        (**self).ping().await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        (**self).shutdown(budget).await
    }
}
