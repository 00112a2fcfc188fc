//! The typed cache that applications use.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::codec::Codec;
use crate::entry::StorageStats;
use crate::error::{CacheError, ConfigurationError, ErrorKind, Result};
use crate::fills::Fills;
use crate::key::CacheKey;
use crate::observer::{Event, Observers};
use crate::storage::CacheStorage;
use crate::tiered::TierAccess;
use crate::ttl::Ttl;

mod builder;
mod load;
mod options;
mod reads;
mod writes;

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

    fn count(&self, which: fn(&Counters) -> &AtomicU64) {
        which(&self.shared.counters).fetch_add(1, Ordering::Relaxed);
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
