//! What a loader may come back with, over a fresh value, a stale one and none.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cache_core::{
    CacheKey, Codec, CodecId, Condition, ErrorKind, LoadContext, LoadOptions, LoadReason,
    LoadStatus, LoaderOutcome, NewEntry, OnTrouble, Operation, TimeLeft, Ttl, days, millis, mins,
    secs,
};

use super::{Fixture, options, short};

fn down() -> io::Error {
    io::Error::other("the source is down")
}

fn ttl(span: std::time::Duration) -> Ttl {
    Ttl::new(span).expect("a time to live")
}

/// The outcomes by name.
fn outcome(name: &str) -> LoaderOutcome<u64> {
    match name {
        "value" => LoaderOutcome::value(2),
        "own ttl" => LoaderOutcome::value_for(2, ttl(secs(5))),
        "do not store" => LoaderOutcome::DoNotStore(2),
        "absent" => LoaderOutcome::Absent,
        "not modified" => LoaderOutcome::NotModified,
        "failed" => LoaderOutcome::failed(down()),
        _ => LoaderOutcome::FailedWith {
            error: Box::new(down()),
            value: 9,
        },
    }
}

/// One row: what the loader says, what the caller gets, what is then stored fresh and what stale
/// or fresh, for how long, whether it counts as failed, and what a call a minute later gets without
/// a load, if the failure still holds then.
struct Row {
    says: &'static str,
    gets: Option<(Option<u64>, LoadStatus)>,
    fresh: Option<u64>,
    stale: Option<u64>,
    left: Option<u64>,
    failed: u64,
    throttled: Option<(Option<u64>, LoadStatus)>,
}

#[expect(
    clippy::type_complexity,
    reason = "the columns of a table, named where they are used"
)]
fn rows(
    rows: [(
        &'static str,
        Option<(Option<u64>, LoadStatus)>,
        Option<u64>,
        Option<u64>,
        Option<u64>,
        u64,
        Option<(Option<u64>, LoadStatus)>,
    ); 7],
) -> [Row; 7] {
    rows.map(|(says, gets, fresh, stale, left, failed, throttled)| Row {
        says,
        gets,
        fresh,
        stale,
        left,
        failed,
        throttled,
    })
}

async fn check(t: &Fixture, options: &LoadOptions, row: Row) {
    let says = row.says;
    let got = t.load(options, outcome(says)).await;
    match (row.gets, got) {
        (Some(gets), got) => {
            let got = got.expect("this row gets something");
            assert_eq!(short(&got), gets, "{says}: returned");
            assert_eq!(got.trouble.is_some(), row.failed > 0, "{says}: trouble");
        }
        (None, got) => {
            let error = got.expect_err("this row is an error");
            assert_eq!(error.kind(), ErrorKind::Loader, "{says}: error");
        }
    }
    let stored = t.cache.get_stale::<u64>("k").await.expect("memory answers");
    assert_eq!((t.get().await, stored), (row.fresh, row.stale), "{says}");
    let left = match t.cache.get_ttl("k").await.expect("memory answers") {
        TimeLeft::Remaining(left) => Some(left.as_secs()),
        _ => None,
    };
    assert_eq!(left, row.left, "{says}: time left");
    let stats = t.cache.get_stats();
    let counted = (stats.loads, stats.load_errors);
    assert_eq!(counted, (1, row.failed), "{says}: counted");

    t.clock.advance(mins(1));
    let plain = LoadOptions::default();
    let later = t.got(&plain, LoaderOutcome::value(5)).await;
    let loaded = (Some(5), LoadStatus::Loaded);
    assert_eq!(later, row.throttled.unwrap_or(loaded), "{says}: later");
}

const OLD_IS_FRESH: Option<(Option<u64>, LoadStatus)> = Some((Some(1), LoadStatus::Fresh));
const OLD: Option<(Option<u64>, LoadStatus)> = Some((Some(1), LoadStatus::Stale));
const NEW: Option<(Option<u64>, LoadStatus)> = Some((Some(2), LoadStatus::Loaded));
const SAME: Option<(Option<u64>, LoadStatus)> = Some((Some(1), LoadStatus::Loaded));
const ABSENT: Option<(Option<u64>, LoadStatus)> = Some((None, LoadStatus::Absent));
const OTHER: Option<(Option<u64>, LoadStatus)> = Some((Some(9), LoadStatus::Default));

