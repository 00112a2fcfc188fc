//! The outermost storage of a stack: it knows which calls are under way.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, NewEntry,
    Operation, Result, Shard, StorageInfo, StorageStats, TierAccess, TimeLeft, Ttl,
};
use futures_util::FutureExt as _;

use crate::checks::{Checking, Checks};
use crate::traffic::Traffic;

/// Knows which calls are under way, and ends them when the monitor is shut down.
///
/// Made by [`CacheMonitor`](crate::CacheMonitor). Belongs outside of everything. Right:
/// `Tracked(Prefix("app", Fallback(..)))`. Wrong: around one layer of a fallback, whose shutdown
/// would look like trouble of that layer.
pub(crate) struct TrackedStorage {
    inner: Arc<dyn CacheStorage>,
    traffic: Arc<Traffic>,
    /// Checks to be made alongside calls, if that is how they are made.
    checks: Option<Arc<Checks>>,
    /// Calls that came too late, which the storage inside knows nothing of.
    refused: Arc<AtomicU64>,
}

impl TrackedStorage {
    pub(crate) fn new(
        inner: Arc<dyn CacheStorage>,
        traffic: Arc<Traffic>,
        checks: Option<Arc<Checks>>,
    ) -> Self {
        Self {
            inner,
            traffic,
            checks,
            refused: Arc::default(),
        }
    }

    fn inner(&self) -> &dyn CacheStorage {
        &*self.inner
    }

    fn closed(&self, operation: Operation) -> CacheError {
        CacheError::closed(self.inner.info().backend, operation)
    }

    /// Makes a call, unless the end has begun or comes first; `cut_off` is its outcome then.
    async fn pass<T: Send>(
        &self,
        call: impl Future<Output = T> + Send,
        cut_off: impl FnOnce(Cut) -> T + Send,
    ) -> T {
        let Some(_passage) = self.traffic.enter() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return cut_off(Cut::Before);
        };
        tokio::pin!(call);
        let mut check = self.checks.as_ref().and_then(|checks| checks.on_use());
        let first = poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            carry(&mut check, context);
            Poll::Ready(polled)
        });
        if let Poll::Ready(outcome) = first.await {
            return outcome;
        }
        // Only calls that wait pay for being watched.
        let end = self.traffic.until_cut_off();
        tokio::pin!(end);
        // Call and check have just been polled, and to poll them again at once would tell nothing.
        let mut is_polled = true;
        let ended = poll_fn(|context| {
            if !mem::take(&mut is_polled) {
                if let Poll::Ready(outcome) = call.as_mut().poll(context) {
                    return Poll::Ready(Some(outcome));
                }
                carry(&mut check, context);
            }
            end.as_mut().poll(context).map(|()| None)
        });
        match ended.await {
            Some(outcome) => outcome,
            None => cut_off(Cut::Under),
        }
    }

    fn one<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: impl Future<Output = Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a {
        let cut_off = move |cut: Cut| Err(cut.error(self.closed(operation), operation));
        self.pass(call, cut_off)
    }

    fn many<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        keys: usize,
        call: impl Future<Output = Vec<Result<T>>> + Send + 'a,
    ) -> impl Future<Output = Vec<Result<T>>> + Send + 'a {
        let cut_off = move |cut: Cut| {
            let error = cut.error(self.closed(operation), operation);
            (0..keys).map(|_| Err(error.clone())).collect()
        };
        self.pass(call, cut_off)
    }
}

/// Polls a check of health alongside a call; the call waits for none.
fn carry(check: &mut Option<Checking>, context: &mut Context<'_>) {
    if let Some(checking) = check
        && checking.poll_unpin(context).is_ready()
    {
        *check = None;
    }
}

/// When the end came.
#[derive(Clone, Copy)]
enum Cut {
    /// Before the call began.
    Before,
    /// While it was under way.
    Under,
}

impl Cut {
    fn error(self, closed: CacheError, operation: Operation) -> CacheError {
        match self {
            Self::Before => closed,
            Self::Under => closed
                .with_code("cut_off")
                .with_may_have_happened(operation.is_write()),
        }
    }
}

impl fmt::Debug for TrackedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracked").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for TrackedStorage {
    fn info(&self) -> &StorageInfo {
        self.inner().info()
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.inner().shard(key)
    }

    fn is_closed(&self) -> bool {
        self.traffic.is_closed() || self.inner().is_closed()
    }

    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        let view = self.inner().with_tiers(access)?;
        Ok(view.map(|inner| -> Arc<dyn CacheStorage> {
            Arc::new(Self {
                inner,
                traffic: Arc::clone(&self.traffic),
                checks: self.checks.clone(),
                refused: Arc::clone(&self.refused),
            })
        }))
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.one(Operation::Get, self.inner().get(key)).await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let call = self.inner().get_many(keys);
        self.many(Operation::GetMany, keys.len(), call).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.one(Operation::Lookup, self.inner().lookup(key)).await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let call = self.inner().lookup_many(keys);
        self.many(Operation::LookupMany, keys.len(), call).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let call = self.inner().set(key, entry, condition);
        self.one(Operation::Set, call).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let count = entries.len();
        let call = self.inner().set_many(entries);
        self.many(Operation::SetMany, count, call).await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.one(Operation::Delete, self.inner().delete(key)).await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let call = self.inner().delete_many(keys);
        self.many(Operation::DeleteMany, keys.len(), call).await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let call = self.inner().compare_and_delete(key, expected);
        self.one(Operation::CompareAndDelete, call).await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.one(Operation::Has, self.inner().has(key)).await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.one(Operation::Expire, self.inner().expire(key, ttl))
            .await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.one(Operation::ExpireNow, self.inner().expire_now(key))
            .await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.one(Operation::GetTtl, self.inner().get_ttl(key)).await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let call = self.inner().increment(key, delta, ttl);
        self.one(Operation::Increment, call).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.one(Operation::Clear, self.inner().clear(scope)).await
    }

    fn get_stats(&self) -> StorageStats {
        let mut stats = self.inner().get_stats();
        stats.errors += self.refused.load(Ordering::Relaxed);
        stats
    }

    async fn ping(&self) -> Result<()> {
        self.one(Operation::Ping, self.inner().ping()).await
    }

    /// Closes the storage inside at once; [`CacheMonitor::shutdown`](crate::CacheMonitor::shutdown)
    /// lets calls finish first.
    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.inner().shutdown(budget).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use cache_memory::MemoryCacheStorage;
    use futures_util::future::poll_immediate;

    use super::*;

    #[tokio::test]
    async fn a_call_that_waits_is_polled_once_for_each_time_it_is_woken_until_it_is_cut_off() {
        let traffic: Arc<Traffic> = Arc::default();
        let memory = Arc::new(MemoryCacheStorage::new());
        let storage = TrackedStorage::new(memory, Arc::clone(&traffic), None);
        let polls = AtomicU32::new(0);
        let call = poll_fn(|_| {
            polls.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        });
        let passed = storage.pass(call, |cut| matches!(cut, Cut::Under));
        tokio::pin!(passed);
        for number in 1..=3 {
            assert!(poll_immediate(&mut passed).await.is_none());
            assert_eq!(polls.load(Ordering::Relaxed), number);
        }
        traffic.cut_off();
        assert!(passed.await);
        assert_eq!((traffic.cancelled(), traffic.in_flight()), (1, 0));
    }
}
