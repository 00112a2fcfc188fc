//! Each case over Redis, over DynamoDB, and over memory in front of Redis.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use cache_core::{
    Codec, ErrorKind, LoadContext, LoadOptions, LoadStatus, Loadable, LoaderOutcome, TimeLeft,
    mins, secs,
};
use tokio::sync::{Barrier, Notify};

use super::support::{Bench, until_stored};

macro_rules! over_each {
    ($names:tt) => {
        over_each!(redis $names);
        over_each!(dynamodb $names);
        over_each!(tiers $names);
    };
    ($server:ident { $($name:ident)+ }) => {
        mod $server {
            use super::Bench;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(Bench::$server().await).await;
                }
            )+
        }
    };
}

over_each! ({
    case_1_a_failed_load_gives_the_stale_value
    case_10_absent_and_null_are_different
    case_11_after_a_delete_nothing_is_there_and_after_expire_now_it_is_stale
    case_21_conditional_requests_spare_the_source
    case_24_past_the_threshold_one_hit_starts_a_load
    case_26_two_calls_during_a_revalidation_get_the_stale_value
    case_28_ten_thousand_callers_load_once
    case_43_what_is_missing_is_missing_and_a_delete_tells
    case_53_every_kind_of_value_survives_every_codec
});

/// Not over tiers, where a copy of the absence outlives the delete of another process.
#[tokio::test]
async fn case_47_absence_is_seen_by_other_processes_over_redis() {
    case_47_absence_is_seen_by_the_loads_of_another_process(Bench::redis().await).await;
}

#[tokio::test]
async fn case_47_absence_is_seen_by_other_processes_over_dynamodb() {
    case_47_absence_is_seen_by_the_loads_of_another_process(Bench::dynamodb().await).await;
}

fn down() -> LoaderOutcome<u64> {
    LoaderOutcome::failed("the source is down")
}

fn options(
    decide: impl FnOnce(cache_core::LoadOptionsBuilder) -> cache_core::LoadOptionsBuilder,
) -> LoadOptions {
    let options = decide(LoadOptions::builder()).build();
    options.expect("the options are sound")
}

