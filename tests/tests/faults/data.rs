//! Rows 62 to 67: what is stored, named or asked for is not what it should be.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{
    CacheKey, CacheService, CacheStorage, ClearScope, Condition, ErrorKind, NewEntry, Observers,
    OnTrouble, Ttl, mins, secs,
};

use crate::support::{Bench, Recorded, count, fetch, minute, put};

mod measured;

const VALUE: &str = "a value in JSON";

fn service(bench: &Bench, on_trouble: OnTrouble) -> CacheService {
    observed(bench, on_trouble, Observers::none())
}

fn observed(bench: &Bench, on_trouble: OnTrouble, observers: Observers) -> CacheService {
    CacheService::builder(Arc::clone(&bench.storage))
        .ttl(mins(10))
        .stale_for(mins(10))
        .on_trouble(on_trouble)
        .observers(observers)
        .build()
        .expect("the settings are sound")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_62_somebody_elses_bytes() {
    let bench = Bench::patient().await;
    let told = Recorded::default();
    let (strict, lenient) = (
        observed(&bench, OnTrouble::Error, told.observers()),
        observed(&bench, OnTrouble::Miss, told.observers()),
    );
    for foreign in [
        "",
        "{",
        "not json",
        "\u{1}\u{2}\u{3}",
        "[1,2",
        "\"unfinished",
    ] {
        bench.server.command(&["SET", "k", foreign]).unwrap();
        let error = strict.get::<String>("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
        assert_eq!(lenient.get::<String>("k").await.unwrap(), None);
        assert_eq!(bench.stored("k"), foreign, "it was left alone");
    }
    assert_eq!(lenient.get_stats().degraded, 6);
    assert_eq!(lenient.get_stats().decode_errors, 6);
    let degraded = |event: &str| event == "Degraded { reason: \"serialization\" }";
    let undecodable = |event: &str| event == "DecodeError { reason: \"codec\" }";
    assert_eq!(told.count_of(degraded), 6);
    assert_eq!(told.count_of(undecodable), 12);
    assert_eq!(told.count_of(|_| true), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_62_one_bit_of_the_metadata_is_wrong() {
    const FLIP: &str = "local byte = redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[1]):byte() \
                        byte = bit.bxor(byte, ARGV[2]) \
                        return redis.call('SETRANGE', KEYS[1], ARGV[1], string.char(byte))";
    let bench = Bench::patient().await;
    let strict = service(&bench, OnTrouble::Error);
    for bit in 0..cache_core::wire::HEADER_BYTES * 8 {
        strict.set("k", VALUE).await.unwrap();
        let (byte, mask) = ((bit / 8).to_string(), (1 << (bit % 8)).to_string());
        let flip = ["EVAL", FLIP, "1", "k", &byte, &mask];
        let length = bench.server.command(&flip).unwrap();
        match strict.get::<String>("k").await {
            Ok(Some(value)) => assert_eq!(value, VALUE, "bit {bit}"),
            // A deadline may be anything.
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Serialization, "bit {bit}"),
        }
        let left = bench.server.command(&["STRLEN", "k"]).unwrap();
        assert_eq!(left, length, "bit {bit}: it was left alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_63_a_list_where_an_entry_should_be() {
    let bench = Bench::patient().await;
    bench.server.command(&["RPUSH", "k", "a"]).unwrap();
    bench.server.command(&["RPUSH", "n", "a"]).unwrap();
    let error = fetch(&*bench.storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
    let lenient = service(&bench, OnTrouble::Miss);
    assert_eq!(lenient.get::<String>("k").await.unwrap(), None);
    let error = count(&*bench.storage).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotACounter, "{error}");
    assert_eq!(bench.server.command(&["LLEN", "n"]).unwrap(), "1");
    assert!(put(&*bench.storage, "k", "v").await.unwrap());
    assert_eq!(fetch(&*bench.storage, "k").await.unwrap().unwrap(), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_64_a_counter_at_its_end() {
    let bench = Bench::patient().await;
    for (value, delta) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX)] {
        let text = value.to_string();
        put(&*bench.storage, "n", &text).await.unwrap();
        let key = CacheKey::from("n");
        let counting = bench.storage.increment(&key, delta, minute());
        let error = counting.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overflow, "{error}");
        assert!(!error.may_have_happened());
        assert_eq!(bench.stored("n"), text, "nothing changed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_65_an_empty_value_and_an_empty_key() {
    let bench = Bench::patient().await;
    put(&*bench.storage, "k", "").await.unwrap();
    assert_eq!(fetch(&*bench.storage, "k").await.unwrap().unwrap(), "");
    let before = bench.proxy.counters().bytes_up;
    let error = put(&*bench.storage, "", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    assert_eq!(
        fetch(&*bench.storage, "").await.unwrap_err().kind(),
        ErrorKind::Key
    );
    assert_eq!(bench.proxy.counters().bytes_up, before, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_66_keys_that_a_server_could_misread() {
    const ALPHABET: [&str; 14] = [
        "*", "?", "[", "]", "\\", " ", "\"", "'", "{", "}", "e\u{301}", "\u{e9}", ":", "^-a",
    ];
    let bench = Bench::patient().await;
    let prefixes: Vec<String> = ALPHABET
        .iter()
        .flat_map(|one| ALPHABET.map(|two| format!("{one}{two}")))
        .collect();
    let entry = |prefix: &String| {
        let entry = NewEntry::new(prefix.clone(), minute());
        (CacheKey::from(format!("{prefix}:k")), entry)
    };
    let entries: Vec<_> = prefixes.iter().map(entry).collect();
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
    assert!(
        bench
            .storage
            .set_many(entries)
            .await
            .iter()
            .all(Result::is_ok)
    );
    for (prefix, read) in prefixes.iter().zip(bench.storage.get_many(&keys).await) {
        assert_eq!(read.unwrap().unwrap().value, *prefix.as_bytes());
    }
    let mut left = keys;
    for prefix in &prefixes {
        let scope = ClearScope::prefix(prefix).unwrap();
        let before = left.len();
        left.retain(|key| !scope.contains(key.as_str()));
        let cleared = bench.storage.clear(&scope).await.unwrap();
        assert!(cleared.complete);
        let expected = (before - left.len()) as u64;
        assert_eq!(cleared.deleted, expected, "{prefix:?} is literal");
    }
    assert_eq!(bench.server.command(&["DBSIZE"]).unwrap(), "0");
    let sent = bench.proxy.counters().bytes_up;
    for bad in ["a\nb", "a\0b", "a\r\nb", &"k".repeat(1025)] {
        let error = put(&*bench.storage, bad, "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    }
    assert_eq!(bench.proxy.counters().bytes_up, sent, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_67_times_to_live_that_are_none() {
    let never = [
        Duration::ZERO,
        Duration::from_nanos(999_999),
        secs(11 * 366 * 24 * 3600),
        Duration::MAX,
    ];
    for span in never {
        assert!(Ttl::new(span).is_err(), "{span:?}");
    }
    let bench = Bench::patient().await;
    let service = service(&bench, OnTrouble::Error);
    for span in never {
        let options = cache_core::SetOptions::new().ttl(span);
        let error = service.set_with("k", VALUE, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ttl, "{error}");
    }
    assert_eq!(bench.proxy.counters().accepted, 0, "nothing was sent");
    let shortest = NewEntry::new("v", Ttl::new(Duration::from_millis(1)).unwrap());
    let key = CacheKey::from("k");
    let written = bench.storage.set(&key, shortest, Condition::Always);
    assert!(written.await.unwrap());
    crate::support::eventually(async || {
        let read = fetch(&*bench.storage, "k").await;
        read.unwrap().is_none().then_some(())
    })
    .await;
}
