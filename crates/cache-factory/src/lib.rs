//! Caches from environment variables.
//!
//! [`CacheStorageFactory`] reads `CACHE_STORAGE_TYPE` and its companions, reports everything that
//! is wrong with them at once, and builds [`Caches`]: the storage they describe, and one
//! [`CacheService`](cache_core::CacheService) a purpose. Changing from memory to Redis or
//! DynamoDB is one variable.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_core::settings::Settings;
//! use cache_core::{millis, mins};
//! use cache_factory::CacheStorageFactory;
//!
//! // An application calls `CacheStorageFactory::from_env()` instead.
//! let settings = Settings::from_pairs([("CACHE_STORAGE_TYPE", "memory")]);
//! let caches = CacheStorageFactory::from_settings(settings)?;
//!
//! let sessions = caches.service("session").ttl(mins(15)).build()?;
//! sessions.set("42", "alice").await?;
//! let user: Option<String> = sessions.get("42").await?;
//! assert_eq!(user.as_deref(), Some("alice"));
//!
//! caches.shutdown(millis(300)).await.into_result()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `memory` | yes | `CACHE_STORAGE_TYPE=memory` |
//! | `redis` | | `CACHE_STORAGE_TYPE=redis` |
//! | `redis-cluster` | | `CACHE_REDIS_TOPOLOGY=cluster` |
//! | `redis-tls` | | `rediss://` |
//! | `secrets-manager` | | `CACHE_REDIS_PASSWORD_SECRET` |
//! | `dynamodb` | | `CACHE_STORAGE_TYPE=dynamodb` |
//! | `decoded` | | values kept decoded in this process: `CacheServiceBuilder::decoded` |
//! | `monitor` | | health checks, metrics, logs, and a shutdown that drains: `Caches::monitor` |
//! | `aws-config` | | AWS credentials from the SDK's whole default chain, not from variables alone |
//! | `test-util` | | `cache_core::ManualClock`, for tests that move time by hand |
//!
//! `CACHE_STORAGE_TYPE=none` switches caching off in every build. Naming a backend that was not
//! compiled in is an error that says which feature to enable.
//!
//! # Variables
//!
//! [`SETTINGS`] are the variables of this crate and [`all_settings`] those of the backends too. A
//! named cache ([`CacheStorageFactory::from_env_named`]) reads its own variables first.

mod build;
mod caches;
mod env;
mod tiers;

#[cfg(any(feature = "dynamodb", feature = "monitor", feature = "redis"))]
pub use cache_breaker;
pub use cache_core;
#[cfg(feature = "dynamodb")]
pub use cache_dynamo;
#[cfg(feature = "memory")]
pub use cache_memory;
#[cfg(feature = "monitor")]
pub use cache_monitor;
#[cfg(feature = "redis")]
pub use cache_redis;

pub use build::CacheStorageFactory;
pub use caches::Caches;
pub use env::{SETTINGS, all_settings};
