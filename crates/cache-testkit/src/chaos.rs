//! A storage whose calls go wrong as a test says.

mod plan;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, NewEntry,
    Operation, Result, Shard, StorageInfo, StorageStats, TierAccess, TimeLeft, Ttl,
};

use plan::Effect;
use state::State;

pub use plan::{Call, Plan};

/// A storage around another whose calls are delayed, fail, hang or panic as plans say, for tests of
/// whatever stands around it. Without a plan it changes nothing.
///
/// Plans are asked in the order in which they were added; the first that strikes a call decides,
/// and those after it do not see that call. Counting begins with the first call of a plan's life.
///
/// Clones share storage, plans and counters, so a test keeps one and gives the other away. Belongs
/// in place of the backend that is to fail, so inside of what is tested. Right:
/// `Breaker(Chaos(Memory))`. Wrong: `Chaos(Breaker(Memory))`, where the breaker sees no failure.
///
/// ```
/// use cache_core::{CacheError, CacheStorage, DisabledStorage, ErrorKind, Operation};
/// use cache_testkit::chaos::{ChaosStorage, Plan};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let chaos = ChaosStorage::new(DisabledStorage::new());
/// let refused = CacheError::new(ErrorKind::Connection, "connection refused");
/// chaos.add(Plan::fail(refused).on(Operation::Get).nth(2));
///
/// let stack = chaos.clone();
/// assert!(stack.get(&"a".into()).await.is_ok());
/// assert_eq!(stack.get(&"b".into()).await.unwrap_err().kind(), ErrorKind::Connection);
/// assert!(stack.get(&"c".into()).await.is_ok());
/// assert_eq!(chaos.calls_of(Operation::Get), 3);
/// # });
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ChaosStorage {
    inner: Arc<dyn CacheStorage>,
    info: StorageInfo,
    state: Arc<State>,
}

impl ChaosStorage {
    /// `inner`, with nothing going wrong yet.
    #[must_use]
    pub fn new(inner: impl CacheStorage) -> Self {
        Self {
            // What is planned may make reads wait.
            info: inner.info().clone().with_in_process(false),
            inner: Arc::new(inner),
            state: Arc::new(State::new()),
        }
    }

    /// Adds a plan after all others.
    pub fn add(&self, plan: Plan) {
        self.state.add(plan);
    }

    /// Forgets all plans but the outage. What hangs goes on hanging.
    pub fn forget_plans(&self) {
        self.state.forget_all();
    }

    /// Puts `plan` before all others, in place of an earlier outage, until
    /// [`end_outage`](Self::end_outage).
    pub fn start_outage(&self, plan: Plan) {
        self.state.set_outage(Some(plan));
    }

    /// Ends the outage. What hangs goes on hanging.
    pub fn end_outage(&self) {
        self.state.set_outage(None);
    }

    /// Lets everything go on that hangs at present.
    pub fn release(&self) {
        self.state.release();
    }

    /// How many calls were made, of all operations.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.seen(|seen| seen.calls)
    }

    /// How many calls of one operation were made.
    #[must_use]
    pub fn calls_of(&self, operation: Operation) -> u64 {
        let of = |seen: &state::Seen| seen.of.get(&operation).copied();
        self.state.seen(of).unwrap_or_default()
    }

    /// How many calls were struck by a plan.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.state.seen(|seen| seen.struck)
    }

    /// How many calls hang at present.
    #[must_use]
    pub fn hung(&self) -> u64 {
        self.state.seen(|seen| seen.hung)
    }

    /// Waits until at least so many calls were made, of all operations.
    pub async fn wait_until_calls(&self, calls: u64) {
        self.state.wait_for(|seen| seen.calls >= calls).await;
    }

    /// Waits until exactly so many calls hang.
    pub async fn wait_until_hung(&self, calls: u64) {
        self.state.wait_for(|seen| seen.hung == calls).await;
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    fn inner(&self) -> &dyn CacheStorage {
        &*self.inner
    }

    /// A call of one key or none.
    async fn call<T>(
        &self,
        operation: Operation,
        key: Option<&CacheKey>,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let keys = key.cloned().into_iter().collect();
        let Some(plan) = self.state.strike(operation, keys) else {
            return call.await;
        };
        self.hold_before(&plan.effect).await;
        if let Effect::Fail(error) = &plan.effect {
            return Err(self.named(error, operation, key));
        }
        let outcome = call.await;
        self.hold_after(&plan.effect).await;
        match &plan.effect {
            Effect::FailAfter(error) => Err(self.lost(error, operation, key)),
            _ => outcome,
        }
    }

    /// A call of many keys, of which only those concerned fail.
    async fn batch<I: Send, T: Send, F: Future<Output = Vec<Result<T>>> + Send>(
        &self,
        operation: Operation,
        items: Vec<(CacheKey, I)>,
        call: impl FnOnce(Vec<(CacheKey, I)>) -> F + Send,
    ) -> Vec<Result<T>> {
        let keys: Vec<_> = items.iter().map(|(key, _)| key.clone()).collect();
        let Some(plan) = self.state.strike(operation, keys.clone()) else {
            return call(items).await;
        };
        self.hold_before(&plan.effect).await;
        let Effect::Fail(error) = &plan.effect else {
            let outcomes = call(items).await;
            self.hold_after(&plan.effect).await;
            return self.lost_of(&plan, operation, &keys, outcomes);
        };
        let spared: Vec<_> = items
            .into_iter()
            .filter(|(key, _)| !plan.concerns(key))
            .collect();
        let mut outcomes = Vec::new();
        if !spared.is_empty() {
            outcomes = call(spared).await;
        }
        let mut outcomes = outcomes.into_iter();
        let outcome = |key| match plan.concerns(key) {
            true => Err(self.named(error, operation, Some(key))),
            false => outcomes.next().expect("one outcome a key"),
        };
        keys.iter().map(outcome).collect()
    }

    /// The outcomes of a batch without those that the plan loses.
    fn lost_of<T>(
        &self,
        plan: &Plan,
        operation: Operation,
        keys: &[CacheKey],
        mut outcomes: Vec<Result<T>>,
    ) -> Vec<Result<T>> {
        let Effect::FailAfter(error) = &plan.effect else {
            return outcomes;
        };
        for (key, outcome) in keys.iter().zip(&mut outcomes) {
            if plan.concerns(key) {
                *outcome = Err(self.lost(error, operation, Some(key)));
            }
        }
        outcomes
    }

    #[expect(clippy::panic, reason = "it is what the test asked for")]
    async fn hold_before(&self, effect: &Effect) {
        match effect {
            Effect::Delay(by) => tokio::time::sleep(*by).await,
            Effect::Hang => self.state.hang().await,
            Effect::Panic => panic!("a storage panics on purpose"),
            Effect::Fail(_) | Effect::FailAfter(_) | Effect::HangAfter => {}
        }
    }

    async fn hold_after(&self, effect: &Effect) {
        if matches!(effect, Effect::HangAfter) {
            self.state.hang().await;
        }
    }

    fn named(
        &self,
        error: &CacheError,
        operation: Operation,
        key: Option<&CacheKey>,
    ) -> CacheError {
        let error = error.clone().with_backend(self.info().backend);
        let error = error.with_operation(operation);
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }

    fn lost(&self, error: &CacheError, operation: Operation, key: Option<&CacheKey>) -> CacheError {
        let error = self.named(error, operation, key);
        let may_have_happened = error.may_have_happened() || writes(operation);
        error.with_may_have_happened(may_have_happened)
    }
}

