//! What callers see while a layer is away, and after it.

use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, ErrorKind, FallbackStorage, ManualClock,
    NewEntry, Operation, TimeLeft, Ttl, hours, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};

struct Pair {
    stack: FallbackStorage,
    first: ChaosStorage,
    second: ChaosStorage,
}

fn pair() -> Pair {
    let clock = ManualClock::new();
    let layer = || ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let (first, second) = (layer(), layer());
    Pair {
        stack: FallbackStorage::new(first.clone(), second.clone()),
        first,
        second,
    }
}

fn refused() -> Plan {
    Plan::fail(CacheError::new(ErrorKind::Connection, "connection refused"))
}

fn key() -> CacheKey {
    CacheKey::from("k")
}

async fn set(storage: &dyn CacheStorage, value: &str) -> Result<bool, CacheError> {
    let entry = NewEntry::new(value.to_owned(), Ttl::new(hours(1)).expect("an hour"));
    storage.set(&key(), entry, Condition::Always).await
}

async fn get(storage: &dyn CacheStorage) -> Option<String> {
    let found = storage.get(&key()).await.expect("a layer answers");
    found.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

#[tokio::test]
async fn a_write_lands_in_the_fallback_for_a_minute_at_most() {
    let Pair {
        stack,
        first,
        second,
        ..
    } = pair();
    first.start_outage(refused());
    assert!(set(&stack, "v").await.unwrap());
    assert_eq!(get(&stack).await.as_deref(), Some("v"));
    let left = second.get_ttl(&key()).await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(secs(60)));
    assert_eq!(stack.layers()[0].journalled, 1);
}

#[tokio::test]
async fn what_was_missed_is_deleted_before_the_layer_is_read_again() {
    let Pair {
        stack,
        first,
        second,
        ..
    } = pair();
    set(&stack, "old").await.unwrap();
    first.start_outage(refused());
    let report = stack.delete_report(&key()).await.unwrap();
    assert_eq!(report.missed, ["memory"]);
    assert_eq!(get(&stack).await, None);
    first.end_outage();
    assert_eq!(first.get(&key()).await.unwrap().unwrap().value, "old");
    assert_eq!(get(&stack).await, None);
    assert_eq!(first.get(&key()).await.unwrap(), None);
    assert_eq!(stack.layers()[0].journalled, 0);
    assert_eq!(
        second.calls_of(Operation::Get),
        1,
        "the first layer answers again"
    );
}

#[tokio::test]
async fn a_copy_that_was_overtaken_is_not_read() {
    let Pair { stack, first, .. } = pair();
    first.start_outage(refused());
    set(&stack, "in the fallback").await.unwrap();
    first.end_outage();
    set(&stack, "newer").await.unwrap();
    first.start_outage(refused());
    assert_eq!(get(&stack).await, None);
}

#[tokio::test]
async fn counters_and_conditions_never_fall_back() {
    let Pair {
        stack,
        first,
        second,
        ..
    } = pair();
    first.start_outage(refused());
    let ttl = Ttl::new(mins(1)).unwrap();
    let error = stack.increment(&key(), 1, ttl).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    let entry = NewEntry::new("v", ttl);
    let set = stack.set(&key(), entry, Condition::IfAbsent).await;
    assert_eq!(set.unwrap_err().kind(), ErrorKind::Connection);
    assert!(stack.compare_and_delete(&key(), b"v").await.is_err());
    assert_eq!(second.calls(), 0);
}

#[tokio::test]
async fn when_all_fail_the_error_is_the_first_layers() {
    let Pair {
        stack,
        first,
        second,
        ..
    } = pair();
    first.start_outage(refused());
    let lost = CacheError::new(ErrorKind::Timeout, "no answer").with_may_have_happened(true);
    second.start_outage(Plan::fail_after(lost));
    let error = set(&stack, "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.may_have_happened());
    assert!(stack.delete(&key()).await.is_err());
}

#[tokio::test]
async fn a_dropped_write_is_remembered_by_the_layer_that_had_failed() {
    let Pair {
        stack,
        first,
        second,
        ..
    } = pair();
    first.start_outage(refused());
    second.start_outage(Plan::hang());
    let write = set(&stack, "v");
    tokio::select! {
        biased;
        _ = write => unreachable!("the second layer hangs"),
        () = second.wait_until_hung(1) => {}
    }
    assert_eq!(stack.layers()[0].journalled, 1);
}

#[tokio::test]
async fn after_an_overflow_older_entries_are_misses_and_newer_ones_are_not() {
    let clock = ManualClock::new();
    let layer = || ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let (first, second) = (layer(), layer());
    let stack = FallbackStorage::builder(first.clone())
        .then(second)
        .journal_capacity(1)
        .build()
        .unwrap();
    set(&stack, "old").await.unwrap();
    first.start_outage(refused());
    for number in 0..2 {
        stack
            .delete(&CacheKey::from(format!("{number}")))
            .await
            .unwrap();
    }
    assert!(stack.layers()[0].overflowed_at.is_some());
    first.end_outage();
    assert_eq!(get(&stack).await, None);
    assert!(!stack.has(&key()).await.unwrap());
    set(&stack, "new").await.unwrap();
    assert_eq!(get(&stack).await.as_deref(), Some("new"));
    clock.advance(hours(2));
    assert_eq!(get(&stack).await, None);
}

#[test]
fn contradictions_are_refused_all_at_once() {
    let error = FallbackStorage::builder(MemoryCacheStorage::new())
        .journal_capacity(0)
        .fallback_ttl(secs(0))
        .counters_in(3)
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    for option in ["then", "fallback_ttl", "journal_capacity", "counters_in"] {
        assert!(error.to_string().contains(option), "{error}");
    }
}
