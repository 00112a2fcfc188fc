//! Primaries that die and are replaced.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_core::{CacheKey, CacheStorage, ErrorKind, NewEntry, secs};
use cache_redis::RedisCacheStorage;
use cache_testkit::servers::RedisCluster;
use cache_tests::entries::{fetch, minute, put, timed};
use tokio::task::JoinSet;

use crate::support::{End, cluster, keys, options, patient, slot, storage};

/// What a busy machine needs to notice that a deadline has passed.
const SLACK: Duration = Duration::from_millis(400);

/// One key of each of the three primaries, that of the primary to be killed first.
fn one_key_each(cluster: &RedisCluster) -> Vec<(usize, String)> {
    let owned = |place: usize| {
        let mut names = (0..).map(|number| format!("k{number}"));
        let key =
            names.find(|key| cluster.primary_of(slot(cluster.node(0), key)).ok() == Some(place));
        (place, key.expect("some key is in every slot range"))
    };
    (0..3).map(owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_takes_its_own_keys_along_and_no_others() {
    // By default a cluster refuses everything while a slot has no server.
    let mut cluster = RedisCluster::builder()
        .args(["--cluster-require-full-coverage", "no"])
        .start()
        .unwrap();
    let storage = storage(options(&cluster));
    storage.warm_up().await.unwrap();
    let keys = one_key_each(&cluster);
    let (victim, lost_key) = keys[0].clone();
    for (_, key) in &keys {
        put(&*storage, key, key).await.unwrap();
    }
    let end = End::default();
    let mut others = JoinSet::new();
    for (_, key) in &keys[1..] {
        for _ in 0..8 {
            others.spawn(keep_using(Arc::clone(&storage), key.clone(), end.clone()));
        }
    }
    let mut affected = JoinSet::new();
    for _ in 0..8 {
        affected.spawn(use_until_it_works(
            Arc::clone(&storage),
            lost_key.clone(),
            end.clone(),
        ));
    }
    let lost_slot = slot(cluster.node(1), &lost_key);
    cluster.kill(victim).unwrap();
    let (cluster, promoted_at) = tokio::task::spawn_blocking(move || {
        cluster.wait_for_promotion(lost_slot, victim).unwrap();
        (cluster, Instant::now())
    })
    .await
    .unwrap();

    while fetch(&*storage, &lost_key).await.is_err() {
        let waited = promoted_at.elapsed();
        assert!(
            waited < secs(2) + SLACK,
            "not back {waited:?} after the promotion"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And it stays so, for batches too.
    let batch: Vec<_> = keys
        .iter()
        .map(|(_, key)| CacheKey::from(key.as_str()))
        .collect();
    put(&*storage, &lost_key, "again").await.unwrap();
    let read = storage.get_many(&batch).await;
    assert!(
        read.iter().all(|entry| matches!(entry, Ok(Some(_)))),
        "{read:?}"
    );
    end.announce();
    others.join_all().await;
    affected.join_all().await;
    drop(cluster);
}

/// Uses a key whose server lives; every call must succeed.
async fn keep_using(storage: Arc<RedisCacheStorage>, key: String, end: End) {
    while !end.has_come() {
        let (written, took) = timed(put(&*storage, &key, &key)).await;
        written.expect("the other servers keep answering");
        assert!(took < Duration::from_millis(500) + SLACK, "{took:?}");
        let read = fetch(&*storage, &key).await;
        assert_eq!(read.expect("reads succeed").as_deref(), Some(&*key));
    }
}

/// Uses a key whose server dies: trouble is of the right kind and in time, and ends.
async fn use_until_it_works(storage: Arc<RedisCacheStorage>, key: String, end: End) {
    while !end.has_come() {
        let (read, took) = timed(fetch(&*storage, &key)).await;
        assert!(took < Duration::from_millis(500) + SLACK, "{took:?}");
        if let Err(error) = read {
            let is_trouble = matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout);
            assert!(is_trouble && error.is_transient(), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_is_not_noticed() {
    let cluster = cluster();
    let storage = patient(&cluster);
    let key = "k";
    let slot = slot(cluster.node(0), key);
    let old = cluster.primary_of(slot).unwrap();
    let end = End::default();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (storage, end) = (Arc::clone(&storage), end.clone());
        tasks.spawn(async move {
            let counter = CacheKey::from(format!("{{k}}:{task}"));
            let mut count = 0;
            while !end.has_come() {
                count += 1;
                let counted = storage.increment(&counter, 1, minute()).await;
                assert_eq!(counted.expect("counting goes on").value, count);
            }
        });
    }
    let cluster = tokio::task::spawn_blocking(move || {
        let replica = cluster.node(old + 3);
        replica.command(&["CLUSTER", "FAILOVER"]).unwrap();
        cluster.wait_for_promotion(slot, old).unwrap();
        cluster
    })
    .await
    .unwrap();
    for round in 0..200 {
        put(&*storage, &format!("{{k}}:after{round}"), "v")
            .await
            .unwrap();
    }
    end.announce();
    tasks.join_all().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_primary_costs_its_own_callers_their_deadline_and_no_more() {
    let cluster = cluster();
    let storage = storage(options(&cluster));
    storage.warm_up().await.unwrap();
    let keys = one_key_each(&cluster);
    let (hung, hung_key) = &keys[0];
    cluster.node(*hung).pause().unwrap();
    let (read, took) = timed(fetch(&*storage, hung_key)).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took < Duration::from_millis(500) + SLACK, "{took:?}");
    for (_, key) in &keys[1..] {
        let (read, took) = timed(fetch(&*storage, key)).await;
        read.unwrap();
        assert!(took < Duration::from_millis(500) + SLACK, "{took:?}");
    }
    // Once its replica has taken over, its keys are there again without anybody doing anything.
    let slot = slot(cluster.node(1), hung_key);
    cluster.wait_for_promotion(slot, *hung).unwrap();
    let promoted_at = Instant::now();
    while fetch(&*storage, hung_key).await.is_err() {
        let waited = promoted_at.elapsed();
        assert!(
            waited < secs(2) + SLACK,
            "not back {waited:?} after the promotion"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.node(*hung).resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_takes_its_own_keys_along_and_no_others() {
    let mut cluster = RedisCluster::builder()
        .replicas(0)
        .args(["--cluster-require-full-coverage", "no"])
        .start()
        .unwrap();
    let storage = storage(options(&cluster));
    let keys = keys("k", 300);
    let entry = |key: &CacheKey| (key.clone(), NewEntry::new("v", minute()));
    let written = storage.set_many(keys.iter().map(entry).collect()).await;
    assert!(written.iter().all(Result::is_ok));
    let places: Vec<_> = keys
        .iter()
        .map(|key| {
            cluster
                .primary_of(slot(cluster.node(0), key.as_str()))
                .unwrap()
        })
        .collect();
    cluster.kill(0).unwrap();
    for _ in 0..3 {
        let (read, took) = timed(storage.get_many(&keys)).await;
        assert!(took < secs(2) + SLACK, "{took:?}");
        for (place, entry) in places.iter().zip(read) {
            match entry {
                Ok(entry) => assert!(*place != 0 && entry.is_some()),
                Err(error) => assert!(*place == 0 && error.is_transient(), "{error}"),
            }
        }
        let entries = keys.iter().map(entry).collect();
        for (place, outcome) in places.iter().zip(storage.set_many(entries).await) {
            assert_eq!(outcome.is_err(), *place == 0);
        }
    }
}
