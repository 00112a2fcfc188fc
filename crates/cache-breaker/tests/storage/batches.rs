//! Batches over several servers.

use std::time::Duration;

use cache_breaker::BreakerOptions;
use cache_core::{CacheKey, CacheStorage, ErrorKind, NewEntry, Ttl};
use tokio::time::Instant;

use crate::scripted::{Stage, Step};

const SECOND: Duration = Duration::from_secs(1);

fn stage() -> Stage {
    Stage::new(BreakerOptions::default())
}

fn keys<const N: usize>(keys: [&str; N]) -> Vec<CacheKey> {
    keys.map(CacheKey::from).into()
}

/// The code of each error, and `ok` where there is none.
fn codes<T>(results: &[cache_core::Result<T>]) -> Vec<&'static str> {
    let code = |result: &cache_core::Result<T>| {
        result.as_ref().map_or_else(|error| error.code(), |_| "ok")
    };
    results.iter().map(code).collect()
}

#[tokio::test]
async fn all_keys_go_in_one_call_in_their_order() {
    let stage = stage();
    let results = stage
        .storage
        .get_many(&keys(["a:1", "b:1", "k", "a:2"]))
        .await;
    assert_eq!(codes(&results), ["ok"; 4]);
    assert_eq!(stage.script.sent(), ["get_many a:1 b:1 k a:2"]);
}

#[tokio::test]
async fn keys_of_an_open_server_are_rejected_and_the_others_sent() {
    let stage = stage();
    stage.open_reads("a:1").await;
    let batch = keys(["a:1", "b:1", "a:2", "k", "b:1"]);
    let results = stage.storage.get_many(&batch).await;
    let open = "breaker_open";
    assert_eq!(codes(&results), [open, "ok", open, "ok", "ok"]);
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Rejected, Some("a:2"))
    );
    assert_eq!(error.retry_after(), Some(SECOND));
    assert_eq!(stage.script.sent(), ["get_many b:1 k b:1"]);
    let results = stage.storage.lookup_many(&keys(["a:1", "a:2"])).await;
    assert_eq!(codes(&results), [open; 2]);
    assert_eq!(stage.script.sent(), [""; 0]);
}

#[tokio::test]
async fn entries_of_an_open_server_are_rejected_and_the_others_written() {
    let stage = stage();
    stage.script.say(|_, key| match key {
        key if key.starts_with("a:") => Step::Fail(ErrorKind::Configuration, "misconf"),
        _ => Step::Pass,
    });
    let batch = || {
        let entry = |key| (key, NewEntry::new("value", Ttl::FOREVER));
        keys(["a:1", "b:1", "a:2", "k"])
            .into_iter()
            .map(entry)
            .collect()
    };
    let results = stage.storage.set_many(batch()).await;
    assert_eq!(codes(&results), ["misconf", "ok", "misconf", "ok"]);
    stage.script.sent();
    let results = stage.storage.set_many(batch()).await;
    assert_eq!(
        codes(&results),
        ["breaker_open", "ok", "breaker_open", "ok"]
    );
    assert_eq!(stage.script.sent(), ["set_many b:1 k"]);
    assert!(
        stage
            .storage
            .get(&CacheKey::from("b:1"))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn each_server_is_judged_by_its_own_keys() {
    let stage = stage();
    stage.script.say(|_, key| match key {
        "a:2" => Step::Fail(ErrorKind::Timeout, "timeout"),
        "b:2" => Step::Fail(ErrorKind::Serialization, "type"),
        _ => Step::Pass,
    });
    for _ in 0..2 {
        let batch = keys(["a:1", "b:1", "b:2", "a:2"]);
        let results = stage.storage.get_many(&batch).await;
        assert_eq!(codes(&results), ["ok", "ok", "type", "timeout"]);
    }
    assert_eq!(stage.told(), ["memory a read: closed open timeout"]);
}

#[tokio::test]
async fn a_batch_of_refused_keys_says_nothing() {
    let stage = stage();
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    let results = stage.storage.get_many(&keys(["", ""])).await;
    assert!(results.iter().all(Result::is_err));
    assert_eq!(stage.lanes(), ["read half_open", "write closed"]);
    assert!(stage.told().contains(&"read: probe none".to_owned()));
}

#[tokio::test]
async fn an_empty_batch_is_no_probe() {
    let stage = stage();
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    assert!(stage.storage.get_many(&[]).await.is_empty());
    assert_eq!(stage.lanes(), ["read open", "write closed"]);
}

#[tokio::test(start_paused = true)]
async fn the_probe_of_one_server_does_not_hurry_the_others() {
    let stage = stage();
    stage.open_reads("a:1").await;
    stage.clock.advance(SECOND);
    stage.script.say(|_, key| match key {
        "a:1" => Step::Take(SECOND),
        _ => Step::Pass,
    });
    let start = Instant::now();
    let results = stage.storage.get_many(&keys(["a:1", "b:1"])).await;
    assert_eq!(codes(&results), ["ok", "ok"]);
    assert_eq!(start.elapsed(), SECOND);
    let expected = [
        "memory a read: closed open timeout",
        "memory a read: open half_open elapsed",
        "read: probe failure",
        "memory a read: half_open open timeout",
    ];
    assert_eq!(stage.told(), expected);
}

#[tokio::test]
async fn deletes_pass_to_the_full_server_and_are_judged_at_the_others() {
    let stage = stage();
    let full = Step::Fail(ErrorKind::Overloaded, "oom");
    stage.script.always(full);
    for _ in 0..3 {
        let entry = NewEntry::new("value", Ttl::FOREVER);
        let entries = vec![(CacheKey::from("a:1"), entry)];
        assert_eq!(codes(&stage.storage.set_many(entries).await), ["oom"]);
    }
    stage.script.sent();
    stage.script.say(|_, key| match key {
        "b:1" => Step::Fail(ErrorKind::Configuration, "auth"),
        _ => Step::Pass,
    });
    let results = stage.storage.delete_many(&keys(["b:1", "a:1"])).await;
    assert_eq!(codes(&results), ["auth", "ok"]);
    let results = stage.storage.delete_many(&keys(["b:1", "a:1"])).await;
    assert_eq!(codes(&results), ["breaker_open", "ok"]);
    assert_eq!(
        stage.script.sent(),
        ["delete_many b:1 a:1", "delete_many a:1"]
    );
}
