//! Values past their time to live: who gets them, for how long, and when a failed load is repeated.

use std::time::Duration;

use cache_core::{
    CacheError, ErrorKind, LoadOptions, LoadOptionsBuilder, LoadStatus, LoaderOutcome, OnTrouble,
    Operation, SetOptions, Ttl, mins, secs,
};
use cache_testkit::chaos::Plan;

use super::{Fixture, options, short};

fn down() -> LoaderOutcome<u64> {
    LoaderOutcome::failed("the source is down")
}

#[tokio::test]
async fn case_1_a_failed_load_gives_the_old_value_and_says_that_it_is_stale() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let loaded = t.load(&LoadOptions::default(), down()).await.unwrap();
    assert_eq!(short(&loaded), (Some(1), LoadStatus::Stale));
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Loader);
    assert_eq!(loaded.age, Some(mins(2)));
}

#[tokio::test]
async fn case_2_without_a_stale_budget_a_typed_error_carries_the_message() {
    let t = Fixture::with(|builder| builder);
    t.put_stale(1).await;
    let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert_eq!(error.message(), "the source is down");
    assert_eq!(error.operation(), Some(Operation::GetOrLoad));
    assert_eq!(error.key(), Some("t:k"));
}

#[tokio::test]
async fn case_3_a_call_that_refuses_stale_values_gets_the_error() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let strict = options(|o| o.allow_stale(false));
    for loads in 1..=2 {
        let error = t.load(&strict, down()).await.unwrap_err();
        assert_eq!((error.kind(), t.source.loads()), (ErrorKind::Loader, loads));
    }
    let lax = t.got(&LoadOptions::default(), down()).await;
    assert_eq!(lax, (Some(1), LoadStatus::Stale));
}

#[tokio::test]
async fn case_4_a_load_that_succeeds_after_the_expiry_gives_the_new_value() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let options = LoadOptions::default();
    let new = t.got(&options, LoaderOutcome::value(2)).await;
    assert_eq!(new, (Some(2), LoadStatus::Loaded));
    assert_eq!(t.get().await, Some(2));
    let again = t.got(&options, down()).await;
    assert_eq!(again, (Some(2), LoadStatus::Fresh));
}

