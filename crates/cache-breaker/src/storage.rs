//! A storage behind breakers.

mod batch;
mod call;
mod handle;
mod lanes;
mod watched;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{
    CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, Event, NewEntry,
    Observers, Operation, Result, Shard, StorageInfo, StorageStats, TierAccess, TimeLeft, Ttl,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

pub use handle::BreakerHandle;

use crate::lane::{Context, Lane};
use crate::options::BreakerOptions;
use crate::snapshot::Snapshot;
use crate::state::Outcome;
use crate::verdict::outcome_of_result;
use call::Call;
use lanes::{Lanes, frees_memory};
use watched::{End, watched};

/// What a storage that says nothing of itself takes for a call.
const USUAL_PATIENCE: Duration = Duration::from_millis(100);

/// What a storage may take longer than it says, for its own error to arrive.
const GRACE: Duration = Duration::from_millis(20);

/// Stops asking a storage that is in trouble, and sees by itself when that is over.
///
/// # Lanes
///
/// Reads and writes have breakers of their own, since a full server refuses writes and still
/// answers reads; and so has each server of a cluster. While writes are stopped for want of memory
/// (code `oom`), deletes and expiries are still sent. [`outcome_of`](crate::outcome_of) says which
/// errors count.
///
/// # What callers wait
///
/// A call on one key, and a probe of any kind, waits at most for the
/// [`patience`](BreakerOptions::patience), then fails as a `Timeout` with code `patience`. Other
/// batches and `clear` keep the deadlines of the storage inside. Calls that are under way when
/// their breaker opens stop waiting: reads are `Rejected`, writes are `Timeout` errors that may have
/// happened, both with code `breaker_opened`. A call that is turned away is `Rejected` with code
/// `breaker_open` and says in [`retry_after`](cache_core::CacheError::retry_after) when to come
/// back.
///
/// At most [`max_in_flight`](BreakerOptions::max_in_flight) calls are under way; others wait for
/// their turn, first come first served, and are then refused as `Overloaded` with code `saturated`.
///
/// # Batches
///
/// Keys of a server whose breaker is open are answered with `Rejected` errors; all others go to the
/// storage inside in one call.
///
/// # Where it belongs
///
/// Directly around a backend, inside of everything that knows what to do without it. Right:
/// `Fallback(Breaker(Redis), Breaker(DynamoDb))`. Wrong: `Breaker(Fallback(Redis, DynamoDb))`, which
/// stops asking either for the trouble of one.
///
/// Calls that have to wait need a tokio runtime with its timer. Times are read from the clock of the
/// storage inside.
pub struct BreakerStorage {
    inner: Arc<dyn CacheStorage>,
    lanes: Arc<Lanes>,
    turns: Semaphore,
    patience: Duration,
    closed: AtomicBool,
}

impl BreakerStorage {
    /// `inner` behind closed breakers.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything in `options` that makes no sense.
    pub fn new(inner: impl CacheStorage, options: BreakerOptions) -> Result<Self> {
        let mut options = options.checked()?;
        let info = inner.info();
        let usual = info.patience.unwrap_or(USUAL_PATIENCE);
        let patience = options.patience.unwrap_or(usual.saturating_add(GRACE));
        options.slow_after.get_or_insert(patience / 2);
        let context = Context {
            name: info.backend.into(),
            clock: Arc::clone(&info.clock),
            observers: Observers::none(),
        };
        Ok(Self {
            turns: Semaphore::new(options.max_in_flight),
            lanes: Arc::new(Lanes::new(context, options)),
            inner: Arc::new(inner),
            patience,
            closed: AtomicBool::new(false),
        })
    }

    /// The same, with somebody to be told. Begins anew, so call it before the first use.
    #[must_use]
    pub fn with_observers(self, observers: Observers) -> Self {
        let context = Context {
            observers,
            ..self.lanes.context().clone()
        };
        self.within(context)
    }

