//! The behavioural cases of two tiers, by number.

use cache_core::{
    CacheService, CacheStorage as _, CodecId, LookupStatus, OnTrouble, Operation, TierAccess,
    TimeLeft, Timestamp, mins, secs,
};

use super::*;

fn service(t: &Pair, on_trouble: OnTrouble) -> CacheService {
    let builder = CacheService::builder(Arc::clone(&t.stack)).ttl(mins(10));
    let service = builder.on_trouble(on_trouble).build();
    service.expect("the service is sound")
}

#[tokio::test]
async fn case_33_a_hit_of_the_second_tier_is_promoted_with_its_age_and_time_left() {
    let t = pair();
    let made = Timestamp::from_millis(5);
    set(&t.slow, "k", entry("v").with_created_at(made))
        .await
        .unwrap();
    t.clock.advance(mins(45));
    assert_eq!(get(&*t.stack, "k").await, answer("v", "slow"));
    let promoted = t.fast.get(&key("k")).await.unwrap().unwrap();
    assert_eq!(promoted.created_at, Some(made));
    let left = t.fast.get_ttl(&key("k")).await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(mins(15)));
}

#[tokio::test]
async fn case_34_what_the_first_tier_holds_works_while_the_second_is_down() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.slow.start_outage(refused());
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
    assert!(t.stack.has(&key("k")).await.unwrap());
    let left = t.stack.get_ttl(&key("k")).await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(hours(1)));
    let found = t.stack.get_many(&[key("k")]).await.remove(0).unwrap();
    assert_eq!(found.unwrap().tier, Some("fast"));
}

#[tokio::test]
async fn case_35_a_timeout_of_the_second_tier_is_trouble_or_the_first_tiers_stale_value() {
    let t = pair();
    let timeout = || Plan::fail(error(ErrorKind::Timeout));
    t.slow.start_outage(timeout());
    let unknown = service(&t, OnTrouble::Miss)
        .lookup::<String>("k")
        .await
        .unwrap();
    assert_eq!(unknown.status, LookupStatus::Unknown);
    t.slow.end_outage();
    let short = NewEntry::new("\"v\"", ttl(secs(1)));
    let short = short.with_stale_for(mins(1)).unwrap();
    set(&*t.stack, "k", short).await.unwrap();
    t.clock.advance(secs(2));
    t.slow.start_outage(timeout());
    let stale = service(&t, OnTrouble::Error)
        .lookup::<String>("k")
        .await
        .unwrap();
    assert_eq!(stale.status, LookupStatus::Stale);
    t.clock.advance(mins(1));
    let found = t.stack.get(&key("k")).await;
    assert_eq!(
        found.unwrap_err().kind(),
        ErrorKind::Timeout,
        "past the limit"
    );
}

