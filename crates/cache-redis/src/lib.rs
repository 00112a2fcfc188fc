//! The Redis and Valkey backend of `cache-core`.
//!
//! [`RedisCacheStorage`] keeps the contract of [`cache_core::CacheStorage`] over one server or a
//! cluster: one round trip an operation, all callers on one multiplexed connection to each server,
//! every call within its own deadline.
//!
//! ```no_run
//! # async fn example() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, mins};
//! use cache_redis::{RedisCacheStorage, RedisOptions};
//!
//! let storage = RedisCacheStorage::new(RedisOptions::from_env()?)?;
//! let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
//! sessions.set("42", "alice").await?;
//! let user: Option<String> = sessions.get("42").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Values are stored as [`cache_core::wire`] describes: without metadata exactly as the codec wrote
//! them, so `GET session:42` at a console shows `"alice"`.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cluster` | | [`RedisOptions::with_topology`] takes a cluster |
//! | `tls` | | [`RedisOptions::with_tls`] and `rediss://`: TLS by rustls with ring |
//! | `secrets-manager` | | `PasswordSecret`: passwords kept in AWS Secrets Manager |
//! | `aws-config` | | AWS credentials for that from the SDK's whole default chain |
//!
//! The `RedisCache...Error` names are those of [`cache_core`]'s concrete errors, which are found as
//! the [`source`](std::error::Error::source) of a [`CacheError`](cache_core::CacheError).

mod address;
mod client;
mod credentials;
mod error;
mod options;
mod resolver;
#[cfg(feature = "secrets-manager")]
mod secrets;
mod storage;

#[cfg(feature = "secrets-manager")]
pub use cache_aws;
pub use cache_core::{
    ConfigurationError as RedisCacheConfigurationError,
    ConnectionError as RedisCacheConnectionError, KeyError as RedisCacheKeyError,
    SerializationError as RedisCacheSerializationError,
};
pub use credentials::{Credentials, CredentialsProvider, PasswordFile};
pub use options::{RedisOptions, TlsOptions};
pub use resolver::Resolver;
#[cfg(feature = "secrets-manager")]
pub use secrets::PasswordSecret;
pub use storage::RedisCacheStorage;