fn writes(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Set
            | Operation::SetMany
            | Operation::Delete
            | Operation::DeleteMany
            | Operation::CompareAndDelete
            | Operation::Expire
            | Operation::ExpireNow
            | Operation::Increment
            | Operation::Clear
    )
}

/// Keys as the items of a batch, and back.
fn items(keys: &[CacheKey]) -> Vec<(CacheKey, ())> {
    keys.iter().map(|key| (key.clone(), ())).collect()
}

fn keys(items: Vec<(CacheKey, ())>) -> Vec<CacheKey> {
    items.into_iter().map(|(key, ())| key).collect()
}

impl fmt::Debug for ChaosStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chaos").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for ChaosStorage {
    fn info(&self) -> &StorageInfo {
        &self.info
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.inner().shard(key)
    }

    fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }

    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        let view = self.inner().with_tiers(access)?;
        Ok(view.map(|inner| -> Arc<dyn CacheStorage> {
            Arc::new(Self {
                info: inner.info().clone().with_in_process(false),
                inner,
                state: Arc::clone(&self.state),
            })
        }))
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        let call = self.inner().get(key);
        self.call(Operation::Get, Some(key), call).await
    }

    async fn get_many(&self, wanted: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let call = |items| async { self.inner().get_many(&keys(items)).await };
        self.batch(Operation::GetMany, items(wanted), call).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        let call = self.inner().lookup(key);
        self.call(Operation::Lookup, Some(key), call).await
    }

    async fn lookup_many(&self, wanted: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let call = |items| async { self.inner().lookup_many(&keys(items)).await };
        self.batch(Operation::LookupMany, items(wanted), call).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let call = self.inner().set(key, entry, condition);
        self.call(Operation::Set, Some(key), call).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let call = |entries| self.inner().set_many(entries);
        self.batch(Operation::SetMany, entries, call).await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let call = self.inner().delete(key);
        self.call(Operation::Delete, Some(key), call).await
    }

    async fn delete_many(&self, unwanted: &[CacheKey]) -> Vec<Result<()>> {
        let call = |items| async { self.inner().delete_many(&keys(items)).await };
        self.batch(Operation::DeleteMany, items(unwanted), call)
            .await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let call = self.inner().compare_and_delete(key, expected);
        self.call(Operation::CompareAndDelete, Some(key), call)
            .await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        let call = self.inner().has(key);
        self.call(Operation::Has, Some(key), call).await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let call = self.inner().expire(key, ttl);
        self.call(Operation::Expire, Some(key), call).await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        let call = self.inner().expire_now(key);
        self.call(Operation::ExpireNow, Some(key), call).await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        let call = self.inner().get_ttl(key);
        self.call(Operation::GetTtl, Some(key), call).await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let call = self.inner().increment(key, delta, ttl);
        self.call(Operation::Increment, Some(key), call).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        let call = self.inner().clear(scope);
        self.call(Operation::Clear, None, call).await
    }

    fn get_stats(&self) -> StorageStats {
        self.inner().get_stats()
    }

    async fn ping(&self) -> Result<()> {
        let call = self.inner().ping();
        self.call(Operation::Ping, None, call).await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        let call = self.inner().shutdown(budget);
        self.call(Operation::Shutdown, None, call).await
    }
}
