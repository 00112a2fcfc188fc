//! Values that a process keeps decoded: what bounds them, and what ends them.

use std::time::Duration;

use cache_core::{
    CacheError, CacheService, DecodedOptions, ErrorKind, LoadOptions, LoadStatus, LoaderOutcome,
    Operation, millis, mins, secs,
};
use cache_testkit::chaos::Plan;

use super::{Fixture, options, settle, short};

fn keeping(decoded: DecodedOptions) -> Fixture {
    Fixture::with(|builder| builder.stale_for(mins(5)).decoded(decoded))
}

fn decoded() -> Fixture {
    keeping(DecodedOptions::new())
}

/// Lets every read of the storage fail, so that only what is kept decoded is found.
fn cut_off(t: &Fixture) {
    let refused = CacheError::new(ErrorKind::Connection, "connection refused");
    t.chaos.start_outage(Plan::fail(refused));
}

async fn is_kept(t: &Fixture, key: &str) -> bool {
    t.cache.get_arc::<u64>(key.to_owned()).await.is_ok()
}

/// A value that is stored and kept decoded.
async fn keep(t: &Fixture, value: u64) {
    let options = LoadOptions::default();
    let loaded = t.load(&options, LoaderOutcome::value(value)).await;
    loaded.expect("the loader succeeds");
}

#[tokio::test]
async fn a_kept_value_is_read_without_the_storage_and_shared() {
    let t = decoded();
    keep(&t, 1).await;
    let calls = t.chaos.calls();
    let first = t.cache.get_arc::<u64>("k").await.unwrap().unwrap();
    let again = t.cache.get_arc::<u64>("k").await.unwrap().unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    let options = LoadOptions::default();
    let loaded = t.load(&options, LoaderOutcome::value(2)).await.unwrap();
    assert_eq!(short(&loaded), (Some(1), LoadStatus::Fresh));
    assert_eq!(loaded.tier, Some("decoded"));
    assert_eq!(t.chaos.calls(), calls);
    assert_eq!(t.cache.get_stats().hits, 3);
}

#[tokio::test]
async fn a_value_that_was_read_is_kept_too() {
    let t = decoded();
    t.cache.set("k", &1u64).await.unwrap();
    t.cache.set("l", &2u64).await.unwrap();
    assert_eq!(t.cache.get_arc("k").await.unwrap().as_deref(), Some(&1u64));
    let loaded = t
        .cache
        .get_or_load("l", |_| async { LoaderOutcome::value(9u64) });
    assert_eq!(*loaded.await.unwrap(), 2);
    cut_off(&t);
    assert!(is_kept(&t, "k").await && is_kept(&t, "l").await);
}

#[tokio::test]
async fn it_is_bounded_by_entries() {
    let t = keeping(DecodedOptions::new().max_entries(10));
    assert!(kept_of(&t, 200).await <= 10);
}

#[tokio::test]
async fn it_is_bounded_by_bytes() {
    let t = keeping(DecodedOptions::new().max_bytes(2_048));
    let kept = kept_of(&t, 200).await;
    assert!(
        (1..=16).contains(&kept),
        "{kept} values of 128 bytes and more"
    );
}

/// How many of so many values are kept.
async fn kept_of(t: &Fixture, values: u64) -> usize {
    for n in 0..values {
        let load = t.cache.get_or_load(
            format!("n{n}"),
            move |_| async move { LoaderOutcome::value(n) },
        );
        load.await.expect("the loader succeeds");
    }
    cut_off(t);
    let mut kept = 0;
    for n in 0..values {
        kept += usize::from(is_kept(t, &format!("n{n}")).await);
    }
    kept
}

#[tokio::test]
async fn every_write_of_a_clone_is_seen_at_once() {
    type Write = for<'a> fn(&'a CacheService) -> futures_util::future::BoxFuture<'a, ()>;
    macro_rules! write {
        ($cache:ident, $write:expr) => {
            (|$cache| {
                Box::pin(async move {
                    let _ = $write.await.expect("memory answers");
                })
            }) as Write
        };
    }
    let writes: [(&str, Write, Option<u64>); 11] = [
        ("set", write!(c, c.set("k", &7u64)), Some(7)),
        ("set_many", write!(c, c.set_many([("k", 7u64)])), Some(7)),
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
    ];
    for (name, write, found) in writes {
        // Without a stale budget, which no counter has.
        let t = Fixture::with(|builder| builder.decoded(DecodedOptions::new()));
        keep(&t, 1).await;
        write(&t.cache.clone()).await;
        let read = t.cache.get_arc::<u64>("k").await.unwrap();
        assert_eq!(read.as_deref().copied(), found, "{name}");
        let loaded = t
            .got(&LoadOptions::default(), LoaderOutcome::value(9))
            .await;
        let expected = found.map_or((Some(9), LoadStatus::Loaded), |value| {
            (Some(value), LoadStatus::Fresh)
        });
        assert_eq!(loaded, expected, "{name}");
    }
}

