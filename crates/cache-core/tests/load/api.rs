//! The rest of the interface as loads meet it: trouble, shutdown, disabled caches, codecs.

use std::collections::BTreeMap;
use std::fmt::Debug;

use cache_core::{
    CacheError, CacheService, Codec, DecodedOptions, DisabledStorage, ErrorKind, LoadOptions,
    LoadStatus, Loadable, LoaderOutcome, OnTrouble, Operation, SetOptions, TimeLeft, Ttl, mins,
    secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::Plan;
use serde::{Deserialize, Serialize};

use super::{Fixture, Source, options, short};

#[tokio::test]
async fn case_43_what_is_missing_is_missing_and_a_delete_tells() {
    let t = Fixture::new();
    assert_eq!(t.get().await, None);
    assert_eq!(t.cache.get_arc::<u64>("k").await.unwrap(), None);
    assert!(!t.cache.delete("k").await.unwrap());
    t.cache.set("k", &1u64).await.unwrap();
    let left = t.cache.get_ttl("k").await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(mins(1)));
    let for_ever = SetOptions::new().ttl(Ttl::FOREVER);
    t.cache.set_with("l", &2u64, for_ever).await.unwrap();
    let left = t.cache.get_ttl("l").await.unwrap();
    assert_eq!(left, TimeLeft::Forever);
    assert!(t.cache.delete("k").await.unwrap());
    assert!(!t.cache.delete("k").await.unwrap());
    t.put_stale(3).await;
    assert!(!t.cache.delete("k").await.unwrap(), "it was not live");
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn case_43_empty_batches_succeed() {
    let t = Fixture::new();
    let none: [&str; 0] = [];
    assert_eq!(t.cache.get_many::<u64>(none).await.unwrap(), []);
    t.cache.set_many(none.map(|key| (key, 1u64))).await.unwrap();
    t.cache.delete_many(none).await.unwrap();
}

fn refused() -> CacheError {
    CacheError::new(ErrorKind::Connection, "connection refused")
}

#[tokio::test]
async fn case_49_trouble_is_surfaced_by_default_and_a_miss_where_that_is_asked_for() {
    for policy in [OnTrouble::Error, OnTrouble::Miss] {
        let t = Fixture::with(|builder| builder.on_trouble(policy));
        t.cache.set("k", &1u64).await.unwrap();
        t.chaos.start_outage(Plan::fail(refused()));
        let reads = [
            t.cache.get::<u64>("k").await,
            t.cache.get_stale::<u64>("k").await,
            t.cache.get_arc::<u64>("k").await.map(|v| v.map(|v| *v)),
        ];
        for read in reads {
            match policy {
                OnTrouble::Miss => assert_eq!(read.unwrap(), None),
                _ => assert_eq!(read.unwrap_err().kind(), ErrorKind::Connection),
            }
        }
        let writes = t.cache.set("k", &2u64).await;
        assert_eq!(writes.unwrap_err().kind(), ErrorKind::Connection);
        let loaded = t
            .load(&LoadOptions::default(), LoaderOutcome::value(3))
            .await;
        let loaded = loaded.unwrap();
        assert_eq!(short(&loaded), (Some(3), LoadStatus::Loaded));
        assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Connection);
    }
}

#[tokio::test]
async fn case_49_a_failed_write_of_a_loaded_value_is_counted_and_no_error() {
    let t = Fixture::new();
    t.chaos.add(Plan::fail(refused()).on(Operation::Set));
    let loaded = t
        .load(&LoadOptions::default(), LoaderOutcome::value(1))
        .await;
    let loaded = loaded.unwrap();
    assert_eq!(short(&loaded), (Some(1), LoadStatus::Loaded));
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Connection);
    assert_eq!(t.cache.get_stats().degraded, 1);
}

