//! One cache API for Rust services, over pluggable backends.
//!
//! Applications use [`CacheService`]: typed values under checked keys, with a time to live on every
//! write. A service stands on a [`CacheStorage`]: a backend crate (`cache-memory`, `cache-redis`,
//! `cache-dynamo`) or decorators around one. `cache-factory` builds the whole from environment variables.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, days, mins};
//! use cache_memory::MemoryCacheStorage;
//!
//! let storage = std::sync::Arc::new(MemoryCacheStorage::new());
//! let places = CacheService::builder(storage.clone()).prefix("geo").ttl(days(1)).build()?;
//! let limits = CacheService::builder(storage).prefix("limit").build()?;
//!
//! places.set("10.0.0.7", &("Vienna", "AT")).await?;
//! let place: Option<(String, String)> = places.get("10.0.0.7").await?;
//! assert_eq!(place.unwrap().0, "Vienna");
//!
//! let attempts = limits.increment(("alice", "login"), 1, mins(1)).await?;
//! assert_eq!(attempts.value, 1);
//! # Ok(())
//! # }
//! ```
//!
//! This crate does no I/O and knows no backend. [`get_or_load`](CacheService::get_or_load) loads in
//! tasks of tokio, and its timeouts are those of tokio's timer. So is the limit of a copy that goes
//! into a tier over a network. Nothing else needs a runtime.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `json` | yes | [`Codec::Json`](Codec) |
//! | `postcard` | | `Codec::Postcard`, the binary codec to choose |
//! | `bincode` | | `Codec::Bincode`, for data that already uses it |
//! | `raw` | | `Codec::Raw`, bytes and strings as they are |
//! | `bounded` | | `bounded`, a map within bounds, for storages in memory |
//! | `decoded` | | `DecodedOptions`, values kept decoded in front of the storage |
//! | `test-util` | | `ManualClock`, time that tests move by hand |

mod batch;
#[cfg(feature = "bounded")]
pub mod bounded;
mod clock;
mod codec;
pub mod counter;
mod disabled;
mod entry;
mod error;
mod fallback;
mod fills;
mod key;
mod layer;
mod lookup;
mod observer;
mod prefix;
mod service;
pub mod settings;
mod shutdown;
mod stats;
mod storage;
mod tiered;
mod ttl;
pub mod wire;

pub use batch::{BatchOutcome, BatchReport};
#[cfg(feature = "test-util")]
pub use clock::ManualClock;
pub use clock::{Clock, Moment, SystemClock, Timestamp};
pub use codec::Codec;
pub use disabled::DisabledStorage;
pub use entry::{ClearScope, Cleared, CodecId, Condition, Counter, Entry, NewEntry, StorageStats};
pub use error::{
    CacheError, ConfigurationError, ConfigurationErrors, ConnectionError, ErrorKind, KeyError,
    KeyRule, Operation, Result, SerializationError, Topology, TtlError,
};
pub use fallback::{DeleteReport, FallbackBuilder, FallbackStorage};
pub use key::{CacheKey, MAX_KEY_BYTES};
pub use layer::LayerStatus;
pub use lookup::{Lookup, LookupStatus};
pub use observer::{Event, Observer, Observers};
pub use prefix::PrefixStorage;
#[cfg(feature = "decoded")]
pub use service::DecodedOptions;
pub use service::{
    CacheService, CacheServiceBuilder, CacheStats, IntoLoaderOutcome, LoadContext, LoadFailure,
    LoadOptions, LoadOptionsBuilder, LoadReason, LoadStatus, Loadable, Loaded, LoaderOutcome,
    OnTrouble, SetOptions,
};
pub use shutdown::ShutdownReport;
pub use stats::StorageCounters;
pub use storage::{CacheStorage, Shard, StorageInfo};
pub use tiered::{TierAccess, TierOptions, TierStatus, TieredBuilder, TieredStorage};
pub use ttl::{Expiry, TimeLeft, Ttl, days, hours, millis, mins, secs};