#[tokio::test]
async fn case_5_a_failed_load_is_repeated_after_the_throttle_and_not_before() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let options = options(|o| o.throttle(secs(10)));
    assert_eq!(t.got(&options, down()).await, (Some(1), LoadStatus::Stale));
    t.clock.advance(secs(10) - Duration::from_millis(1));
    let during = t.load(&options, LoaderOutcome::value(2)).await.unwrap();
    assert_eq!(short(&during), (Some(1), LoadStatus::Stale));
    // Whoever is throttled learns why.
    assert_eq!(during.trouble.unwrap().message(), "the source is down");
    assert_eq!(t.source.loads(), 1);
    t.clock.advance(Duration::from_millis(1));
    let after = t.got(&options, LoaderOutcome::value(2)).await;
    assert_eq!(after, (Some(2), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_5_a_throttle_of_zero_tries_each_time() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let options = options(|o| o.throttle(Duration::ZERO));
    for loads in 1..=3 {
        let stale = t.got(&options, down()).await;
        assert_eq!(
            (stale, t.source.loads()),
            ((Some(1), LoadStatus::Stale), loads)
        );
    }
}

#[tokio::test]
async fn case_5_a_write_or_a_refresh_ends_the_throttle() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let lazy = LoadOptions::default();
    assert_eq!(t.got(&lazy, down()).await, (Some(1), LoadStatus::Stale));
    let refreshing = options(LoadOptionsBuilder::refresh);
    let refreshed = t.got(&refreshing, LoaderOutcome::value(2)).await;
    assert_eq!(refreshed, (Some(2), LoadStatus::Loaded));

    t.clock.advance(mins(2));
    assert_eq!(t.got(&lazy, down()).await, (Some(2), LoadStatus::Stale));
    t.cache.delete("k").await.unwrap();
    let loaded = t.got(&lazy, LoaderOutcome::value(3)).await;
    assert_eq!(loaded, (Some(3), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_5_a_frozen_process_does_not_stretch_the_throttle() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let options = LoadOptions::default();
    assert_eq!(t.got(&options, down()).await, (Some(1), LoadStatus::Stale));
    t.clock.freeze(secs(30));
    let after = t.got(&options, LoaderOutcome::value(2)).await;
    assert_eq!(after, (Some(2), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_6_the_stale_budget_is_extra_time_after_the_time_to_live() {
    // Shorter than the time to live, which is nothing special.
    let t = Fixture::with(|builder| builder.stale_for(secs(1)));
    let put = t.cache.set("k", &1u64);
    put.await.unwrap();
    let options = options(|o| o.throttle(Duration::ZERO));
    t.clock.advance(mins(1));
    assert_eq!(t.got(&options, down()).await, (Some(1), LoadStatus::Stale));
    t.clock.advance(secs(1));
    let error = t.load(&options, down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn case_6_failures_do_not_extend_the_stale_budget() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let options = options(|o| o.throttle(secs(1)));
    for _ in 0..4 {
        assert_eq!(t.got(&options, down()).await, (Some(1), LoadStatus::Stale));
        t.clock.advance(mins(1));
    }
    let error = t.load(&options, down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn case_6_a_budget_that_ends_while_the_loader_runs_is_over() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let clock = t.clock.clone();
    let options = LoadOptions::default();
    let load = t.cache.load("k", &options, move |_| async move {
        clock.advance(mins(10));
        LoaderOutcome::<u64>::failed("the source is down")
    });
    assert_eq!(load.await.unwrap_err().kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn case_7_the_default_is_returned_and_kept_for_the_throttle_and_no_longer() {
    let t = Fixture::with(|builder| builder.jitter(1.0));
    let defaults = options(|o| o.or_default(9u64).throttle(secs(10)));
    let loaded = t.load(&defaults, down()).await.unwrap();
    assert_eq!(short(&loaded), (Some(9), LoadStatus::Default));
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Loader);
    // Jitter is not for the throttle: it holds to its last millisecond.
    t.clock.advance(secs(10) - Duration::from_millis(1));
    let during = t.got(&defaults, LoaderOutcome::value(1)).await;
    assert_eq!(
        (during, t.source.loads()),
        ((Some(9), LoadStatus::Default), 1)
    );
    assert_eq!(t.get().await, None);
    t.clock.advance(Duration::from_millis(1));
    let after = t.got(&defaults, LoaderOutcome::value(1)).await;
    assert_eq!(after, (Some(1), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_7_the_default_is_for_those_who_have_one() {
    let t = Fixture::with(|builder| builder);
    let defaults = options(|o| o.or_default(9u64));
    assert_eq!(
        t.got(&defaults, down()).await,
        (Some(9), LoadStatus::Default)
    );
    // Another caller is not told of a default that is not his.
    let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
    assert_eq!((error.kind(), t.source.loads()), (ErrorKind::Loader, 2));
    let stale = Fixture::new();
    stale.put_stale(1).await;
    let got = stale.got(&defaults, down()).await;
    assert_eq!(
        got,
        (Some(1), LoadStatus::Stale),
        "an old value comes first"
    );
}

#[tokio::test]
async fn case_7_while_loads_are_throttled_each_caller_gets_a_default_of_its_own_type() {
    let t = Fixture::with(|builder| builder);
    let number = options(|o| o.or_default(9u64));
    let text = options(|o| o.or_default("nine".to_owned()));
    let with_value = LoaderOutcome::FailedWith {
        error: "the source is down".into(),
        value: 8,
    };
    // The failed loader's own value is of no use to callers of another type: they load.
    for (failure, expected) in [(down(), "nine"), (with_value, "x")] {
        let got = t.got(&number, failure).await;
        assert_eq!(got.1, LoadStatus::Default);
        let load = t.cache.load("k", &text, |_| async {
            LoaderOutcome::value("x".to_owned())
        });
        let loaded = load.await.unwrap();
        assert_eq!(loaded.value.as_deref().map(String::as_str), Some(expected));
        t.cache.delete("k").await.unwrap();
    }
}

#[tokio::test]
async fn case_7_a_throttle_of_zero_keeps_no_default() {
    let t = Fixture::with(|builder| builder);
    let defaults = options(|o| o.or_default(9u64).throttle(Duration::ZERO));
    for loads in 1..=2 {
        let got = t.got(&defaults, down()).await;
        assert_eq!(
            (got, t.source.loads()),
            ((Some(9), LoadStatus::Default), loads)
        );
    }
    let loaded = t.got(&defaults, LoaderOutcome::value(1)).await;
    assert_eq!(loaded, (Some(1), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_8_a_plain_get_ignores_stale_values_and_get_stale_returns_them() {
    let t = Fixture::new();
    t.put_stale(1).await;
    assert_eq!(t.get().await, None);
    assert_eq!(t.cache.get_arc::<u64>("k").await.unwrap(), None);
    assert!(!t.cache.has("k").await.unwrap());
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), Some(1));
    t.clock.advance(mins(4));
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn case_9_get_or_default_stores_nothing() {
    let t = Fixture::new();
    assert_eq!(t.cache.get_or_default("k", 9u64).await.unwrap(), 9);
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
    assert_eq!(t.get().await, None);
    t.put_stale(1).await;
    assert_eq!(t.cache.get_or_default("k", 9u64).await.unwrap(), 9);
}

#[tokio::test]
async fn case_9_get_or_load_leaves_a_live_value_alone_and_set_overwrites_it() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    let live = t
        .got(&LoadOptions::default(), LoaderOutcome::value(2))
        .await;
    assert_eq!((live, t.source.loads()), ((Some(1), LoadStatus::Fresh), 0));
    assert_eq!(t.chaos.calls_of(Operation::Set), 1);
    t.cache.set("k", &3u64).await.unwrap();
    assert_eq!(t.get().await, Some(3));
}

#[tokio::test]
async fn case_10_absent_and_null_are_different() {
    let t = Fixture::new();
    let null = t
        .cache
        .get_or_load("null", |_| async { LoaderOutcome::value(None::<u64>) });
    assert_eq!(*null.await.unwrap(), None);
    assert!(t.cache.has("null").await.unwrap());
    let stored: Option<Option<u64>> = t.cache.get("null").await.unwrap();
    assert_eq!(stored, Some(None));
    let again = t
        .cache
        .get_or_load("null", |_| async { LoaderOutcome::value(Some(1u64)) });
    assert_eq!(*again.await.unwrap(), None);

    let absent = t
        .cache
        .get_or_load("none", |_| async { LoaderOutcome::<Option<u64>>::Absent });
    assert_eq!(absent.await.unwrap_err().kind(), ErrorKind::Absent);
    assert!(!t.cache.has("none").await.unwrap());
    let stored: Option<Option<u64>> = t.cache.get("none").await.unwrap();
    assert_eq!(stored, None);
}

#[tokio::test]
async fn case_11_after_a_delete_there_is_nothing_not_even_for_failed_loads() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    assert!(t.cache.delete("k").await.unwrap());
    assert_eq!(t.get().await, None);
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
    let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn case_11_after_expire_now_the_value_is_stale() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    assert!(t.cache.expire_now("k").await.unwrap());
    assert_eq!(t.get().await, None);
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), Some(1));
    let lax = t.got(&LoadOptions::default(), down()).await;
    assert_eq!(lax, (Some(1), LoadStatus::Stale));
    let strict = options(|o| o.allow_stale(false));
    let error = t.load(&strict, down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn case_35_a_read_that_times_out_is_a_miss_and_then_a_failing_loader_is_an_error() {
    for policy in [OnTrouble::Error, OnTrouble::Miss] {
        let t = Fixture::with(|builder| builder.stale_for(mins(5)).on_trouble(policy));
        t.put_stale(1).await;
        let slow = CacheError::new(ErrorKind::Timeout, "no answer");
        t.chaos.start_outage(Plan::fail(slow).on(Operation::Get));
        let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert_eq!(t.cache.get_stats().degraded, 1);
        let options = LoadOptions::default();
        let loaded = t.load(&options, LoaderOutcome::value(2)).await.unwrap();
        assert_eq!(short(&loaded), (Some(2), LoadStatus::Loaded));
        assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Timeout);
    }
}

#[tokio::test]
async fn case_1_the_budget_of_a_loaded_value_may_be_the_calls_own() {
    let t = Fixture::with(|builder| builder);
    let generous = options(|o| o.ttl(secs(1)).stale_for(secs(2)));
    let loaded = t.got(&generous, LoaderOutcome::value(1)).await;
    assert_eq!(loaded, (Some(1), LoadStatus::Loaded));
    t.clock.advance(secs(2));
    // Whoever asks, the budget is the value's.
    let stale = t.got(&LoadOptions::default(), down()).await;
    assert_eq!(stale, (Some(1), LoadStatus::Stale));
    t.clock.advance(secs(1));
    let error = t.load(&generous, down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    let for_ever = SetOptions::new().ttl(Ttl::FOREVER);
    t.cache.set_with("k", &2u64, for_ever).await.unwrap();
    t.clock.advance(mins(1_000));
    let live = t.got(&generous, down()).await;
    assert_eq!(live, (Some(2), LoadStatus::Fresh));
}