async fn case_1_a_failed_load_gives_the_stale_value(t: Bench) {
    t.put_stale(1).await;
    let plain = LoadOptions::default();
    for _ in 0..2 {
        assert_eq!(t.got(&plain, down()).await, (Some(1), LoadStatus::Stale));
    }
    assert_eq!(t.source.loads(), 1);
    t.clock.advance(mins(4));
    let error = t.load(&plain, down()).await.expect_err("nothing is left");
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn case_10_absent_and_null_are_different(t: Bench) {
    let null = t
        .cache
        .get_or_load("null", |_| async { LoaderOutcome::value(None::<u64>) });
    assert_eq!(*null.await.expect("null is a value"), None);
    let none = t
        .cache
        .get_or_load("none", |_| async { LoaderOutcome::<Option<u64>>::Absent });
    let error = none.await.expect_err("there is nothing");
    assert_eq!(error.kind(), ErrorKind::Absent);
    let other = t.other();
    let read = other.get::<Option<u64>>("null").await;
    assert_eq!(read.expect("the server answers"), Some(None));
    let read = other.get::<Option<u64>>("none").await;
    assert_eq!(read.expect("the server answers"), None);
}

async fn case_11_after_a_delete_nothing_is_there_and_after_expire_now_it_is_stale(t: Bench) {
    let plain = LoadOptions::default();
    t.got(&plain, LoaderOutcome::value(1)).await;
    assert!(t.cache.expire_now("k").await.expect("the server answers"));
    let read = t.cache.get::<u64>("k").await;
    assert_eq!(read.expect("the server answers"), None);
    let read = t.cache.get_stale::<u64>("k").await;
    assert_eq!(read.expect("the server answers"), Some(1));
    assert_eq!(t.got(&plain, down()).await, (Some(1), LoadStatus::Stale));

    t.got(&options(|o| o.refresh()), LoaderOutcome::value(2))
        .await;
    assert!(t.cache.delete("k").await.expect("the server answers"));
    let read = t.cache.get_stale::<u64>("k").await;
    assert_eq!(read.expect("the server answers"), None);
    let error = t.load(&plain, down()).await.expect_err("nothing is left");
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn case_21_conditional_requests_spare_the_source(t: Bench) {
    let (mut conditional, mut full) = (0, 0);
    for etag in [0u64, 0, 0, 1] {
        let seen = Arc::new(std::sync::Mutex::new((false, false)));
        let notes = Arc::clone(&seen);
        let load = t
            .cache
            .get_or_load("page", move |context: LoadContext<(u64, String)>| {
                let stored = context.stored.as_ref().map(|stored| stored.0);
                let is_same = stored == Some(etag);
                *notes.lock().expect("nobody panics") = (stored.is_some(), !is_same);
                async move {
                    match is_same {
                        true => LoaderOutcome::NotModified,
                        false => LoaderOutcome::value((etag, format!("body {etag}"))),
                    }
                }
            });
        let page = load.await.expect("the source answers");
        assert_eq!(*page, (etag, format!("body {etag}")));
        let (was_conditional, was_full) = *seen.lock().expect("nobody panics");
        conditional += u32::from(was_conditional);
        full += u32::from(was_full);
        // What was not modified is fresh again, to other processes too.
        let read = t.other().get::<(u64, String)>("page").await;
        assert_eq!(
            read.expect("the server answers").map(|page| page.0),
            Some(etag)
        );
        t.clock.advance(mins(2));
    }
    assert_eq!((conditional, full), (3, 2));
}

async fn case_24_past_the_threshold_one_hit_starts_a_load(t: Bench) {
    let eager = options(|o| o.eager_refresh(0.5));
    t.got(&eager, LoaderOutcome::value(1)).await;
    t.clock.advance(secs(30));
    let hit = t.got(&eager, LoaderOutcome::value(2)).await;
    assert_eq!(hit, (Some(1), LoadStatus::Fresh));
    until_stored(&t.other(), 2).await;
    let left = t.cache.get_ttl("k").await.expect("the server answers");
    let TimeLeft::Remaining(left) = left else {
        unreachable!("it has an end: {left:?}");
    };
    assert!(left > secs(55), "it starts again: {left:?}");
    // The load itself may not have heard yet that its value was stored.
    let later = t.got(&eager, LoaderOutcome::value(3)).await;
    assert_eq!((later.0, t.source.loads()), (Some(2), 2));
}

async fn case_26_two_calls_during_a_revalidation_get_the_stale_value(t: Bench) {
    t.put_stale(1).await;
    let swr = options(|o| o.stale_while_revalidate(true));
    let go = Arc::new(Notify::new());
    for _ in 0..2 {
        let (source, goes) = (t.source.clone(), Arc::clone(&go));
        let load = t.cache.load("k", &swr, move |_| async move {
            source.asked();
            goes.notified().await;
            LoaderOutcome::value(2u64)
        });
        let loaded = load.await.expect("there is a stale value");
        let got = (loaded.value.as_deref().copied(), loaded.status);
        assert_eq!(got, (Some(1), LoadStatus::Stale));
    }
    go.notify_one();
    until_stored(&t.other(), 2).await;
    assert_eq!(t.source.loads(), 1);
}

async fn case_28_ten_thousand_callers_load_once(t: Bench) {
    let barrier = Arc::new(Barrier::new(10_000));
    let go = Arc::new(Notify::new());
    let calls = (0..10_000).map(|_| {
        let (cache, source, barrier) = (t.cache.clone(), t.source.clone(), Arc::clone(&barrier));
        let goes = Arc::clone(&go);
        tokio::spawn(async move {
            barrier.wait().await;
            let loader = move |_| async move {
                source.asked();
                goes.notified().await;
                LoaderOutcome::value(7u64)
            };
            cache.get_or_load("k", loader).await
        })
    });
    let calls: Vec<_> = calls.collect();
    // The load ends once everybody waits for it.
    while t.cache.get_stats().joined < 9_999 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for call in calls {
        let value = call.await.expect("no caller panics");
        assert_eq!(*value.expect("the loader succeeds"), 7);
    }
    assert_eq!(t.source.loads(), 1);
    let stored = t.other().get::<u64>("k").await;
    assert_eq!(stored.expect("the server answers"), Some(7));
}

async fn case_43_what_is_missing_is_missing_and_a_delete_tells(t: Bench) {
    let cache = &t.cache;
    let get = || async { cache.get::<u64>("k").await.expect("the server answers") };
    let delete = || async { cache.delete("k").await.expect("the server answers") };
    assert_eq!(get().await, None);
    assert!(!delete().await);
    cache.set("k", &1u64).await.expect("the server answers");
    assert_eq!(get().await, Some(1));
    assert!(delete().await && !delete().await);
    t.put_stale(2).await;
    assert!(!delete().await, "it was not live");
    let none: [&str; 0] = [];
    let read = cache.get_many::<u64>(none).await;
    assert!(read.expect("nothing is asked").is_empty());
    let loaded = cache.get_many_or_load(none, |_| async { Ok::<_, std::io::Error>([("k", 1u64)]) });
    assert!(loaded.await.expect("nothing is asked").is_empty());
    let batch = cache.get_many_or_load(["k", "l", "none"], |_| async {
        Ok::<_, std::io::Error>([("k", 1u64), ("l", 2)])
    });
    let values = batch.await.expect("the loader succeeds");
    let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
    assert_eq!(values, [Some(&1), Some(&2), None]);
    assert_eq!(get().await, Some(1));
}

async fn case_47_absence_is_seen_by_the_loads_of_another_process(t: Bench) {
    let plain = LoadOptions::default();
    let absent = (None, LoadStatus::Absent);
    assert_eq!(t.got(&plain, LoaderOutcome::Absent).await, absent);
    let other = t.other();
    let load = other.load("k", &plain, |_| async { LoaderOutcome::value(9u64) });
    let loaded = load.await.expect("absence is an answer");
    assert_eq!((loaded.value, loaded.status), absent_of());
    let answers = "the server answers";
    assert!(!other.has("k").await.expect(answers));
    assert_eq!(other.get::<u64>("k").await.expect(answers), None);
    assert_eq!(other.get_stale::<u64>("k").await.expect(answers), None);
    assert_eq!(other.get_many::<u64>(["k"]).await.expect(answers), [None]);
    assert_eq!(other.get_ttl("k").await.expect(answers), TimeLeft::Missing);
    assert!(!other.expire("k", mins(1)).await.expect(answers));
    assert!(!other.delete("k").await.expect(answers));
    // Deleted all the same: there is something to load again.
    assert_eq!(t.got(&plain, LoaderOutcome::Absent).await, absent);
    assert_eq!(t.source.loads(), 2);
    assert!(other.set_if_absent("k", &3u64).await.expect(answers));
    let read = t.got(&plain, LoaderOutcome::Absent).await;
    assert_eq!(read, (Some(3), LoadStatus::Fresh));
    // And its time ends like any other.
    t.cache.delete("k").await.expect(answers);
    assert_eq!(t.got(&plain, LoaderOutcome::Absent).await, absent);
    t.clock.advance(secs(30));
    let loaded = t.got(&plain, LoaderOutcome::value(4)).await;
    assert_eq!(loaded, (Some(4), LoadStatus::Loaded));
}

fn absent_of() -> (Option<Arc<u64>>, LoadStatus) {
    (None, LoadStatus::Absent)
}

async fn case_53_every_kind_of_value_survives_every_codec(t: Bench) {
    for (name, codec) in [
        ("json", Codec::Json),
        ("postcard", Codec::Postcard),
        ("bincode", Codec::Bincode),
    ] {
        let deep = BTreeMap::from([("a".to_owned(), vec![(1u8, Some(true)), (2, None)])]);
        round_trip(&t, codec, (name, "number"), i64::MIN).await;
        round_trip(&t, codec, (name, "text"), "Ümläut \u{1F980}\n".to_owned()).await;
        round_trip(&t, codec, (name, "array"), vec![1u32, u32::MAX]).await;
        round_trip(&t, codec, (name, "null"), None::<u64>).await;
        round_trip(&t, codec, (name, "bytes"), vec![0u8, 0xFF, 0xCA]).await;
        round_trip(&t, codec, (name, "nested"), deep).await;
    }
    round_trip(&t, Codec::Raw, ("raw", "bytes"), vec![0xFFu8, 0xCA, 0]).await;
    round_trip(&t, Codec::Raw, ("raw", "text"), "text".to_owned()).await;
}

/// Loaded by one process, the value is read by another as it was.
async fn round_trip<T>(t: &Bench, codec: Codec, key: (&'static str, &'static str), value: T)
where
    T: Loadable + Clone + PartialEq + Debug,
{
    let own = value.clone();
    let cache = t.with_codec(codec);
    let load = cache.get_or_load(key, |_| async move { LoaderOutcome::value(own) });
    assert_eq!(*load.await.expect("it loads"), value, "{key:?}");
    let read: Option<T> = t.with_codec(codec).get(key).await.expect("it reads");
    assert_eq!(read, Some(value), "{key:?}");
}
