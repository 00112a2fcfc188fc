//! Keys of all slots through one storage.

use std::sync::Arc;

use async_trait::async_trait;
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, NewEntry, PrefixStorage,
    Topology, millis, secs,
};
use cache_redis::{Credentials, CredentialsProvider, RedisOptions, TlsOptions};
use cache_testkit::servers::{Certificates, RedisCluster, RedisServer};
use cache_tests::entries::{fetch, minute, put};
use tokio::task::JoinSet;

use crate::support::{bare_cluster, keys, options, patient, slot, storage};

#[tokio::test]
async fn batches_reach_every_slot_and_come_back_in_order() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let keys = keys("k", 3_000);
    let entry = |key: &CacheKey| {
        let value = key.as_str().as_bytes().to_vec();
        (key.clone(), NewEntry::new(value, minute()))
    };
    let written = storage.set_many(keys.iter().map(entry).collect()).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    for place in 0..3 {
        let held = cluster.node(place).command(&["DBSIZE"]).unwrap();
        assert!(held.parse::<usize>().unwrap() > 800, "{held} of 3000");
    }

    let mut asked = keys.clone();
    asked.reverse();
    asked.insert(7, CacheKey::from("missing"));
    asked.push(asked[0].clone());
    for read in [
        storage.get_many(&asked).await,
        storage.lookup_many(&asked).await,
    ] {
        for (key, entry) in asked.iter().zip(read) {
            let value = entry.unwrap().map(|entry| entry.value);
            let expected = (key.as_str() != "missing").then_some(key.as_str().as_bytes());
            assert_eq!(value.as_deref(), expected);
        }
    }

    let deleted = storage.delete_many(&keys[..1_500]).await;
    assert!(deleted.iter().all(Result::is_ok));
    let left = storage.get_many(&keys).await;
    let left: Vec<_> = left
        .into_iter()
        .map(|entry| entry.unwrap().is_some())
        .collect();
    assert!(!left[..1_500].contains(&true) && !left[1_500..].contains(&false));
}

#[tokio::test]
async fn a_batch_takes_one_pipeline_a_server() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let keys = keys("k", 90);
    _ = storage.get_many(&keys).await;
    let commands = || -> u64 {
        let calls = |place| {
            let stats = cluster
                .node(place)
                .command(&["INFO", "commandstats"])
                .unwrap();
            let gets = stats
                .lines()
                .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
            gets.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
        };
        (0..3).map(calls).sum()
    };
    let before = commands();
    assert!(storage.get_many(&keys).await.iter().all(Result::is_ok));
    assert_eq!(commands() - before, 90, "no command was sent twice");
}

#[tokio::test]
async fn hash_tags_go_where_the_servers_put_them() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    storage.warm_up().await.unwrap();
    let redirects = || -> u64 {
        let errors = |place| {
            let stats = cluster
                .node(place)
                .command(&["INFO", "errorstats"])
                .unwrap();
            let moved = stats
                .lines()
                .find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
            moved.map_or(0, |count| count.trim().parse().unwrap())
        };
        (0..3).map(errors).sum()
    };
    let tags = [
        "{", "}", "{}", "{a}", "{a}b", "x{a}{b}", "{{a}}", "}{a}", "{ü}", "a b", "{a",
    ];
    for tag in tags {
        for number in 0..8 {
            let key = format!("{tag}{number}");
            put(&*storage, &key, tag).await.unwrap();
            let owner = cluster.primary_of(slot(cluster.node(0), &key)).unwrap();
            assert_eq!(cluster.node(owner).command(&["GET", &key]).unwrap(), tag);
        }
    }
    assert_eq!(redirects(), 0);
}

