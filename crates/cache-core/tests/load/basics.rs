use std::future::pending;
use std::sync::Arc;

use cache_core::{
    CacheError, CacheService, DecodedOptions, ErrorKind, LoadOptions, LoadReason, LoadStatus,
    LoaderOutcome, ManualClock, TierAccess, TierOptions, TieredStorage, millis, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Fixture, Gate, Source, pass, settle};

#[tokio::test]
async fn a_missing_value_is_loaded_and_then_read() {
    let t = Fixture::new();
    let source = Source::default();
    for _ in 0..3 {
        let source = source.clone();
        let value = t
            .cache
            .get_or_load("k", move |_| async move { source.value(7) });
        assert_eq!(*value.await.unwrap(), 7);
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(7));
}

#[tokio::test]
async fn a_failed_load_is_answered_with_the_stale_value_and_not_tried_again_for_the_throttle() {
    let t = Fixture::new();
    let source = Source::default();
    t.cache.set("k", &1u64).await.unwrap();
    t.clock.advance(mins(2));
    let options = LoadOptions::default();
    let load = || {
        let source = source.clone();
        t.cache
            .load("k", &options, move |_| async move { source.down() })
    };
    let loaded = load().await.unwrap();
    assert_eq!(
        (*loaded.value.unwrap(), loaded.status),
        (1, LoadStatus::Stale)
    );
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Loader);
    assert_eq!(load().await.unwrap().status, LoadStatus::Stale);
    assert_eq!(source.loads(), 1);
    t.clock.advance(secs(30));
    assert_eq!(load().await.unwrap().status, LoadStatus::Stale);
    assert_eq!(source.loads(), 2);
    t.clock.advance(mins(10));
    assert_eq!(load().await.unwrap_err().kind(), ErrorKind::Loader);
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_serves_stale_and_the_load_goes_on() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    t.clock.advance(mins(2));
    let options = LoadOptions::builder()
        .soft_timeout(millis(100))
        .build()
        .unwrap();
    let (start, gate) = (Instant::now(), Gate::default());
    let passes = gate.clone();
    let slow = move |_| async move {
        passes.pass().await;
        LoaderOutcome::value(2u64)
    };
    let loaded = t.cache.load("k", &options, slow).await.unwrap();
    assert_eq!(
        (*loaded.value.unwrap(), loaded.status),
        (1, LoadStatus::Stale)
    );
    assert_eq!(start.elapsed(), millis(100));
    gate.open();
    settle().await;
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_never_returns_frees_its_key() {
    let t = Fixture::new();
    let options = LoadOptions::builder()
        .hard_timeout(secs(1))
        .build()
        .unwrap();
    let never = t
        .cache
        .load::<u64, _, _, _>("k", &options, |_| pending::<LoaderOutcome<u64>>());
    assert_eq!(never.await.unwrap_err().kind(), ErrorKind::Timeout);
    // Others still join the load that goes on.
    let joined = t
        .cache
        .load("k", &options, |_| async { LoaderOutcome::value(1u64) });
    assert_eq!(joined.await.unwrap_err().kind(), ErrorKind::Timeout);
    pass(secs(30)).await;
    let own = t
        .cache
        .load("k", &options, |_| async { LoaderOutcome::value(1u64) });
    assert_eq!(*own.await.unwrap().value.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_is_cancelled_when_all_callers_have_left() {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let t = Fixture::new();
    let (dropped, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, begins) = (Told(Arc::clone(&dropped)), Arc::clone(&begun));
    let cache = t.cache.clone();
    let call = tokio::spawn(async move {
        let loader = move |_| async move {
            let _told = told;
            begins.notify_one();
            pending::<LoaderOutcome<u64>>().await
        };
        cache.get_or_load("k", loader).await
    });
    begun.notified().await;
    call.abort();
    dropped.notified().await;
    let value = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(3u64) });
    assert_eq!(*value.await.unwrap(), 3);
}

#[tokio::test]
async fn a_load_that_began_before_a_delete_is_not_stored_after_it() {
    let t = Fixture::new();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let cache = t.cache.clone();
    let call = tokio::spawn(async move {
        let loader = move |_| async move {
            begins.notify_one();
            goes.notified().await;
            LoaderOutcome::value(1u64)
        };
        cache.get_or_load("k", loader).await
    });
    begun.notified().await;
    t.cache.delete("k").await.unwrap();
    // A caller after the delete has a load of its own.
    let value = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(2u64) });
    assert_eq!(*value.await.unwrap(), 2);
    go.notify_one();
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(2));
}

#[tokio::test]
async fn absent_is_remembered_and_nothing_is_there() {
    let t = Fixture::new();
    let source = Source::default();
    let options = LoadOptions::default();
    for _ in 0..2 {
        let source = source.clone();
        let loaded = t.cache.load("k", &options, move |_| async move {
            source.asked();
            LoaderOutcome::<u64>::Absent
        });
        assert_eq!(loaded.await.unwrap().status, LoadStatus::Absent);
    }
    assert_eq!(source.loads(), 1);
    assert!(!t.cache.has("k").await.unwrap());
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), None);
    assert!(!t.cache.delete("k").await.unwrap());
    let error = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::<u64>::Absent });
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Absent);
}

