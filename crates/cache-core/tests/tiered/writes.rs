//! What a write does to each tier, and what becomes of those that miss it.

use cache_core::{CacheStorage as _, ClearScope, Operation, TimeLeft, mins};

use super::*;

#[tokio::test]
async fn a_write_reaches_every_tier_the_last_one_first() {
    let t = pair();
    t.slow.start_outage(Plan::hang().on(Operation::Set));
    let stack = Arc::clone(&t.stack);
    let writing = tokio::spawn(async move { set(&*stack, "k", entry("v")).await });
    t.slow.wait_until_hung(1).await;
    assert_eq!(t.fast.calls(), 0);
    t.slow.end_outage();
    t.slow.release();
    writing.await.unwrap().unwrap();
    assert_eq!(held(&t.fast, "k").await.as_deref(), Some("v"));
    assert_eq!(held(&t.slow, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_write_that_the_last_tier_refuses_is_nowhere_and_neither_is_the_old_value() {
    for outage in [refused, lost] {
        let t = pair();
        set(&*t.stack, "k", entry("old")).await.unwrap();
        t.slow.start_outage(outage());
        assert!(set(&*t.stack, "k", entry("new")).await.is_err());
        assert!(t.stack.get(&key("k")).await.is_err(), "nobody knows");
        assert_eq!(held(&t.fast, "k").await, None);
        t.slow.end_outage();
        assert_eq!(get(&*t.stack, "k").await, None);
        set(&*t.stack, "k", entry("newest")).await.unwrap();
        assert_eq!(get(&*t.stack, "k").await, answer("newest", "fast"));
    }
}

#[tokio::test]
async fn a_refused_write_leaves_everything_as_it_was() {
    let t = pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    let large = entry("v".repeat(2 * 1024 * 1024));
    let error = set(&*t.stack, "k", large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
}

#[tokio::test]
async fn a_fast_tier_that_missed_an_overwrite_is_not_read_for_it() {
    let t = pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    t.fast
        .start_outage(refused().on(Operation::Set).on(Operation::Delete));
    assert!(set(&*t.stack, "k", entry("new")).await.unwrap());
    assert_eq!(t.stack.tiers()[0].journalled, 1);
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
    t.fast.end_outage();
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
    assert_eq!(get(&*t.stack, "k").await, answer("new", "fast"));
    assert_eq!(t.stack.tiers()[0].journalled, 0);
}

#[tokio::test]
async fn a_batch_is_written_entry_by_entry() {
    let t = pair();
    set(&*t.stack, "a", entry("old")).await.unwrap();
    set(&*t.stack, "b", entry("old")).await.unwrap();
    t.slow.start_outage(refused().key("a"));
    let entries = vec![
        (key("a"), entry("lost")),
        (key("b"), entry("first")),
        (key("b"), entry("second")),
        (key(""), entry("no key")),
        (key("n"), entry("7")),
    ];
    let outcomes = t.stack.set_many(entries).await;
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(CacheError::kind))
        .collect();
    let (lost, none) = (Some(ErrorKind::Connection), None);
    assert_eq!(kinds, [lost, none, none, Some(ErrorKind::Key), none]);
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "a").await, None);
    assert_eq!(get(&*t.stack, "b").await, answer("second", "fast"));
    assert_eq!(get(&*t.stack, "n").await, answer("7", "slow"));
}

#[tokio::test]
async fn deletes_of_many_keys_have_the_outcomes_of_the_last_tier() {
    let t = pair();
    for name in ["a", "b"] {
        set(&*t.stack, name, entry("v")).await.unwrap();
    }
    t.fast.start_outage(refused().key("a"));
    t.slow.start_outage(refused().key("b"));
    let outcomes = t.stack.delete_many(&[key("a"), key("b"), key("")]).await;
    assert!(outcomes[0].is_ok());
    assert_eq!(
        outcomes[1].as_ref().unwrap_err().kind(),
        ErrorKind::Connection
    );
    assert_eq!(outcomes[2].as_ref().unwrap_err().kind(), ErrorKind::Key);
    t.fast.end_outage();
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "a").await, None);
    assert_eq!(get(&*t.stack, "b").await, None);
}

#[tokio::test]
async fn the_last_tier_says_whether_a_delete_found_something() {
    let t = pair();
    set(&t.fast, "k", entry("copy of what is gone"))
        .await
        .unwrap();
    assert!(!t.stack.delete(&key("k")).await.unwrap());
    assert_eq!(held(&t.fast, "k").await, None);
}

#[tokio::test]
async fn expire_is_decided_by_the_last_tier_and_drops_the_copies() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    assert!(t.stack.expire(&key("k"), ttl(mins(2))).await.unwrap());
    assert_eq!(held(&t.fast, "k").await, None);
    let left = t.stack.get_ttl(&key("k")).await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(mins(2)));
    set(&t.fast, "copy", entry("of nothing")).await.unwrap();
    assert!(!t.stack.expire(&key("copy"), ttl(mins(2))).await.unwrap());
    assert_eq!(get(&*t.stack, "copy").await, None);
}

#[tokio::test]
async fn an_expire_of_unknown_outcome_leaves_no_copy_that_lives_longer() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.slow.start_outage(lost().on(Operation::Expire));
    assert!(t.stack.expire(&key("k"), ttl(mins(2))).await.is_err());
    t.clock.advance(mins(3));
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn expire_now_keeps_the_stale_budget_in_every_tier() {
    let t = pair();
    let written = entry("v").with_stale_for(mins(5)).unwrap();
    set(&*t.stack, "k", written).await.unwrap();
    assert!(t.stack.expire_now(&key("k")).await.unwrap());
    assert!(!t.stack.has(&key("k")).await.unwrap());
    t.slow.start_outage(refused());
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
}

