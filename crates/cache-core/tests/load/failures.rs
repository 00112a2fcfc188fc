//! What failed loads leave behind.

use std::sync::Arc;

use cache_core::{
    ErrorKind, LoadOptions, LoadStatus, LoaderOutcome, Operation, Ttl, millis, mins, secs,
};
use cache_testkit::chaos::Plan;
use futures_util::{FutureExt as _, future::join_all};
use tokio::sync::Notify;

use super::{Fixture, Source, poll_once, settle};

fn with_default(value: u64) -> LoadOptions {
    let options = LoadOptions::builder().or_default(value).build();
    options.expect("the options are sound")
}

#[tokio::test]
async fn each_caller_has_its_own_default_while_loads_are_throttled() {
    let t = Fixture::new();
    let source = Source::default();
    for default in [1, 2] {
        let source = source.clone();
        let options = with_default(default);
        let loaded = t
            .cache
            .load("k", &options, move |_| async move { source.down() });
        let loaded = loaded.await.unwrap();
        assert_eq!(
            (*loaded.value.unwrap(), loaded.status),
            (default, LoadStatus::Default)
        );
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_with_defaults_share_one_read_while_loads_are_throttled() {
    let t = Fixture::new();
    let source = Source::default();
    let options = with_default(1);
    let call = || {
        let source = source.clone();
        t.cache
            .load("k", &options, move |_| async move { source.down() })
    };
    call().await.unwrap();
    t.chaos.add(Plan::delay(millis(10)).on(Operation::Get));
    let before = t.chaos.calls_of(Operation::Get);
    for loaded in join_all((0..100).map(|_| call())).await {
        assert_eq!(loaded.unwrap().status, LoadStatus::Default);
    }
    assert_eq!(t.chaos.calls_of(Operation::Get) - before, 1);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_caller_without_a_default_loads_beside_those_who_have_one() {
    let t = Fixture::new();
    let source = Source::default();
    let options = with_default(1);
    let asks = source.clone();
    let call = t
        .cache
        .load("k", &options, move |_| async move { asks.down() });
    call.await.unwrap();
    let (first, second) = (source.clone(), source.clone());
    let spared = t
        .cache
        .load("k", &options, move |_| async move { first.down() });
    let loads = t
        .cache
        .get_or_load("k", move |_| async move { second.value(2) });
    let (spared, loaded) = tokio::join!(spared, loads);
    assert!(spared.unwrap().value.is_some());
    assert_eq!(*loaded.unwrap(), 2);
}

#[tokio::test]
async fn a_refresh_that_joins_a_read_is_not_throttled() {
    let t = Fixture::new();
    let source = Source::default();
    let failed = t.cache.get_or_load("k", |_| async {
        LoaderOutcome::FailedWith {
            error: "the source is down".into(),
            value: 1u64,
        }
    });
    assert_eq!(*failed.await.unwrap(), 1);
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let call = |options: LoadOptions| {
        let (cache, source) = (t.cache.clone(), source.clone());
        tokio::spawn(async move {
            let loader = move |_| async move { source.value(2) };
            cache.get_or_load_with("k", &options, loader).await
        })
    };
    let first = call(LoadOptions::default());
    t.chaos.wait_until_hung(1).await;
    let refresh = call(LoadOptions::builder().refresh().build().unwrap());
    settle().await;
    t.chaos.release();
    assert_eq!(*refresh.await.unwrap().unwrap(), 2);
    assert_eq!(*first.await.unwrap().unwrap(), 2);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_default_throttles_nothing_that_was_written_meanwhile() {
    let t = Fixture::new();
    let source = Source::default();
    let options = with_default(1);
    let call = || {
        let source = source.clone();
        t.cache
            .load("k", &options, move |_| async move { source.down() })
    };
    let mut first = Box::pin(call());
    assert!(poll_once(&mut first).await.is_pending());
    settle().await;
    t.cache.delete("k").await.unwrap();
    first.await.unwrap();
    call().await.unwrap();
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_load_from_before_a_write_does_not_end_the_throttle_of_one_after_it() {
    let t = Fixture::new();
    let source = Source::default();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let mut old = Box::pin(t.cache.get_or_load("k", |_| async move {
        goes.notified().await;
        LoaderOutcome::value(1u64)
    }));
    assert!(poll_once(&mut old).await.is_pending());
    t.cache.set("k", &2u64).await.unwrap();
    t.clock.advance(mins(2));
    let call = || {
        let source = source.clone();
        t.cache
            .get_or_load("k", move |_| async move { source.down() })
    };
    assert_eq!(*call().await.unwrap(), 2);
    go.notify_one();
    assert_eq!(*old.await.unwrap(), 1);
    assert_eq!(*call().await.unwrap(), 2);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn that_there_is_nothing_for_ever_is_remembered() {
    let t = Fixture::new();
    let source = Source::default();
    for _ in 0..2 {
        let source = source.clone();
        let call = t.cache.get_or_load("k", move |_| async move {
            source.asked();
            LoaderOutcome::<u64>::AbsentFor(Ttl::FOREVER)
        });
        assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Absent);
    }
    assert_eq!(source.loads(), 1);
}

#[test]
fn a_call_with_a_deadline_is_refused_outside_of_a_runtime() {
    let t = Fixture::new();
    let options = LoadOptions::builder()
        .with_deadline(secs(1))
        .build()
        .unwrap();
    let call = t
        .cache
        .get_or_load_with("k", &options, |_| async { LoaderOutcome::value(1u64) });
    let error = call.now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
