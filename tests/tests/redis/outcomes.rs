//! What callers are told where a batch or a write meets trouble.

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::{
    SLACK, info, minute, options, patient_storage, put, scripted, server, storage, timed,
};
use cache_core::{
    CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, NewEntry, millis, secs,
};
use cache_redis::RedisCacheStorage;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_keys_in_one_call() {
    const KEYS: usize = 10_000;
    let server = server();
    let storage = patient_storage(&server);
    let keys: Vec<CacheKey> = (0..KEYS)
        .map(|key| CacheKey::from(("batch", key)))
        .collect();
    let entries = keys
        .iter()
        .map(|key| {
            (
                key.clone(),
                NewEntry::new(key.as_str().to_owned(), minute()),
            )
        })
        .collect();
    let written = storage.set_many(entries).await;
    assert!(written.iter().all(Result::is_ok));
    let read = storage.get_many(&keys).await;
    let values: HashSet<_> = read
        .into_iter()
        .zip(&keys)
        .map(|(read, key)| {
            let value = read.unwrap().unwrap().value;
            assert_eq!(value, key.as_str());
            value
        })
        .collect();
    assert_eq!(values.len(), KEYS);
    assert!(storage.delete_many(&keys).await.iter().all(Result::is_ok));
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), "0");
}

#[tokio::test(flavor = "current_thread")]
async fn a_batch_in_a_hung_server_reports_every_key_within_its_deadline() {
    let server = server();
    let options = options(&server).with_bulk_timeout(millis(300));
    let storage = RedisCacheStorage::new(options).unwrap();
    put(&storage, "k", "v").await.unwrap();
    server.pause().unwrap();
    let entries = (0..1_200)
        .map(|key| (CacheKey::from(key), NewEntry::new("v", minute())))
        .collect();
    let (written, took) = timed(storage.set_many(entries)).await;
    assert!(took < millis(300) + SLACK, "it took {took:?}");
    assert_eq!(written.len(), 1_200);
    let first = written[0].as_ref().unwrap_err();
    assert!(first.may_have_happened(), "the first batch was sent");
    let last = written[1_199].as_ref().unwrap_err();
    assert!(!last.may_have_happened(), "the last batch was not: {last}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_batch_stops_at_its_deadline() {
    let server = server();
    let options = options(&server).with_bulk_timeout(millis(300));
    let storage = RedisCacheStorage::new(options).unwrap();
    put(&storage, "k", "v").await.unwrap();
    let before = info(&server, "total_connections_received");
    server.pause().unwrap();
    let keys: Vec<CacheKey> = (0..20_000).map(CacheKey::from).collect();
    let (read, took) = timed(storage.get_many(&keys)).await;
    assert!(took < millis(300) + SLACK, "it took {took:?}");
    assert!(
        read.iter()
            .all(|read| read.as_ref().is_err_and(|e| e.kind() == ErrorKind::Timeout))
    );
    server.resume().unwrap();
    let dialed = info(&server, "total_connections_received") - before - 1;
    assert!(
        dialed <= 1,
        "what was not begun cost no connection: {dialed}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_clear_that_runs_out_of_time_says_so() {
    let server = server();
    let options = options(&server).with_clear_timeout(millis(5));
    let storage = RedisCacheStorage::new(options).unwrap();
    server
        .command(&["DEBUG", "POPULATE", "300000", "k"])
        .unwrap();
    let cleared = storage.clear(&ClearScope::everything()).await.unwrap();
    assert!(!cleared.complete);
    let left: u64 = server.command(&["DBSIZE"]).unwrap().parse().unwrap();
    assert!(
        left > 0 && left <= 300_000 - cleared.deleted,
        "{left} left after {cleared:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_over_a_stale_entry_starts_once() {
    let server = server();
    let storage = Arc::new(patient_storage(&server));
    for round in 0..20 {
        let key = CacheKey::from(round);
        let entry = NewEntry::new("5", minute())
            .with_stale_for(secs(60))
            .unwrap();
        storage.set(&key, entry, Condition::Always).await.unwrap();
        assert!(storage.expire_now(&key).await.unwrap());
        let mut callers = JoinSet::new();
        for _ in 0..32 {
            let (storage, key) = (Arc::clone(&storage), key.clone());
            callers.spawn(async move { storage.increment(&key, 1, minute()).await });
        }
        let mut sums = Vec::new();
        while let Some(counted) = callers.join_next().await {
            sums.push(counted.unwrap().unwrap().value);
        }
        sums.sort_unstable();
        assert_eq!(sums, (1..=32).collect::<Vec<i64>>());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_write_that_was_sent_may_have_happened_whatever_comes_after() {
    // The command arrives, the connection ends, and nobody listens any more.
    let (options, _) = scripted(&[&["+PONG\r\n", ""]]).await;
    let storage = RedisCacheStorage::new(options).unwrap();
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    // The second attempt is refused; the first may have been executed.
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    let (options, _) = scripted(&[&["+PONG\r\n", ""], &["+PONG\r\n", loading]]).await;
    let storage = RedisCacheStorage::new(options).unwrap();
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    // An answer that no SET gives.
    let (options, _) = scripted(&[&["+PONG\r\n", ":1\r\n"]]).await;
    let storage = RedisCacheStorage::new(options).unwrap();
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    // Refused at once: it did not happen.
    let (options, _) = scripted(&[&["+PONG\r\n", loading]]).await;
    let storage = RedisCacheStorage::new(options).unwrap();
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert!(!error.may_have_happened(), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_repeated_conditional_write_knows_its_own_token() {
    let unknown = "-NOSCRIPT No matching script.\r\n";
    let (options, requests) =
        scripted(&[&["+PONG\r\n", unknown, ""], &["+PONG\r\n", ":1\r\n"]]).await;
    let storage = RedisCacheStorage::new(options).unwrap();
    let entry = NewEntry::new("token", minute());
    assert!(
        storage
            .set(&"k".into(), entry, Condition::IfAbsent)
            .await
            .unwrap()
    );
    let requests = requests.lock().unwrap();
    let own_counts = |request: &[u8]| request.ends_with(b"$1\r\n1\r\n$1\r\n1\r\n");
    assert_eq!(requests.len(), 5);
    assert!(
        !own_counts(&requests[2]),
        "the first attempt must find nothing"
    );
    assert!(
        own_counts(&requests[4]),
        "the second may find what the first wrote"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn conditional_writes_survive_a_server_that_forgot_its_scripts() {
    let mut server = server();
    let storage = storage(&server);
    let key = CacheKey::from("lock");
    let token = || NewEntry::new("token", minute());
    assert!(
        storage
            .set(&key, token(), Condition::IfAbsent)
            .await
            .unwrap()
    );
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(
        !storage
            .set(&key, token(), Condition::IfAbsent)
            .await
            .unwrap()
    );
    server.restart().unwrap();
    assert!(
        storage
            .set(&key, token(), Condition::IfAbsent)
            .await
            .unwrap()
    );
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(storage.compare_and_delete(&key, b"token").await.unwrap());
}