#[tokio::test]
async fn clear_reaches_every_primary_and_its_own_prefix_only() {
    let cluster = RedisCluster::start().unwrap();
    let storage = patient(&cluster);
    for name in ["user", "users", "us*r"] {
        let entry = |key| (key, NewEntry::new("v", minute()));
        let written = storage.set_many(keys(name, 400).into_iter().map(entry).collect());
        assert!(written.await.iter().all(Result::is_ok));
    }
    let cleared = storage
        .clear(&ClearScope::prefix("user").unwrap())
        .await
        .unwrap();
    assert!(cleared.complete);
    assert_eq!(cleared.deleted, 400);
    let count = async |name| {
        let entries = storage.get_many(&keys(name, 400)).await;
        entries
            .into_iter()
            .filter(|entry| matches!(entry, Ok(Some(_))))
            .count()
    };
    assert_eq!(count("user").await, 0);
    assert_eq!(count("users").await, 400);
    let cleared = storage
        .clear(&ClearScope::prefix("us*r").unwrap())
        .await
        .unwrap();
    assert_eq!((cleared.deleted, count("users").await), (400, 400));
    let cleared = storage.clear(&ClearScope::everything()).await.unwrap();
    assert_eq!(cleared.deleted, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_of_all_slots_are_exact() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let storage = Arc::clone(&storage);
        tasks.spawn(async move {
            for round in 0..50 {
                let key = CacheKey::from(format!("c{}", (task + round) % 8));
                storage.increment(&key, 1, minute()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let mut sum = 0;
    for number in 0..8 {
        let key = CacheKey::from(format!("c{number}"));
        let counter = storage.increment(&key, 0, minute()).await.unwrap();
        assert!(counter.expires_in.is_some());
        sum += counter.value;
    }
    assert_eq!(sum, 16 * 50);
}

#[tokio::test]
async fn scripts_and_conditions_work_in_every_slot() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    for key in keys("lock", 30) {
        let token = || NewEntry::new("token", minute());
        assert!(
            storage
                .set(&key, token(), Condition::IfAbsent)
                .await
                .unwrap()
        );
        assert!(
            !storage
                .set(&key, token(), Condition::IfAbsent)
                .await
                .unwrap()
        );
        assert!(storage.expire(&key, minute()).await.unwrap());
        assert!(storage.compare_and_delete(&key, b"token").await.unwrap());
        assert!(!storage.has(&key).await.unwrap());
    }
}

#[tokio::test]
async fn another_address_is_asked_where_the_first_is_dead() {
    let cluster = bare_cluster();
    let alive = options(&cluster);
    // Nobody listens there any more.
    let gone = RedisServer::start().unwrap().port();
    let storage = storage(
        RedisOptions::new("127.0.0.1", gone)
            .with_topology(Topology::Cluster)
            .with_seed("127.0.0.1", alive.port),
    );
    put(&*storage, "k", "v").await.unwrap();
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_wrong_topology_is_named() {
    let alone = RedisServer::start().unwrap();
    let options_of = |port| RedisOptions::new("127.0.0.1", port);
    let clustered = storage(options_of(alone.port()).with_topology(Topology::Cluster));
    let error = fetch(&*clustered, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("topology standalone"), "{error}");

    let cluster = bare_cluster();
    let owner = cluster.primary_of(slot(cluster.node(0), "k")).unwrap();
    let other = cluster.node((owner + 1) % 3).port();
    let error = fetch(&*storage(options_of(other)), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("topology cluster"), "{error}");
}

#[tokio::test]
async fn a_cluster_may_want_passwords_and_tls() {
    let authority = Certificates::new().unwrap();
    let cluster = RedisCluster::builder()
        .replicas(0)
        .password("hunter2")
        .tls(&authority)
        .start()
        .unwrap();
    let trusting = TlsOptions::new().with_roots_pem(authority.authority_pem());
    let storage = storage(options(&cluster).with_tls(trusting));
    storage.warm_up().await.unwrap();
    let keys = keys("k", 300);
    let entry = |key| (key, NewEntry::new("v", minute()));
    let written = storage
        .set_many(keys.iter().cloned().map(entry).collect())
        .await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let read = storage.get_many(&keys).await;
    assert!(read.iter().all(|entry| matches!(entry, Ok(Some(_)))));

    let wrong = self::options(&cluster).with_password("hunter3");
    let trusting = TlsOptions::new().with_roots_pem(authority.authority_pem());
    let error = fetch(&*crate::support::storage(wrong.with_tls(trusting)), "k").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter"));
}

#[tokio::test]
async fn a_shutdown_ends_every_connection() {
    let cluster = bare_cluster();
    let storage = Arc::new(PrefixStorage::new("app", patient(&cluster)).unwrap());
    let read = storage.get_many(&keys("k", 100)).await;
    assert!(read.iter().all(Result::is_ok));
    storage.shutdown(secs(1)).await.unwrap();
    storage.shutdown(secs(1)).await.unwrap();
    for refused in storage.get_many(&keys("k", 100)).await {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
    }
    for node in cluster.nodes() {
        while crate::support::clients(node) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Takes its time over every password.
#[derive(Debug)]
struct Slow;

#[async_trait]
impl CredentialsProvider for Slow {
    async fn credentials(&self, _: Option<&Credentials>) -> Result<Credentials, CacheError> {
        tokio::time::sleep(millis(600)).await;
        Ok(Credentials::new("hunter2"))
    }
}

#[tokio::test]
async fn a_slow_source_of_passwords_is_waited_for() {
    let builder = RedisCluster::builder().replicas(0).password("hunter2");
    let cluster = builder.start().unwrap();
    let options = || options(&cluster).with_credentials(Slow);
    let patient = storage(options().with_timeout(secs(5)));
    put(&*patient, "k", "v").await.unwrap();

    // Each call waits for as long as it has, and the next one goes on waiting for the same.
    let hasty = storage(options());
    let mut read = fetch(&*hasty, "k").await;
    for _ in 0..20 {
        if read.is_ok() {
            break;
        }
        read = fetch(&*hasty, "k").await;
    }
    assert_eq!(read.unwrap().as_deref(), Some("v"));
}
