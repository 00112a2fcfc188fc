//! The DynamoDB backend of `cache-core`.
//!
//! [`DynamoDbCacheStorage`] keeps the contract of [`cache_core::CacheStorage`] in a DynamoDB table:
//! exact expiry whenever DynamoDB collects, conditional writes, counters that cannot overflow, and
//! every call within its own deadline.
//!
//! ```no_run
//! # async fn example() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, mins};
//! use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions};
//!
//! let storage = DynamoDbCacheStorage::new(DynamoDbOptions::from_env()?)?;
//! let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
//! sessions.set("42", "alice").await?;
//! let user: Option<String> = sessions.get("42").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The `DynamoDbCache...Error` names are those of [`cache_core`]'s concrete errors, which are found
//! as the [`source`](std::error::Error::source) of a [`CacheError`](cache_core::CacheError).
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `aws-config` | | credentials from the SDK's whole default chain, not from the environment alone |

mod client;
mod error;
mod item;
mod options;
mod storage;

pub use cache_aws::{AwsCredentials, CredentialsSource, Roots};
pub use cache_core::{
    ConfigurationError as DynamoDbCacheConfigurationError,
    ConnectionError as DynamoDbCacheConnectionError, KeyError as DynamoDbCacheKeyError,
    SerializationError as DynamoDbCacheSerializationError,
};
pub use options::{DynamoDbOptions, KeySchema};
pub use storage::DynamoDbCacheStorage;
