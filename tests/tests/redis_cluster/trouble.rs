//! A cluster as a whole in trouble.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheKey, CacheStorage, ErrorKind, secs};
use cache_tests::entries::{back, fetch, put, timed};
use tokio::task::JoinSet;

use crate::support::{End, bare_cluster, keys, map_readings, options, patient, storage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_down_is_not_asked_for_its_map_again_and_again() {
    let mut cluster = bare_cluster();
    let storage = storage(options(&cluster));
    storage.warm_up().await.unwrap();
    cluster.kill(0).unwrap();
    let cluster = cluster;
    let is_down = || {
        let info = cluster.node(1).command(&["CLUSTER", "INFO"]).unwrap();
        info.contains("cluster_state:fail")
    };
    while !is_down() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before: u64 = [1, 2]
        .map(|place| map_readings(cluster.node(place)))
        .iter()
        .sum();
    let end = End::default();
    let mut tasks = JoinSet::new();
    for task in 0..32 {
        let (storage, end) = (Arc::clone(&storage), end.clone());
        tasks.spawn(async move {
            let mut calls = 0_u32;
            while !end.has_come() {
                let (read, took) = timed(fetch(&*storage, &format!("k{task}:{calls}"))).await;
                let error = read.expect_err("the cluster is down");
                // A machine that is busy elsewhere may make an answer late.
                let is_trouble = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout);
                assert!(is_trouble, "{error}");
                assert!(took < secs(1), "{took:?}");
                calls += 1;
                tokio::task::yield_now().await;
            }
            calls
        });
    }
    // Real time is what is tested: how often within it the map is read.
    tokio::time::sleep(secs(3)).await;
    end.announce();
    let calls: u32 = tasks.join_all().await.into_iter().sum();
    let after: u64 = [1, 2]
        .map(|place| map_readings(cluster.node(place)))
        .iter()
        .sum();
    assert!(calls > 1_000, "{calls} calls");
    assert!(after - before <= 5, "{} readings in 3 s", after - before);
}

#[tokio::test]
async fn nobody_at_any_address_is_trouble_within_the_deadline() {
    let cluster = bare_cluster();
    let options = options(&cluster);
    drop(cluster);
    let storage = storage(options);
    for _ in 0..2 {
        let (read, took) = timed(fetch(&*storage, "k")).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert!(error.to_string().contains("cluster"), "{error}");
        assert!(took < secs(1), "{took:?}");
    }
    let (read, took) = timed(storage.get_many(&keys("k", 1_000))).await;
    assert!(read.iter().all(Result::is_err) && read.len() == 1_000);
    assert!(took < secs(1), "{took:?}");
}

#[tokio::test]
async fn servers_that_hang_before_the_first_call_cost_its_deadline() {
    let cluster = bare_cluster();
    for node in cluster.nodes() {
        node.pause().unwrap();
    }
    let storage = storage(options(&cluster));
    let mut tasks = JoinSet::new();
    for task in 0..32 {
        let storage = Arc::clone(&storage);
        tasks.spawn(async move { timed(fetch(&*storage, &format!("k{task}"))).await });
    }
    for (read, took) in tasks.join_all().await {
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(took < secs(1), "{took:?}");
    }
    for node in cluster.nodes() {
        node.resume().unwrap();
    }
    back(&*storage, "k").await;
    put(&*storage, "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_leave_no_reply_to_anybody_else() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let keys = keys("k", 64);
    for key in &keys {
        put(&*storage, key.as_str(), key.as_str()).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (storage, keys) = (Arc::clone(&storage), keys.clone());
        tasks.spawn(async move {
            for round in 0..300 {
                let key: &CacheKey = &keys[(task * 7 + round) % keys.len()];
                let patience = Duration::from_micros(fastrand::u64(0..400));
                let call = async {
                    if round % 5 == 0 {
                        let read = storage.get_many(&keys).await;
                        for (key, entry) in keys.iter().zip(read) {
                            let entry = entry.expect("the server lives").expect("it is there");
                            assert_eq!(entry.value, key.as_str());
                        }
                        return;
                    }
                    let read = fetch(&*storage, key.as_str()).await.expect("it lives");
                    assert_eq!(read.as_deref(), Some(key.as_str()));
                };
                // Whether it came to its end makes no difference.
                _ = tokio::time::timeout(patience, call).await;
            }
        });
    }
    tasks.join_all().await;
}
