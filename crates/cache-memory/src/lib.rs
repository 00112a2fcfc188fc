//! A cache storage in the memory of the process, bounded by entries and by bytes.
//!
//! For tests, for a single process, and as the fast tier in front of a server.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, mins};
//! use cache_memory::{MemoryCacheStorage, MemoryOptions};
//!
//! let options = MemoryOptions::default().with_max_entries(1_000);
//! let storage = MemoryCacheStorage::with_options(options)?;
//! let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
//!
//! sessions.set("42", "alice").await?;
//! assert_eq!(sessions.get::<String>("42").await?.as_deref(), Some("alice"));
//! # Ok(())
//! # }
//! ```
//!
//! In a test, time is moved by hand (feature `test-util` of `cache-core`):
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, ManualClock, mins};
//! use cache_memory::MemoryCacheStorage;
//!
//! let clock = ManualClock::new();
//! let storage = MemoryCacheStorage::with_clock(clock.clone());
//! let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
//!
//! sessions.set("42", "alice").await?;
//! clock.advance(mins(15));
//! assert_eq!(sessions.get::<String>("42").await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! [`MemoryCacheStorage`] says what is kept, what is evicted, and when expired entries go.

mod entry;
mod options;
mod storage;

pub use options::MemoryOptions;
pub use storage::MemoryCacheStorage;
