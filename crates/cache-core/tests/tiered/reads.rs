//! Who answers a read, and what is promoted.

use std::sync::{Arc, Mutex, PoisonError};

use cache_core::{
    CacheStorage as _, Clock as _, CodecId, ErrorKind, Event, Expiry, Observer, Observers,
    Operation, TieredStorage, TimeLeft, Timestamp, hours, mins, secs,
};
use cache_memory::{MemoryCacheStorage, MemoryOptions};

use super::*;

#[tokio::test]
async fn the_fastest_tier_that_has_a_fresh_entry_answers() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    let slow_calls = t.slow.calls();
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
    assert_eq!(t.slow.calls(), slow_calls);
}

#[tokio::test]
async fn a_hit_in_a_slower_tier_is_promoted_as_it_was_written() {
    let t = pair();
    let made = Timestamp::from_millis(7);
    let written = entry("v").with_created_at(made).with_codec(CodecId::Raw);
    let written = written.with_stale_for(mins(5)).unwrap();
    set(&t.slow, "k", written).await.unwrap();
    t.clock.advance(mins(20));
    assert_eq!(get(&*t.stack, "k").await, answer("v", "slow"));
    let slow = t.slow.get(&key("k")).await.unwrap().unwrap();
    let fast = t.fast.get(&key("k")).await.unwrap().unwrap();
    assert_eq!(fast, slow);
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
}

#[tokio::test]
async fn an_entry_without_end_is_promoted_without_one() {
    let t = pair();
    let forever = NewEntry::new("v", Ttl::FOREVER);
    set(&t.slow, "k", forever).await.unwrap();
    get(&*t.stack, "k").await;
    let fast = t.fast.get(&key("k")).await.unwrap().unwrap();
    assert_eq!(fast.expires_at, Expiry::Never);
}

#[tokio::test]
async fn a_copy_never_lives_longer_than_the_cap_or_than_the_writer_said() {
    for (left, kept) in [(mins(60), secs(10)), (secs(4), secs(4))] {
        let t = capped_pair();
        set(&t.slow, "k", entry("v")).await.unwrap();
        t.clock.advance(hours(1) - left);
        get(&*t.stack, "k").await;
        let promoted = t.fast.get_ttl(&key("k")).await.unwrap();
        assert_eq!(promoted, TimeLeft::Remaining(kept));
    }
}

#[tokio::test]
async fn a_capped_copy_with_a_stale_budget_ends_with_the_original_at_the_latest() {
    let t = capped_pair();
    let written = entry("v").with_stale_for(mins(5)).unwrap();
    set(&*t.stack, "k", written).await.unwrap();
    let fast = t.fast.get(&key("k")).await.unwrap().unwrap();
    let now = t.clock.wall();
    assert_eq!(fast.expires_at, Expiry::At(now.after(secs(10))));
    assert_eq!(fast.stale_until, Expiry::At(now.after(secs(20))));
}

#[tokio::test]
async fn a_tier_in_trouble_is_skipped_counted_and_told() {
    #[derive(Debug, Default, Clone)]
    struct Told(Arc<Mutex<Vec<String>>>);
    impl Observer for Told {
        fn observe(&self, event: &Event<'_>) {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(format!("{event:?}"));
        }
    }
    let (told, clock) = (Told::default(), ManualClock::new());
    let (fast, slow) = (tier(&clock), tier(&clock));
    let builder = TieredStorage::builder()
        .tier_with(fast.clone(), named("fast"))
        .tier(slow.clone())
        .observers(Observers::new(told.clone()));
    let stack = builder.build().unwrap();
    set(&stack, "k", entry("v")).await.unwrap();
    fast.start_outage(refused());
    assert_eq!(get(&stack, "k").await, answer("v", "memory"));
    assert_eq!(
        fast.calls_of(Operation::Set),
        1,
        "nothing is promoted into it"
    );
    let told = told.0.lock().unwrap().clone();
    assert_eq!(
        told,
        ["TierSkipped { tier: \"fast\", reason: \"connection\" }"]
    );
    let tiers = stack.tiers();
    let counts = |tier: &cache_core::TierStatus| (tier.name, tier.hits, tier.misses, tier.skips);
    assert_eq!(counts(&tiers[0]), ("fast", 0, 0, 1));
    assert_eq!(counts(&tiers[1]), ("memory", 1, 0, 0));
    assert_eq!(stack.get_stats().hits, 1);
}

#[tokio::test]
async fn absent_is_what_the_last_tier_says_whatever_the_others_suffer_from() {
    let t = pair();
    t.fast.start_outage(refused());
    assert_eq!(get(&*t.stack, "k").await, None);
    assert!(!t.stack.has(&key("k")).await.unwrap());
    assert_eq!(t.stack.get_ttl(&key("k")).await.unwrap(), TimeLeft::Missing);
}

