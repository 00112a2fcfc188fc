//! Loads that nobody waits for: eager refresh and stale-while-revalidate.

use std::sync::{Arc, Mutex};

use cache_core::{
    ErrorKind, LoadOptions, LoadReason, LoadStatus, Loaded, LoaderOutcome, Operation, Result,
    TimeLeft, mins, secs,
};
use cache_testkit::chaos::Plan;

use super::{Fixture, Gate, options, pass, settle, short};

fn down() -> LoaderOutcome<u64> {
    LoaderOutcome::failed("the source is down")
}

fn eager() -> LoadOptions {
    options(|o| o.eager_refresh(0.5))
}

fn revalidating() -> LoadOptions {
    options(|o| o.stale_while_revalidate(true))
}

const OLD: (Option<u64>, LoadStatus) = (Some(1), LoadStatus::Fresh);
const STALE: (Option<u64>, LoadStatus) = (Some(1), LoadStatus::Stale);

/// One call whose loader brings 2 once the gate is open.
async fn gated(t: &Fixture, options: &LoadOptions, gate: &Gate) -> Result<Loaded<u64>> {
    let (source, gate) = (t.source.clone(), gate.clone());
    let loader = move |_| async move {
        source.asked();
        gate.pass().await;
        LoaderOutcome::value(2u64)
    };
    t.cache.load("k", options, loader).await
}

/// A loaded value, half of whose time to live is over.
async fn ripe(t: &Fixture) {
    let loaded = t.load(&eager(), LoaderOutcome::value(1)).await;
    loaded.expect("the loader succeeds");
    t.clock.advance(secs(30));
}

#[tokio::test]
async fn case_24_past_the_threshold_one_hit_starts_a_load_and_nobody_waits() {
    for decoded in [false, true] {
        let t = Fixture::with(|builder| match decoded {
            true => builder.decoded(cache_core::DecodedOptions::new().ttl_cap(mins(5))),
            false => builder,
        });
        let (eager, gate) = (eager(), Gate::default());
        t.load(&eager, LoaderOutcome::value(1)).await.unwrap();
        t.clock
            .advance(secs(30) - std::time::Duration::from_millis(1));
        assert_eq!(short(&gated(&t, &eager, &gate).await.unwrap()), OLD);
        settle().await;
        assert_eq!(t.source.loads(), 1, "not before the threshold");
        t.clock.advance(std::time::Duration::from_millis(1));
        for _ in 0..3 {
            assert_eq!(short(&gated(&t, &eager, &gate).await.unwrap()), OLD);
        }
        gate.begun().await;
        assert_eq!(t.source.loads(), 2);
        gate.open();
        settle().await;
        let later = gated(&t, &eager, &gate).await.unwrap();
        assert_eq!(short(&later), (Some(2), LoadStatus::Fresh));
        let left = t.cache.get_ttl("k").await.unwrap();
        assert_eq!(left, TimeLeft::Remaining(mins(1)), "it starts again");
        assert_eq!(t.source.loads(), 2);
    }
}

#[tokio::test]
async fn case_24_the_loader_of_an_eager_refresh_sees_the_value() {
    let t = Fixture::with(|builder| builder);
    ripe(&t).await;
    let eager = eager();
    let seen = Arc::new(Mutex::new(None));
    let tells = Arc::clone(&seen);
    let load = t
        .cache
        .get_or_load_with("k", &eager, move |context| async move {
            *tells.lock().expect("nobody panics") = Some((
                context.reason,
                context.stored.as_deref().copied(),
                context.age,
            ));
            LoaderOutcome::<u64>::NotModified
        });
    assert_eq!(*load.await.unwrap(), 1);
    settle().await;
    let told = (LoadReason::Eager, Some(1), Some(secs(30)));
    assert_eq!(*seen.lock().unwrap(), Some(told));
    let left = t.cache.get_ttl("k").await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(mins(1)));
}

#[tokio::test]
async fn case_25_neither_a_cancelled_trigger_nor_thousands_of_hits_change_that_one_load() {
    let t = Fixture::with(|builder| builder);
    ripe(&t).await;
    let gate = Gate::default();
    let (cache, pass, source) = (t.cache.clone(), gate.clone(), t.source.clone());
    let trigger = tokio::spawn(async move {
        let loader = move |_| async move {
            source.asked();
            pass.pass().await;
            LoaderOutcome::value(2u64)
        };
        cache.get_or_load_with("k", &eager(), loader).await
    });
    gate.begun().await;
    trigger.abort();
    drop(trigger.await);
    let eager = eager();
    for _ in 0..5_000 {
        assert_eq!(short(&gated(&t, &eager, &gate).await.unwrap()), OLD);
    }
    assert_eq!(t.source.loads(), 2);
    gate.open();
    settle().await;
    assert_eq!(t.get().await, Some(2));
}

#[tokio::test]
async fn case_25_a_storage_that_is_slow_to_write_delays_nobody() {
    let t = Fixture::with(|builder| builder);
    ripe(&t).await;
    t.chaos.add(Plan::hang().on(Operation::Set));
    let (eager, gate) = (eager(), Gate::default());
    gate.open();
    assert_eq!(short(&gated(&t, &eager, &gate).await.unwrap()), OLD);
    t.chaos.wait_until_hung(1).await;
    // The new value is there, whether or not it is stored yet.
    let got = short(&gated(&t, &eager, &gate).await.unwrap());
    assert_eq!(got, (Some(2), LoadStatus::Loaded));
    t.chaos.release();
    settle().await;
    assert_eq!(t.get().await, Some(2));
    assert_eq!(t.source.loads(), 2);
}

