//! The typed cache that applications use.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IntoDeserializer as _};

use crate::batch::BatchReport;
use crate::clock::Timestamp;
use crate::codec::Codec;
use crate::entry::{
    ClearScope, Cleared, CodecId, Condition, Counter, Entry, NewEntry, StorageStats,
};
use crate::error::{
    CacheError, ConfigurationError, ErrorKind, Operation, Result, SerializationError,
};
use crate::fills::Fills;
use crate::key::CacheKey;
use crate::lookup::Lookup;
use crate::observer::{Event, Observers};
use crate::storage::{CacheStorage, check_length};
use crate::tiered::TierAccess;
use crate::ttl::{TimeLeft, Ttl};

mod builder;
mod load;
mod options;

pub use builder::CacheServiceBuilder;
#[cfg(feature = "decoded")]
pub use load::DecodedOptions;
pub use load::{
    IntoLoaderOutcome, LoadContext, LoadFailure, LoadOptions, LoadOptionsBuilder, LoadReason,
    LoadStatus, Loadable, Loaded, LoaderOutcome,
};
pub use options::{OnTrouble, SetOptions};

use load::{FailureHook, Flight, Throttles};

/// Typed values under keys: the cache that applications use.
///
/// Cheap to clone; clones share the storage and the counters of [`get_stats`](Self::get_stats).
/// Built by [`CacheService::builder`], or by a factory from the environment.
///
/// * Every key lies below the service's prefix: `prefix:key`.
/// * Every write has a time to live: the service's, or the call's own. For ever only by name
///   ([`Ttl::FOREVER`]).
/// * Values are encoded by the service's [`Codec`].
/// * Trouble while reading follows one policy, [`OnTrouble`]. Writes always report it.
///
/// All methods may be cancelled by dropping their future: a read then has no effect, a write has
/// happened or not.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cache_core::CacheError> {
/// use cache_core::{CacheService, mins};
/// use cache_memory::MemoryCacheStorage;
///
/// let sessions = CacheService::builder(MemoryCacheStorage::new())
///     .prefix("session")
///     .ttl(mins(15))
///     .build()?;
/// sessions.set("42", &vec!["admin", "editor"]).await?;
/// let roles: Option<Vec<String>> = sessions.get("42").await?;
/// assert_eq!(roles.unwrap(), ["admin", "editor"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheService {
    /// The storage, or the view of it that this handle uses.
    storage: Arc<dyn CacheStorage>,
    /// Whether reads leave tiers out, and with them what is kept decoded.
    skips_reads: bool,
    shared: Arc<Shared>,
}

struct Shared {
    prefix: Option<Arc<str>>,
    codec: Codec,
    ttl: Option<Ttl>,
    stale_for: Option<Duration>,
    jitter: f64,
    on_trouble: OnTrouble,
    max_value_bytes: usize,
    counters: Counters,
    observers: Observers,
    load_options: LoadOptions,
    on_load_error: Option<FailureHook>,
    /// The loads under way.
    fills: Fills<Flight>,
    /// The loads that have failed.
    throttles: Throttles,
    #[cfg(feature = "decoded")]
    decoded: Option<load::Decoded>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    stale: AtomicU64,
    misses: AtomicU64,
    degraded: AtomicU64,
    decode_errors: AtomicU64,
    loads: AtomicU64,
    load_errors: AtomicU64,
    joined: AtomicU64,
}

/// What one service did since it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Keys read and found fresh.
    pub hits: u64,
    /// Keys read and found past their time to live, within their stale budget.
    pub stale: u64,
    /// Keys read and not found.
    pub misses: u64,
    /// Keys whose read ran into trouble that the policy reads as a miss.
    pub degraded: u64,
    /// Keys whose stored bytes could not be decoded.
    pub decode_errors: u64,
    /// Loads that came to an end, failed ones included; a batch counts once a key.
    pub loads: u64,
    /// Loads that failed.
    pub load_errors: u64,
    /// Calls that found another one reading or loading their key, and waited for it. A call counts
    /// once however often it begins again; a batch counts once for each such key.
    pub joined: u64,
    /// What this process did through the storage below, all services over it together.
    pub storage: StorageStats,
}

