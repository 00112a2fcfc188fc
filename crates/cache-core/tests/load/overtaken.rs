//! Values kept decoded, and what overtakes them.

use std::sync::Arc;

use cache_core::{DecodedOptions, LoadOptions, LoaderOutcome, Operation, mins, secs};
use cache_testkit::chaos::Plan;
use tokio::sync::Notify;

use super::{Fixture, Source, poll_once, settle};

fn decoded() -> Fixture {
    let options = DecodedOptions::new().ttl_cap(mins(5));
    Fixture::with(|builder| builder.decoded(options))
}

#[tokio::test]
async fn a_value_that_was_kept_decoded_is_not_served_after_a_delete_by_a_call_from_before_it() {
    let t = decoded();
    let eager = LoadOptions::builder().eager_refresh(0.5).build().unwrap();
    let load = t
        .cache
        .get_or_load_with("k", &eager, |_| async { LoaderOutcome::value(1u64) });
    assert_eq!(*load.await.unwrap(), 1);
    t.clock.advance(secs(40));
    t.chaos.add(Plan::hang().on(Operation::Lookup).nth(1));
    let refresh = LoadOptions::builder().refresh().build().unwrap();
    let reading = t
        .cache
        .get_or_load_with("k", &refresh, |_| async { LoaderOutcome::value(9u64) });
    let mut reading = Box::pin(reading);
    assert!(poll_once(&mut reading).await.is_pending());
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let before = t.cache.get_or_load_with("k", &eager, |_| async move {
        goes.notified().await;
        LoaderOutcome::value(2u64)
    });
    let mut before = Box::pin(before);
    assert!(poll_once(&mut before).await.is_pending());
    t.cache.delete("k").await.unwrap();
    drop(reading);
    let is_over = poll_once(&mut before).await.is_ready();
    let after = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(3u64) });
    let mut after = Box::pin(after);
    let _ = poll_once(&mut after).await;
    settle().await;
    go.notify_one();
    assert!(*after.await.unwrap() > 1);
    if !is_over {
        before.await.unwrap();
    }
}

#[tokio::test]
async fn a_value_that_is_kept_as_another_type_is_read() {
    let t = decoded();
    t.cache.set("k", &7u64).await.unwrap();
    assert_eq!(
        t.cache.get_arc::<u64>("k").await.unwrap().as_deref(),
        Some(&7)
    );
    let source = Source::default();
    let asks = source.clone();
    let load = t.cache.get_or_load("k", move |_| async move {
        asks.asked();
        LoaderOutcome::value(8i64)
    });
    assert_eq!(*load.await.unwrap(), 7);
    assert_eq!(source.loads(), 0);
}

#[tokio::test]
async fn a_read_from_before_a_refresh_is_not_kept_after_it() {
    let t = decoded();
    t.cache.set("k", &1u64).await.unwrap();
    t.chaos.add(Plan::hang_after().on(Operation::Lookup).nth(1));
    let mut read = Box::pin(t.cache.get_arc::<u64>("k"));
    assert!(poll_once(&mut read).await.is_pending());
    let refresh = LoadOptions::builder().refresh().build().unwrap();
    let load = t
        .cache
        .get_or_load_with("k", &refresh, |_| async { LoaderOutcome::value(2u64) });
    assert_eq!(*load.await.unwrap(), 2);
    t.chaos.release();
    read.await.unwrap();
    assert_eq!(
        t.cache.get_arc::<u64>("k").await.unwrap().as_deref(),
        Some(&2)
    );
}

#[tokio::test]
async fn what_a_loader_stores_itself_is_not_replaced_by_what_it_returns() {
    let t = Fixture::new();
    let cache = t.cache.clone();
    let loaded = t.cache.get_or_load("k", |_| async move {
        cache.set("k", &1u64).await?;
        Ok::<_, cache_core::CacheError>(2u64)
    });
    assert_eq!(*loaded.await.unwrap(), 2);
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(1));
}