#[tokio::test]
async fn case_51_after_a_shutdown_every_method_says_so_and_no_loader_runs() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    t.cache.storage().shutdown(secs(1)).await.unwrap();
    let error = t
        .load(&LoadOptions::default(), LoaderOutcome::value(2))
        .await;
    let batch = t.cache.get_many_or_load(["k", "l"], |_| async {
        Ok::<_, std::io::Error>([("k", 2u64)])
    });
    let kinds = [
        error.map(drop),
        batch.await.map(drop),
        t.cache.get::<u64>("k").await.map(drop),
        t.cache.get_stale::<u64>("k").await.map(drop),
        t.cache.get_arc::<u64>("k").await.map(drop),
        t.cache.get_or_default("k", 1u64).await.map(drop),
        t.cache.get_many::<u64>(["k"]).await.map(drop),
        t.cache.lookup::<u64>("k").await.map(drop),
        t.cache.set("k", &1u64).await,
        t.cache.set_many([("k", 1u64)]).await,
        t.cache.set_if_absent("k", &1u64).await.map(drop),
        t.cache.delete("k").await.map(drop),
        t.cache.delete_many(["k"]).await,
        t.cache.has("k").await.map(drop),
        t.cache.expire("k", secs(1)).await.map(drop),
        t.cache.expire_now("k").await.map(drop),
        t.cache.get_ttl("k").await.map(drop),
        t.cache.increment("k", 1, secs(1)).await.map(drop),
        t.cache.clear().await.map(drop),
    ];
    for (position, outcome) in kinds.into_iter().enumerate() {
        let kind = outcome.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Closed, "method {position}");
    }
    assert_eq!(t.source.loads(), 0);
}

#[tokio::test]
async fn case_52_a_disabled_cache_loads_each_time_and_keeps_nothing() {
    let cache = CacheService::builder(DisabledStorage::new())
        .ttl(mins(1))
        .stale_for(mins(5))
        .decoded(DecodedOptions::new())
        .build()
        .unwrap();
    let source = Source::default();
    for loads in 1..=3 {
        let asked = source.clone();
        let load = cache.get_or_load("k", move |_| async move { asked.value(7) });
        assert_eq!(*load.await.unwrap(), 7);
        assert_eq!(source.loads(), loads);
        assert_eq!(cache.get_arc::<u64>("k").await.unwrap(), None);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
    }
    let absent = cache.get_or_load("k", |_| async { LoaderOutcome::<u64>::Absent });
    assert_eq!(absent.await.unwrap_err().kind(), ErrorKind::Absent);
    let batch = cache.get_many_or_load(["a", "b"], |_| async {
        Ok::<_, std::io::Error>([("a", 1u64)])
    });
    let values = batch.await.unwrap();
    assert_eq!((values[0].as_deref(), &values[1]), (Some(&1), &None));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nested {
    id: i64,
    ratio: f64,
    names: Vec<String>,
    nothing: Option<u32>,
    something: Option<u32>,
    bytes: Vec<u8>,
    inner: BTreeMap<String, Vec<(u8, bool)>>,
}

fn nested() -> Nested {
    Nested {
        id: i64::MIN,
        ratio: 0.1,
        names: vec![String::new(), "Ümläut \u{1F980}\n\"".to_owned()],
        nothing: None,
        something: Some(u32::MAX),
        bytes: vec![0, 255, 202],
        inner: BTreeMap::from([
            ("a".to_owned(), vec![(1, true)]),
            (String::new(), Vec::new()),
        ]),
    }
}

/// Loaded once, the value comes back from the storage as it was, by every way to read it.
async fn round_trip<T: Loadable + Clone + PartialEq + Debug>(codec: Codec, value: T) {
    for decoded in [false, true] {
        let t = Fixture::with(|builder| match decoded {
            true => builder.codec(codec).decoded(DecodedOptions::new()),
            false => builder.codec(codec).stale_for(mins(1)),
        });
        for status in [LoadStatus::Loaded, LoadStatus::Fresh] {
            let own = value.clone();
            let options = LoadOptions::default();
            let load = t
                .cache
                .load("k", &options, |_| async move { LoaderOutcome::value(own) });
            let loaded = load.await.expect("it loads");
            assert_eq!(
                (loaded.value.as_deref(), loaded.status),
                (Some(&value), status)
            );
            assert!(loaded.trouble.is_none(), "{:?}", loaded.trouble);
        }
        let read: Option<T> = t.cache.get("k").await.expect("it reads");
        assert_eq!(read.as_ref(), Some(&value));
        let shared = t.cache.get_arc::<T>("k").await.expect("it reads");
        assert_eq!(shared.as_deref(), Some(&value));
        let many = t.cache.get_many::<T>(["k"]).await.expect("it reads");
        assert_eq!(many[0].as_ref(), Some(&value));
    }
}

#[tokio::test]
async fn case_53_every_kind_of_value_survives_every_codec() {
    for codec in [Codec::Json, Codec::Postcard, Codec::Bincode] {
        for number in [i64::MIN, -1, 0, i64::MAX] {
            round_trip(codec, number).await;
        }
        round_trip(codec, u64::MAX).await;
        round_trip(codec, true).await;
        round_trip(codec, "text \u{1F980}".to_owned()).await;
        round_trip(codec, String::new()).await;
        round_trip(codec, vec![1u32, 2, 3]).await;
        round_trip(codec, Vec::<u32>::new()).await;
        round_trip(codec, None::<u64>).await;
        round_trip(codec, ()).await;
        round_trip(codec, vec![0u8, 255]).await;
        round_trip(codec, nested()).await;
    }
    round_trip(Codec::Raw, "text \u{1F980}".to_owned()).await;
    round_trip(Codec::Raw, vec![0u8, 255]).await;
    round_trip(Codec::Raw, Vec::<u8>::new()).await;
}

#[tokio::test]
async fn the_options_of_the_service_are_those_of_calls_without_any() {
    let own = options(|o| o.ttl(secs(5)).or_default(9u64));
    let t = Fixture::with(|builder| builder.load_options(own));
    let down = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::<u64>::failed("down") });
    assert_eq!(*down.await.unwrap(), 9);
    t.cache.delete("k").await.unwrap();
    let load = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(1u64) });
    assert_eq!(*load.await.unwrap(), 1);
    let left = t.cache.get_ttl("k").await.unwrap();
    assert_eq!(left, TimeLeft::Remaining(secs(5)));
    assert!(t.cache.load_options().soft_timeout().is_none());
}

