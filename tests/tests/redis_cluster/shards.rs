//! Which server answers for a key, and how the storage learns of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_core::{CacheKey, CacheStorage, Shard, secs};
use cache_redis::RedisCacheStorage;
use cache_testkit::servers::RedisCluster;
use cache_tests::entries::{fetch, put};
use cache_tests::events::Told;

use crate::support::{bare_cluster, options, patient_options, slot, storage};

fn observed(options: cache_redis::RedisOptions) -> (Arc<RedisCacheStorage>, Told) {
    let told = Told::default();
    (storage(options.with_observers(told.observers())), told)
}

/// The server whose slot `key` has, by the cluster's own account.
fn owner(cluster: &RedisCluster, key: &str) -> usize {
    let owner = cluster.primary_of(slot(cluster.node(0), key));
    owner.expect("every slot has a server")
}

fn shard_at(cluster: &RedisCluster, place: usize) -> Shard {
    Shard::new(cluster.node(place).address().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keys_shard_is_its_primary_once_the_map_is_known() {
    let cluster = bare_cluster();
    let (storage, told) = observed(patient_options(&cluster));
    let key = CacheKey::from("k");
    assert_eq!(storage.shard(&key), None);
    put(&*storage, "k", "v").await.unwrap();
    let place = owner(&cluster, "k");
    assert_eq!(storage.shard(&key), Some(shard_at(&cluster, place)));
    assert_eq!(told.count("refresh start ok"), 1);

    let slot = slot(cluster.node(0), "k");
    let next = (place + 1) % 3;
    cluster.move_slots(slot..slot + 1, place, next).unwrap();
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(storage.shard(&key), Some(shard_at(&cluster, next)));
    assert_eq!(told.count("redirect moved"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_other_shards_learn_of_a_promotion() {
    let mut cluster = RedisCluster::builder()
        .args(["--cluster-require-full-coverage", "no"])
        .start()
        .unwrap();
    let (storage, told) = observed(options(&cluster));
    storage.warm_up().await.unwrap();
    let lost = CacheKey::from("k");
    let victim = owner(&cluster, "k");
    let mut names = (0..).map(|number| format!("other{number}"));
    let other = names.find(|key| owner(&cluster, key) != victim).unwrap();
    let old = storage.shard(&lost).unwrap();
    put(&*storage, "k", "v").await.unwrap();

    cluster.kill(victim).unwrap();
    // One call meets the trouble; a breaker keeps the others away from the server.
    fetch(&*storage, "k").await.unwrap_err();
    let lost_slot = slot(cluster.node((victim + 1) % 3), "k");
    let promotion = tokio::task::spawn_blocking(move || {
        cluster.wait_for_promotion(lost_slot, victim).unwrap();
        (cluster, Instant::now())
    });
    let mut promoted_at = None;
    tokio::pin!(promotion);
    while storage.shard(&lost) == Some(old.clone()) {
        fetch(&*storage, &other).await.unwrap();
        let pause = Duration::from_millis(5);
        if promoted_at.is_none()
            && let Ok(promoted) = tokio::time::timeout(pause, &mut promotion).await
        {
            promoted_at = Some(promoted.unwrap());
        }
        if let Some((_, at)) = &promoted_at {
            let waited = at.elapsed();
            assert!(waited < secs(2), "not known {waited:?} after the promotion");
        }
    }
    let (cluster, _) = match promoted_at {
        Some(promoted) => promoted,
        None => promotion.await.unwrap(),
    };
    fetch(&*storage, "k").await.unwrap();
    assert!(
        told.count("refresh unreachable ok") > 0,
        "{:?}",
        told.take()
    );
    drop(cluster);
}