    /// The same under another name than the backend's, for events and errors. Begins anew, so call
    /// it before the first use.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        let context = Context {
            name: name.into().into(),
            ..self.lanes.context().clone()
        };
        self.within(context)
    }

    /// How each lane stands: those without a server first, then by server.
    #[must_use]
    pub fn breakers(&self) -> Vec<Snapshot> {
        self.lanes.snapshots()
    }

    /// The breakers without the storage, to be shown and set.
    #[must_use]
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle {
            lanes: Arc::clone(&self.lanes),
        }
    }

    fn within(self, context: Context) -> Self {
        let options = self.lanes.options().clone();
        Self {
            lanes: Arc::new(Lanes::new(context, options)),
            ..self
        }
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    fn inner(&self) -> &dyn CacheStorage {
        &*self.inner
    }

    fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    /// After a shutdown the storage inside answers everything by itself.
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn call<'a>(&self, operation: Operation, key: Option<&'a CacheKey>) -> Call<'a> {
        Call {
            backend: self.inner().info().backend,
            operation,
            key,
        }
    }

    /// Runs a call on one key.
    fn single<'a, T, F>(
        &'a self,
        operation: Operation,
        key: &'a CacheKey,
        send: impl FnOnce() -> F + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a
    where
        T: Send + 'a,
        F: Future<Output = Result<T>> + Send + 'a,
    {
        let shard = self.inner().shard(key);
        let lane = self.lanes.lane(shard.as_ref(), operation);
        let call = self.call(operation, Some(key));
        self.guard(call, lane, Some(self.patience), send)
    }

    /// Runs a call through `lane`, the one it belongs to, within `limit`.
    async fn guard<T, F>(
        &self,
        call: Call<'_>,
        lane: Arc<Lane>,
        limit: Option<Duration>,
        send: impl FnOnce() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        if self.is_closed() {
            return send().await;
        }
        if lane.is_full() && frees_memory(call.operation) {
            return self.unjudged(call, send).await;
        }
        let _turn = match self.turns.try_acquire() {
            Ok(turn) => turn,
            Err(_) => self.later_turn(call, &lane).await?,
        };
        let permit = lane.admit().map_err(|rejected| call.rejected(rejected))?;
        let limit = limit.or_else(|| permit.is_probe().then_some(self.patience));
        match watched(&[&permit], limit, send()).await {
            End::Answered(result) => {
                permit.settle(outcome_of_result(&result), result.as_ref().err());
                result
            }
            End::OutOfPatience => {
                let error = call.out_of_patience(self.patience);
                permit.settle(Outcome::Timeout, Some(&error));
                Err(error)
            }
            End::Opened => Err(call.stopped(permit.lane().retry_after())),
        }
    }

    /// Runs a call whatever the breaker says, and does not tell it how that went.
    async fn unjudged<T, F>(&self, call: Call<'_>, send: impl FnOnce() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let _turn = self.turn_of_batch(call).await?;
        match watched(&[], Some(self.patience), send()).await {
            End::Answered(result) => result,
            End::OutOfPatience | End::Opened => Err(call.out_of_patience(self.patience)),
        }
    }

    /// A place among the calls under way where all are taken. Does not wait for one that `lane`
    /// would not use.
    async fn later_turn(&self, call: Call<'_>, lane: &Lane) -> Result<SemaphorePermit<'_>> {
        lane.turn_away()
            .map_err(|rejected| call.rejected(rejected))?;
        // Rare, and large: kept out of the future that every call makes.
        Box::pin(self.turn_in_queue(call)).await
    }

    async fn turn_of_batch(&self, call: Call<'_>) -> Result<SemaphorePermit<'_>> {
        match self.turns.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => Box::pin(self.turn_in_queue(call)).await,
        }
    }

    async fn turn_in_queue(&self, call: Call<'_>) -> Result<SemaphorePermit<'_>> {
        let queue_for = self.lanes.options().queue_for;
        if !queue_for.is_zero()
            && let Ok(Ok(turn)) = timeout(queue_for, self.turns.acquire()).await
        {
            return Ok(turn);
        }
        let backend = call.backend;
        let observers = &self.lanes.context().observers;
        observers.tell(&Event::Saturated { backend });
        Err(call.saturated())
    }
}

impl fmt::Debug for BreakerStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for BreakerStorage {
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
        self.single(Operation::Get, key, || self.inner().get(key))
            .await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.batch(Operation::GetMany, keys, |selection| async move {
            self.inner().get_many(&selection.of(keys)).await
        })
        .await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.single(Operation::Lookup, key, || self.inner().lookup(key))
            .await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.batch(Operation::LookupMany, keys, |selection| async move {
            self.inner().lookup_many(&selection.of(keys)).await
        })
        .await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let send = || self.inner().set(key, entry, condition);
        self.single(Operation::Set, key, send).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
        self.batch(Operation::SetMany, &keys, |selection| async move {
            self.inner().set_many(selection.take(entries)).await
        })
        .await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Delete, key, || self.inner().delete(key))
            .await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        self.batch(Operation::DeleteMany, keys, |selection| async move {
            self.inner().delete_many(&selection.of(keys)).await
        })
        .await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let send = || self.inner().compare_and_delete(key, expected);
        self.single(Operation::CompareAndDelete, key, send).await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Has, key, || self.inner().has(key))
            .await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.single(Operation::Expire, key, || self.inner().expire(key, ttl))
            .await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::ExpireNow, key, || self.inner().expire_now(key))
            .await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.single(Operation::GetTtl, key, || self.inner().get_ttl(key))
            .await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let send = || self.inner().increment(key, delta, ttl);
        self.single(Operation::Increment, key, send).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        let call = self.call(Operation::Clear, None);
        let lane = self.lanes.lane(None, Operation::Clear);
        self.guard(call, lane, None, || self.inner().clear(scope))
            .await
    }

    fn get_stats(&self) -> StorageStats {
        self.inner().get_stats()
    }

    async fn ping(&self) -> Result<()> {
        let call = self.call(Operation::Ping, None);
        let lane = self.lanes.lane(None, Operation::Ping);
        self.guard(call, lane, Some(self.patience), || self.inner().ping())
            .await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.inner().shutdown(budget).await
    }
}