#[tokio::test]
async fn case_47_each_outcome_over_a_fresh_value() {
    let refresh = options(|o| o.refresh().throttle(mins(3)));
    let table = [
        ("value", NEW, Some(2), Some(2), Some(60), 0, None),
        ("own ttl", NEW, Some(2), Some(2), Some(5), 0, None),
        ("do not store", NEW, Some(1), Some(1), Some(50), 0, None),
        ("absent", ABSENT, None, None, None, 0, None),
        ("not modified", SAME, Some(1), Some(1), Some(60), 0, None),
        ("failed", OLD_IS_FRESH, Some(1), Some(1), Some(50), 1, OLD),
        (
            "failed with",
            OLD_IS_FRESH,
            Some(1),
            Some(1),
            Some(50),
            1,
            OLD,
        ),
    ];
    for row in rows(table) {
        let t = Fixture::new();
        t.cache.set("k", &1u64).await.unwrap();
        t.clock.advance(secs(10));
        check(&t, &refresh, row).await;
    }
}

#[tokio::test]
async fn case_47_each_outcome_over_a_stale_value() {
    let slow = options(|o| o.throttle(mins(3)));
    let table = [
        ("value", NEW, Some(2), Some(2), Some(60), 0, None),
        ("own ttl", NEW, Some(2), Some(2), Some(5), 0, None),
        ("do not store", NEW, None, Some(1), None, 0, None),
        ("absent", ABSENT, None, None, None, 0, None),
        ("not modified", SAME, Some(1), Some(1), Some(60), 0, None),
        ("failed", OLD, None, Some(1), None, 1, OLD),
        ("failed with", OLD, None, Some(1), None, 1, OLD),
    ];
    for row in rows(table) {
        let t = Fixture::new();
        t.put_stale(1).await;
        check(&t, &slow, row).await;
    }
}

#[tokio::test]
async fn case_47_each_outcome_over_nothing() {
    let slow = options(|o| o.throttle(mins(3)));
    let table = [
        ("value", NEW, Some(2), Some(2), Some(60), 0, None),
        ("own ttl", NEW, Some(2), Some(2), Some(5), 0, None),
        ("do not store", NEW, None, None, None, 0, None),
        ("absent", ABSENT, None, None, None, 0, None),
        ("not modified", None, None, None, None, 1, None),
        ("failed", None, None, None, None, 1, None),
        ("failed with", OTHER, None, None, None, 1, OTHER),
    ];
    for row in rows(table) {
        let t = Fixture::new();
        check(&t, &slow, row).await;
    }
}

#[tokio::test]
async fn case_47_absent_is_remembered_for_its_own_time() {
    let t = Fixture::new();
    let plain = LoadOptions::default();
    let absent = (None, LoadStatus::Absent);
    let own = LoaderOutcome::AbsentFor(ttl(mins(2)));
    assert_eq!(t.got(&plain, own).await, absent);
    t.clock.advance(mins(2) - millis(1));
    assert_eq!(t.got(&plain, LoaderOutcome::value(1)).await, absent);
    t.clock.advance(millis(1));
    let loaded = t.got(&plain, LoaderOutcome::value(1)).await;
    assert_eq!(loaded, (Some(1), LoadStatus::Loaded));
}

#[tokio::test]
async fn case_47_absent_for_ever_is_not_forgotten() {
    let t = Fixture::new();
    let plain = LoadOptions::default();
    let absent = (None, LoadStatus::Absent);
    let for_ever = LoaderOutcome::AbsentFor(Ttl::FOREVER);
    assert_eq!(t.got(&plain, for_ever).await, absent);
    t.clock.advance(days(365));
    assert_eq!(t.got(&plain, LoaderOutcome::value(1)).await, absent);
}