#[tokio::test]
async fn case_36_nothing_older_is_read_after_an_outage_of_the_second_tier() {
    let t = pair();
    for name in ["overwritten", "deleted", "spared"] {
        set(&*t.stack, name, entry("old")).await.unwrap();
    }
    t.slow.start_outage(Plan::fail(error(ErrorKind::Rejected)));
    assert!(set(&*t.stack, "overwritten", entry("new")).await.is_err());
    assert!(t.stack.delete(&key("deleted")).await.is_err());
    assert_eq!(t.stack.tiers()[1].journalled, 2);
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "overwritten").await, None);
    assert_eq!(get(&*t.stack, "deleted").await, None);
    assert_eq!(get(&*t.stack, "spared").await, answer("old", "fast"));
    assert_eq!(held(&t.slow, "spared").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn case_37_undecodable_bytes_of_the_second_tier_follow_the_policy() {
    let t = pair();
    let odd = entry("no json").with_codec(CodecId::Json);
    set(&t.slow, "k", odd).await.unwrap();
    let strict = service(&t, OnTrouble::Error).get::<u32>("k").await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Serialization);
    let lenient = service(&t, OnTrouble::Miss);
    assert_eq!(lenient.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn case_37_a_tier_that_cannot_read_its_own_entry_is_skipped_for_it() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.fast
        .start_outage(Plan::fail(error(ErrorKind::Serialization)));
    assert_eq!(get(&*t.stack, "k").await, answer("v", "slow"));
    t.slow
        .start_outage(Plan::fail(error(ErrorKind::Serialization)));
    let both = t.stack.get(&key("k")).await.unwrap_err();
    assert_eq!(both.kind(), ErrorKind::Serialization);
}

#[tokio::test]
async fn case_38_the_second_tier_answers_after_the_first_has_expired() {
    let t = capped_pair();
    let written = NewEntry::new("v", ttl(mins(1))).with_stale_for(mins(5));
    set(&*t.stack, "k", written.unwrap()).await.unwrap();
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
    t.clock.advance(secs(30));
    assert_eq!(get(&*t.stack, "k").await, answer("v", "slow"));
    t.clock.advance(mins(3));
    assert_eq!(held(&t.fast, "k").await, None);
    assert_eq!(get(&*t.stack, "k").await, answer("v", "slow"), "stale");
}

#[tokio::test]
async fn case_39_the_cap_bounds_how_long_another_processs_write_is_unseen() {
    let t = capped_pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    // Another process has a first tier of its own.
    set(&t.slow, "k", entry("new")).await.unwrap();
    t.clock.advance(millis_before_the_cap());
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
    t.clock.advance(cache_core::millis(1));
    assert_eq!(get(&*t.stack, "k").await, answer("new", "slow"));
}

fn millis_before_the_cap() -> std::time::Duration {
    secs(10) - cache_core::millis(1)
}

#[tokio::test]
async fn case_40_a_call_may_leave_either_tier_out() {
    let t = pair();
    let view = |access: TierAccess| t.stack.with_tiers(&access).unwrap().unwrap();
    for (name, other) in [("fast", &t.fast), ("slow", &t.slow)] {
        other.start_outage(refused());
        let without = view(TierAccess::new().skip_reads(name).skip_writes(name));
        let before = other.calls();
        set(&*without, "k", entry("v")).await.unwrap();
        assert!(get(&*without, "k").await.is_some());
        assert!(without.delete(&key("k")).await.unwrap());
        assert_eq!(other.calls(), before, "a broken tier is not touched");
        other.end_outage();
    }
}

#[tokio::test]
async fn case_42_a_delete_reaches_the_other_tiers_and_names_the_one_it_missed() {
    let t = pair();
    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.fast.start_outage(refused().on(Operation::Delete));
    let report = t.stack.delete_report(&key("k")).await.unwrap();
    assert_eq!((report.existed, report.missed), (true, vec!["fast"]));
    t.fast.end_outage();
    assert_eq!(get(&*t.stack, "k").await, None);

    set(&*t.stack, "k", entry("v")).await.unwrap();
    t.slow.start_outage(refused());
    let error = t.stack.delete_report(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert_eq!(held(&t.fast, "k").await, None);
    t.slow.end_outage();
    assert_eq!(get(&*t.stack, "k").await, None);
}

#[tokio::test]
async fn case_49_trouble_surfaces_only_where_no_tier_answered() {
    let t = pair();
    let strict = service(&t, OnTrouble::Error);
    strict.set("k", &"v").await.unwrap();
    t.slow.start_outage(refused());
    assert_eq!(strict.get("k").await.unwrap(), Some("v".to_owned()));
    let unknown = strict.get::<String>("other").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Connection);
    let lenient = service(&t, OnTrouble::Miss);
    assert_eq!(lenient.get::<String>("other").await.unwrap(), None);
    t.slow.end_outage();
    t.fast.start_outage(refused());
    assert_eq!(strict.get("k").await.unwrap(), Some("v".to_owned()));
}