#[tokio::test]
async fn a_clear_of_one_prefix_spares_the_others() {
    let t = decoded();
    for key in ["users:1", "usersAbc", "users"] {
        let load = t
            .cache
            .get_or_load(key, |_| async { LoaderOutcome::value(1u64) });
        load.await.unwrap();
    }
    t.cache.clear_prefix("users").await.unwrap();
    cut_off(&t);
    assert!(!is_kept(&t, "users:1").await);
    assert!(is_kept(&t, "usersAbc").await && is_kept(&t, "users").await);
}

#[tokio::test]
async fn a_value_is_never_kept_past_its_time_to_live_or_the_cap() {
    for (ttl, cap, ends) in [
        (secs(3), secs(5), secs(3)),
        (mins(1), secs(5), secs(5)),
        (mins(1), mins(1), mins(1)),
    ] {
        for frozen in [false, true] {
            let t = keeping(DecodedOptions::new().ttl_cap(cap));
            let options = options(|o| o.ttl(ttl));
            t.got(&options, LoaderOutcome::value(1)).await;
            cut_off(&t);
            let pass = |span: Duration| match frozen {
                true => t.clock.freeze(span),
                false => t.clock.advance(span),
            };
            pass(ends - millis(1));
            assert!(is_kept(&t, "k").await, "{ttl:?} {cap:?} {frozen}");
            pass(millis(1));
            assert!(!is_kept(&t, "k").await, "{ttl:?} {cap:?} {frozen}");
        }
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_keeps_nothing_longer() {
    let t = decoded();
    keep(&t, 1).await;
    cut_off(&t);
    t.clock.set_back(mins(10));
    t.clock.advance(secs(5));
    assert!(!is_kept(&t, "k").await);
}

#[tokio::test]
async fn a_value_read_late_is_not_kept_past_its_end() {
    let t = decoded();
    t.cache.set("k", &1u64).await.unwrap();
    t.clock.advance(secs(58));
    assert!(t.cache.get_arc::<u64>("k").await.unwrap().is_some());
    cut_off(&t);
    t.clock.advance(secs(2) - millis(1));
    assert!(is_kept(&t, "k").await);
    t.clock.advance(millis(1));
    assert!(!is_kept(&t, "k").await);
}

#[tokio::test]
async fn a_stale_value_is_not_kept() {
    let t = decoded();
    t.put_stale(1).await;
    let down = LoaderOutcome::failed("the source is down");
    let stale = t.got(&LoadOptions::default(), down).await;
    assert_eq!(stale, (Some(1), LoadStatus::Stale));
    assert_eq!(t.cache.get_arc::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_value_that_was_not_stored_is_not_kept() {
    let t = decoded();
    let refused = CacheError::new(ErrorKind::Connection, "connection refused");
    t.chaos.add(Plan::fail(refused).on(Operation::Set));
    keep(&t, 1).await;
    let not_stored = LoaderOutcome::DoNotStore(2);
    let loaded = t.got(&LoadOptions::default(), not_stored).await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    cut_off(&t);
    assert!(!is_kept(&t, "k").await);
}

#[tokio::test]
async fn a_value_read_before_a_delete_had_finished_is_not_kept() {
    let t = decoded();
    t.cache.set("k", &1u64).await.unwrap();
    for by_load in [false, true] {
        t.cache.set("k", &1u64).await.unwrap();
        t.chaos.add(Plan::hang_after().on(Operation::Lookup).nth(1));
        let cache = t.cache.clone();
        let read = tokio::spawn(async move {
            match by_load {
                true => {
                    let loader = |_| async { LoaderOutcome::value(9u64) };
                    cache.get_or_load("k", loader).await.map(Some)
                }
                false => cache.get_arc::<u64>("k").await,
            }
        });
        t.chaos.wait_until_hung(1).await;
        t.cache.delete("k").await.unwrap();
        t.chaos.release();
        // It began before the delete, and may have seen the value.
        assert_eq!(read.await.unwrap().unwrap().as_deref(), Some(&1));
        t.chaos.forget_plans();
        assert_eq!(
            t.cache.get_arc::<u64>("k").await.unwrap(),
            None,
            "{by_load}"
        );
    }
}

#[tokio::test]
async fn a_value_read_while_a_delete_is_under_way_is_not_kept() {
    let t = decoded();
    t.cache.set("k", &1u64).await.unwrap();
    t.chaos.add(Plan::hang().on(Operation::Delete));
    let cache = t.cache.clone();
    let delete = tokio::spawn(async move { cache.delete("k").await });
    t.chaos.wait_until_hung(1).await;
    let read = t.cache.get_arc::<u64>("k").await.unwrap();
    assert_eq!(read.as_deref(), Some(&1), "it is still there");
    let loaded = t
        .got(&LoadOptions::default(), LoaderOutcome::value(9))
        .await;
    assert_eq!(loaded, (Some(1), LoadStatus::Fresh));
    t.chaos.release();
    assert!(delete.await.unwrap().unwrap());
    assert_eq!(t.cache.get_arc::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_load_that_began_before_a_write_is_not_kept() {
    let t = decoded();
    t.chaos.add(Plan::hang().on(Operation::Get).nth(1));
    let gate = super::Gate::default();
    let (cache, pass) = (t.cache.clone(), gate.clone());
    let load = tokio::spawn(async move {
        let loader = move |_| async move {
            pass.pass().await;
            LoaderOutcome::value(1u64)
        };
        cache.get_or_load("k", loader).await
    });
    gate.begun().await;
    t.cache.set("k", &2u64).await.unwrap();
    assert_eq!(t.cache.get_arc("k").await.unwrap().as_deref(), Some(&2u64));
    gate.open();
    assert_eq!(*load.await.unwrap().unwrap(), 1);
    settle().await;
    assert_eq!(t.cache.get_arc("k").await.unwrap().as_deref(), Some(&2u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_stored_after_a_race_of_loads_and_deletes_is_not_kept_either() {
    let t = decoded();
    for round in 0..3_000u64 {
        let cache = t.cache.clone();
        let load = tokio::spawn(async move {
            let loader = move |_| async move { LoaderOutcome::value(round) };
            cache.get_or_load("k", loader).await
        });
        let cache = t.cache.clone();
        let delete = tokio::spawn(async move { cache.delete("k").await });
        load.await.unwrap().unwrap();
        delete.await.unwrap().unwrap();
        let stored = t.get().await;
        let kept = t.cache.get_arc::<u64>("k").await.unwrap();
        assert_eq!(kept.as_deref().copied(), stored, "round {round}");
        t.cache.delete("k").await.unwrap();
    }
}

#[tokio::test]
async fn another_type_under_the_same_key_is_read_from_the_storage_and_not_loaded() {
    let t = decoded();
    keep(&t, 1).await;
    let options = LoadOptions::default();
    let load = t
        .cache
        .load("k", &options, |_| async { LoaderOutcome::value(9i32) });
    let loaded = load.await.unwrap();
    assert_eq!(loaded.value.as_deref(), Some(&1i32));
    assert_eq!(loaded.status, LoadStatus::Fresh);
    assert_eq!(t.cache.get_arc("k").await.unwrap().as_deref(), Some(&1u64));
    let many = t
        .cache
        .get_many_or_load(["k"], |_| async { Ok::<_, std::io::Error>([("k", 9i64)]) });
    assert_eq!(many.await.unwrap()[0].as_deref(), Some(&1i64));
    let stats = t.cache.get_stats();
    assert_eq!((stats.loads, stats.hits), (1, 3));
}

#[tokio::test]
async fn a_type_that_the_bytes_are_not_is_loaded_by_loads_and_an_error_to_reads() {
    let t = decoded();
    keep(&t, 1).await;
    let error = t.cache.get_arc::<String>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization);
    let options = LoadOptions::default();
    let load = t.cache.load("k", &options, |_| async {
        LoaderOutcome::value("x".to_owned())
    });
    let loaded = load.await.unwrap();
    assert_eq!(loaded.status, LoadStatus::Loaded);
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Serialization);
}

#[tokio::test]
async fn a_refresh_does_not_take_what_is_kept() {
    let t = decoded();
    keep(&t, 1).await;
    let refresh = options(cache_core::LoadOptionsBuilder::refresh);
    let loaded = t.got(&refresh, LoaderOutcome::value(2)).await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    assert_eq!(t.cache.get_arc("k").await.unwrap().as_deref(), Some(&2u64));
}