#[tokio::test]
async fn case_47_forgotten_absence_asks_each_time_and_removes_what_was_there() {
    let t = Fixture::new();
    t.cache.set("k", &1u64).await.unwrap();
    let forget = options(|o| o.forget_absent().refresh());
    for loads in 1..=2 {
        let got = t.got(&forget, LoaderOutcome::Absent).await;
        assert_eq!((got, t.source.loads()), ((None, LoadStatus::Absent), loads));
        assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn case_47_nobody_but_loads_sees_that_absence_is_stored() {
    let t = Fixture::new();
    let plain = LoadOptions::default();
    t.got(&plain, LoaderOutcome::Absent).await;
    assert!(!t.cache.has("k").await.unwrap());
    assert_eq!(t.cache.get_ttl("k").await.unwrap(), TimeLeft::Missing);
    assert_eq!(t.cache.get_stale::<u64>("k").await.unwrap(), None);
    assert_eq!(t.cache.lookup::<u64>("k").await.unwrap().value, None);
    assert_eq!(t.cache.get_many::<u64>(["k"]).await.unwrap(), [None]);
    assert!(!t.cache.expire("k", mins(1)).await.unwrap());
    assert!(!t.cache.expire_now("k").await.unwrap());
    assert!(!t.cache.delete("k").await.unwrap());
    t.got(&plain, LoaderOutcome::Absent).await;
    assert!(t.cache.set_if_absent("k", &3u64).await.unwrap());
    assert_eq!(t.get().await, Some(3));
}

#[tokio::test]
async fn case_47_a_write_ends_absence_and_a_refresh_asks_again() {
    let t = Fixture::new();
    let plain = LoadOptions::default();
    t.got(&plain, LoaderOutcome::Absent).await;
    let refresh = options(cache_core::LoadOptionsBuilder::refresh);
    let loaded = t.got(&refresh, LoaderOutcome::value(2)).await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    t.got(&refresh, LoaderOutcome::Absent).await;
    t.cache.set("k", &3u64).await.unwrap();
    let read = t.got(&plain, LoaderOutcome::Absent).await;
    assert_eq!(read, (Some(3), LoadStatus::Fresh));
}

/// A source that answers conditional requests, and counts.
#[derive(Default)]
struct Origin {
    etag: AtomicU64,
    requests: AtomicU64,
    conditional: AtomicU64,
    full: AtomicU64,
}

impl Origin {
    fn answer(&self, context: &LoadContext<(u64, String)>) -> LoaderOutcome<(u64, String)> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let etag = self.etag.load(Ordering::SeqCst);
        if let Some(stored) = &context.stored {
            self.conditional.fetch_add(1, Ordering::SeqCst);
            if stored.0 == etag {
                return LoaderOutcome::NotModified;
            }
        }
        self.full.fetch_add(1, Ordering::SeqCst);
        LoaderOutcome::value((etag, format!("body {etag}")))
    }

    fn counted(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (of(&self.requests), of(&self.conditional), of(&self.full))
    }
}

#[tokio::test]
async fn case_21_conditional_requests_spare_the_source() {
    let t = Fixture::new();
    let origin = Arc::new(Origin::default());
    for (round, etag) in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        origin.etag.store(etag, Ordering::SeqCst);
        for _ in 0..2 {
            let origin = Arc::clone(&origin);
            let load =
                t.cache.get_or_load(
                    "page",
                    move |context| async move { origin.answer(&context) },
                );
            assert_eq!(*load.await.unwrap(), (etag, format!("body {etag}")));
        }
        assert_eq!(origin.counted().0, round, "fresh values are not asked for");
        t.clock.advance(mins(2));
    }
    assert_eq!(origin.counted(), (4, 3, 2));
}

#[tokio::test]
async fn case_22_long_times_with_jitter_and_eager_refresh_do_not_overflow() {
    let t = Fixture::with(|builder| builder.jitter(1.0));
    let long = options(|o| o.ttl(Ttl::MAX).eager_refresh(0.999_999));
    let loaded = t.got(&long, LoaderOutcome::value(1)).await;
    assert_eq!(loaded, (Some(1), LoadStatus::Loaded));
    let for_ever = options(|o| o.ttl(Ttl::FOREVER).eager_refresh(0.5).refresh());
    let loaded = t.got(&for_ever, LoaderOutcome::value(2)).await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    t.clock.advance(Ttl::MAX);
    assert_eq!(t.get().await, Some(2));
    let read = t.got(&long, LoaderOutcome::value(3)).await;
    assert_eq!(read, (Some(2), LoadStatus::Fresh));
}

#[tokio::test]
async fn case_22_a_loader_whose_times_add_up_to_too_much_is_returned_and_not_stored() {
    let t = Fixture::new();
    let long = LoaderOutcome::value_for(1, ttl(Ttl::MAX));
    let loaded = t.load(&LoadOptions::default(), long).await.unwrap();
    assert_eq!(short(&loaded), (Some(1), LoadStatus::Loaded));
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Ttl);
    assert_eq!(t.get().await, None);
}

