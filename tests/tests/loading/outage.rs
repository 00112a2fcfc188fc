//! Servers that go away in the middle, and time that nobody can move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::{CacheService, Codec, LoadOptions, LoadStatus, LoaderOutcome, millis, secs};
use cache_redis::RedisCacheStorage;
use cache_testkit::servers::RedisServer;
use tokio::sync::Notify;

use super::support::{patient, service};

fn over(server: &RedisServer) -> CacheService {
    let storage = RedisCacheStorage::new(patient(server.port()));
    service(
        Arc::new(storage.expect("the options are sound")),
        Codec::Json,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_in_the_middle_of_a_load_costs_nobody_the_value() {
    let mut server = RedisServer::start().unwrap();
    let cache = over(&server);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes, own) = (Arc::clone(&begun), Arc::clone(&go), cache.clone());
    let call = tokio::spawn(async move {
        let options = LoadOptions::default();
        let loader = move |_| async move {
            begins.notify_one();
            goes.notified().await;
            LoaderOutcome::value(7u64)
        };
        own.load("k", &options, loader).await
    });
    begun.notified().await;
    server.kill().unwrap();
    go.notify_one();
    let loaded = call.await.unwrap().unwrap();
    let got = (loaded.value.as_deref().copied(), loaded.status);
    assert_eq!(got, (Some(7), LoadStatus::Loaded));
    assert!(loaded.trouble.is_some(), "it could not be stored");
    assert!(cache.get_stats().degraded > 0);
    // And while it is away, each caller loads.
    let value = cache.get_or_load("k", |_| async { LoaderOutcome::value(8u64) });
    assert_eq!(*value.await.unwrap(), 8);
}

#[tokio::test]
async fn a_short_time_to_live_of_the_server_ends_and_the_value_is_loaded_again() {
    let server = RedisServer::start().unwrap();
    let storage = RedisCacheStorage::new(patient(server.port())).unwrap();
    let cache = CacheService::builder(storage)
        .ttl(millis(100))
        .build()
        .unwrap();
    let loads = Arc::new(AtomicU64::new(0));
    let waiting = async {
        while loads.load(Ordering::SeqCst) < 2 {
            let loads = Arc::clone(&loads);
            let value = cache.get_or_load("k", move |_| async move {
                LoaderOutcome::value(loads.fetch_add(1, Ordering::SeqCst))
            });
            value.await.unwrap();
        }
    };
    tokio::time::timeout(secs(10), waiting).await.unwrap();
}