#[tokio::test]
async fn trouble_of_the_storage_is_no_error() {
    let t = Fixture::new();
    let refused = CacheError::new(ErrorKind::Connection, "connection refused");
    t.chaos.start_outage(Plan::fail(refused));
    let options = LoadOptions::default();
    let load = t
        .cache
        .load("k", &options, |_| async { LoaderOutcome::value(1u64) });
    let loaded = load.await.unwrap();
    assert_eq!(
        (*loaded.value.unwrap(), loaded.status),
        (1, LoadStatus::Loaded)
    );
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Connection);
    t.chaos.end_outage();
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn stale_while_revalidate_serves_at_once_and_loads_once() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    t.clock.advance(mins(2));
    let options = LoadOptions::builder()
        .stale_while_revalidate(true)
        .build()
        .unwrap();
    let (source, go) = (Source::default(), Arc::new(Notify::new()));
    for _ in 0..2 {
        let (source, go) = (source.clone(), Arc::clone(&go));
        let loaded = t.cache.load("k", &options, move |context| async move {
            assert_eq!(context.reason, LoadReason::Expired);
            assert_eq!(context.stored.as_deref(), Some(&1));
            go.notified().await;
            source.value(2)
        });
        let loaded = loaded.await.unwrap();
        assert_eq!(
            (*loaded.value.unwrap(), loaded.status),
            (1, LoadStatus::Stale)
        );
    }
    settle().await;
    go.notify_one();
    settle().await;
    assert_eq!(source.loads(), 1);
    assert_eq!(t.cache.get::<u64>("k").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_batch_asks_its_loader_once() {
    let t = Fixture::new();
    t.cache.set("a", &1u64).await.unwrap();
    let source = Source::default();
    let asks = source.clone();
    let values = t
        .cache
        .get_many_or_load(
            ["b", "a", "c", "b", "none"],
            move |missing: Vec<&str>| async move {
                asks.asked();
                assert_eq!(missing.len(), 3);
                Ok::<_, std::io::Error>([("b", 2u64), ("c", 3)])
            },
        )
        .await
        .unwrap();
    let values: Vec<_> = values.into_iter().map(|value| value.map(|v| *v)).collect();
    assert_eq!(values, [Some(2), Some(1), Some(3), Some(2), None]);
    assert_eq!(source.loads(), 1);
    assert_eq!(t.cache.get::<u64>("c").await.unwrap(), Some(3));
}

/// What runs in a task of its own: a call whose future cannot be sent would not compile here.
#[tokio::test]
async fn every_call_can_be_spawned() {
    let t = Fixture::new();
    let cache = t.cache.clone();
    let calls = async move {
        cache.set_many([("a", 1u64), ("b", 2)]).await?;
        cache.delete_many(["a"]).await?;
        cache.clear().await?;
        cache
            .get_many_or_load(["a"], |keys: Vec<&'static str>| async move {
                Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 1u64)).collect::<Vec<_>>())
            })
            .await
    };
    let values = tokio::spawn(calls).await.unwrap().unwrap();
    assert_eq!(values[0].as_deref(), Some(&1));
}

#[tokio::test]
async fn case_40_a_call_leaves_tiers_out_of_its_reads_and_writes() {
    let (clock, options) = (ManualClock::new(), LoadOptions::default());
    let tier = || ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let (fast, slow) = (tier(), tier());
    let name = |name: &'static str| TierOptions::default().with_name(name);
    let tiers = TieredStorage::builder()
        .tier_with(fast.clone(), name("fast"))
        .tier_with(slow.clone(), name("slow"))
        .build()
        .unwrap();
    let cache = CacheService::builder(tiers)
        .prefix("t")
        .ttl(mins(1))
        .decoded(DecodedOptions::new())
        .build()
        .unwrap();
    cache.set("k", &1u64).await.unwrap();
    // Another process writes, past this one's fast tier.
    let other = CacheService::builder(slow.clone()).prefix("t").ttl(mins(1));
    other.build().unwrap().set("k", &2u64).await.unwrap();
    let load = async |cache: &CacheService| {
        let failing = |_| async { LoaderOutcome::<u64>::failed("nobody asks") };
        let loaded = cache.load("k", &options, failing).await.unwrap();
        (*loaded.value.unwrap(), loaded.tier)
    };
    // Plain integers live in the tier of the counters alone, and are kept decoded all the same.
    assert_eq!(load(&cache).await, (2, Some("slow")));
    assert_eq!(load(&cache).await, (2, Some("decoded")));
    let slow_only = cache
        .with_tiers(&TierAccess::new().skip_reads("fast"))
        .unwrap();
    let reads = fast.calls();
    assert_eq!(load(&slow_only).await, (2, Some("slow")));
    assert_eq!(fast.calls(), reads, "the tier left out is not touched");
    let error = cache
        .with_tiers(&TierAccess::new().skip_writes("disk"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let plain = Fixture::new().cache;
    let error = plain
        .with_tiers(&TierAccess::new().skip_reads("fast"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
