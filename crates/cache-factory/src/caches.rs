//! What the factory hands out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "dynamodb", feature = "redis"))]
use cache_breaker::BreakerHandle;
use cache_core::{
    CacheService, CacheServiceBuilder, CacheStorage, Observers, OnTrouble, Result, ShutdownReport,
};
#[cfg(feature = "monitor")]
use cache_monitor::CacheMonitor;

/// One stack of storages, and the services over it.
///
/// Cheap to clone; clones share the stack. `Debug` shows what was built, outside in:
/// `Caches(Fallback(Breaker(Redis(127.0.0.1:6379)), Breaker(DynamoDb(cache@eu-west-1))))`.
#[derive(Clone)]
pub struct Caches {
    pub(crate) storage: Arc<dyn CacheStorage>,
    pub(crate) layers: Arc<[Layer]>,
    pub(crate) on_trouble: OnTrouble,
    pub(crate) observers: Observers,
    #[cfg(feature = "monitor")]
    pub(crate) monitor: CacheMonitor,
}

/// One backend of the stack, beneath its breaker.
pub(crate) struct Layer {
    pub(crate) storage: Arc<dyn CacheStorage>,
    pub(crate) foundation: Foundation,
    #[cfg(any(feature = "dynamodb", feature = "redis"))]
    pub(crate) breaker: Option<BreakerHandle>,
}

/// What only one kind of backend has.
pub(crate) enum Foundation {
    /// Needs no set-up of its own.
    Plain,
    #[cfg(feature = "dynamodb")]
    Table(Arc<cache_dynamo::DynamoDbCacheStorage>),
}

impl Layer {
    pub(crate) fn new(storage: Arc<dyn CacheStorage>, foundation: Foundation) -> Self {
        Self {
            storage,
            foundation,
            #[cfg(any(feature = "dynamodb", feature = "redis"))]
            breaker: None,
        }
    }

    async fn check(&self) -> Result<()> {
        match &self.foundation {
            Foundation::Plain => self.storage.ping().await,
            #[cfg(feature = "dynamodb")]
            Foundation::Table(table) => table.check_table().await,
        }
    }
}

impl Caches {
    /// Services over a storage made by hand, whose reads return errors in trouble: for tests, which
    /// bring a storage with a clock of their own.
    #[must_use]
    pub fn over(storage: impl CacheStorage) -> Self {
        let storage: Arc<dyn CacheStorage> = Arc::new(storage);
        let layer = Layer::new(Arc::clone(&storage), Foundation::Plain);
        #[cfg(feature = "monitor")]
        let monitor = CacheMonitor::over(storage);
        Self {
            #[cfg(feature = "monitor")]
            storage: Arc::clone(monitor.storage()),
            #[cfg(not(feature = "monitor"))]
            storage,
            layers: Arc::new([layer]),
            on_trouble: OnTrouble::Error,
            observers: Observers::none(),
            #[cfg(feature = "monitor")]
            monitor,
        }
    }

    /// Starts a service whose keys lie below `prefix:`.
    ///
    /// What its reads do in trouble is what `CACHE_ON_TROUBLE` says, unless the builder is told
    /// otherwise.
    pub fn service(&self, prefix: impl Into<String>) -> CacheServiceBuilder {
        CacheService::builder(Arc::clone(&self.storage))
            .prefix(prefix)
            .on_trouble(self.on_trouble)
            .observers(self.observers.clone())
    }

    /// The storage below all services, for what they do not offer.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn CacheStorage> {
        &self.storage
    }

    /// The breakers of the stack, for a person to open or close by hand.
    #[cfg(any(feature = "dynamodb", feature = "redis"))]
    pub fn breakers(&self) -> impl Iterator<Item = &BreakerHandle> {
        self.layers
            .iter()
            .filter_map(|layer| layer.breaker.as_ref())
    }

    /// Health, metrics and the orderly end of the stack.
    #[cfg(feature = "monitor")]
    #[must_use]
    pub fn monitor(&self) -> &CacheMonitor {
        &self.monitor
    }

    /// Connects every backend now rather than at the first call, and waits for one answer: with a
    /// fallback, any one of them will do; with tiers, it has to be the last.
    ///
    /// # Errors
    ///
    /// Trouble of the storage. Later calls try again by themselves, so it may be ignored.
    pub async fn warm_up(&self) -> Result<()> {
        self.storage.ping().await
    }

    /// Looks at how each backend is set up, for a deployment to fail early: on DynamoDB the table,
    /// its key schema, and whether it collects expired items. Elsewhere one answer is enough. Goes
    /// past breakers, and the fallback makes up for nothing here.
    ///
    /// On DynamoDB this needs the permissions `dynamodb:DescribeTable` and
    /// `dynamodb:DescribeTimeToLive`, which serving traffic does not.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that has to be corrected; trouble of the first backend that
    /// has any.
    pub async fn check(&self) -> Result<()> {
        for layer in &*self.layers {
            layer.check().await?;
        }
        Ok(())
    }

    /// Ends the stack, and with it every service and clone, within `budget`: later calls are
    /// `Closed` errors. A second call returns at once.
    ///
    /// With the feature `monitor`, calls under way may finish first, and are cut off with what is
    /// left of them when the budget is used up; the report counts both.
    pub async fn shutdown(&self, budget: Duration) -> ShutdownReport {
        #[cfg(feature = "monitor")]
        let report = self.monitor.shutdown(budget).await;
        #[cfg(not(feature = "monitor"))]
        let report = ShutdownReport::of(self.storage.shutdown(budget)).await;
        report
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caches").field(&self.storage).finish()
    }
}