#[tokio::test]
async fn case_51_after_a_shutdown_nothing_kept_decoded_is_handed_out() {
    let t = Fixture::with(|builder| builder.decoded(DecodedOptions::new()));
    let options = LoadOptions::default();
    t.load(&options, LoaderOutcome::value(1)).await.unwrap();
    t.cache.storage().shutdown(secs(1)).await.unwrap();
    let read = t.cache.get_arc::<u64>("k").await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Closed);
    let load = t.load(&options, LoaderOutcome::value(2)).await;
    assert_eq!(load.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_miss_in_this_process_is_read_and_counted_once() {
    let storage = MemoryCacheStorage::new();
    let cache = CacheService::builder(storage)
        .ttl(secs(60))
        .build()
        .unwrap();
    for _ in 0..2 {
        let load = cache.get_or_load("k", |_| async { LoaderOutcome::value(1u64) });
        assert_eq!(*load.await.unwrap(), 1);
    }
    let stats = cache.get_stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
    assert_eq!((stats.storage.hits, stats.storage.misses), (1, 1));
}

#[tokio::test]
async fn whoever_asks_for_a_refresh_is_not_told_of_an_absence_from_before() {
    let t = Fixture::with(|builder| builder);
    let plain = LoadOptions::default();
    t.load(&plain, LoaderOutcome::Absent).await.unwrap();
    let refresh = options(|o| o.refresh());
    let got = t.got(&refresh, LoaderOutcome::value(2)).await;
    assert_eq!(got, (Some(2), LoadStatus::Loaded));
}