#[tokio::test]
async fn case_26_two_calls_during_a_slow_revalidation_both_get_the_stale_value_at_once() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let (swr, gate) = (revalidating(), Gate::default());
    for joined in [false, true] {
        let loaded = gated(&t, &swr, &gate).await.unwrap();
        assert_eq!((short(&loaded), loaded.joined), (STALE, joined));
        gate_has_begun(&gate, joined).await;
    }
    assert_eq!(t.source.loads(), 1);
    gate.open();
    settle().await;
    let later = gated(&t, &swr, &gate).await.unwrap();
    assert_eq!(short(&later), (Some(2), LoadStatus::Fresh));
}

async fn gate_has_begun(gate: &Gate, already: bool) {
    if !already {
        gate.begun().await;
    }
}

#[tokio::test]
async fn case_26_who_takes_no_stale_value_waits_for_the_revalidation() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let (swr, gate) = (revalidating(), Gate::default());
    assert_eq!(short(&gated(&t, &swr, &gate).await.unwrap()), STALE);
    gate.begun().await;
    let (cache, strict) = (t.cache.clone(), options(|o| o.allow_stale(false)));
    let waits = tokio::spawn(async move {
        let loader = |_| async { LoaderOutcome::value(3u64) };
        cache.get_or_load_with("k", &strict, loader).await
    });
    settle().await;
    gate.open();
    assert_eq!(*waits.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn case_27_a_revalidation_that_fails_is_tried_again_after_the_throttle() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let swr = revalidating();
    for loads in 1..=3 {
        assert_eq!(t.got(&swr, down()).await, STALE);
        settle().await;
        assert_eq!(t.got(&swr, down()).await, STALE);
        settle().await;
        assert_eq!(t.source.loads(), loads);
        t.clock.advance(secs(30));
    }
    assert_eq!(t.got(&swr, LoaderOutcome::value(2)).await, STALE);
    settle().await;
    assert_eq!(t.get().await, Some(2));
}

#[tokio::test]
async fn case_27_an_eager_refresh_that_fails_is_tried_again_after_the_throttle() {
    let t = Fixture::with(|builder| builder);
    ripe(&t).await;
    let quick = options(|o| o.eager_refresh(0.5).throttle(secs(10)));
    for _ in 0..3 {
        assert_eq!(t.got(&quick, down()).await, OLD);
        settle().await;
    }
    assert_eq!(t.source.loads(), 2);
    t.clock.advance(secs(10));
    assert_eq!(t.got(&quick, LoaderOutcome::value(2)).await, OLD);
    settle().await;
    assert_eq!((t.get().await, t.source.loads()), (Some(2), 3));
}

/// What the hook was told of each failure: the kind, and whether nobody waited.
type Told = Arc<Mutex<Vec<(ErrorKind, bool)>>>;

fn with_hook(told: &Told) -> Fixture {
    let told = Arc::clone(told);
    Fixture::with(move |builder| {
        builder.stale_for(mins(5)).on_load_error(move |failure| {
            assert_eq!(failure.key.as_str(), "t:k");
            let mut told = told.lock().expect("nobody panics");
            told.push((failure.error.kind(), failure.background));
        })
    })
}

#[tokio::test]
async fn case_50_the_hook_is_told_of_each_failure_and_whether_anybody_waited() {
    let told = Told::default();
    let t = with_hook(&told);
    let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert_eq!(*told.lock().unwrap(), [(ErrorKind::Loader, false)]);
    t.put_stale(1).await;
    assert_eq!(t.got(&revalidating(), down()).await, STALE);
    settle().await;
    let background = (ErrorKind::Loader, true);
    assert_eq!(told.lock().unwrap().last(), Some(&background));
    assert_eq!(t.cache.get_stats().load_errors, 2);
}

#[tokio::test(start_paused = true)]
async fn case_50_the_hook_is_told_of_a_loader_that_never_returned() {
    let told = Told::default();
    let t = with_hook(&told);
    let hard = options(|o| o.hard_timeout(secs(1)).background_limit(secs(2)));
    let never = |_| std::future::pending::<LoaderOutcome<u64>>();
    let error = t.cache.load("k", &hard, never).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(told.lock().unwrap().is_empty(), "the load goes on");
    pass(secs(2)).await;
    assert_eq!(*told.lock().unwrap(), [(ErrorKind::Timeout, true)]);
}

#[tokio::test]
async fn a_hook_that_panics_harms_nobody() {
    let t = Fixture::with(|builder| {
        builder
            .stale_for(mins(5))
            .on_load_error(|failure| assert!(failure.background, "panics on purpose"))
    });
    for _ in 0..2 {
        let error = t.load(&LoadOptions::default(), down()).await.unwrap_err();
        assert_eq!(error.message(), "the source is down");
    }
    t.put_stale(1).await;
    assert_eq!(t.got(&LoadOptions::default(), down()).await, STALE);
}