#[tokio::test]
async fn case_48_the_loader_is_told_what_is_stored_and_why_it_is_called() {
    let t = Fixture::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = |options: LoadOptions| {
        let (cache, seen) = (t.cache.clone(), Arc::clone(&seen));
        async move {
            let loader = move |context: LoadContext<u64>| async move {
                let told = (
                    context.reason,
                    context.stored.as_deref().copied(),
                    context.age,
                );
                seen.lock().expect("nobody panics").push(told);
                LoaderOutcome::value(7u64)
            };
            cache.load("k", &options, loader).await.expect("it loads")
        }
    };
    told(LoadOptions::default()).await;
    t.clock.advance(mins(2));
    told(LoadOptions::default()).await;
    t.clock.advance(secs(3));
    told(options(cache_core::LoadOptionsBuilder::refresh)).await;
    let expected = [
        (LoadReason::Missing, None, None),
        (LoadReason::Expired, Some(7), Some(mins(2))),
        (LoadReason::Refresh, Some(7), Some(secs(3))),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_value_that_is_too_large_is_returned_and_kept_out() {
    let t = Fixture::with(|builder| builder.max_value_bytes(16));
    for _ in 0..2 {
        let options = LoadOptions::default();
        let load = t.cache.load("k", &options, |_| async {
            LoaderOutcome::value("x".repeat(15))
        });
        let loaded = load.await.unwrap();
        assert_eq!(loaded.status, LoadStatus::Loaded);
        assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::TooLarge);
    }
    assert_eq!(t.cache.get_stats().loads, 2);
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
}

#[tokio::test]
async fn a_value_that_has_no_encoded_form_is_returned_and_kept_out() {
    let t = Fixture::new();
    let options = LoadOptions::default();
    let load = t.cache.load("k", &options, |_| async {
        // JSON has only texts for keys.
        LoaderOutcome::value(BTreeMap::from([((1u8, 2u8), 3u8)]))
    });
    let loaded = load.await.unwrap();
    assert_eq!(loaded.value.unwrap().len(), 1);
    assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Serialization);
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
}

#[tokio::test]
async fn case_37_undecodable_bytes_are_loaded_anew_under_either_policy() {
    for policy in [OnTrouble::Error, OnTrouble::Miss] {
        let t = Fixture::with(|builder| builder.on_trouble(policy));
        let entry = NewEntry::new("{broken", ttl(mins(1)));
        let key = CacheKey::from("t:k");
        let put = t.cache.storage().set(&key, entry, Condition::Always);
        put.await.unwrap();
        let read = t.cache.get::<u64>("k").await;
        let degraded = match policy {
            OnTrouble::Miss => {
                assert_eq!(read.unwrap(), None);
                1
            }
            _ => {
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Serialization);
                0
            }
        };
        let stats = t.cache.get_stats();
        assert_eq!((stats.decode_errors, stats.degraded), (1, degraded));
        let options = LoadOptions::default();
        let loaded = t.load(&options, LoaderOutcome::value(2)).await.unwrap();
        assert_eq!(short(&loaded), (Some(2), LoadStatus::Loaded));
        assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Serialization);
        assert_eq!(t.get().await, Some(2));
    }
}

#[tokio::test]
async fn case_37_a_value_of_another_codec_is_loaded_anew() {
    let t = Fixture::with(|builder| builder.codec(Codec::Postcard));
    let foreign = NewEntry::new("7", ttl(mins(1))).with_codec(CodecId::Bincode);
    let key = CacheKey::from("t:k");
    let put = t.cache.storage().set(&key, foreign, Condition::Always);
    put.await.unwrap();
    let loaded = t
        .got(&LoadOptions::default(), LoaderOutcome::value(2))
        .await;
    assert_eq!(loaded, (Some(2), LoadStatus::Loaded));
    assert_eq!(t.get().await, Some(2));
}

/// A value whose code panics when it is to become bytes.
#[derive(Debug, serde::Deserialize)]
struct Hostile;

impl serde::Serialize for Hostile {
    #[expect(clippy::panic, reason = "it is what the test is about")]
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a value panics on purpose")
    }
}

#[tokio::test]
async fn a_value_whose_code_panics_is_returned_and_kept_out() {
    let t = Fixture::new();
    for _ in 0..2 {
        let options = LoadOptions::default();
        let load = t
            .cache
            .load("k", &options, |_| async { LoaderOutcome::value(Hostile) });
        let loaded = load.await.unwrap();
        assert_eq!(loaded.status, LoadStatus::Loaded);
        assert_eq!(loaded.trouble.unwrap().kind(), ErrorKind::Serialization);
    }
    assert_eq!(t.chaos.calls_of(Operation::Set), 0);
}
