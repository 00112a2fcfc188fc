//! A storage in memory that does, call by call, what a test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cache_breaker::{BreakerOptions, BreakerStorage};
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, ErrorKind,
    Event, ManualClock, NewEntry, Observer, Observers, Operation, Result, Shard, StorageInfo,
    StorageStats, TierAccess, TimeLeft, Ttl,
};
use cache_memory::MemoryCacheStorage;

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// The storage in memory answers.
    Pass,
    /// It answers after a while of tokio's time.
    Take(Duration),
    /// It fails.
    Fail(ErrorKind, &'static str),
    /// There is no answer.
    Hang,
}

/// Says what becomes of a call; `key` is empty where there is none.
type Rule = Box<dyn Fn(Operation, &str) -> Step + Send>;

/// What a test says, and what it may look at.
pub(crate) struct Script {
    rule: Mutex<Rule>,
    sent: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Script {
    /// What becomes of calls from now on.
    pub(crate) fn say(&self, rule: impl Fn(Operation, &str) -> Step + Send + 'static) {
        *locked(&self.rule) = Box::new(rule);
    }

    /// All calls from now on come to `step`.
    pub(crate) fn always(&self, step: Step) {
        self.say(move |_, _| step);
    }

    /// The calls that arrived since this was asked last, such as `get a` or `get_many a b`.
    pub(crate) fn sent(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.sent))
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.most_under_way.load(Ordering::SeqCst)
    }

    fn arrive<'a>(
        &self,
        operation: Operation,
        keys: impl Iterator<Item = &'a str>,
    ) -> UnderWay<'_> {
        let mut line = operation.to_string();
        for key in keys {
            line.push(' ');
            line.push_str(key);
        }
        locked(&self.sent).push(line);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        UnderWay(self)
    }

    async fn act(&self, operation: Operation, key: &str) -> Result<()> {
        let step = locked(&self.rule)(operation, key);
        match step {
            Step::Pass => Ok(()),
            Step::Take(span) => {
                // On the clock of timeouts, which every test that takes time holds.
                tokio::time::sleep(span).await;
                Ok(())
            }
            Step::Fail(kind, code) => Err(CacheError::new(kind, "as the script says")
                .with_code(code)
                .with_operation(operation)),
            Step::Hang => std::future::pending().await,
        }
    }
}

struct UnderWay<'a>(&'a Script);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a test works with.
pub(crate) struct Stage {
    pub(crate) storage: Arc<BreakerStorage>,
    pub(crate) script: Arc<Script>,
    pub(crate) clock: ManualClock,
    told: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    /// A storage behind breakers without chance. A key such as `a:1` belongs to the server `a`; one
    /// without a colon to no server in particular.
    pub(crate) fn new(options: BreakerOptions) -> Self {
        let clock = ManualClock::new();
        let script = Arc::new(Script {
            rule: Mutex::new(Box::new(|_, _| Step::Pass)),
            sent: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        });
        let inner = Scripted {
            memory: MemoryCacheStorage::with_clock(clock.clone()),
            script: Arc::clone(&script),
        };
        let told = Arc::default();
        let notes = Notes(Arc::clone(&told));
        let storage = BreakerStorage::new(inner, options.with_jitter(0.0))
            .expect("the options make sense")
            .with_observers(Observers::new(notes));
        Self {
            storage: Arc::new(storage),
            script,
            clock,
            told,
        }
    }

    /// Opens the read lane of the server of `key`, for a second.
    pub(crate) async fn open_reads(&self, key: &str) {
        self.script
            .always(Step::Fail(ErrorKind::Timeout, "timeout"));
        for _ in 0..2 {
            let error = self
                .storage
                .get(&CacheKey::from(key))
                .await
                .expect_err("it fails");
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        self.script.always(Step::Pass);
        self.script.sent();
    }

    /// How the lanes stand: `read closed`, `a write open oom`.
    pub(crate) fn lanes(&self) -> Vec<String> {
        let lanes = self.storage.breakers().into_iter().map(|lane| {
            let shard = lane.shard.map(|shard| format!("{} ", shard.as_str()));
            format!("{}{} {}", shard.unwrap_or_default(), lane.lane, lane.state)
        });
        lanes.collect()
    }

    /// What was told since this was asked last.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.told))
    }
}

