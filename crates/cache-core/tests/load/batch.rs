//! Many keys in one call.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};

use cache_core::{ErrorKind, LoadOptions, LoaderOutcome, Operation, Result, millis, mins, secs};
use cache_testkit::chaos::Plan;
use tokio::time::Instant;

use super::{Dropped, Fixture, Gate, options, settle};

type Values = Result<Vec<Option<Arc<u64>>>>;

fn plain(values: Values) -> Vec<Option<u64>> {
    let values = values.expect("this batch gets its values");
    values.into_iter().map(|value| value.map(|v| *v)).collect()
}

/// A batch whose loader brings 2 for every key, and notes what it was asked for.
async fn batch(t: &Fixture, options: &LoadOptions, keys: &[&'static str], asked: &Asked) -> Values {
    let asked = Arc::clone(asked);
    let loader = move |mut missing: Vec<&'static str>| async move {
        tokio::task::yield_now().await;
        missing.sort_unstable();
        let values: Vec<_> = missing.iter().map(|key| (*key, 2u64)).collect();
        asked.lock().expect("nobody panics").push(missing);
        Ok::<_, io::Error>(values)
    };
    t.cache
        .get_many_or_load_with(keys.to_vec(), options, loader)
        .await
}

type Asked = Arc<Mutex<Vec<Vec<&'static str>>>>;

fn asked(asked: &Asked) -> Vec<Vec<&'static str>> {
    std::mem::take(&mut asked.lock().expect("nobody panics"))
}

#[tokio::test]
async fn case_43_an_empty_list_asks_nobody() {
    let t = Fixture::new();
    let notes = Asked::default();
    let values = batch(&t, &LoadOptions::default(), &[], &notes).await;
    assert_eq!(plain(values), []);
    assert!(asked(&notes).is_empty());
    assert_eq!(t.chaos.calls(), 0);
}

#[tokio::test]
async fn duplicate_keys_are_asked_for_once_and_answered_each_time() {
    let t = Fixture::new();
    t.cache.set("b", &1u64).await.unwrap();
    let notes = Asked::default();
    let options = LoadOptions::default();
    let values = batch(&t, &options, &["a", "b", "a", "b"], &notes).await;
    assert_eq!(plain(values), [Some(2), Some(1), Some(2), Some(1)]);
    assert_eq!(asked(&notes), [vec!["a"]]);
    assert_eq!(t.chaos.calls_of(Operation::GetMany), 1);
    let again = batch(&t, &options, &["b", "a"], &notes).await;
    assert_eq!(plain(again), [Some(1), Some(2)]);
    assert!(asked(&notes).is_empty());
}

