//! Loaders and storages that take too long, on the paused clock of tokio.

use std::future::pending;
use std::time::Duration;

use cache_core::{
    ErrorKind, LoadOptions, LoadStatus, Loaded, LoaderOutcome, Operation, Result, Ttl, millis,
    mins, secs,
};
use cache_testkit::chaos::Plan;
use tokio::time::{Instant, timeout};

use super::{Dropped, Fixture, options, pass, settle, short, takes};

/// One call whose loader brings 2 after `span`, and how long it took.
async fn slow(
    t: &Fixture,
    options: &LoadOptions,
    span: Duration,
) -> (Result<Loaded<u64>>, Duration) {
    let source = t.source.clone();
    let start = Instant::now();
    let loader = move |_| async move {
        source.asked();
        takes(span).await;
        LoaderOutcome::value(2u64)
    };
    let loaded = t.cache.load("k", options, loader).await;
    (loaded, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn case_12_a_soft_timeout_gives_the_stale_value_on_time() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let soft = options(|o| o.soft_timeout(millis(100)));
    let (loaded, took) = slow(&t, &soft, secs(2)).await;
    let loaded = loaded.unwrap();
    assert_eq!(short(&loaded), (Some(1), LoadStatus::Stale));
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Timeout);
    assert_eq!(took, millis(100));
    // Counted from the beginning of the load: whoever comes now waits no longer.
    let (later, took) = slow(&t, &soft, secs(2)).await;
    let later = later.unwrap();
    assert_eq!(short(&later), (Some(1), LoadStatus::Stale));
    assert_eq!((took, later.joined), (Duration::ZERO, true));
    assert_eq!(t.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn case_12_a_soft_timeout_without_a_stale_value_waits_for_the_loader() {
    let t = Fixture::new();
    let soft = options(|o| o.soft_timeout(millis(100)));
    let (loaded, took) = slow(&t, &soft, secs(2)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(2), LoadStatus::Loaded));
    assert_eq!(took, secs(2));
}

#[tokio::test(start_paused = true)]
async fn case_12_a_fast_loader_is_not_hurt_by_timeouts() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let both = options(|o| o.soft_timeout(millis(100)).hard_timeout(secs(1)));
    let (loaded, took) = slow(&t, &both, millis(99)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(2), LoadStatus::Loaded));
    assert_eq!(took, millis(99));
}

#[tokio::test(start_paused = true)]
async fn case_13_a_hard_timeout_without_a_stale_value_is_an_error() {
    let t = Fixture::new();
    let hard = options(|o| o.hard_timeout(secs(1)));
    let (loaded, took) = slow(&t, &hard, secs(2)).await;
    let error = loaded.unwrap_err();
    assert_eq!((error.kind(), took), (ErrorKind::Timeout, secs(1)));
    assert_eq!(error.operation(), Some(Operation::GetOrLoad));
}

#[tokio::test(start_paused = true)]
async fn case_13_a_hard_timeout_with_a_stale_value_gives_it() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let hard = options(|o| o.hard_timeout(secs(1)));
    let (loaded, took) = slow(&t, &hard, secs(2)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(1), LoadStatus::Stale));
    assert_eq!(took, secs(1));
}

#[tokio::test(start_paused = true)]
async fn case_13_a_hard_timeout_gives_the_default_and_refuses_stale_where_the_call_does() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let strict = options(|o| {
        o.soft_timeout(millis(100))
            .hard_timeout(secs(1))
            .allow_stale(false)
            .cancel_on_timeout(true)
    });
    let (loaded, took) = slow(&t, &strict, secs(2)).await;
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(took, secs(1));
    let defaults = strict.to_builder().or_default(9u64).build().unwrap();
    settle().await;
    let (loaded, took) = slow(&t, &defaults, secs(2)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(9), LoadStatus::Default));
    assert_eq!(took, secs(1));
}