#[tokio::test]
async fn expire_now_makes_nothing_stale_of_what_was_overwritten() {
    let t = pair();
    let old = entry("old").with_stale_for(mins(5)).unwrap();
    set(&*t.stack, "k", old).await.unwrap();
    t.fast.start_outage(refused());
    set(&*t.stack, "k", entry("new")).await.unwrap();
    t.fast.end_outage();
    assert!(t.stack.expire_now(&key("k")).await.unwrap());
    assert_eq!(held(&t.fast, "k").await, None);
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn a_clear_is_complete_where_every_tier_is() {
    let t = pair();
    set(&*t.stack, "a:1", entry("v")).await.unwrap();
    set(&*t.stack, "b:1", entry("v")).await.unwrap();
    t.fast.start_outage(refused().on(Operation::Clear));
    let scope = ClearScope::prefix("a").unwrap();
    let cleared = t.stack.clear(&scope).await.unwrap();
    assert!(!cleared.complete);
    t.fast.end_outage();
    let cleared = t.stack.clear(&scope).await.unwrap();
    assert!(cleared.complete);
    assert_eq!(get(&*t.stack, "a:1").await, None);
    assert_eq!(get(&*t.stack, "b:1").await, answer("v", "fast"));
    t.slow.start_outage(refused());
    t.fast.start_outage(refused());
    assert!(t.stack.clear(&scope).await.is_err());
}

#[tokio::test]
async fn conditions_are_judged_by_the_last_tier_alone() {
    let t = pair();
    set(&t.fast, "k", entry("copy of what is gone"))
        .await
        .unwrap();
    let absent = Condition::IfAbsent;
    let written = t.stack.set(&key("k"), entry("mine"), absent.clone()).await;
    assert!(written.unwrap());
    assert_eq!(get(&*t.stack, "k").await, answer("mine", "slow"));
    assert!(
        !t.stack
            .set(&key("k"), entry("yours"), absent)
            .await
            .unwrap()
    );
    let equals = Condition::IfEquals("mine".into());
    assert!(t.stack.set(&key("k"), entry("next"), equals).await.unwrap());
    assert_eq!(get(&*t.stack, "k").await, answer("next", "slow"));
    assert!(
        t.stack
            .compare_and_delete(&key("k"), b"next")
            .await
            .unwrap()
    );
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn a_conditional_write_of_unknown_outcome_leaves_no_copy() {
    let t = pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    t.slow.start_outage(lost().on(Operation::Set));
    let present = Condition::IfPresent;
    assert!(t.stack.set(&key("k"), entry("new"), present).await.is_err());
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
}

#[tokio::test]
async fn a_journal_that_overflows_makes_the_tiers_older_entries_misses() {
    let t = pair_with(TierOptions::default(), |builder| {
        builder.journal_capacity(1)
    });
    for name in ["a", "b", "c"] {
        set(&*t.stack, name, entry("old")).await.unwrap();
    }
    t.fast.start_outage(refused());
    for name in ["a", "b"] {
        set(&*t.stack, name, entry("new")).await.unwrap();
    }
    t.fast.end_outage();
    assert!(t.stack.tiers()[0].overflowed_at.is_some());
    for name in ["a", "b"] {
        assert_eq!(get(&*t.stack, name).await, answer("new", "slow"));
    }
    assert_eq!(get(&*t.stack, "c").await, answer("old", "slow"));
    set(&*t.stack, "c", entry("newer")).await.unwrap();
    assert_eq!(get(&*t.stack, "c").await, answer("newer", "fast"));
}

/// A server without memory left, or a replica, refuses every write and answers reads: only the keys
/// that it owes a delete may not be read.
#[tokio::test]
async fn a_last_tier_that_refuses_writes_still_answers_reads_of_other_keys() {
    let t = pair();
    set(&t.slow, "other", entry("v")).await.unwrap();
    for operation in [Operation::Set, Operation::Delete, Operation::DeleteMany] {
        t.slow
            .add(Plan::fail(error(ErrorKind::Backend)).on(operation));
    }
    assert!(set(&*t.stack, "k", entry("new")).await.is_err());
    assert_eq!(get(&*t.stack, "other").await, answer("v", "slow"));
    let many = t.stack.get_many(&[key("other"), key("none")]).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
    let counter = t.stack.increment(&key("n"), 1, ttl(hours(1))).await;
    assert_eq!(counter.unwrap().value, 1);
    assert!(t.stack.get(&key("k")).await.is_err(), "nobody knows");
}

#[tokio::test]
async fn an_expire_that_is_dropped_half_way_leaves_no_longer_copies() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.slow
        .start_outage(Plan::hang_after().on(Operation::Expire));
    let stack = Arc::clone(&t.stack);
    let name = key("k");
    let expiring = tokio::spawn(async move { stack.expire(&name, ttl(secs(1))).await });
    t.slow.wait_until_hung(1).await;
    expiring.abort();
    drop(expiring.await);
    t.slow.end_outage();
    t.slow.release();
    t.clock.advance(mins(1));
    assert_eq!(get(&*t.stack, "k").await, None);
}
