//! Loads of many keys, beside others.

use std::future::pending;
use std::io;
use std::sync::Arc;

use cache_core::{LoadOptions, LoaderOutcome, Operation, mins, secs};
use cache_testkit::chaos::Plan;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Fixture, poll_once, settle};

#[tokio::test]
async fn a_batch_that_takes_over_an_abandoned_read_is_not_cancelled_by_what_it_found() {
    let t = Fixture::new();
    t.cache.set("a", &1u64).await.unwrap();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let mut other = Box::pin(
        t.cache
            .get_or_load("b", |_| pending::<LoaderOutcome<u64>>()),
    );
    assert!(poll_once(&mut other).await.is_pending());
    let cache = t.cache.clone();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let goes = Arc::clone(&go);
    let begins = Arc::clone(&begun);
    let batch = tokio::spawn(async move {
        let load = cache.get_many_or_load(["a", "b"], |_: Vec<&str>| async move {
            begins.notify_one();
            goes.notified().await;
            Ok::<_, io::Error>([("b", 2u64)])
        });
        load.await
    });
    settle().await;
    drop(other);
    begun.notified().await;
    settle().await;
    go.notify_one();
    let values = batch.await.unwrap().unwrap();
    assert_eq!(values[1].as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_many_loads_waits_its_hard_timeout_once() {
    let t = Fixture::new();
    let keys = ["a", "b", "c"];
    let mut others = Vec::new();
    for key in keys {
        t.cache.set(key, &1u64).await.unwrap();
    }
    t.clock.advance(mins(2));
    for key in keys {
        let mut other = Box::pin(
            t.cache
                .get_or_load(key, |_| pending::<LoaderOutcome<u64>>()),
        );
        assert!(poll_once(&mut other).await.is_pending());
        others.push(other);
    }
    let options = LoadOptions::builder()
        .hard_timeout(secs(1))
        .build()
        .unwrap();
    let start = Instant::now();
    let load = t
        .cache
        .get_many_or_load_with(keys, &options, |_: Vec<&str>| async {
            Ok::<_, io::Error>([("a", 2u64)])
        });
    assert_eq!(load.await.unwrap()[2].as_deref(), Some(&1));
    assert_eq!(start.elapsed(), secs(1));
}

#[tokio::test]
async fn a_batch_loads_what_another_has_given_up() {
    let t = Fixture::new();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let mut hangs = Box::pin(
        t.cache
            .get_or_load("b", |_| pending::<LoaderOutcome<u64>>()),
    );
    assert!(poll_once(&mut hangs).await.is_pending());
    let load = |keys: &'static [&'static str]| {
        t.cache
            .get_many_or_load(keys.to_vec(), |missing: Vec<&str>| async move {
                Ok::<_, io::Error>(
                    missing
                        .into_iter()
                        .map(|key| (key, 2u64))
                        .collect::<Vec<_>>(),
                )
            })
    };
    // It knows that "a" has to be loaded, and waits for the read of "b".
    let mut first = Box::pin(load(&["a", "b"]));
    assert!(poll_once(&mut first).await.is_pending());
    let mut second = Box::pin(load(&["a"]));
    assert!(poll_once(&mut second).await.is_pending());
    drop(first);
    assert_eq!(second.await.unwrap()[0].as_deref(), Some(&2));
}