#[tokio::test(start_paused = true)]
async fn case_14_a_load_that_ends_after_its_soft_timeout_replaces_the_value() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let soft = options(|o| o.soft_timeout(millis(100)));
    assert_eq!(
        short(&slow(&t, &soft, secs(2)).await.0.unwrap()),
        (Some(1), LoadStatus::Stale)
    );
    pass(secs(2)).await;
    assert_eq!(t.get().await, Some(2));
    // And after a hard one.
    t.clock.advance(mins(10));
    let hard = options(|o| o.hard_timeout(secs(1)));
    let error = slow(&t, &hard, secs(2)).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    pass(secs(2)).await;
    assert_eq!(t.get().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn case_16_with_cancel_on_timeout_the_load_is_cancelled() {
    let t = Fixture::new();
    t.put_stale(1).await;
    for impatient in [
        options(|o| o.soft_timeout(secs(1)).cancel_on_timeout(true)),
        options(|o| o.hard_timeout(secs(1)).cancel_on_timeout(true)),
    ] {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let load = t.cache.load("k", &impatient, move |_| async move {
            let _guard = guard;
            pending::<LoaderOutcome<u64>>().await
        });
        let loaded = load.await.unwrap();
        assert_eq!(short(&loaded), (Some(1), LoadStatus::Stale));
        let start = Instant::now();
        dropped.wait().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        settle().await;
    }
    assert_eq!(t.cache.get_stats().loads, 0);
    let loaded = t
        .got(&LoadOptions::default(), LoaderOutcome::value(3))
        .await;
    assert_eq!(loaded, (Some(3), LoadStatus::Loaded));
}

#[tokio::test(start_paused = true)]
async fn case_16_one_impatient_caller_does_not_cancel_the_load_of_another() {
    let t = Fixture::new();
    let cache = t.cache.clone();
    let patient = tokio::spawn(async move {
        let loader = |_| async {
            takes(secs(2)).await;
            LoaderOutcome::value(2u64)
        };
        cache.get_or_load("k", loader).await
    });
    settle().await;
    let impatient = options(|o| o.hard_timeout(secs(1)).cancel_on_timeout(true));
    let (error, took) = slow(&t, &impatient, secs(2)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(took, secs(1));
    assert_eq!(*patient.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn case_17_a_loader_that_never_returns_frees_its_key_and_a_late_result_is_dropped() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let bounded = options(|o| o.soft_timeout(millis(100)).background_limit(secs(5)));
    let dropped = Dropped::default();
    let guard = dropped.guard();
    let load = t.cache.load("k", &bounded, move |_| async move {
        let _guard = guard;
        // Late, and not never: what it brings must not be stored.
        takes(secs(6)).await;
        LoaderOutcome::value(2u64)
    });
    assert_eq!(short(&load.await.unwrap()), (Some(1), LoadStatus::Stale));
    let start = Instant::now();
    dropped.wait().await;
    assert_eq!(start.elapsed(), secs(5));
    settle().await;
    // The bound makes it a failed load, which is throttled.
    let throttled = t.got(&bounded, LoaderOutcome::value(3)).await;
    assert_eq!(throttled, (Some(1), LoadStatus::Stale));
    t.clock.advance(secs(30));
    let loaded = t.got(&bounded, LoaderOutcome::value(3)).await;
    assert_eq!(loaded, (Some(3), LoadStatus::Loaded));
    pass(secs(10)).await;
    assert_eq!(t.get().await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn case_18_a_caller_that_leaves_returns_promptly_and_nothing_is_stored_for_it() {
    let t = Fixture::new();
    let start = Instant::now();
    let options = LoadOptions::default();
    let call = timeout(secs(1), slow(&t, &options, secs(2)));
    assert!(call.await.is_err());
    assert_eq!(start.elapsed(), secs(1));
    pass(secs(5)).await;
    assert_eq!(t.get().await, None);
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
}

#[tokio::test]
async fn case_19_a_time_to_live_of_the_loader_is_used_and_the_options_stay() {
    let t = Fixture::new();
    let minute = LoadOptions::default();
    let own = LoaderOutcome::value_for(1, Ttl::new(secs(5)).unwrap());
    assert_eq!(t.got(&minute, own).await, (Some(1), LoadStatus::Loaded));
    t.clock.advance(secs(5));
    assert_eq!(t.get().await, None);
    let plain = t.got(&minute, LoaderOutcome::value(2)).await;
    assert_eq!(plain, (Some(2), LoadStatus::Loaded));
    t.clock.advance(mins(1) - millis(1));
    assert_eq!(t.get().await, Some(2));
}

#[tokio::test]
async fn case_19_a_loader_decides_the_stale_budget_too() {
    let t = Fixture::new();
    let own = LoaderOutcome::Value {
        value: 1,
        ttl: Some(Ttl::new(secs(5)).unwrap()),
        stale_for: Some(secs(5)),
    };
    t.got(&LoadOptions::default(), own).await;
    t.clock.advance(secs(9));
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), Some(1));
    t.clock.advance(secs(1));
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn case_20_what_a_loader_decides_in_the_background_is_honoured() {
    let t = Fixture::new();
    t.put_stale(1).await;
    let soft = options(|o| o.soft_timeout(millis(100)));
    let load = t.cache.load("k", &soft, |_| async {
        takes(secs(2)).await;
        LoaderOutcome::value_for(2u64, Ttl::new(secs(5)).expect("a time to live"))
    });
    assert_eq!(short(&load.await.unwrap()), (Some(1), LoadStatus::Stale));
    pass(secs(2)).await;
    t.clock.advance(secs(5) - millis(1));
    assert_eq!(t.get().await, Some(2));
    t.clock.advance(millis(1));
    assert_eq!(t.get().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_a_storage_that_hangs_while_it_is_read() {
    let t = Fixture::new();
    t.put_stale(1).await;
    t.chaos.add(Plan::hang().on(Operation::Get));
    let hasty = options(|o| o.with_deadline(millis(300)));
    let (loaded, took) = slow(&t, &hasty, secs(2)).await;
    let error = loaded.unwrap_err();
    assert_eq!((error.kind(), took), (ErrorKind::Timeout, millis(300)));
    assert_eq!(t.source.loads(), 0);
    let defaults = hasty.to_builder().or_default(9u64).build().unwrap();
    let (loaded, took) = slow(&t, &defaults, secs(2)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(9), LoadStatus::Default));
    assert_eq!(took, millis(300));
    t.chaos.forget_plans();
    let (loaded, _) = slow(&t, &LoadOptions::default(), secs(2)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(2), LoadStatus::Loaded));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_a_storage_that_hangs_while_the_value_is_stored() {
    let t = Fixture::new();
    t.chaos.add(Plan::hang().on(Operation::Set));
    let hasty = options(|o| o.with_deadline(millis(300)));
    let (loaded, took) = slow(&t, &hasty, millis(100)).await;
    assert_eq!(short(&loaded.unwrap()), (Some(2), LoadStatus::Loaded));
    assert_eq!(took, millis(300));
    t.chaos.release();
    settle().await;
    assert_eq!(t.get().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_the_loader_and_those_who_joined() {
    let t = Fixture::new();
    let hasty = options(|o| o.with_deadline(millis(300)));
    let (both, took) = {
        let start = Instant::now();
        let both = tokio::join!(slow(&t, &hasty, secs(2)), slow(&t, &hasty, secs(2)));
        (both, start.elapsed())
    };
    for (loaded, _) in [both.0, both.1] {
        assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!((took, t.source.loads()), (millis(300), 1));
}

/// The bound counts from the first caller who stopped waiting: others who keep coming do not
/// stretch it.
#[tokio::test(start_paused = true)]
async fn case_17_a_hung_load_of_a_hot_key_ends_at_its_bound() {
    let t = Fixture::with(|builder| builder);
    let options = options(|o| o.hard_timeout(millis(100)).background_limit(millis(310)));
    let calls = (0..20u64).map(|call| {
        let (cache, options, source) = (t.cache.clone(), options.clone(), t.source.clone());
        tokio::spawn(async move {
            takes(millis(50) * u32::try_from(call).unwrap()).await;
            let loader = move |_| async move {
                source.asked();
                if source.loads() == 1 {
                    std::future::pending::<()>().await;
                }
                LoaderOutcome::value(call)
            };
            cache.get_or_load_with("k", &options, loader).await
        })
    });
    let mut got = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        got.push(call.await.unwrap().is_ok());
    }
    assert_eq!(t.source.loads(), 2);
    assert_eq!(got.iter().filter(|is_ok| !**is_ok).count(), 9, "{got:?}");
}