impl CacheService {
    /// Starts a service over `storage`.
    pub fn builder(storage: impl CacheStorage) -> CacheServiceBuilder {
        // A second `Arc` around a shared storage would cost each call a second boxed future.
        let shared = (&storage as &dyn Any).downcast_ref::<Arc<dyn CacheStorage>>();
        let storage = match shared {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(storage),
        };
        CacheServiceBuilder::new(storage)
    }

    /// The storage below, for what the service does not offer.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn CacheStorage> {
        &self.storage
    }

    /// This service with some tiers of its storage left out of reads or writes, for calls that need
    /// that: a read that has to see what other processes have just written, or a write that is not
    /// worth a slow tier. Keep the handle where many calls need the same.
    ///
    /// Everything else is shared with the service. Reads that leave a tier out do not look at
    /// values kept decoded either.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cache_core::CacheError> {
    /// use cache_core::{CacheService, TierAccess, TierOptions, TieredStorage, mins};
    /// use cache_memory::MemoryCacheStorage;
    ///
    /// let tiers = TieredStorage::builder()
    ///     .tier_with(MemoryCacheStorage::new(), TierOptions::default().with_name("local"))
    ///     .tier(MemoryCacheStorage::new())
    ///     .build()?;
    /// let cache = CacheService::builder(tiers).ttl(mins(1)).build()?;
    /// let shared_only = cache.with_tiers(&TierAccess::new().skip_reads("local"))?;
    /// assert_eq!(shared_only.get::<u8>("k").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Configuration` where the storage has no tiers, or none of a name that is left out, or where
    /// none would be left.
    pub fn with_tiers(&self, access: &TierAccess) -> Result<Self> {
        let view = self.inner().with_tiers(access)?.ok_or_else(|| {
            let problem = "with_tiers: the storage has no tiers to leave out";
            ConfigurationError::new("with_tiers", problem)
        })?;
        Ok(Self {
            storage: view,
            skips_reads: self.skips_reads || access.skips_reads(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// The fresh value under `key`, or none.
    ///
    /// # Errors
    ///
    /// `Key` and `Closed` always; everything else, `Serialization` included, unless the policy
    /// reads trouble as a miss.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Option<T>> {
        let key = self.key(key);
        let read = self.inner().get(&key).await;
        let lookup = self.judge(&key, read, Operation::Get, || self.now())?;
        Ok(lookup.into_fresh())
    }

    /// The value under `key`, fresh or within its stale budget, or none. Reads only: nothing is
    /// loaded or stored.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_stale<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Option<T>> {
        let key = self.key(key);
        let read = self.inner().get(&key).await;
        let lookup: Lookup<T> = self.judge(&key, read, Operation::Get, || self.now())?;
        Ok(lookup.value)
    }

    /// The fresh value under `key`, or `default`, which is not stored.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_or_default<T: DeserializeOwned + Send>(
        &self,
        key: impl Into<CacheKey> + Send,
        default: T,
    ) -> Result<T> {
        Ok(self.get(key).await?.unwrap_or(default))
    }

    /// The fresh values under `keys`, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the first key in trouble fails the call.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Result<Vec<Option<T>>> {
        let keys = self.keys(keys);
        let read = self.inner().get_many(&keys).await;
        let now = self.now();
        keys.iter()
            .zip(read)
            .map(|(key, read)| {
                let lookup = self.judge(key, read, Operation::GetMany, || now)?;
                Ok(lookup.into_fresh())
            })
            .collect()
    }

    /// The value under `key`, stale ones included, with its circumstances.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn lookup<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Lookup<T>> {
        let key = self.key(key);
        let read = self.inner().lookup(&key).await;
        self.judge(&key, read, Operation::Lookup, || self.now())
    }

    /// The values under `keys`, in their order, with their circumstances; one outcome a key.
    ///
    /// # Errors
    ///
    /// Per key as [`get`](Self::get).
    pub async fn lookup_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Vec<Result<Lookup<T>>> {
        let keys = self.keys(keys);
        let read = self.inner().lookup_many(&keys).await;
        let now = self.now();
        keys.iter()
            .zip(read)
            .map(|(key, read)| self.judge(key, read, Operation::LookupMany, || now))
            .collect()
    }

    /// Writes `value` under `key` for the service's time to live.
    ///
    /// # Errors
    ///
    /// `Key`, `TooLarge`, `Ttl` and `Serialization` before any I/O; `Configuration` where neither
    /// service nor call has a time to live; trouble of the storage, see
    /// [`may_have_happened`](CacheError::may_have_happened).
    pub async fn set<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
    ) -> Result<()> {
        self.set_with(key, value, SetOptions::new()).await.map(drop)
    }

    /// Writes `value` under `key` as `options` say; false where their condition does not hold.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_with<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
        options: SetOptions,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let condition = options.condition();
        let entry = self.entry(&key, value, &options)?;
        let _writing = self.writing(&key).await;
        self.inner().set(&key, entry, condition).await
    }

    /// Writes `value` under `key` for the service's time to live if nothing fresh is there, and
    /// says whether it did.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_if_absent<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
    ) -> Result<bool> {
        self.set_with(key, value, SetOptions::new().if_absent())
            .await
    }

    /// Replaces the fresh value under `key` by `new` if it is `expected`, for the service's time
    /// to live, and says whether it did.
    ///
    /// Compared are the encoded bytes: use types that always encode alike, which a `HashMap` does
    /// not, and random tokens where the same value may come back (see
    /// [`CacheStorage::set`] on repetition).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn compare_and_set<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        expected: &T,
        new: &T,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let expected = self.encode(&key, expected)?;
        let entry = self.entry(&key, new, &SetOptions::new())?;
        let condition = Condition::IfEquals(expected);
        let _writing = self.writing(&key).await;
        self.inner().set(&key, entry, condition).await
    }

    /// Deletes the fresh value under `key` if it is `expected`, and says whether it did. Compared
    /// are the encoded bytes.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn compare_and_delete<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        expected: &T,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let expected = self.encode(&key, expected)?;
        let _writing = self.writing(&key).await;
        self.inner().compare_and_delete(&key, &expected).await
    }

    /// Writes many values for the service's time to live.
    ///
    /// Not atomic, and one entry's failure does not keep the others from being written; see
    /// [`set_many_report`](Self::set_many_report) for each entry's outcome.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); the first entry that failed.
    pub async fn set_many<T: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (impl Into<CacheKey>, T)> + Send,
    ) -> Result<()> {
        self.set_many_report(entries).await.into_result()
    }

    /// Writes many values as [`set_many`](Self::set_many) and reports the outcome of each entry,
    /// in order.
    pub async fn set_many_report<T: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (impl Into<CacheKey>, T)> + Send,
    ) -> BatchReport {
        let mut outcomes = Vec::new();
        let mut positions = Vec::new();
        let mut encoded = Vec::new();
        let options = SetOptions::new();
        for (position, (key, value)) in entries.into_iter().enumerate() {
            let key = self.key(key);
            match self
                .check(&key)
                .and_then(|()| self.entry(&key, &value, &options))
            {
                Ok(entry) => {
                    outcomes.push(Ok(()));
                    positions.push(position);
                    encoded.push((key, entry));
                }
                Err(error) => outcomes.push(Err(error.with_operation(Operation::SetMany))),
            }
        }
        let keys: Vec<CacheKey> = encoded.iter().map(|(key, _)| key.clone()).collect();
        let _writing = self.writing_many(&keys).await;
        let written = self.inner().set_many(encoded).await;
        for (position, outcome) in positions.into_iter().zip(written) {
            outcomes[position] = outcome;
        }
        BatchReport::new(outcomes)
    }

    /// Deletes the value under `key`; true when a fresh one went.
    ///
    /// # Errors
    ///
    /// `Key` before any I/O; trouble of the storage.
    pub async fn delete(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().delete(&key).await
    }

    /// Deletes the values under `keys`, whether or not they are there.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete); the first key that failed. The others are deleted all the same.
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Result<()> {
        self.delete_many_report(keys).await.into_result()
    }

    /// Deletes as [`delete_many`](Self::delete_many) and reports the outcome of each key, in order.
    pub async fn delete_many_report(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> BatchReport {
        let keys = self.keys(keys);
        let _writing = self.writing_many(&keys).await;
        BatchReport::new(self.inner().delete_many(&keys).await)
    }

    /// Whether there is a fresh value under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); trouble read as a miss is `false`.
    pub async fn has(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let read = self.inner().has(&self.key(key)).await;
        self.tolerate(read, false)
    }

    /// What is left of the time to live of the value under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); trouble read as a miss is [`TimeLeft::Missing`].
    pub async fn get_ttl(&self, key: impl Into<CacheKey> + Send) -> Result<TimeLeft> {
        let read = self.inner().get_ttl(&self.key(key)).await;
        self.tolerate(read, TimeLeft::Missing)
    }

    /// Gives the fresh value under `key` a new time to live from now; false where there is none.
    ///
    /// # Errors
    ///
    /// `Key` and `Ttl` before any I/O; trouble of the storage.
    pub async fn expire<L>(&self, key: impl Into<CacheKey> + Send, ttl: L) -> Result<bool>
    where
        L: TryInto<Ttl, Error: Into<CacheError>> + Send,
    {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().expire(&key, ttl).await
    }

    /// Ends the time to live of the value under `key` now, keeping its stale budget; false where
    /// there is no fresh value.
    ///
    /// # Errors
    ///
    /// `Key` before any I/O; trouble of the storage.
    pub async fn expire_now(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().expire_now(&key).await
    }

    /// Adds `delta` to the counter under `key`, atomically over all processes.
    ///
    /// A counter that is not there starts at zero and expires `ttl` later; an existing one keeps
    /// its expiry. Never repeated when the outcome of an attempt is unknown, so it may fail where
    /// other operations would not; [`may_have_happened`](CacheError::may_have_happened) then says
    /// whether it may have been counted.
    ///
    /// # Errors
    ///
    /// `Key` and `Ttl` before any I/O; `NotACounter`, `Overflow`, and trouble of the storage,
    /// whatever the policy.
    pub async fn increment<L>(
        &self,
        key: impl Into<CacheKey> + Send,
        delta: i64,
        ttl: L,
    ) -> Result<Counter>
    where
        L: TryInto<Ttl, Error: Into<CacheError>> + Send,
    {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().increment(&key, delta, ttl).await
    }

    /// Deletes everything below the service's prefix.
    ///
    /// # Errors
    ///
    /// `Key` for a service without a prefix: use [`clear_everything`](Self::clear_everything).
    /// Trouble of the storage.
    pub async fn clear(&self) -> Result<Cleared> {
        let prefix = self.shared.prefix.as_deref().unwrap_or_default();
        self.clear_scope(&ClearScope::prefix(prefix)?).await
    }

    /// Deletes everything below `prefix:` within the service: with keys such as `(user, "cart")`,
    /// `clear_prefix(user)` deletes all of one user's.
    ///
    /// # Errors
    ///
    /// `Key` for an empty prefix; trouble of the storage.
    pub async fn clear_prefix(&self, prefix: impl Into<CacheKey> + Send) -> Result<Cleared> {
        let scope = ClearScope::prefix(self.key(prefix).as_str())?;
        self.clear_scope(&scope).await
    }

    /// Deletes everything in the storage, whoever wrote it, other services' entries included.
    ///
    /// # Errors
    ///
    /// Trouble of the storage.
    pub async fn clear_everything(&self) -> Result<Cleared> {
        self.clear_scope(&ClearScope::everything()).await
    }

    async fn clear_scope(&self, scope: &ClearScope) -> Result<Cleared> {
        let _clearing = self.clearing(scope).await;
        self.inner().clear(scope).await
    }

    /// What this service, clones included, did so far. Costs no I/O.
    #[must_use]
    pub fn get_stats(&self) -> CacheStats {
        let Counters {
            hits,
            stale,
            misses,
            degraded,
            decode_errors,
            loads,
            load_errors,
            joined,
        } = &self.shared.counters;
        CacheStats {
            hits: hits.load(Ordering::Relaxed),
            stale: stale.load(Ordering::Relaxed),
            misses: misses.load(Ordering::Relaxed),
            degraded: degraded.load(Ordering::Relaxed),
            decode_errors: decode_errors.load(Ordering::Relaxed),
            loads: loads.load(Ordering::Relaxed),
            load_errors: load_errors.load(Ordering::Relaxed),
            joined: joined.load(Ordering::Relaxed),
            storage: self.inner().get_stats(),
        }
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    fn inner(&self) -> &dyn CacheStorage {
        &*self.storage
    }

    fn key(&self, key: impl Into<CacheKey>) -> CacheKey {
        let key = key.into();
        match &self.shared.prefix {
            Some(prefix) => key.below(prefix),
            None => key,
        }
    }

    fn keys(&self, keys: impl IntoIterator<Item = impl Into<CacheKey>>) -> Vec<CacheKey> {
        keys.into_iter().map(|key| self.key(key)).collect()
    }

    /// Refuses a key that breaks a rule, before its value is encoded.
    fn check(&self, key: &CacheKey) -> Result<()> {
        key.check().map_err(|error| {
            self.shared.observers.tell(&Event::InvalidKey);
            CacheError::from(error)
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner().info().clock.wall()
    }

    fn encode<T: Serialize + ?Sized>(&self, key: &CacheKey, value: &T) -> Result<Bytes> {
        let codec = self.shared.codec;
        let bytes = self.contained(|| codec.encode(value)).map_err(|reason| {
            let error = SerializationError::new::<T>(reason, key, codec.id().as_str(), None);
            CacheError::from(error).with_operation(Operation::Set)
        })?;
        check_length(&bytes, self.shared.max_value_bytes)
            .map_err(|error| error.with_operation(Operation::Set).with_key(key))?;
        Ok(bytes)
    }

    fn entry<T: Serialize + ?Sized>(
        &self,
        key: &CacheKey,
        value: &T,
        options: &SetOptions,
    ) -> Result<NewEntry> {
        let shared = &self.shared;
        let ttl = match options.ttl_or_error()? {
            Some(ttl) => ttl,
            None => shared.ttl.ok_or_else(|| no_ttl(key))?,
        };
        let value = self.encode(key, value)?;
        // One draw an entry; without jitter none at all.
        let ttl = if shared.jitter > 0.0 {
            ttl.shortened(shared.jitter, fastrand::f64())
        } else {
            ttl
        };
        let mut entry = NewEntry::new(value, ttl);
        entry.codec = shared.codec.recorded_id();
        let stale_for = options.stale_budget().or(shared.stale_for);
        if let Some(stale_for) = stale_for {
            entry = entry.with_stale_for(stale_for)?;
        }
        if stale_for.is_some() || options.keeps_creation_time() {
            entry = entry.with_created_at(self.now());
        }
        Ok(entry)
    }

    /// Turns what the storage read into what the caller learns, and counts it.
    fn judge<T: DeserializeOwned>(
        &self,
        key: &CacheKey,
        read: Result<Option<Entry>>,
        operation: Operation,
        now: impl Fn() -> Timestamp,
    ) -> Result<Lookup<T>> {
        let counters = &self.shared.counters;
        let decoded = read.and_then(|found| {
            // That there is nothing may be stored too.
            let Some(entry) = found.filter(|entry| entry.codec != Some(CodecId::Absent)) else {
                return Ok(None);
            };
            let value = self.decode(key, &entry, operation)?;
            Ok(Some((value, entry)))
        });
        match decoded {
            Ok(Some((value, entry))) => {
                let lookup = Lookup::found(value, &entry, now);
                let counter = match lookup.status {
                    crate::LookupStatus::Stale => &counters.stale,
                    _ => &counters.hits,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(lookup)
            }
            Ok(None) => {
                counters.misses.fetch_add(1, Ordering::Relaxed);
                Ok(Lookup::absent())
            }
            Err(error) if self.reads_as_miss(&error) => Ok(Lookup::unknown(error)),
            Err(error) => Err(error),
        }
    }

    fn decode<T: DeserializeOwned>(
        &self,
        key: &CacheKey,
        entry: &Entry,
        operation: Operation,
    ) -> Result<T> {
        self.decoded_as(entry).map_err(|reason| {
            self.shared
                .counters
                .decode_errors
                .fetch_add(1, Ordering::Relaxed);
            let event = Event::DecodeError { reason: "codec" };
            self.shared.observers.tell(&event);
            let bytes = Some(entry.value.len());
            let error =
                SerializationError::new::<T>(reason, key, self.shared.codec.id().as_str(), bytes);
            CacheError::from(error)
                .with_backend(self.inner().info().backend)
                .with_operation(operation)
        })
    }

    /// The value of an entry, or why it has none of this type.
    fn decoded_as<T: DeserializeOwned>(&self, entry: &Entry) -> Result<T, String> {
        let codec = self.shared.codec;
        let own = codec.recorded_id();
        self.contained(|| match entry.codec {
            id if id == own => codec.decode(&entry.value),
            None => decode_unlabelled(codec, &entry.value),
            Some(id) if id == codec.id() => codec.decode(&entry.value),
            Some(other) => Err(format!(
                "the value was written with codec {}",
                other.as_str()
            )),
        })
    }

    /// Runs code of the application's own types, whose panic is a value that has no form in bytes.
    fn contained<T>(&self, code: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        // What the code has changed before its panic is not looked at again.
        catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|_| {
            let event = Event::Panicked { place: "codec" };
            self.shared.observers.tell(&event);
            Err("the code of the type panicked".to_owned())
        })
    }

    fn tolerate<T>(&self, read: Result<T>, miss: T) -> Result<T> {
        match read {
            Err(error) if self.reads_as_miss(&error) => Ok(miss),
            read => read,
        }
    }

    /// Whether the policy reads `error` as a miss; if so, it is counted and told.
    fn reads_as_miss(&self, error: &CacheError) -> bool {
        let is_miss = self.shared.on_trouble == OnTrouble::Miss && is_trouble(error.kind());
        if is_miss {
            self.is_degraded(error);
        }
        is_miss
    }
}

impl fmt::Debug for CacheService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService")
            .field("prefix", &self.shared.prefix)
            .field("codec", &self.shared.codec)
            .field("ttl", &self.shared.ttl)
            .field("on_trouble", &self.shared.on_trouble)
            .field("keys_under_way", &self.shared.fills.len())
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

/// Trouble of the backend or its entries, as opposed to a mistake of the caller or a shutdown.
pub(crate) fn is_trouble(kind: ErrorKind) -> bool {
    kind.is_trouble() || kind == ErrorKind::Serialization
}

/// A value that records no codec: JSON text, a counter, or somebody else's bytes. A binary codec
/// would misread text without noticing, so it takes counters only.
fn decode_unlabelled<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, String> {
    if matches!(codec.id(), CodecId::Json | CodecId::Raw) {
        return codec.decode(bytes);
    }
    let counter = crate::counter::parse(bytes)
        .ok_or_else(|| "the value was not written with this codec".to_owned())?;
    let counter: serde::de::value::I64Deserializer<serde::de::value::Error> =
        counter.into_deserializer();
    T::deserialize(counter).map_err(|_| "the counter does not fit the type".to_owned())
}

fn no_ttl(key: &CacheKey) -> CacheError {
    let message = "neither the service nor the call has a time to live; give the builder \
                   one, such as .ttl(mins(15)), or Ttl::FOREVER";
    CacheError::new(ErrorKind::Configuration, message)
        .with_operation(Operation::Set)
        .with_key(key)
}
