//! Single histories in which an old value could come back.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use cache_core::{
    CacheError, CacheKey, CacheStorage, Clock, Condition, ErrorKind, FallbackBuilder,
    FallbackStorage, ManualClock, NewEntry, Operation, Result, StorageInfo, Ttl, hours, mins,
};
use cache_memory::{MemoryCacheStorage, MemoryOptions};
use cache_testkit::chaos::{ChaosStorage, Plan};

struct Pair {
    stack: FallbackStorage,
    first: ChaosStorage,
    second: ChaosStorage,
    clock: ManualClock,
}

fn pair(options: impl Fn(FallbackBuilder) -> FallbackBuilder) -> Pair {
    let clock = ManualClock::new();
    let layer = || ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let (first, second) = (layer(), layer());
    let stack = options(FallbackStorage::builder(first.clone()).then(second.clone())).build();
    Pair {
        stack: stack.expect("the options are sound"),
        first,
        second,
        clock,
    }
}

fn refused() -> Plan {
    Plan::fail(CacheError::new(ErrorKind::Connection, "connection refused"))
}

fn key(name: &str) -> CacheKey {
    CacheKey::from(name)
}

fn hour() -> Ttl {
    Ttl::new(hours(1)).expect("an hour")
}

fn entry(value: impl Into<String>) -> NewEntry {
    NewEntry::new(value.into(), hour())
}

async fn set(storage: &dyn CacheStorage, value: &str) -> Result<bool> {
    storage
        .set(&key("k"), entry(value), Condition::Always)
        .await
}

