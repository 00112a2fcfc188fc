//! Callers who leave before their load has ended.

use std::sync::Arc;

use cache_core::{LoadOptions, LoaderOutcome, Operation};
use cache_testkit::chaos::Plan;
use tokio::sync::Notify;

use super::{Fixture, Source, poll_once, settle};

#[tokio::test]
async fn a_load_goes_on_if_anybody_in_it_has_asked_for_that() {
    let t = Fixture::new();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let mut first = Box::pin(t.cache.get_or_load("k", |_| async move {
        goes.notified().await;
        LoaderOutcome::value(1u64)
    }));
    assert!(poll_once(&mut first).await.is_pending());
    let options = LoadOptions::builder()
        .complete_in_background(true)
        .build()
        .unwrap();
    let second = t
        .cache
        .get_or_load_with("k", &options, |_| async { LoaderOutcome::value(2u64) });
    let mut second = Box::pin(second);
    assert!(poll_once(&mut second).await.is_pending());
    drop((first, second));
    settle().await;
    go.notify_one();
    settle().await;
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_value_that_is_being_stored_when_its_callers_leave_is_not_loaded_again() {
    let t = Fixture::new();
    t.chaos.add(Plan::hang().on(Operation::Set).nth(1));
    let source = Source::default();
    let call = |value| {
        let source = source.clone();
        t.cache
            .get_or_load("k", move |_| async move { source.value(value) })
    };
    let mut first = Box::pin(call(1));
    assert!(poll_once(&mut first).await.is_pending());
    t.chaos.wait_until_hung(1).await;
    drop(first);
    let mut second = Box::pin(call(2));
    assert!(poll_once(&mut second).await.is_pending());
    settle().await;
    t.chaos.release();
    assert_eq!(*second.await.unwrap(), 1);
    assert_eq!(source.loads(), 1);
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_load_that_comes_back_when_its_callers_have_left_is_not_stored_over_a_later_one() {
    let t = Fixture::new();
    t.chaos.add(Plan::hang().on(Operation::Set).nth(1));
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let mut first = Box::pin(t.cache.get_or_load("k", |_| async move {
        goes.notified().await;
        LoaderOutcome::value(1u64)
    }));
    assert!(poll_once(&mut first).await.is_pending());
    settle().await;
    // Both at once, before the task of the load learns of either.
    go.notify_one();
    drop(first);
    let second = t.cache.clone();
    let second = tokio::spawn(async move {
        let load = second.get_or_load("k", |_| async { LoaderOutcome::value(2u64) });
        load.await
    });
    t.chaos.wait_until_hung(1).await;
    settle().await;
    t.chaos.release();
    assert_eq!(*second.await.unwrap().unwrap(), 2);
    settle().await;
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(2));
}

#[tokio::test]
async fn every_write_waits_for_a_load_that_is_storing() {
    let t = Fixture::new();
    t.chaos.add(Plan::hang().on(Operation::Set).nth(1));
    let load = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(1u64) });
    let mut load = Box::pin(load);
    assert!(poll_once(&mut load).await.is_pending());
    t.chaos.wait_until_hung(1).await;
    // One that is given up, one that goes on, and one after both.
    let mut writes: Vec<_> = (0..3).map(|_| Box::pin(t.cache.delete("k"))).collect();
    assert!(poll_once(&mut writes[0]).await.is_pending());
    drop(writes.remove(0));
    for write in &mut writes {
        assert!(poll_once(write).await.is_pending());
    }
    t.chaos.release();
    load.await.unwrap();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), None);
}
