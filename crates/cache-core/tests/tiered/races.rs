//! What happens at the same time, and what is dropped half-way.

use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cache_core::{
    CacheStorage as _, ClearScope, Cleared, Counter, Operation, StorageInfo, StorageStats,
    TieredStorage, TimeLeft, millis,
};

use super::*;

type Writing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A read that has seen the old value and has not promoted it yet.
async fn reader(t: &Pair) -> tokio::task::JoinHandle<Option<(String, &'static str)>> {
    let written = set(&t.slow, "k", entry("old")).await;
    written.expect("the tier is well");
    t.slow
        .start_outage(Plan::hang_after().on(Operation::Lookup));
    let stack = Arc::clone(&t.stack);
    let reading = tokio::spawn(async move { get(&*stack, "k").await });
    t.slow.wait_until_hung(1).await;
    t.slow.end_outage();
    reading
}

#[tokio::test]
async fn a_promotion_never_comes_after_a_delete() {
    let t = pair();
    let reading = reader(&t).await;
    t.stack.delete(&key("k")).await.unwrap();
    t.slow.release();
    reading.await.unwrap();
    assert_eq!(held(&t.fast, "k").await, None);
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn a_promotion_never_comes_after_any_write() {
    type Write = fn(Arc<TieredStorage>) -> Writing;
    let writes: [Write; 7] = [
        |stack| Box::pin(async move { set(&*stack, "k", entry("new")).await.map(drop) }),
        |stack| {
            Box::pin(async move {
                let entries = vec![(key("k"), entry("new"))];
                stack.set_many(entries).await.remove(0)
            })
        },
        |stack| Box::pin(async move { stack.delete_many(&[key("k")]).await.remove(0) }),
        |stack| Box::pin(async move { stack.expire_now(&key("k")).await.map(drop) }),
        |stack| {
            Box::pin(async move {
                let present = Condition::IfPresent;
                stack.set(&key("k"), entry("new"), present).await.map(drop)
            })
        },
        |stack| {
            Box::pin(async move { stack.compare_and_delete(&key("k"), b"old").await.map(drop) })
        },
        |stack| Box::pin(async move { stack.clear(&ClearScope::everything()).await.map(drop) }),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        let t = pair();
        let reading = reader(&t).await;
        write(Arc::clone(&t.stack)).await.unwrap();
        t.slow.release();
        reading.await.unwrap();
        let found = get(&*t.stack, "k").await;
        assert_ne!(
            found.map(|found| found.0).as_deref(),
            Some("old"),
            "{number}"
        );
        assert_ne!(held(&t.fast, "k").await.as_deref(), Some("old"), "{number}");
    }
}

#[tokio::test]
async fn a_promotion_never_replaces_a_fresh_entry() {
    let t = pair();
    let reading = reader(&t).await;
    // As another process would, past this one's knowledge.
    set(&t.fast, "k", entry("newer")).await.unwrap();
    t.slow.release();
    reading.await.unwrap();
    assert_eq!(held(&t.fast, "k").await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn of_writes_at_the_same_time_the_last_tiers_order_counts() {
    type Other = fn(Arc<TieredStorage>) -> Writing;
    let others: [(Other, Option<&str>); 3] = [
        (
            |stack| Box::pin(async move { set(&*stack, "k", entry("second")).await.map(drop) }),
            Some("second"),
        ),
        (
            |stack| Box::pin(async move { stack.delete(&key("k")).await.map(drop) }),
            None,
        ),
        (
            |stack| Box::pin(async move { stack.clear(&ClearScope::everything()).await.map(drop) }),
            None,
        ),
    ];
    for (other, expected) in others {
        for operation in [Operation::Set, Operation::SetMany] {
            let t = pair();
            t.fast.add(Plan::hang().on(operation).first(1));
            let stack = Arc::clone(&t.stack);
            let first = tokio::spawn(async move {
                if operation == Operation::Set {
                    return set(&*stack, "k", entry("first")).await.map(drop);
                }
                let entries = vec![(key("k"), entry("first")), (key("n"), entry("7"))];
                stack.set_many(entries).await.remove(0)
            });
            t.fast.wait_until_hung(1).await;
            other(Arc::clone(&t.stack)).await.unwrap();
            t.fast.release();
            first.await.unwrap().unwrap();
            let found = get(&*t.stack, "k").await.map(|(value, _)| value);
            assert_eq!(found.as_deref(), expected, "{operation:?}");
        }
    }
}

#[tokio::test]
async fn a_copy_does_not_outlast_a_clear_that_was_there_first() {
    let t = pair();
    t.slow.add(Plan::hang().on(Operation::Clear).first(1));
    let stack = Arc::clone(&t.stack);
    let clearing = tokio::spawn(async move { stack.clear(&ClearScope::everything()).await });
    t.slow.wait_until_hung(1).await;
    t.fast.add(Plan::hang().on(Operation::Set).first(1));
    let stack = Arc::clone(&t.stack);
    let writing = tokio::spawn(async move { set(&*stack, "k", entry("v")).await });
    t.fast.wait_until_hung(1).await;
    t.slow.release();
    assert!(clearing.await.unwrap().unwrap().complete);
    t.fast.release();
    writing.await.unwrap().unwrap();
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn a_write_that_is_dropped_half_way_leaves_no_tier_behind() {
    let t = pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    t.fast.start_outage(Plan::hang().on(Operation::Set));
    let stack = Arc::clone(&t.stack);
    let writing = tokio::spawn(async move { set(&*stack, "k", entry("new")).await });
    t.fast.wait_until_hung(1).await;
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    t.fast.end_outage();
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
    assert_eq!(get(&*t.stack, "k").await, answer("new", "fast"));
}

#[tokio::test]
async fn a_delete_that_is_dropped_half_way_is_carried_on_by_the_next_read() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.slow
        .start_outage(Plan::hang_after().on(Operation::Delete));
    let stack = Arc::clone(&t.stack);
    let deleting = tokio::spawn(async move { stack.delete(&key("k")).await });
    t.slow.wait_until_hung(1).await;
    deleting.abort();
    assert!(deleting.await.unwrap_err().is_cancelled());
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn a_dropped_read_leaves_no_trace() {
    let t = pair();
    let reading = reader(&t).await;
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    assert_eq!(get(&*t.stack, "k").await, answer("old", "slow"));
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
}

#[tokio::test]
async fn a_promotion_into_a_slow_tier_is_given_up_and_its_key_deleted_there() {
    let clock = ManualClock::new();
    let (middle, slow) = (tier(&clock), tier(&clock));
    let patient = Patient::new(middle.clone(), millis(20));
    let stack = TieredStorage::builder()
        .tier_with(tier(&clock), named("fast"))
        .tier_with(patient, named("middle"))
        .tier_with(slow.clone(), named("slow"))
        .build()
        .unwrap();
    set(&slow, "k", entry("v")).await.unwrap();
    middle.start_outage(Plan::hang().on(Operation::Set));
    let start = Instant::now();
    assert_eq!(get(&stack, "k").await, answer("v", "slow"));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(get(&stack, "k").await, answer("v", "fast"));
    assert_eq!(stack.tiers()[1].journalled, 1, "it may still be written");
    middle.end_outage();
    middle.release();
    stack.delete(&key("k")).await.unwrap();
    assert_eq!(get(&stack, "k").await, None);
}

/// A storage that says how long its calls take.
#[derive(Debug)]
struct Patient {
    inner: ChaosStorage,
    info: StorageInfo,
}

impl Patient {
    fn new(inner: ChaosStorage, patience: Duration) -> Self {
        let info = inner.info().clone().with_patience(patience);
        Self { inner, info }
    }
}

#[async_trait]
impl CacheStorage for Patient {
    fn info(&self) -> &StorageInfo {
        &self.info
    }
    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }
    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.inner.get_many(keys).await
    }
    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.inner.set(key, entry, condition).await
    }
    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        self.inner.set_many(entries).await
    }
    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.inner.delete(key).await
    }
    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        self.inner.delete_many(keys).await
    }
    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.inner.compare_and_delete(key, expected).await
    }
    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.inner.has(key).await
    }
    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.inner.expire(key, ttl).await
    }
    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.inner.expire_now(key).await
    }
    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.inner.get_ttl(key).await
    }
    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        self.inner.increment(key, delta, ttl).await
    }
    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.inner.clear(scope).await
    }
    fn get_stats(&self) -> StorageStats {
        self.inner.get_stats()
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.inner.shutdown(budget).await
    }
}