#[tokio::test]
async fn without_the_last_tier_nobody_knows_what_is_absent() {
    let t = pair();
    t.slow.start_outage(refused());
    let errors = [
        t.stack.get(&key("k")).await.unwrap_err(),
        t.stack.lookup(&key("k")).await.unwrap_err(),
        t.stack.get_many(&[key("k")]).await.remove(0).unwrap_err(),
        t.stack.has(&key("k")).await.unwrap_err(),
        t.stack.get_ttl(&key("k")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Connection);
    }
}

#[tokio::test]
async fn a_stale_entry_does_not_end_the_search() {
    let t = pair();
    let short = NewEntry::new("old", ttl(secs(1)));
    let short = short.with_stale_for(mins(5)).unwrap();
    set(&t.fast, "k", short).await.unwrap();
    t.clock.advance(secs(2));
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
    t.slow.start_outage(refused());
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
    assert!(t.stack.has(&key("k")).await.is_err(), "stale is not there");
    t.slow.end_outage();
    set(&t.slow, "k", entry("new")).await.unwrap();
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
    assert_eq!(held(&t.fast, "k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_stale_entry_is_not_promoted() {
    let t = pair();
    let short = NewEntry::new("old", ttl(secs(1)));
    set(&t.slow, "k", short.with_stale_for(mins(5)).unwrap())
        .await
        .unwrap();
    t.clock.advance(secs(2));
    assert_eq!(get(&*t.stack, "k").await, answer("old", "slow"));
    assert_eq!(held(&t.fast, "k").await, None);
}

#[tokio::test]
async fn many_keys_are_asked_for_once_a_tier_and_promoted() {
    let t = pair();
    let names: Vec<_> = (0..200).map(|number| format!("k{number}")).collect();
    for name in &names {
        set(&t.slow, name, entry(name.as_str())).await.unwrap();
    }
    set(&t.fast, "k0", entry("near")).await.unwrap();
    let mut keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    keys.push(key("absent"));
    keys.push(key("k7"));
    let before = t.slow.calls();
    let found = t.stack.get_many(&keys).await;
    assert_eq!(t.slow.calls(), before + 1);
    let found: Vec<_> = found.into_iter().map(|found| found.unwrap()).collect();
    let tier_of = |place: usize| found[place].as_ref().and_then(|entry| entry.tier);
    assert_eq!((tier_of(0), tier_of(1)), (Some("fast"), Some("slow")));
    assert_eq!((tier_of(200), tier_of(201)), (None, Some("slow")));
    for name in &names[1..] {
        assert_eq!(held(&t.fast, name).await.as_ref(), Some(name));
    }
}

#[tokio::test]
async fn one_keys_trouble_is_not_anothers() {
    let t = pair();
    set(&*t.stack, "a", entry("v")).await.unwrap();
    set(&t.slow, "b", entry("v")).await.unwrap();
    t.slow.start_outage(refused().key("b"));
    let found = t.stack.get_many(&[key("a"), key("b"), key("c")]).await;
    assert!(found[0].as_ref().unwrap().is_some());
    assert!(found[1].is_err());
    assert!(found[2].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn the_time_left_is_what_the_last_tier_says() {
    let t = capped_pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    let left = || async { t.stack.get_ttl(&key("k")).await.unwrap() };
    assert_eq!(left().await, TimeLeft::Remaining(hours(1)));
    t.slow.start_outage(refused());
    assert_eq!(
        left().await,
        TimeLeft::Remaining(secs(10)),
        "better than nothing"
    );
}

#[tokio::test]
async fn a_value_too_large_for_a_fast_tier_is_kept_in_the_others() {
    let clock = ManualClock::new();
    let small = MemoryOptions::default().with_max_value_bytes(4);
    let small = MemoryCacheStorage::with_options(small.with_clock(clock.clone())).unwrap();
    let (fast, slow) = (ChaosStorage::new(small), tier(&clock));
    let stack = TieredStorage::builder()
        .tier_with(fast.clone(), named("fast"))
        .tier_with(slow.clone(), named("slow"))
        .build()
        .unwrap();
    set(&stack, "k", entry("old")).await.unwrap();
    set(&stack, "k", entry("larger")).await.unwrap();
    assert_eq!(held(&fast, "k").await, None);
    assert_eq!(get(&stack, "k").await, answer("larger", "slow"));
    assert_eq!(get(&stack, "k").await, answer("larger", "slow"));
    let many = vec![(key("a"), entry("larger")), (key("b"), entry("s"))];
    for outcome in stack.set_many(many).await {
        outcome.unwrap();
    }
    assert_eq!(get(&stack, "a").await, answer("larger", "slow"));
    assert_eq!(get(&stack, "b").await, answer("s", "fast"));
}
