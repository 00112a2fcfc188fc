//! How old a value may get.

use std::future::pending;
use std::sync::Arc;

use cache_core::{
    ErrorKind, LoadOptions, LoadStatus, LoaderOutcome, Operation, millis, mins, secs,
};
use cache_testkit::chaos::Plan;
use tokio::sync::Notify;

use super::{Fixture, poll_once, settle, takes};

/// A value with a second left of its stale budget.
async fn nearly_too_old() -> Fixture {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.expect("memory stores it");
    t.clock.advance(mins(6) - secs(1));
    t
}

#[tokio::test]
async fn a_load_that_fails_after_the_stale_budget_serves_no_stale_value() {
    let t = nearly_too_old().await;
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let mut call = Box::pin(t.cache.get_or_load("k", |_| async move {
        goes.notified().await;
        LoaderOutcome::<u64>::failed("the source is down")
    }));
    assert!(poll_once(&mut call).await.is_pending());
    t.clock.advance(secs(2));
    go.notify_one();
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn a_refresh_that_fails_serves_no_value_that_ended_meanwhile() {
    let t = Fixture::with(|builder| builder);
    t.cache.set("k", &1u64).await.unwrap();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let refresh = LoadOptions::builder().refresh().build().unwrap();
    let mut call = Box::pin(t.cache.get_or_load_with("k", &refresh, |_| async move {
        goes.notified().await;
        LoaderOutcome::<u64>::failed("the source is down")
    }));
    assert!(poll_once(&mut call).await.is_pending());
    t.clock.advance(mins(2));
    go.notify_one();
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Loader);
}

#[tokio::test(start_paused = true)]
async fn revalidation_that_hangs_does_not_stretch_the_stale_budget() {
    let t = nearly_too_old().await;
    let options = LoadOptions::builder()
        .stale_while_revalidate(true)
        .hard_timeout(secs(1))
        .build()
        .unwrap();
    let call = || {
        t.cache
            .load("k", &options, |_| pending::<LoaderOutcome<u64>>())
    };
    assert_eq!(call().await.unwrap().status, LoadStatus::Stale);
    t.clock.advance(secs(2));
    assert_eq!(call().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_without_a_stale_value_left_goes_on_waiting() {
    let t = nearly_too_old().await;
    let options = LoadOptions::builder()
        .soft_timeout(millis(100))
        .hard_timeout(secs(10))
        .build()
        .unwrap();
    let mut call = Box::pin(t.cache.load("k", &options, |_| async {
        takes(secs(2)).await;
        LoaderOutcome::value(2u64)
    }));
    assert!(poll_once(&mut call).await.is_pending());
    settle().await;
    t.clock.advance(secs(2));
    assert_eq!(call.await.unwrap().status, LoadStatus::Loaded);
}

#[tokio::test]
async fn a_stale_value_that_ends_on_its_way_here_is_not_served_by_the_throttle() {
    let t = nearly_too_old().await;
    let load = || {
        t.cache.get_or_load("k", |_| async {
            LoaderOutcome::<u64>::failed("the source is down")
        })
    };
    assert_eq!(*load().await.unwrap(), 1);
    t.chaos.add(Plan::hang_after().on(Operation::Get).nth(1));
    let mut call = Box::pin(load());
    assert!(poll_once(&mut call).await.is_pending());
    t.clock.advance(secs(2));
    t.chaos.release();
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Loader);
}
