//! Many callers at once: one load, whatever becomes of the one who began it.

use std::future::pending;
use std::sync::Arc;

use cache_core::{
    CacheService, Codec, ErrorKind, LoadOptions, LoadReason, LoaderOutcome, Operation, Result,
    millis, secs,
};
use cache_testkit::chaos::Plan;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Dropped, Fixture, Gate, Source, all_joined, options, pass, settle, takes};

/// How long the loads of this file take.
const LOAD: std::time::Duration = millis(50);

/// A caller, through a handle of its own, whose loader succeeds.
fn caller(cache: &CacheService, source: &Source) -> JoinHandle<Result<Arc<u64>>> {
    let (cache, source) = (cache.clone(), source.clone());
    tokio::spawn(async move {
        let loader = move |_| async move {
            source.asked();
            takes(LOAD).await;
            LoaderOutcome::value(7u64)
        };
        cache.get_or_load("k", loader).await
    })
}

fn callers(t: &Fixture, source: &Source) -> Vec<JoinHandle<Result<Arc<u64>>>> {
    (0..100).map(|_| caller(&t.cache, source)).collect()
}

/// Ten thousand callers at the same moment, through handles of their own.
async fn storm(codec: Codec) {
    let t = Fixture::with(|builder| builder.codec(codec));
    let source = Source::default();
    let barrier = Arc::new(Barrier::new(10_000));
    let gate = Gate::default();
    let calls = (0..10_000).map(|_| {
        let (cache, source, barrier) = (t.cache.clone(), source.clone(), Arc::clone(&barrier));
        let passes = gate.clone();
        tokio::spawn(async move {
            barrier.wait().await;
            let loader = move |_| async move {
                source.asked();
                passes.pass().await;
                LoaderOutcome::value("seven".to_owned())
            };
            cache.get_or_load("k", loader).await
        })
    });
    let calls: Vec<_> = calls.collect();
    all_joined(&t.cache, 9_999).await;
    gate.open();
    for call in calls {
        let value = call.await.expect("no caller panics");
        assert_eq!(*value.expect("the loader succeeds"), "seven");
    }
    assert_eq!(source.loads(), 1);
    let stored: Option<String> = t.cache.get("k").await.expect("memory answers");
    assert_eq!(stored.as_deref(), Some("seven"));
    let stats = t.cache.get_stats();
    assert_eq!((stats.loads, stats.load_errors), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_28_ten_thousand_callers_load_once_with_json() {
    storm(Codec::Json).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_28_ten_thousand_callers_load_once_with_postcard() {
    storm(Codec::Postcard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_28_ten_thousand_callers_load_once_with_bincode() {
    storm(Codec::Bincode).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_28_ten_thousand_callers_load_once_with_raw_strings() {
    storm(Codec::Raw).await;
}

#[tokio::test(start_paused = true)]
async fn case_28_the_leader_is_dropped_while_it_reads_and_the_others_load_once() {
    let t = Fixture::new();
    let source = Source::default();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let leader = caller(&t.cache, &source);
    t.chaos.wait_until_hung(1).await;
    let others = callers(&t, &source);
    settle().await;
    let start = Instant::now();
    leader.abort();
    for other in others {
        assert_eq!(*other.await.unwrap().unwrap(), 7);
    }
    assert_eq!(start.elapsed(), LOAD);
    assert_eq!((source.loads(), t.chaos.calls_of(Operation::Get)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn case_28_the_leader_is_dropped_while_it_loads_and_the_load_goes_on_for_the_others() {
    let t = Fixture::new();
    let source = Source::default();
    let leader = caller(&t.cache, &source);
    let others = callers(&t, &source);
    settle().await;
    let start = Instant::now();
    leader.abort();
    for other in others {
        assert_eq!(*other.await.unwrap().unwrap(), 7);
    }
    assert_eq!(start.elapsed(), LOAD);
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn case_28_a_hung_leader_keeps_nobody_longer_than_the_hard_timeout() {
    let t = Fixture::new();
    let hasty = Arc::new(options(|o| {
        o.hard_timeout(millis(100)).background_limit(secs(5))
    }));
    let start = Instant::now();
    let call = |_| {
        let (cache, hasty) = (t.cache.clone(), Arc::clone(&hasty));
        tokio::spawn(async move {
            let never = |_| pending::<LoaderOutcome<u64>>();
            cache.load("k", &hasty, never).await
        })
    };
    for call in (0..100).map(call).collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(start.elapsed(), millis(100));
    pass(secs(5)).await;
    let source = Source::default();
    assert_eq!(*caller(&t.cache, &source).await.unwrap().unwrap(), 7);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn case_28_a_caller_who_wants_another_type_does_not_join() {
    let t = Fixture::new();
    let (gate, passes) = (Gate::default(), Gate::default());
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let number = tokio::spawn(async move {
        let loader = move |_| async move {
            pass.pass().await;
            LoaderOutcome::value(1u64)
        };
        cache.get_or_load("k", loader).await
    });
    gate.begun().await;
    let text = t.cache.get_or_load("k", move |_| async move {
        passes.open();
        LoaderOutcome::value("one".to_owned())
    });
    assert_eq!(*text.await.unwrap(), "one");
    gate.open();
    assert_eq!(*number.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn case_29_five_concurrent_misses_read_the_storage_once() {
    let t = Fixture::new();
    let source = Source::default();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let calls: Vec<_> = (0..5).map(|_| caller(&t.cache, &source)).collect();
    t.chaos.wait_until_hung(1).await;
    settle().await;
    t.chaos.release();
    for call in calls {
        assert_eq!(*call.await.unwrap().unwrap(), 7);
    }
    assert_eq!((source.loads(), t.chaos.calls_of(Operation::Get)), (1, 1));
    assert_eq!(t.cache.get_stats().joined, 4);
}

#[tokio::test]
async fn case_29_five_concurrent_hits_read_the_storage_once() {
    let t = Fixture::new();
    let source = Source::default();
    t.cache.set("k", &1u64).await.unwrap();
    t.chaos.add(Plan::hang_after().on(Operation::Get).nth(1));
    let calls: Vec<_> = (0..5).map(|_| caller(&t.cache, &source)).collect();
    t.chaos.wait_until_hung(1).await;
    settle().await;
    t.chaos.release();
    for call in calls {
        assert_eq!(*call.await.unwrap().unwrap(), 1);
    }
    assert_eq!((source.loads(), t.chaos.calls_of(Operation::Get)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn case_30_everyone_who_joined_sees_the_error_and_whoever_comes_later_loads() {
    let t = Fixture::new();
    let source = Source::default();
    let start = Instant::now();
    let fail = |_| {
        let (cache, source) = (t.cache.clone(), source.clone());
        tokio::spawn(async move {
            let loader = move |_| async move {
                takes(LOAD).await;
                source.down()
            };
            cache.get_or_load("k", loader).await
        })
    };
    for call in (0..100).map(fail).collect::<Vec<_>>() {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert!(error.to_string().contains("the source is down"), "{error}");
    }
    assert_eq!((start.elapsed(), source.loads()), (LOAD, 1));
    assert_eq!(*caller(&t.cache, &source).await.unwrap().unwrap(), 7);
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn case_31_when_all_have_left_the_load_is_cancelled_and_nothing_is_stored() {
    let t = Fixture::new();
    let (gate, dropped) = (Gate::default(), Dropped::default());
    let call = |position| {
        let (cache, gate) = (t.cache.clone(), gate.clone());
        let guard = (position == 0).then(|| dropped.guard());
        tokio::spawn(async move {
            let loader = move |_| async move {
                let _guard = guard;
                gate.pass().await;
                LoaderOutcome::value(1u64)
            };
            cache.get_or_load("k", loader).await
        })
    };
    let mut calls: Vec<_> = (0..3).map(call).collect();
    gate.begun().await;
    settle().await;
    assert_eq!(t.cache.get_stats().joined, 2);
    let last = calls.pop().unwrap();
    for call in calls {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    settle().await;
    assert_eq!(t.cache.get_stats().loads, 0);
    last.abort();
    dropped.wait().await;
    gate.open();
    settle().await;
    assert_eq!(t.get().await, None);
    assert_eq!(t.cache.get_stats().loads, 0);
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
}

#[tokio::test]
async fn case_31_complete_in_background_ends_a_load_that_all_have_left() {
    let t = Fixture::new();
    let gate = Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let call = tokio::spawn(async move {
        let options = options(|o| o.complete_in_background(true));
        let loader = move |_| async move {
            pass.pass().await;
            LoaderOutcome::value(1u64)
        };
        cache.get_or_load_with("k", &options, loader).await
    });
    gate.begun().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    gate.open();
    settle().await;
    assert_eq!(t.get().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn case_32_a_panic_is_an_error_for_all_who_joined_and_the_key_works_afterwards() {
    for after_an_await in [false, true] {
        let t = Fixture::new();
        let call = |_| {
            let cache = t.cache.clone();
            tokio::spawn(async move {
                let loader = move |_| async move {
                    if after_an_await {
                        takes(LOAD).await;
                    }
                    if true {
                        panic!("a loader panics on purpose");
                    }
                    LoaderOutcome::value(1u64)
                };
                cache.get_or_load("k", loader).await
            })
        };
        for call in (0..10).map(call).collect::<Vec<_>>() {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Loader, "panic"));
        }
        let source = Source::default();
        assert_eq!(*caller(&t.cache, &source).await.unwrap().unwrap(), 7);
        assert_eq!(source.loads(), 1);
    }
}

#[tokio::test]
async fn case_32_a_loader_that_panics_before_it_gives_a_future_is_an_error() {
    let t = Fixture::new();
    let loader = |context: cache_core::LoadContext<u64>| {
        assert_ne!(context.reason, LoadReason::Missing, "panics on purpose");
        pending::<LoaderOutcome<u64>>()
    };
    let error = t.cache.get_or_load("k", loader).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Loader, "panic"));
    let options = LoadOptions::default();
    let again = t.load(&options, LoaderOutcome::value(1)).await.unwrap();
    assert_eq!(again.value.as_deref(), Some(&1));
}

#[tokio::test]
async fn a_storage_that_panics_while_it_is_read_harms_its_caller_alone() {
    let t = Fixture::new();
    let source = Source::default();
    t.chaos.add(Plan::panic().on(Operation::Get).nth(1));
    let calls = callers(&t, &source);
    let mut panics = 0;
    for call in calls {
        match call.await {
            Ok(value) => assert_eq!(*value.unwrap(), 7),
            Err(error) => panics += u32::from(error.is_panic()),
        }
    }
    assert_eq!((panics, source.loads()), (1, 1));
}

#[tokio::test]
async fn a_storage_that_panics_while_it_stores_keeps_nobody_waiting() {
    let t = Fixture::new();
    let source = Source::default();
    t.chaos.add(Plan::panic().on(Operation::Set).nth(1));
    for call in callers(&t, &source) {
        // Whoever's own loader is used up has nothing to begin again with.
        if let Err(error) = call.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Loader);
        }
    }
    assert_eq!(*caller(&t.cache, &source).await.unwrap().unwrap(), 7);
    assert_eq!(t.get().await, Some(7));
}