#[tokio::test]
async fn keys_that_others_are_loading_are_joined_and_not_asked_again() {
    let t = Fixture::new();
    let (gate, notes) = (Gate::default(), Asked::default());
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let single = tokio::spawn(async move {
        let loader = move |_| async move {
            pass.pass().await;
            LoaderOutcome::value(7u64)
        };
        cache.get_or_load("a", loader).await
    });
    gate.begun().await;
    let options = LoadOptions::default();
    let (values, ()) = tokio::join!(batch(&t, &options, &["a", "b"], &notes), async {
        settle().await;
        gate.open();
    });
    assert_eq!(plain(values), [Some(7), Some(2)]);
    assert_eq!(asked(&notes), [vec!["b"]]);
    assert_eq!(*single.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_single_call_joins_the_load_of_a_batch() {
    let t = Fixture::new();
    let gate = Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let many = tokio::spawn(async move {
        let loader = move |_: Vec<&str>| async move {
            pass.pass().await;
            Ok::<_, io::Error>([("a", 1u64), ("b", 2)])
        };
        cache.get_many_or_load(["a", "b"], loader).await
    });
    gate.begun().await;
    let options = LoadOptions::default();
    let load = t
        .cache
        .load("b", &options, |_| async { LoaderOutcome::value(9u64) });
    let (loaded, ()) = tokio::join!(load, async {
        settle().await;
        gate.open();
    });
    let loaded = loaded.unwrap();
    assert_eq!((loaded.value.as_deref(), loaded.joined), (Some(&2), true));
    assert_eq!(plain(many.await.unwrap()), [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_failing_loader_is_answered_with_stale_values_where_there_are_some() {
    let t = Fixture::new();
    t.cache.set_many([("a", 1u64), ("b", 2)]).await.unwrap();
    t.clock.advance(mins(2));
    let fail = |keys: &'static [&'static str]| {
        t.cache.get_many_or_load(keys.to_vec(), |_| async {
            Err::<Vec<(&str, u64)>, _>(io::Error::other("the source is down"))
        })
    };
    assert_eq!(plain(fail(&["a", "b"]).await), [Some(1), Some(2)]);
    // One key without any value fails the call.
    let error = fail(&["a", "none"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert_eq!(
        (error.key(), error.message()),
        (Some("t:none"), "the source is down")
    );
}

#[tokio::test]
async fn a_failing_loader_is_answered_with_the_default_where_nothing_is_stale() {
    let t = Fixture::new();
    t.cache.set("a", &1u64).await.unwrap();
    t.clock.advance(mins(2));
    let defaults = options(|o| o.or_default(9u64));
    let fail = t
        .cache
        .get_many_or_load_with(["a", "none"], &defaults, |_| async {
            Err::<Vec<(&str, u64)>, _>(io::Error::other("the source is down"))
        });
    assert_eq!(plain(fail.await), [Some(1), Some(9)]);
}

#[tokio::test]
async fn keys_that_nobody_asked_for_are_neither_returned_nor_stored() {
    let t = Fixture::new();
    let load = t.cache.get_many_or_load(["a"], |_| async {
        Ok::<_, io::Error>([("foreign", 1u64), ("a", 2), ("t:a", 3)])
    });
    assert_eq!(plain(load.await), [Some(2)]);
    assert_eq!(t.cache.get::<u64>("foreign").await.unwrap(), None);
    assert_eq!(t.cache.get_stats().loads, 1);
}

#[tokio::test]
async fn a_key_that_the_loader_leaves_out_is_remembered_as_absent() {
    let t = Fixture::new();
    let leave_out = || {
        t.cache
            .get_many_or_load(["a", "b"], |missing: Vec<&str>| async move {
                let found = missing.into_iter().filter(|key| *key == "b");
                Ok::<_, io::Error>(found.map(|key| (key, 1u64)).collect::<Vec<_>>())
            })
    };
    for _ in 0..2 {
        assert_eq!(plain(leave_out().await), [None, Some(1)]);
        assert_eq!(t.cache.get_stats().loads, 2);
    }
}

#[tokio::test]
async fn a_batch_that_is_dropped_while_it_loads_is_cancelled_and_frees_its_keys() {
    let t = Fixture::new();
    let (gate, dropped, notes) = (Gate::default(), Dropped::default(), Asked::default());
    let (cache, pass, guard) = (t.cache.clone(), gate.clone(), dropped.guard());
    let many = tokio::spawn(async move {
        let loader = move |_: Vec<&str>| async move {
            let _guard = guard;
            pass.pass().await;
            Ok::<_, io::Error>([("a", 1u64)])
        };
        cache.get_many_or_load(["a", "b"], loader).await
    });
    gate.begun().await;
    many.abort();
    dropped.wait().await;
    let values = batch(&t, &LoadOptions::default(), &["a", "b"], &notes).await;
    assert_eq!(plain(values), [Some(2), Some(2)]);
    assert_eq!(asked(&notes), [vec!["a", "b"]]);
}

#[tokio::test]
async fn a_batch_that_is_dropped_while_it_reads_frees_its_keys() {
    let t = Fixture::new();
    let notes = Asked::default();
    t.chaos.add(Plan::hang().on(Operation::GetMany).nth(1));
    let cache = t.cache.clone();
    let many = tokio::spawn(async move {
        let loader = |_: Vec<&str>| pending::<io::Result<Vec<(&str, u64)>>>();
        cache.get_many_or_load(["a", "b"], loader).await
    });
    t.chaos.wait_until_hung(1).await;
    let options = LoadOptions::default();
    let joins = batch(&t, &options, &["a", "b"], &notes);
    let (values, ()) = tokio::join!(joins, async {
        settle().await;
        many.abort();
    });
    assert_eq!(plain(values), [Some(2), Some(2)]);
}

#[tokio::test]
async fn a_batch_loads_what_another_caller_gave_up_reading_although_the_rest_is_there() {
    let t = Fixture::new();
    let notes = Asked::default();
    t.cache.set("a", &1u64).await.unwrap();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let cache = t.cache.clone();
    let single = tokio::spawn(async move {
        let loader = |_| pending::<LoaderOutcome<u64>>();
        cache.get_or_load("b", loader).await
    });
    t.chaos.wait_until_hung(1).await;
    let options = LoadOptions::default();
    let (values, ()) = tokio::join!(batch(&t, &options, &["a", "b"], &notes), async {
        settle().await;
        single.abort();
    });
    assert_eq!(plain(values), [Some(1), Some(2)]);
    assert_eq!(asked(&notes), [vec!["b"]]);
}

#[tokio::test]
async fn a_batch_whose_loader_panics_is_an_error_and_its_keys_work_afterwards() {
    let t = Fixture::new();
    let notes = Asked::default();
    let load = t
        .cache
        .get_many_or_load(["a"], |missing: Vec<&str>| async move {
            assert!(missing.is_empty(), "panics on purpose");
            Ok::<_, io::Error>([("a", 1u64)])
        });
    let error = load.await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Loader, "panic"));
    let values = batch(&t, &LoadOptions::default(), &["a"], &notes).await;
    assert_eq!(plain(values), [Some(2)]);
}

#[tokio::test]
async fn what_was_deleted_meanwhile_is_returned_and_not_stored() {
    let t = Fixture::new();
    let gate = Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let many = tokio::spawn(async move {
        let loader = move |_: Vec<&str>| async move {
            pass.pass().await;
            Ok::<_, io::Error>([("a", 1u64), ("b", 2)])
        };
        cache.get_many_or_load(["a", "b"], loader).await
    });
    gate.begun().await;
    t.cache.delete("a").await.unwrap();
    gate.open();
    assert_eq!(plain(many.await.unwrap()), [Some(1), Some(2)]);
    let stored = t.cache.get_many::<u64>(["a", "b"]).await.unwrap();
    assert_eq!(stored, [None, Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_hard_timeout_is_for_the_whole_batch() {
    let t = Fixture::new();
    t.cache.set("a", &1u64).await.unwrap();
    t.clock.advance(mins(2));
    let hung = |options: LoadOptions| {
        let cache = t.cache.clone();
        async move {
            let loader = |_: Vec<&str>| pending::<io::Result<Vec<(&str, u64)>>>();
            let keys = ["a", "b", "c"];
            let start = Instant::now();
            let values = cache.get_many_or_load_with(keys, &options, loader).await;
            (values, start.elapsed())
        }
    };
    let hard = options(|o| {
        o.hard_timeout(secs(1))
            .or_default(9u64)
            .cancel_on_timeout(true)
    });
    let (values, took) = hung(hard).await;
    assert_eq!(plain(values), [Some(1), Some(9), Some(9)]);
    assert_eq!(took, secs(1));
    settle().await;
    let strict = options(|o| o.hard_timeout(secs(1)));
    let (values, took) = hung(strict).await;
    assert_eq!(values.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(took, secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_gives_the_stale_values_of_a_batch_on_time() {
    let t = Fixture::new();
    t.cache.set_many([("a", 1u64), ("b", 2)]).await.unwrap();
    t.clock.advance(mins(2));
    let soft = options(|o| o.soft_timeout(millis(100)));
    let (start, gate) = (Instant::now(), Gate::default());
    let passes = gate.clone();
    let load = t
        .cache
        .get_many_or_load_with(["a", "b"], &soft, move |_: Vec<&str>| async move {
            passes.pass().await;
            Ok::<_, io::Error>([("a", 7u64), ("b", 8)])
        });
    assert_eq!(plain(load.await), [Some(1), Some(2)]);
    assert_eq!(start.elapsed(), millis(100));
    gate.open();
    settle().await;
    let stored = t.cache.get_many::<u64>(["a", "b"]).await.unwrap();
    assert_eq!(stored, [Some(7), Some(8)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_deadline_ends_while_it_reads_takes_the_default() {
    let t = Fixture::new();
    let notes = Asked::default();
    let hasty = options(|o| o.with_deadline(millis(300)).or_default(9u64));
    t.chaos.add(Plan::hang());
    let start = Instant::now();
    let values = batch(&t, &hasty, &["a", "b"], &notes).await;
    assert_eq!(plain(values), [Some(9), Some(9)]);
    assert_eq!(start.elapsed(), millis(300));
    // The same where another caller is the one who reads.
    let cache = t.cache.clone();
    let single = tokio::spawn(async move {
        let loader = |_| pending::<LoaderOutcome<u64>>();
        cache.get_or_load("b", loader).await
    });
    t.chaos.wait_until_hung(1).await;
    let start = Instant::now();
    let values = batch(&t, &hasty, &["b"], &notes).await;
    assert_eq!(plain(values), [Some(9)]);
    assert_eq!(start.elapsed(), millis(300));
    single.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_the_read_of_a_batch() {
    let t = Fixture::new();
    let notes = Asked::default();
    t.chaos.add(Plan::hang().on(Operation::GetMany));
    let hasty = options(|o| o.with_deadline(millis(300)));
    let start = Instant::now();
    let error = batch(&t, &hasty, &["a", "b"], &notes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), millis(300));
    t.chaos.forget_plans();
    let values = batch(&t, &hasty, &["a", "b"], &notes).await;
    assert_eq!(plain(values), [Some(2), Some(2)]);
}

#[tokio::test]
async fn a_batch_counts_the_keys_that_others_are_loading() {
    let t = Fixture::with(|builder| builder);
    let (cache, pass) = (t.cache.clone(), Gate::default());
    let passes = pass.clone();
    let first = tokio::spawn(async move {
        let loader = move |_| async move {
            passes.pass().await;
            LoaderOutcome::value(1u64)
        };
        cache.get_or_load("a", loader).await
    });
    pass.begun().await;
    let batch = t
        .cache
        .get_many_or_load(["a", "b"], |keys: Vec<&'static str>| async move {
            assert_eq!(keys, ["b"]);
            Ok::<_, std::io::Error>([("b", 2u64)])
        });
    let open = async {
        settle().await;
        pass.open();
    };
    let (values, ()) = tokio::join!(batch, open);
    let values = values.unwrap();
    assert_eq!(
        (values[0].as_deref(), values[1].as_deref()),
        (Some(&1), Some(&2))
    );
    assert_eq!(*first.await.unwrap().unwrap(), 1);
    assert_eq!(t.cache.get_stats().joined, 1);
}