#[derive(Debug)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::BreakerTransition {
                breaker,
                lane,
                shard,
                from,
                to,
                reason,
                ..
            } => format!(
                "{breaker} {}{lane}: {from} {to} {reason}",
                shard.map(|shard| format!("{shard} ")).unwrap_or_default()
            ),
            Event::BreakerRejected { lane, .. } => format!("{lane}: rejected"),
            Event::BreakerProbe { lane, result, .. } => format!("{lane}: probe {result}"),
            Event::Saturated { backend } => format!("{backend}: saturated"),
            other => format!("{other:?}"),
        };
        locked(&self.0).push(line);
    }
}

#[derive(Debug)]
struct Scripted {
    memory: MemoryCacheStorage,
    script: Arc<Script>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Scripted {
    async fn single(&self, operation: Operation, key: &CacheKey) -> Result<()> {
        let key = key.as_str();
        let _under_way = self.script.arrive(operation, [key].into_iter());
        self.script.act(operation, key).await
    }

    async fn keyless(&self, operation: Operation) -> Result<()> {
        let _under_way = self.script.arrive(operation, [].into_iter());
        self.script.act(operation, "").await
    }

    /// `results` as the memory says, but for the keys that fail.
    async fn many<'a, T>(
        &self,
        operation: Operation,
        keys: impl Iterator<Item = &'a CacheKey> + Clone,
        results: Vec<Result<T>>,
    ) -> Vec<Result<T>> {
        let keys = keys.map(CacheKey::as_str);
        let _under_way = self.script.arrive(operation, keys.clone());
        let mut scripted = Vec::new();
        for (key, result) in keys.zip(results) {
            scripted.push(self.script.act(operation, key).await.and(result));
        }
        scripted
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for Scripted {
    fn info(&self) -> &StorageInfo {
        self.memory.info()
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        let (server, _) = key.as_str().split_once(':')?;
        Some(Shard::new(server))
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.single(Operation::Get, key).await?;
        self.memory.get(key).await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let results = self.memory.get_many(keys).await;
        self.many(Operation::GetMany, keys.iter(), results).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.single(Operation::Lookup, key).await?;
        self.memory.lookup(key).await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let results = self.memory.lookup_many(keys).await;
        self.many(Operation::LookupMany, keys.iter(), results).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.single(Operation::Set, key).await?;
        self.memory.set(key, entry, condition).await
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
        let results = self.memory.set_many(entries).await;
        self.many(Operation::SetMany, keys.iter(), results).await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Delete, key).await?;
        self.memory.delete(key).await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let results = self.memory.delete_many(keys).await;
        self.many(Operation::DeleteMany, keys.iter(), results).await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.single(Operation::CompareAndDelete, key).await?;
        self.memory.compare_and_delete(key, expected).await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::Has, key).await?;
        self.memory.has(key).await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.single(Operation::Expire, key).await?;
        self.memory.expire(key, ttl).await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.single(Operation::ExpireNow, key).await?;
        self.memory.expire_now(key).await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.single(Operation::GetTtl, key).await?;
        self.memory.get_ttl(key).await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        self.single(Operation::Increment, key).await?;
        self.memory.increment(key, delta, ttl).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.keyless(Operation::Clear).await?;
        self.memory.clear(scope).await
    }

    fn get_stats(&self) -> StorageStats {
        self.memory.get_stats()
    }

    async fn ping(&self) -> Result<()> {
        self.keyless(Operation::Ping).await?;
        self.memory.ping().await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.memory.shutdown(budget).await
    }
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
