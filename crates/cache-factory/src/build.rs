//! A plan to a storage.

use std::sync::Arc;

use cache_core::settings::Settings;
use cache_core::{CacheStorage, DisabledStorage, PrefixStorage, Result};
#[cfg(feature = "dynamodb")]
use cache_dynamo::DynamoDbCacheStorage;
#[cfg(feature = "memory")]
use cache_memory::MemoryCacheStorage;
#[cfg(feature = "redis")]
use cache_redis::RedisCacheStorage;

use crate::caches::{Caches, Foundation};
use crate::env::{Backend, Plan, plan};

/// Builds [`Caches`] from variables.
///
/// No constructor does I/O or needs an async runtime: backends connect at the first call, or at
/// [`Caches::warm_up`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CacheStorageFactory;

impl CacheStorageFactory {
    /// The caches that the environment of this process describes.
    ///
    /// ```
    /// use cache_factory::CacheStorageFactory;
    ///
    /// match CacheStorageFactory::from_env() {
    ///     Ok(caches) => println!("caching in {caches:?}"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `Configuration`, with everything that is wrong, one
    /// [`ConfigurationError`](cache_core::ConfigurationError) a problem.
    pub fn from_env() -> Result<Caches> {
        Self::from_settings(Settings::from_env())
    }

    /// The caches that the environment describes for the cache called `name`: for `GEO`, each
    /// setting is `CACHE_GEO_...` where that is set, and `CACHE_...` otherwise.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env); also where `name` cannot name a cache.
    pub fn from_env_named(name: &str) -> Result<Caches> {
        Self::from_settings(Settings::from_env().named(name)?)
    }

    /// The caches that `settings` describe, whatever the environment says.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers make the settings for this call and keep nothing of them"
    )]
    pub fn from_settings(settings: Settings) -> Result<Caches> {
        let Plan {
            backend,
            prefix,
            on_trouble,
        } = plan(&settings)?;
        let (storage, foundation): (Arc<dyn CacheStorage>, _) = match backend {
            Backend::None => (Arc::new(DisabledStorage::new()), Foundation::Plain),
            #[cfg(feature = "memory")]
            Backend::Memory(options) => {
                let memory = MemoryCacheStorage::with_options(options)?;
                (Arc::new(memory), Foundation::Plain)
            }
            #[cfg(feature = "redis")]
            Backend::Redis(options) => {
                let redis = RedisCacheStorage::new(*options)?;
                (Arc::new(redis), Foundation::Plain)
            }
            #[cfg(feature = "dynamodb")]
            Backend::DynamoDb(options) => {
                let table = Arc::new(DynamoDbCacheStorage::new(*options)?);
                let storage = Arc::clone(&table);
                (storage, Foundation::Table(table))
            }
        };
        let storage = match prefix {
            Some(prefix) => Arc::new(PrefixStorage::new(&prefix, storage)?),
            None => storage,
        };
        Ok(Caches::new(storage, foundation, on_trouble))
    }
}

#[cfg(test)]
mod tests {
    use cache_core::{ConfigurationErrors, ErrorKind, mins};

    use super::*;

    fn caches(pairs: &[(&str, &str)]) -> Result<Caches> {
        CacheStorageFactory::from_settings(Settings::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn problems_are_one_error_with_all_of_them_as_its_source() {
        use std::error::Error as _;

        let pairs = [("CACHE_STORAGE_TYPE", "redsi"), ("CACHE_ON_TROUBLE", "mis")];
        let error = caches(&pairs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(
            error.to_string(),
            "CACHE_STORAGE_TYPE=\"redsi\" is not a storage; did you mean redis? | \
             CACHE_ON_TROUBLE=\"mis\" is not a policy; did you mean miss?"
        );
        let source = error.source().unwrap();
        let all: &ConfigurationErrors = source.downcast_ref().unwrap();
        assert_eq!(all.0.len(), 2);
        assert_eq!(all.0[0].value.as_deref(), Some("redsi"));
    }

    #[test]
    fn debug_shows_the_stack() {
        let caches = caches(&[("CACHE_STORAGE_TYPE", "none"), ("CACHE_PREFIX", "shop:")]).unwrap();
        assert_eq!(format!("{caches:?}"), "Caches(Prefix(\"shop\", Disabled))");
    }

    #[test]
    fn services_take_the_policy_of_the_environment() {
        let pairs = [("CACHE_STORAGE_TYPE", "none"), ("CACHE_ON_TROUBLE", "miss")];
        let builder = caches(&pairs).unwrap().service("session").ttl(mins(15));
        let service = format!("{:?}", builder.build().unwrap());
        assert!(service.contains("on_trouble: Miss"), "{service}");
        assert!(service.contains("\"session\""), "{service}");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn redis_is_built_without_a_runtime_and_without_a_server() {
        let caches = caches(&[
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_URL", "redis://:hunter2@192.0.2.1:6379"),
        ])
        .unwrap();
        assert_eq!(caches.storage().info().backend, "redis");
        assert!(!format!("{caches:?}").contains("hunter2"));
    }

    #[cfg(feature = "dynamodb")]
    #[test]
    fn dynamodb_is_built_without_a_runtime_and_without_a_request() {
        let caches = caches(&[
            ("CACHE_STORAGE_TYPE", "dynamodb"),
            ("CACHE_DYNAMODB_TABLE", "cache"),
            ("CACHE_DYNAMODB_REGION", "eu-west-1"),
        ])
        .unwrap();
        assert_eq!(caches.storage().info().backend, "dynamodb");
        assert_eq!(format!("{caches:?}"), "Caches(DynamoDb(cache@eu-west-1))");
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn what_needs_no_set_up_is_set_up_right() {
        let caches = caches(&[("CACHE_STORAGE_TYPE", "memory")]).unwrap();
        caches.check().await.unwrap();
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn clones_share_the_storage_and_its_end() {
        let caches = caches(&[("CACHE_STORAGE_TYPE", "memory")]).unwrap();
        caches.warm_up().await.unwrap();
        let geo = caches.service("geo").ttl(mins(1)).build().unwrap();
        geo.set("k", &1).await.unwrap();
        let other = caches.clone().service("geo").build().unwrap();
        assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));

        caches.shutdown(mins(1)).await.unwrap();
        caches.clone().shutdown(mins(1)).await.unwrap();
        let refused = geo.get::<i32>("k").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        assert!(caches.warm_up().await.is_err());
    }
}