async fn get(storage: &dyn CacheStorage) -> Option<String> {
    let found = storage.get(&key("k")).await.expect("a layer answers");
    found.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

#[tokio::test]
async fn a_counter_under_write_all_leaves_no_old_copy() {
    let t = pair(FallbackBuilder::write_all);
    set(&t.stack, "5").await.unwrap();
    assert_eq!(
        t.stack.increment(&key("k"), 1, hour()).await.unwrap().value,
        6
    );
    t.first.start_outage(refused());
    assert_ne!(get(&t.stack).await.as_deref(), Some("5"));
}

#[tokio::test]
async fn expire_now_makes_nothing_stale_of_what_was_overwritten() {
    let t = pair(|builder| builder);
    let old = entry("old").with_stale_for(hours(1)).unwrap();
    t.stack
        .set(&key("k"), old, Condition::Always)
        .await
        .unwrap();
    t.first.start_outage(refused());
    set(&t.stack, "new").await.unwrap();
    t.first.end_outage();
    assert!(t.stack.expire_now(&key("k")).await.unwrap());
    assert_eq!(get(&t.stack).await, None);
}

#[tokio::test]
async fn what_was_created_in_the_moment_of_an_overflow_is_old() {
    let t = pair(|builder| builder.journal_capacity(1));
    let old = entry("old").with_created_at(t.clock.wall());
    t.stack
        .set(&key("k"), old, Condition::Always)
        .await
        .unwrap();
    t.first.start_outage(refused());
    t.stack.delete(&key("k")).await.unwrap();
    t.stack.delete(&key("other")).await.unwrap();
    t.first.end_outage();
    assert!(t.stack.layers()[0].overflowed_at.is_some());
    assert_eq!(get(&t.stack).await, None);
}

#[tokio::test]
async fn of_a_key_named_twice_only_the_last_value_falls_back() {
    let t = pair(|builder| builder);
    let clock = t.clock.clone();
    let first = ChaosStorage::new(EachByItself(MemoryCacheStorage::with_clock(clock)));
    let second = t.second.clone();
    let stack = FallbackStorage::new(first.clone(), second);
    first.add(refused().on(Operation::Set).nth(1));
    let batch = vec![(key("k"), entry("old")), (key("k"), entry("new"))];
    // The first of both fails in the first layer, the second one does not.
    FAIL_FIRST.with(|fail| fail.set(true));
    let outcomes = stack.set_many(batch).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(stack.layers()[0].journalled, 1);
    _ = get(&stack).await;
    first.start_outage(refused());
    assert_ne!(get(&stack).await.as_deref(), Some("old"));
}

#[tokio::test]
async fn a_write_that_the_fallback_refuses_revives_no_copy() {
    let clock = ManualClock::new();
    let first = ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let small = MemoryOptions::default()
        .with_clock(clock)
        .with_max_value_bytes(10);
    let second = MemoryCacheStorage::with_options(small).unwrap();
    let stack = FallbackStorage::new(first.clone(), second);
    first.start_outage(refused());
    set(&stack, "old").await.unwrap();
    first.end_outage();
    set(&stack, "new").await.unwrap();
    first.start_outage(refused());
    assert_eq!(get(&stack).await, None);
    set(&stack, &"large".repeat(10)).await.unwrap_err();
    assert_ne!(get(&stack).await.as_deref(), Some("old"));
}

#[tokio::test]
async fn a_write_given_up_in_the_fallback_revives_no_copy() {
    let t = pair(|builder| builder);
    t.first.start_outage(refused());
    set(&t.stack, "old").await.unwrap();
    t.first.end_outage();
    set(&t.stack, "new").await.unwrap();
    t.first.start_outage(refused());
    assert_eq!(get(&t.stack).await, None);
    t.second.start_outage(Plan::hang());
    {
        let mut call = pin!(set(&t.stack, "newest"));
        poll_fn(|context| {
            assert!(call.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    t.second.end_outage();
    let read = t.stack.get(&key("k")).await;
    let value = read.ok().flatten().map(|entry| entry.value);
    assert_ne!(value.as_deref(), Some(&b"old"[..]));
}

#[tokio::test]
async fn counters_count_after_an_overflow_however_many_there_were() {
    let t = pair(|builder| builder.journal_capacity(1));
    t.first.start_outage(refused());
    t.stack.delete(&key("a")).await.unwrap();
    t.stack.delete(&key("b")).await.unwrap();
    t.first.end_outage();
    for expected in 1..=3 {
        let counter = t.stack.increment(&key("first"), 1, hour()).await.unwrap();
        assert_eq!(counter.value, expected);
    }
    for expected in 1..=3 {
        let counter = t.stack.increment(&key("second"), 1, hour()).await.unwrap();
        assert_eq!(counter.value, expected);
    }
}

#[tokio::test]
async fn after_an_overflow_a_lock_has_one_owner() {
    let t = pair(|builder| builder.journal_capacity(1));
    set(&t.stack, "old").await.unwrap();
    t.first.start_outage(refused());
    t.stack.delete(&key("k")).await.unwrap();
    t.stack.delete(&key("other")).await.unwrap();
    t.first.end_outage();
    // Both find the old entry; the second one's delete comes after the first one's set.
    t.first
        .add(Plan::hang().on(Operation::CompareAndDelete).nth(1));
    let own = |name: &'static str| {
        let stack = &t.stack;
        async move { stack.set(&key("k"), entry(name), Condition::IfAbsent).await }
    };
    let mut slow = pin!(own("slow"));
    poll_fn(|context| {
        assert!(slow.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    let quick = own("quick").await;
    t.first.release();
    let slow = slow.await;
    let owners = [&quick, &slow]
        .into_iter()
        .filter(|owner| matches!(owner, Ok(true)));
    assert!(owners.count() <= 1, "{quick:?} {slow:?}");
}

#[tokio::test]
async fn a_key_that_is_written_all_the_time_leaves_the_journal() {
    let t = pair(|builder| builder);
    t.first.start_outage(refused());
    set(&t.stack, "v").await.unwrap();
    t.first.end_outage();
    t.first.add(Plan::hang().on(Operation::Delete).nth(1));
    let mut drain = pin!(get(&t.stack));
    poll_fn(|context| {
        assert!(drain.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    // Passes the layer by, while the delete of its key is on its way.
    set(&t.stack, "w").await.unwrap();
    t.first.release();
    drain.await;
    assert_eq!(
        t.first.calls_of(Operation::DeleteMany),
        0,
        "deleted once more"
    );
}

use std::cell::Cell;
thread_local! { static FAIL_FIRST: Cell<bool> = const { Cell::new(false) }; }

/// Fails the first entry of a batch when told to.
#[derive(Debug)]
struct EachByItself(MemoryCacheStorage);

#[async_trait::async_trait]
impl CacheStorage for EachByItself {
    fn info(&self) -> &StorageInfo {
        self.0.info()
    }
    async fn get(&self, key: &CacheKey) -> Result<Option<cache_core::Entry>> {
        self.0.get(key).await
    }
    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<cache_core::Entry>>> {
        self.0.get_many(keys).await
    }
    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.0.set(key, entry, condition).await
    }
    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let mut outcomes = Vec::new();
        for (key, entry) in entries {
            if FAIL_FIRST.with(|fail| fail.replace(false)) {
                outcomes.push(Err(CacheError::new(ErrorKind::Connection, "refused")));
            } else {
                outcomes.push(self.0.set(&key, entry, Condition::Always).await.map(drop));
            }
        }
        outcomes
    }
    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.0.delete(key).await
    }
    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        self.0.delete_many(keys).await
    }
    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.0.compare_and_delete(key, expected).await
    }
    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.0.has(key).await
    }
    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.0.expire(key, ttl).await
    }
    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.0.expire_now(key).await
    }
    async fn get_ttl(&self, key: &CacheKey) -> Result<cache_core::TimeLeft> {
        self.0.get_ttl(key).await
    }
    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<cache_core::Counter> {
        self.0.increment(key, delta, ttl).await
    }
    async fn clear(&self, scope: &cache_core::ClearScope) -> Result<cache_core::Cleared> {
        self.0.clear(scope).await
    }
    fn get_stats(&self) -> cache_core::StorageStats {
        self.0.get_stats()
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
    async fn shutdown(&self, budget: std::time::Duration) -> Result<()> {
        self.0.shutdown(budget).await
    }
}

/// A pair whose second layer takes values of 8 bytes at most.
fn narrow_pair() -> (FallbackStorage, ChaosStorage) {
    let first = ChaosStorage::new(MemoryCacheStorage::new());
    let narrow = MemoryOptions::default().with_max_value_bytes(8);
    let second = MemoryCacheStorage::with_options(narrow).expect("the options are sound");
    let stack = FallbackStorage::builder(first.clone())
        .then(second)
        .write_all();
    (stack.build().expect("the options are sound"), first)
}

#[tokio::test]
async fn a_batch_that_one_layer_refuses_leaves_no_old_value_in_it() {
    let (stack, first) = narrow_pair();
    set(&stack, "old").await.unwrap();
    let batch = vec![(key("k"), entry("too long for one"))];
    assert!(stack.set_many(batch).await[0].is_ok());
    first.start_outage(refused());
    assert_eq!(get(&stack).await, None);
}

#[tokio::test]
async fn a_value_that_is_too_large_for_all_loses_nothing() {
    let (stack, _) = narrow_pair();
    set(&stack, "old").await.unwrap();
    let large = "x".repeat(StorageInfo::MAX_VALUE_BYTES + 1);
    let error = set(&stack, &large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let batch = stack.set_many(vec![(key("k"), entry(large))]).await;
    assert_eq!(batch[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(get(&stack).await.as_deref(), Some("old"));
    assert!(stack.layers().iter().all(|layer| layer.journalled == 0));
}

/// That there is nothing is an entry that is never fresh, with a stale budget alone.
#[tokio::test]
async fn an_absence_is_remembered_by_the_layer_that_can() {
    let t = pair(|builder| builder);
    t.first.start_outage(refused());
    let absent = NewEntry::stale("", mins(5)).unwrap();
    t.stack
        .set(&key("k"), absent, Condition::Always)
        .await
        .unwrap();
    let found = t.stack.get(&key("k")).await.unwrap();
    assert!(found.is_some(), "it is there for the layer's longest time");
    assert!(!t.stack.has(&key("k")).await.unwrap(), "and not fresh");
    t.clock.advance(mins(1));
    assert!(t.stack.get(&key("k")).await.unwrap().is_none());
}
