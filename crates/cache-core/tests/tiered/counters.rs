//! Numbers, which live in one tier.

use cache_core::{CacheStorage as _, Clock as _, Operation, TieredStorage, mins, secs};

use super::*;

async fn increment(storage: &dyn CacheStorage, delta: i64) -> Result<i64> {
    let counter = storage.increment(&key("n"), delta, ttl(mins(1))).await?;
    Ok(counter.value)
}

#[tokio::test]
async fn a_counter_is_read_where_it_is_counted() {
    let t = pair();
    for expected in 1..=3 {
        assert_eq!(increment(&*t.stack, 1).await.unwrap(), expected);
        let read = get(&*t.stack, "n").await;
        assert_eq!(read, answer(&expected.to_string(), "slow"));
    }
    assert_eq!(held(&t.fast, "n").await, None);
}

#[tokio::test]
async fn a_number_that_is_set_is_a_counter_and_has_no_copies() {
    let t = pair();
    set(&*t.stack, "n", entry("abc")).await.unwrap();
    set(&*t.stack, "n", entry("41")).await.unwrap();
    assert_eq!(held(&t.fast, "n").await, None);
    // Another process counts on.
    increment(&t.slow, 1).await.unwrap();
    assert_eq!(get(&*t.stack, "n").await, answer("42", "slow"));
    let found = t.stack.get_many(&[key("n")]).await.remove(0).unwrap();
    assert_eq!(text(&found.unwrap()), "42");
    assert_eq!(held(&t.fast, "n").await, None);
}

#[tokio::test]
async fn a_number_with_metadata_is_no_counter_and_has_copies() {
    let t = pair();
    let dated = entry("41").with_created_at(t.clock.wall());
    set(&*t.stack, "n", dated).await.unwrap();
    assert_eq!(get(&*t.stack, "n").await, answer("41", "fast"));
}

#[tokio::test]
async fn an_increment_drops_the_copy_of_what_was_there_before() {
    let t = pair();
    set(&t.fast, "n", entry("of another process's time"))
        .await
        .unwrap();
    increment(&t.slow, 5).await.unwrap();
    assert_eq!(increment(&*t.stack, 1).await.unwrap(), 6);
    assert_eq!(get(&*t.stack, "n").await, answer("6", "slow"));
}

#[tokio::test]
async fn counters_are_never_counted_elsewhere() {
    let t = pair();
    t.slow.start_outage(refused());
    assert!(increment(&*t.stack, 1).await.is_err());
    assert_eq!(t.fast.calls_of(Operation::Increment), 0);
    let lock = key("lock");
    let written = t.stack.set(&lock, entry("me"), Condition::IfAbsent);
    assert!(written.await.is_err());
    assert!(
        t.stack
            .compare_and_delete(&key("lock"), b"me")
            .await
            .is_err()
    );
    assert!(t.stack.get(&key("n")).await.is_err(), "nobody knows");
}

#[tokio::test]
async fn what_is_no_counter_is_left_alone() {
    let t = pair();
    set(&*t.stack, "n", entry("text")).await.unwrap();
    let error = increment(&*t.stack, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotACounter);
    assert_eq!(get(&*t.stack, "n").await, answer("text", "fast"));
}

/// Counters in the second of three tiers.
fn three(clock: &ManualClock) -> (TieredStorage, [ChaosStorage; 3]) {
    let tiers = [tier(clock), tier(clock), tier(clock)];
    let builder = TieredStorage::builder()
        .tier_with(tiers[0].clone(), named("fast"))
        .tier_with(tiers[1].clone(), named("middle"))
        .tier_with(tiers[2].clone(), named("slow"))
        .counters_in("middle");
    (builder.build().expect("the options are sound"), tiers)
}

#[tokio::test]
async fn counters_of_a_tier_in_between_are_nowhere_else() {
    let clock = ManualClock::new();
    let (stack, [fast, middle, slow]) = three(&clock);
    set(&stack, "n", entry("was text")).await.unwrap();
    set(&stack, "n", entry("7")).await.unwrap();
    assert_eq!(held(&fast, "n").await, None);
    assert_eq!(held(&slow, "n").await, None);
    assert_eq!(increment(&stack, 1).await.unwrap(), 8);
    assert_eq!(get(&stack, "n").await, answer("8", "middle"));
    assert!(stack.expire(&key("n"), ttl(secs(9))).await.unwrap());
    let left = stack.get_ttl(&key("n")).await.unwrap();
    assert_eq!(left, cache_core::TimeLeft::Remaining(secs(9)));
    middle.start_outage(refused());
    assert!(
        stack.get(&key("n")).await.is_err(),
        "the last tier does not know"
    );
    assert!(stack.has(&key("n")).await.is_err());
    assert!(stack.get_ttl(&key("n")).await.is_err());
    middle.end_outage();
    assert!(stack.delete(&key("n")).await.unwrap());
    assert_eq!(get(&stack, "n").await, None);
}
