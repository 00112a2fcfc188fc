//! A plan to a storage.

use std::sync::Arc;

#[cfg(any(feature = "dynamodb", feature = "redis"))]
use cache_breaker::{BreakerOptions, BreakerStorage};
use cache_core::settings::Settings;
use cache_core::{
    CacheStorage, DisabledStorage, FallbackStorage, Observers, PrefixStorage, Result, TierOptions,
    TieredStorage,
};
#[cfg(feature = "dynamodb")]
use cache_dynamo::DynamoDbCacheStorage;
#[cfg(feature = "memory")]
use cache_memory::MemoryCacheStorage;
#[cfg(feature = "monitor")]
use cache_monitor::{
    CacheMonitor, MeteredStorage, Metrics, MetricsObserver, MonitorOptions, StatusFeed, names,
};
#[cfg(feature = "redis")]
use cache_redis::RedisCacheStorage;

use crate::caches::{Caches, Foundation, Layer};
use crate::env::{Backend, Fallback, Plan, Storage, plan};
use crate::tiers::Tiers;

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
        Self::build(
            plan(&settings)?,
            #[cfg(feature = "monitor")]
            Metrics::global(),
        )
    }

    /// The caches that `settings` describe, measured into `metrics` rather than into the recorder
    /// that is installed for the whole process.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    #[cfg(feature = "monitor")]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers make the settings for this call and keep nothing of them"
    )]
    pub fn from_settings_with(settings: Settings, metrics: Metrics) -> Result<Caches> {
        Self::build(plan(&settings)?, metrics)
    }

    fn build(plan: Plan, #[cfg(feature = "monitor")] metrics: Metrics) -> Result<Caches> {
        #[cfg(feature = "monitor")]
        names::describe(&metrics);
        #[cfg(feature = "monitor")]
        let feed = StatusFeed::new();
        let mut stack = Stack {
            #[cfg(feature = "monitor")]
            observers: Observers::new(
                MetricsObserver::new(metrics.clone()).with_feed(feed.clone()),
            ),
            #[cfg(not(feature = "monitor"))]
            observers: Observers::none(),
            #[cfg(feature = "monitor")]
            metrics,
            #[cfg(any(feature = "dynamodb", feature = "redis"))]
            breaker: plan.breaker,
            layers: Vec::new(),
        };
        let mut storage = match plan.storage {
            Storage::One(backend) => stack.layer(backend)?,
            Storage::Tiers(tiers) => stack.tiers(tiers)?,
        };
        if let Some(fallback) = plan.fallback {
            storage = stack.fallback(storage, fallback)?;
        }
        if let Some(prefix) = plan.prefix {
            storage = Arc::new(PrefixStorage::new(&prefix, storage)?);
        }
        #[cfg(feature = "monitor")]
        let monitor = stack.monitor(storage, plan.monitor, feed)?;
        #[cfg(feature = "monitor")]
        let storage = Arc::clone(monitor.storage());
        Ok(Caches {
            storage,
            layers: stack.layers.into(),
            on_trouble: plan.on_trouble,
            observers: stack.observers,
            #[cfg(feature = "monitor")]
            monitor,
        })
    }
}

/// A stack in the making, from the inside out: each backend is metered, and behind a breaker where
/// it is a server; the fallback or the tiers stand around them, then the prefix, then the monitor.
///
/// The order matters. Metered outside of its breaker, a backend would be charged with what it was
/// never asked; a breaker around the fallback would stop both for the trouble of one; a prefix
/// inside of the fallback would have to be repeated for each backend.
struct Stack {
    observers: Observers,
    #[cfg(feature = "monitor")]
    metrics: Metrics,
    #[cfg(any(feature = "dynamodb", feature = "redis"))]
    breaker: Option<BreakerOptions>,
    layers: Vec<Layer>,
}

