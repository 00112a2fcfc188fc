//! A storage whose calls are counted and timed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cache_core::{
    CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, NewEntry, Operation,
    Result, Shard, StorageInfo, StorageStats, TierAccess, TimeLeft, Ttl,
};

use crate::meters::{Meters, Outcome};
use crate::sink::Metrics;

/// Counts and times the calls of a storage, by backend, operation and outcome.
///
/// Each key of a batch counts; its time is taken once. A call that its caller drops has no outcome
/// and is not counted. Keys are never part of a metric.
///
/// Belongs around each backend, beneath what keeps calls from it, so that the time is the
/// backend's. Right: `Breaker(Metered(Redis))`. Wrong: `Metered(Breaker(Redis))`, where calls that
/// were turned away make the backend look fast.
///
/// ```
/// use cache_memory::MemoryCacheStorage;
/// use cache_monitor::{MeteredStorage, Metrics};
///
/// let storage = MeteredStorage::new(MemoryCacheStorage::new(), Metrics::global());
/// assert!(format!("{storage:?}").starts_with("Metered(Memory"));
/// ```
pub struct MeteredStorage {
    inner: Arc<dyn CacheStorage>,
    meters: Meters,
}

impl MeteredStorage {
    /// `inner`, whose measurements go to `metrics`.
    #[must_use]
    pub fn new(inner: impl CacheStorage, metrics: Metrics) -> Self {
        let meters = Meters::new(inner.info().backend, metrics);
        Self {
            inner: Arc::new(inner),
            meters,
        }
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    fn inner(&self) -> &dyn CacheStorage {
        &*self.inner
    }

    /// One call for one key, or for none.
    async fn single<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T>> + Send,
        outcome: fn(&T) -> Outcome,
    ) -> Result<T> {
        let start = Instant::now();
        let result = call.await;
        let took = start.elapsed();
        self.meters
            .single(operation, took, result.as_ref().map(outcome));
        result
    }

    /// One call for many keys.
    async fn batch<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Vec<Result<T>>> + Send,
        outcome: fn(&T) -> Outcome,
    ) -> Vec<Result<T>> {
        let start = Instant::now();
        let results = call.await;
        let took = start.elapsed();
        let outcomes = results.iter().map(|result| result.as_ref().map(outcome));
        self.meters.batch(operation, took, outcomes);
        results
    }
}

impl fmt::Debug for MeteredStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for MeteredStorage {
    fn info(&self) -> &StorageInfo {
        self.inner().info()
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.inner().shard(key)
    }

    fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.single(Operation::Get, self.inner().get(key), found)
            .await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.batch(Operation::GetMany, self.inner().get_many(keys), found)
            .await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.single(Operation::Lookup, self.inner().lookup(key), found)
            .await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.batch(Operation::LookupMany, self.inner().lookup_many(keys), found)
            .await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let call = self.inner().set(key, entry, condition);
        self.single(Operation::Set, call, met).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        self.batch(Operation::SetMany, self.inner().set_many(entries), done)
            .await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Delete, self.inner().delete(key), done_if_there)
            .await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        self.batch(Operation::DeleteMany, self.inner().delete_many(keys), done)
            .await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let call = self.inner().compare_and_delete(key, expected);
        self.single(Operation::CompareAndDelete, call, met).await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Has, self.inner().has(key), there)
            .await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let call = self.inner().expire(key, ttl);
        self.single(Operation::Expire, call, done_if_there).await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        let call = self.inner().expire_now(key);
        self.single(Operation::ExpireNow, call, done_if_there).await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        let outcome = |left: &TimeLeft| there(&!matches!(left, TimeLeft::Missing));
        self.single(Operation::GetTtl, self.inner().get_ttl(key), outcome)
            .await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let call = self.inner().increment(key, delta, ttl);
        self.single(Operation::Increment, call, done).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.single(Operation::Clear, self.inner().clear(scope), done)
            .await
    }

    fn get_stats(&self) -> StorageStats {
        self.inner().get_stats()
    }

    async fn ping(&self) -> Result<()> {
        self.single(Operation::Ping, self.inner().ping(), done)
            .await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.single(Operation::Shutdown, self.inner().shutdown(budget), done)
            .await
    }
}

fn found(entry: &Option<Entry>) -> Outcome {
    there(&entry.is_some())
}

fn there(is_there: &bool) -> Outcome {
    if *is_there {
        Outcome::Hit
    } else {
        Outcome::Miss
    }
}

fn done_if_there(was_there: &bool) -> Outcome {
    if *was_there {
        Outcome::Ok
    } else {
        Outcome::Miss
    }
}

fn met(is_met: &bool) -> Outcome {
    if *is_met {
        Outcome::Ok
    } else {
        Outcome::NotMet
    }
}

fn done<T>(_: &T) -> Outcome {
    Outcome::Ok
}

#[cfg(test)]
mod tests;
