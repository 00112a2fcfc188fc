//! No write is undone by a load that began before it.

use cache_core::{CacheService, LoadOptions, LoadStatus, LoaderOutcome, Operation, mins, secs};
use cache_testkit::chaos::Plan;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::{Fixture, Gate, options, settle};

type Write = for<'a> fn(&'a CacheService) -> BoxFuture<'a, ()>;

macro_rules! write {
    ($cache:ident, $write:expr) => {
        (|$cache| {
            Box::pin(async move {
                let _ = $write.await.expect("memory answers");
            })
        }) as Write
    };
}

/// Every write, and what is there after it where 1 was before.
fn writes() -> [(&'static str, Write, Option<u64>); 13] {
    [
        ("set", write!(c, c.set("k", &7u64)), Some(7)),
        ("set_many", write!(c, c.set_many([("k", 7u64)])), Some(7)),
        (
            "set_if_absent",
            write!(c, c.set_if_absent("k", &7u64)),
            Some(1),
        ),
        ("delete", write!(c, c.delete("k")), None),
        ("delete_many", write!(c, c.delete_many(["k"])), None),
        ("expire", write!(c, c.expire("k", secs(9))), Some(1)),
        ("expire_now", write!(c, c.expire_now("k")), None),
        (
            "increment",
            write!(c, c.increment("k", 6, mins(1))),
            Some(7),
        ),
        ("clear", write!(c, c.clear()), None),
        ("clear_prefix", write!(c, c.clear_prefix("other")), Some(1)),
        ("clear_everything", write!(c, c.clear_everything()), None),
        (
            "compare_and_set",
            write!(c, c.compare_and_set("k", &1u64, &7)),
            Some(7),
        ),
        (
            "compare_and_delete",
            write!(c, c.compare_and_delete("k", &1u64)),
            None,
        ),
    ]
}

/// A refresh that has begun and brings 2 once the gate is open.
async fn begin(
    t: &Fixture,
    outcome: fn() -> LoaderOutcome<u64>,
) -> (JoinHandle<Option<u64>>, Gate) {
    let gate = Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let load = tokio::spawn(async move {
        let options = options(cache_core::LoadOptionsBuilder::refresh);
        let loader = move |_| async move {
            pass.pass().await;
            outcome()
        };
        let loaded = cache.load("k", &options, loader).await;
        loaded
            .expect("the loader succeeds")
            .value
            .map(|value| *value)
    });
    gate.begun().await;
    (load, gate)
}

#[tokio::test]
async fn no_write_is_undone_by_a_value_loaded_before_it() {
    for (name, write, left) in writes() {
        let t = Fixture::with(|builder| builder);
        t.cache.set("k", &1u64).await.unwrap();
        let (load, gate) = begin(&t, || LoaderOutcome::value(2)).await;
        write(&t.cache.clone()).await;
        gate.open();
        assert_eq!(load.await.unwrap(), Some(2), "{name}: its caller gets it");
        settle().await;
        // Other keys were cleared: nothing keeps the load from being stored.
        let left = if name == "clear_prefix" {
            Some(2)
        } else {
            left
        };
        assert_eq!(t.get().await, left, "{name}");
    }
}

#[tokio::test]
async fn no_write_is_undone_by_absence_found_before_it() {
    for (name, write, left) in writes() {
        let t = Fixture::with(|builder| builder);
        t.cache.set("k", &1u64).await.unwrap();
        let (load, gate) = begin(&t, || LoaderOutcome::Absent).await;
        write(&t.cache.clone()).await;
        gate.open();
        assert_eq!(load.await.unwrap(), None, "{name}: its caller gets it");
        settle().await;
        let left = if name == "clear_prefix" { None } else { left };
        assert_eq!(t.get().await, left, "{name}");
    }
}

#[tokio::test]
async fn a_load_that_begins_during_a_write_is_not_stored_after_it() {
    let t = Fixture::with(|builder| builder);
    t.chaos.add(Plan::hang().on(Operation::Delete));
    let cache = t.cache.clone();
    let delete = tokio::spawn(async move { cache.delete("k").await });
    t.chaos.wait_until_hung(1).await;
    let loaded = t
        .got(&LoadOptions::default(), LoaderOutcome::value(2))
        .await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    t.chaos.release();
    delete.await.unwrap().unwrap();
    assert_eq!(t.get().await, None);
}

#[tokio::test]
async fn a_write_waits_for_a_loaded_value_that_is_being_stored_and_comes_after_it() {
    let t = Fixture::with(|builder| builder);
    t.chaos.add(Plan::hang().on(Operation::Set).nth(1));
    let cache = t.cache.clone();
    let load = tokio::spawn(async move {
        let loader = |_| async { LoaderOutcome::value(1u64) };
        cache.get_or_load("k", loader).await
    });
    t.chaos.wait_until_hung(1).await;
    let cache = t.cache.clone();
    let delete = tokio::spawn(async move { cache.delete("k").await });
    settle().await;
    assert_eq!(t.chaos.calls_of(Operation::Delete), 0);
    t.chaos.release();
    assert_eq!(*load.await.unwrap().unwrap(), 1);
    delete.await.unwrap().unwrap();
    assert_eq!(t.get().await, None);
}

#[tokio::test]
async fn a_load_whose_callers_leave_while_it_is_stored_does_not_come_after_a_delete() {
    let t = Fixture::with(|builder| builder);
    t.chaos.add(Plan::hang().on(Operation::Set).nth(1));
    let cache = t.cache.clone();
    let load = tokio::spawn(async move {
        let loader = |_| async { LoaderOutcome::value(1u64) };
        cache.get_or_load("k", loader).await
    });
    t.chaos.wait_until_hung(1).await;
    load.abort();
    let cache = t.cache.clone();
    let delete = tokio::spawn(async move { cache.delete("k").await });
    settle().await;
    t.chaos.release();
    delete.await.unwrap().unwrap();
    settle().await;
    assert_eq!(t.get().await, None);
}

#[tokio::test]
async fn who_comes_after_a_write_has_a_load_of_his_own() {
    let t = Fixture::with(|builder| builder);
    let (first, gate) = begin(&t, || LoaderOutcome::value(2)).await;
    t.cache.delete("k").await.unwrap();
    let second = t
        .got(&LoadOptions::default(), LoaderOutcome::value(3))
        .await;
    assert_eq!(second, (Some(3), LoadStatus::Loaded));
    gate.open();
    assert_eq!(first.await.unwrap(), Some(2));
    assert_eq!(t.get().await, Some(3));
}

#[tokio::test]
async fn a_failure_from_before_a_write_is_no_throttle_after_it() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let gate = Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let load = tokio::spawn(async move {
        let loader = move |_| async move {
            pass.pass().await;
            LoaderOutcome::<u64>::failed("the source is down")
        };
        cache.get_or_load("k", loader).await
    });
    gate.begun().await;
    t.cache.set("k", &2u64).await.unwrap();
    t.cache.expire_now("k").await.unwrap();
    gate.open();
    assert_eq!(*load.await.unwrap().unwrap(), 1);
    let later = t
        .got(&LoadOptions::default(), LoaderOutcome::value(3))
        .await;
    assert_eq!(later, (Some(3), LoadStatus::Loaded));
}