impl Stack {
    #[cfg_attr(
        not(any(feature = "dynamodb", feature = "memory", feature = "redis")),
        expect(
            clippy::needless_pass_by_value,
            reason = "backends take their options with them"
        )
    )]
    fn layer(&mut self, backend: Backend) -> Result<Arc<dyn CacheStorage>> {
        match backend {
            Backend::None => {
                let storage = Arc::new(DisabledStorage::new());
                self.local(storage)
            }
            #[cfg(feature = "memory")]
            Backend::Memory(options) => {
                let storage = Arc::new(MemoryCacheStorage::with_options(options)?);
                self.local(storage)
            }
            #[cfg(feature = "redis")]
            Backend::Redis(options) => {
                let options = options.with_observers(self.observers.clone());
                let redis = Arc::new(RedisCacheStorage::new(options)?);
                self.server(redis, Foundation::Plain)
            }
            #[cfg(feature = "dynamodb")]
            Backend::DynamoDb(options) => {
                let options = options.with_observers(self.observers.clone());
                let table = Arc::new(DynamoDbCacheStorage::new(options)?);
                let storage = Arc::clone(&table);
                self.server(storage, Foundation::Table(table))
            }
        }
    }

    /// A storage within the process: it has no server to protect or to wait for.
    #[expect(clippy::unnecessary_wraps, reason = "as for a server")]
    fn local(&mut self, storage: Arc<dyn CacheStorage>) -> Result<Arc<dyn CacheStorage>> {
        let storage = self.metered(storage);
        self.layers
            .push(Layer::new(Arc::clone(&storage), Foundation::Plain));
        Ok(storage)
    }

    #[cfg(any(feature = "dynamodb", feature = "redis"))]
    fn server(
        &mut self,
        storage: Arc<dyn CacheStorage>,
        foundation: Foundation,
    ) -> Result<Arc<dyn CacheStorage>> {
        let storage = self.metered(storage);
        let mut layer = Layer::new(Arc::clone(&storage), foundation);
        let Some(options) = self.breaker.clone() else {
            self.layers.push(layer);
            return Ok(storage);
        };
        let breaker = BreakerStorage::new(storage, options)?.with_observers(self.observers.clone());
        layer.breaker = Some(breaker.handle());
        self.layers.push(layer);
        Ok(Arc::new(breaker))
    }

    #[cfg(feature = "monitor")]
    fn metered(&self, storage: Arc<dyn CacheStorage>) -> Arc<dyn CacheStorage> {
        Arc::new(MeteredStorage::new(storage, self.metrics.clone()))
    }

    #[cfg(not(feature = "monitor"))]
    #[expect(clippy::unused_self, reason = "as with metrics")]
    fn metered(&self, storage: Arc<dyn CacheStorage>) -> Arc<dyn CacheStorage> {
        storage
    }

    /// Storages by the names of their backends, fastest first.
    fn tiers(&mut self, tiers: Tiers) -> Result<Arc<dyn CacheStorage>> {
        let mut builder = TieredStorage::builder().observers(self.observers.clone());
        for tier in tiers.tiers {
            let mut options = TierOptions::default().with_name(tier.name);
            options.ttl_cap = tier.ttl_cap;
            builder = builder.tier_with(self.layer(tier.backend)?, options);
        }
        if let Some(name) = tiers.counters_in {
            builder = builder.counters_in(name);
        }
        if let Some(keys) = tiers.journal {
            builder = builder.journal_capacity(keys);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn fallback(
        &mut self,
        first: Arc<dyn CacheStorage>,
        fallback: Fallback,
    ) -> Result<Arc<dyn CacheStorage>> {
        let Fallback {
            backend,
            ttl,
            write_all,
            journal,
        } = fallback;
        let second = self.layer(backend)?;
        let mut builder = FallbackStorage::builder(first)
            .then(second)
            .observers(self.observers.clone());
        if let Some(ttl) = ttl {
            builder = builder.fallback_ttl(ttl);
        }
        if let Some(keys) = journal {
            builder = builder.journal_capacity(keys);
        }
        if write_all {
            builder = builder.write_all();
        }
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(feature = "monitor")]
    fn monitor(
        &self,
        storage: Arc<dyn CacheStorage>,
        options: MonitorOptions,
        feed: StatusFeed,
    ) -> Result<CacheMonitor> {
        let mut builder = CacheMonitor::builder(storage)
            .feed(feed)
            .options(options)
            .metrics(self.metrics.clone());
        for layer in &self.layers {
            builder = builder.watch(layer.storage.info().backend, Arc::clone(&layer.storage));
            #[cfg(any(feature = "dynamodb", feature = "redis"))]
            if let Some(breaker) = &layer.breaker {
                builder = builder.breaker(breaker.clone());
            }
        }
        builder.build()
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
        let shown = format!("{caches:?}");
        if cfg!(feature = "monitor") {
            let whole = "Caches(Tracked(Prefix(\"shop\", Metered(Disabled))))";
            assert_eq!(shown, whole);
        } else {
            assert_eq!(shown, "Caches(Prefix(\"shop\", Disabled))");
        }
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
        let shown = format!("{caches:?}");
        if cfg!(feature = "monitor") {
            let whole = "Caches(Tracked(Breaker(Metered(DynamoDb(cache@eu-west-1)))))";
            assert_eq!(shown, whole);
        } else {
            assert_eq!(shown, "Caches(Breaker(DynamoDb(cache@eu-west-1)))");
        }
    }

    #[cfg(all(feature = "memory", feature = "redis"))]
    #[test]
    fn a_fallback_stands_around_breakers_and_inside_of_the_prefix() {
        let pairs = [
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_URL", "redis://192.0.2.1:6379"),
            ("CACHE_FALLBACK", "memory"),
            ("CACHE_PREFIX", "shop"),
        ];
        let text = format!("{:?}", caches(&pairs).unwrap());
        let order = [
            "Prefix(\"shop\"",
            "Fallback(",
            "Breaker(",
            "Redis(",
            "Memory",
        ];
        let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
        assert_eq!(caches(&pairs).unwrap().breakers().count(), 1);

        let without = [&pairs[..], &[("CACHE_BREAKER", "off")]].concat();
        assert_eq!(caches(&without).unwrap().breakers().count(), 0);
    }

    #[cfg(all(feature = "memory", feature = "redis"))]
    #[test]
    fn tiers_stand_around_breakers_and_inside_of_the_prefix() {
        let pairs = [
            ("CACHE_STORAGE_TYPE", "memory, redis"),
            ("CACHE_REDIS_URL", "redis://192.0.2.1:6379"),
            ("CACHE_PREFIX", "shop"),
        ];
        let caches = caches(&pairs).unwrap();
        let text = format!("{caches:?}");
        let order = ["Prefix(\"shop\"", "Tiered(", "Memory", "Breaker(", "Redis("];
        let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
        assert_eq!(caches.breakers().count(), 1);
        let access = cache_core::TierAccess::new().skip_reads("memory");
        assert!(caches.storage().with_tiers(&access).unwrap().is_some());
    }

    #[cfg(all(feature = "dynamodb", feature = "memory", feature = "redis"))]
    #[test]
    fn each_server_of_three_tiers_has_a_breaker_of_its_own() {
        let pairs = [
            ("CACHE_STORAGE_TYPE", "memory,redis,dynamodb"),
            ("CACHE_REDIS_URL", "redis://192.0.2.1:6379"),
            ("CACHE_DYNAMODB_TABLE", "cache"),
            ("CACHE_DYNAMODB_REGION", "eu-west-1"),
            ("CACHE_TIER_COUNTERS", "redis"),
        ];
        let caches = caches(&pairs).unwrap();
        assert_eq!(caches.breakers().count(), 2);
        assert_eq!(caches.storage().info().backend, "dynamodb");
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

        caches.shutdown(mins(1)).await.into_result().unwrap();
        let again = caches.clone().shutdown(mins(1)).await;
        again.into_result().unwrap();
        let refused = geo.get::<i32>("k").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        assert!(caches.warm_up().await.is_err());
    }
}
