//! Memory in front of Redis, as the factory builds it, while the server hangs and while others write.

use std::time::Instant;

use cache_core::settings::Settings;
use cache_core::{CacheKey, CacheStorage, TierAccess, secs};
use cache_factory::{CacheStorageFactory, Caches};
use cache_testkit::servers::RedisServer;

use crate::support::{fetch, put, server, storage, timed};

fn tiers(server: &RedisServer, more: &[(&str, &str)]) -> Caches {
    let url = server.url(0);
    let base = [
        ("CACHE_STORAGE_TYPE", "memory,redis"),
        ("CACHE_REDIS_URL", &*url),
    ];
    let pairs = [&base[..], more].concat();
    CacheStorageFactory::from_settings(Settings::from_pairs(pairs)).expect("the settings are sound")
}

/// Reads until somebody can say, and returns what was said.
async fn settled(storage: &dyn CacheStorage, key: &str) -> Option<String> {
    let began = Instant::now();
    loop {
        match fetch(storage, key).await {
            Ok(found) => return found,
            Err(error) => assert!(began.elapsed() < secs(20), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_memory_holds_is_served_while_redis_hangs_and_nothing_old_comes_back() {
    let server = server();
    let caches = tiers(&server, &[("CACHE_TIER_MEMORY_TTL_CAP", "none")]);
    let storage = &**caches.storage();
    for key in ["kept", "overwritten", "deleted"] {
        put(storage, key, "old").await.expect("the server is well");
    }
    server.pause().expect("the server stops");
    let (kept, took) = timed(fetch(storage, "kept")).await;
    assert_eq!(kept.expect("memory has it").as_deref(), Some("old"));
    assert!(took < secs(1), "{took:?}");
    assert!(put(storage, "overwritten", "new").await.is_err());
    assert!(storage.delete(&CacheKey::from("deleted")).await.is_err());
    for key in ["overwritten", "deleted"] {
        assert!(fetch(storage, key).await.is_err(), "nobody knows");
    }
    server.resume().expect("the server goes on");
    assert_ne!(
        settled(storage, "overwritten").await.as_deref(),
        Some("old")
    );
    assert_eq!(settled(storage, "deleted").await, None);
    let others = self::storage(&server);
    for key in ["overwritten", "deleted"] {
        let found = settled(&others, key).await;
        assert_ne!(found.as_deref(), Some("old"), "{key}");
    }
    assert_eq!(settled(&others, "kept").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn another_processs_write_is_seen_when_the_cap_is_over_or_memory_is_left_out() {
    let server = server();
    let caches = tiers(&server, &[("CACHE_TIER_MEMORY_TTL_CAP", "200ms")]);
    let storage = &**caches.storage();
    put(storage, "k", "mine").await.expect("the server is well");
    let others = self::storage(&server);
    put(&others, "k", "theirs")
        .await
        .expect("the server is well");
    let exact = storage.with_tiers(&TierAccess::new().skip_reads("memory"));
    let exact = exact.expect("memory is a tier").expect("there are tiers");
    let found = fetch(&*exact, "k").await.expect("the server is well");
    assert_eq!(found.as_deref(), Some("theirs"));
    let began = Instant::now();
    while fetch(storage, "k")
        .await
        .expect("the server is well")
        .as_deref()
        != Some("theirs")
    {
        assert!(began.elapsed() < secs(5), "the cap is over");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_counter_is_the_same_in_every_process_at_once() {
    let server = server();
    let (here, there) = (tiers(&server, &[]), tiers(&server, &[]));
    let key = CacheKey::from("n");
    for sum in [1_i64, 3, 5] {
        let counter = here.storage().increment(&key, 1, crate::support::minute());
        assert_eq!(counter.await.expect("the server is well").value, sum);
        let seen = fetch(&**there.storage(), "n").await;
        let seen = seen.expect("the server is well");
        assert_eq!(seen.as_deref(), Some(&*sum.to_string()));
        let counter = there.storage().increment(&key, 1, crate::support::minute());
        counter.await.expect("the server is well");
        let seen = fetch(&**here.storage(), "n").await;
        let seen = seen.expect("the server is well");
        assert_eq!(seen, Some((sum + 1).to_string()));
    }
}
