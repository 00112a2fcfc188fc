//! What the factory hands out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheService, CacheServiceBuilder, CacheStorage, OnTrouble, Result};

/// One storage, and the services over it.
///
/// Cheap to clone; clones share the storage. `Debug` shows what was built, outside in:
/// `Caches(Prefix("shop", Memory))`.
#[derive(Clone)]
pub struct Caches {
    storage: Arc<dyn CacheStorage>,
    foundation: Foundation,
    on_trouble: OnTrouble,
}

/// The backend below the storage, for what only one kind of them has.
#[derive(Clone)]
pub(crate) enum Foundation {
    /// Needs no set-up of its own.
    Plain,
    #[cfg(feature = "dynamodb")]
    Table(Arc<cache_dynamo::DynamoDbCacheStorage>),
}

impl Caches {
    pub(crate) fn new(
        storage: Arc<dyn CacheStorage>,
        foundation: Foundation,
        on_trouble: OnTrouble,
    ) -> Self {
        Self {
            storage,
            foundation,
            on_trouble,
        }
    }

    /// Services over a storage made by hand, whose reads return errors in trouble: for tests, which
    /// bring a storage with a clock of their own.
    #[must_use]
    pub fn over(storage: impl CacheStorage) -> Self {
        Self::new(Arc::new(storage), Foundation::Plain, OnTrouble::Error)
    }

    /// Starts a service whose keys lie below `prefix:`.
    ///
    /// What its reads do in trouble is what `CACHE_ON_TROUBLE` says, unless the builder is told
    /// otherwise.
    pub fn service(&self, prefix: impl Into<String>) -> CacheServiceBuilder {
        CacheService::builder(Arc::clone(&self.storage))
            .prefix(prefix)
            .on_trouble(self.on_trouble)
    }

    /// The storage below all services, for what they do not offer.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn CacheStorage> {
        &self.storage
    }

    /// Connects now rather than at the first call, and waits for one answer of the backend.
    ///
    /// # Errors
    ///
    /// Trouble of the storage. Later calls try again by themselves, so it may be ignored.
    pub async fn warm_up(&self) -> Result<()> {
        self.storage.ping().await
    }

    /// Looks at how the backend is set up, for a deployment to fail early: on DynamoDB the table,
    /// its key schema, and whether it collects expired items. Elsewhere the same as
    /// [`warm_up`](Self::warm_up).
    ///
    /// On DynamoDB this needs the permissions `dynamodb:DescribeTable` and
    /// `dynamodb:DescribeTimeToLive`, which serving traffic does not.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that has to be corrected; trouble of the storage.
    pub async fn check(&self) -> Result<()> {
        match &self.foundation {
            Foundation::Plain => self.warm_up().await,
            #[cfg(feature = "dynamodb")]
            Foundation::Table(table) => table.check_table().await,
        }
    }

    /// Ends the storage, and with it every service and clone, within `budget`. A second call
    /// returns at once.
    ///
    /// # Errors
    ///
    /// Trouble of the storage while closing; it is closed all the same.
    pub async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.storage.shutdown(budget).await
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caches").field(&self.storage).finish()
    }
}
