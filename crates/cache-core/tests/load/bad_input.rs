//! What cannot be meant, refused by its kind before any I/O.

use std::time::Duration;

use cache_core::{
    CacheService, ConfigurationErrors, DecodedOptions, ErrorKind, LoadOptions, LoadOptionsBuilder,
    LoadStatus, LoaderOutcome, Ttl, days, millis, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use futures_util::FutureExt as _;

use super::{Fixture, options};

type Change = fn(LoadOptionsBuilder) -> LoadOptionsBuilder;

/// The options that an error complains about.
fn complaints(change: Change) -> Vec<String> {
    let error = change(LoadOptions::builder()).build();
    let error = error.expect_err("these options make no sense");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let source = std::error::Error::source(&error);
    let problems = source.and_then(|source| source.downcast_ref::<ConfigurationErrors>());
    let problems = &problems.expect("all problems are listed").0;
    let names = problems.iter().map(|problem| problem.variable.clone());
    names.collect()
}

#[test]
fn case_15_a_timeout_of_zero_is_an_error_when_the_options_are_built() {
    let zeros: [(&str, Change); 8] = [
        ("ttl", |o| o.ttl(Duration::ZERO)),
        ("stale_for", |o| o.stale_for(Duration::ZERO)),
        ("absent_for", |o| o.absent_for(Duration::ZERO)),
        ("soft_timeout", |o| o.soft_timeout(Duration::ZERO)),
        ("hard_timeout", |o| o.hard_timeout(Duration::ZERO)),
        ("with_deadline", |o| o.with_deadline(Duration::ZERO)),
        ("background_limit", |o| o.background_limit(Duration::ZERO)),
        ("throttle", |o| o.throttle(Duration::from_nanos(1))),
    ];
    for (name, change) in zeros {
        assert!(complaints(change).contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn case_15_a_soft_timeout_lies_below_the_hard_one() {
    for soft in [secs(1), secs(2)] {
        let both = LoadOptions::builder()
            .soft_timeout(soft)
            .hard_timeout(secs(1));
        let error = both.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    options(|o| o.soft_timeout(millis(999)).hard_timeout(secs(1)));
}

#[test]
fn a_fraction_lies_between_0_and_1() {
    for fraction in [0.0, -0.1, 1.0, 1.5, f64::NAN, f64::INFINITY, -f64::INFINITY] {
        let error = LoadOptions::builder().eager_refresh(fraction).build();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{fraction}");
        assert!(error.to_string().contains("eager_refresh"), "{error}");
    }
    options(|o| o.eager_refresh(f64::MIN_POSITIVE));
}

#[test]
fn case_22_spans_beyond_ten_years_are_refused_alone_and_together() {
    assert_eq!(complaints(|o| o.ttl(mins(u64::MAX))), ["ttl"]);
    let stale = complaints(|o| o.stale_for(Duration::MAX));
    assert!(stale.contains(&"stale_for".to_owned()), "{stale:?}");
    let together = complaints(|o| o.ttl(Ttl::MAX).stale_for(secs(1)));
    assert_eq!(together, ["ttl and stale_for together"]);
}

#[test]
fn every_problem_is_reported_at_once() {
    let problems = complaints(|o| {
        o.ttl(Duration::ZERO)
            .soft_timeout(secs(2))
            .hard_timeout(secs(1))
            .eager_refresh(2.0)
            .background_limit(days(10_000))
    });
    let expected = ["ttl", "background_limit", "soft_timeout", "eager_refresh"];
    assert_eq!(problems, expected);
}

#[test]
fn case_23_zero_is_no_time_to_live_and_no_for_ever() {
    assert!(Ttl::new(Duration::ZERO).is_err());
    let error = CacheService::builder(MemoryCacheStorage::new())
        .ttl(Duration::ZERO)
        .build();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Configuration);
}

/// A call that is refused before the storage and the loader are asked.
async fn refused(t: &Fixture, options: &LoadOptions, kind: ErrorKind) {
    let error = t.load(options, LoaderOutcome::value(1)).await;
    let error = error.expect_err("the call makes no sense");
    assert_eq!(error.kind(), kind);
    let batch = t.cache.get_many_or_load_with(["k"], options, |_| async {
        Ok::<_, std::io::Error>([("k", 1u64)])
    });
    let error = batch.await.expect_err("the call makes no sense");
    assert_eq!(error.kind(), kind);
    assert_eq!((t.chaos.calls(), t.source.loads()), (0, 0));
}

#[tokio::test]
async fn case_23_a_load_without_any_time_to_live_is_refused() {
    let mut t = Fixture::new();
    let timeless = CacheService::builder(t.chaos.clone()).build();
    t.cache = timeless.unwrap();
    refused(&t, &LoadOptions::default(), ErrorKind::Configuration).await;
    let minute = options(|o| o.ttl(mins(1)));
    let own = t.got(&minute, LoaderOutcome::value(1));
    assert_eq!(own.await, (Some(1), LoadStatus::Loaded));
}

#[tokio::test]
async fn a_default_of_another_type_is_refused() {
    let t = Fixture::new();
    refused(
        &t,
        &options(|o| o.or_default("nine")),
        ErrorKind::Configuration,
    )
    .await;
    refused(
        &t,
        &options(|o| o.or_default(9i64)),
        ErrorKind::Configuration,
    )
    .await;
}

#[tokio::test]
async fn a_budget_that_overflows_with_the_other_half_of_the_service_is_refused() {
    // As with a set: either half alone is sound.
    let t = Fixture::new();
    refused(&t, &options(|o| o.stale_for(Ttl::MAX)), ErrorKind::Ttl).await;
    refused(&t, &options(|o| o.ttl(Ttl::MAX)), ErrorKind::Ttl).await;
}

#[tokio::test]
async fn a_key_that_breaks_a_rule_is_refused() {
    let t = Fixture::new();
    for key in [String::new(), "\u{7}".to_owned(), "k".repeat(2_000)] {
        let source = t.source.clone();
        let load = t
            .cache
            .get_or_load(key.clone(), move |_| async move { source.value(1) });
        assert_eq!(load.await.unwrap_err().kind(), ErrorKind::Key);
        let read = t.cache.get_arc::<u64>(key.clone()).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Key);
        let batch = t.cache.get_many_or_load(["k".to_owned(), key], |_| async {
            Ok::<_, std::io::Error>([("k".to_owned(), 1u64)])
        });
        assert_eq!(batch.await.unwrap_err().kind(), ErrorKind::Key);
    }
    assert_eq!((t.chaos.calls(), t.source.loads()), (0, 0));
}

#[test]
fn decoded_values_need_room_and_time() {
    let build = |decoded| {
        let builder = CacheService::builder(MemoryCacheStorage::new());
        builder.decoded(decoded).build()
    };
    for decoded in [
        DecodedOptions::new().max_entries(0),
        DecodedOptions::new().max_bytes(0),
        DecodedOptions::new().max_bytes(127),
        DecodedOptions::new().ttl_cap(Duration::ZERO),
        DecodedOptions::new().ttl_cap(Duration::MAX),
    ] {
        let error = build(decoded).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    assert!(build(DecodedOptions::new().max_entries(usize::MAX)).is_ok());
}

#[test]
fn outside_of_a_runtime_a_load_is_an_error_and_no_panic() {
    let t = Fixture::new();
    let call = |options: &LoadOptions| {
        let load = t.load(options, LoaderOutcome::value(1));
        load.now_or_never().expect("nothing is waited for")
    };
    let eager = options(|o| o.soft_timeout(secs(1)).hard_timeout(secs(2)));
    let hasty = options(|o| o.with_deadline(secs(1)));
    for options in [LoadOptions::default(), eager, hasty] {
        let error = call(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    let set = t.cache.set("k", &1u64).now_or_never();
    set.expect("nothing is waited for").unwrap();
    let read = call(&LoadOptions::default()).unwrap();
    assert_eq!(read.status, LoadStatus::Fresh, "reading needs no runtime");
}
