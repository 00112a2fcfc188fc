//! Rows 33 to 39: what callers of a whole stack see of a cluster in trouble, and what is measured.

use std::time::Instant;

use cache_core::{CacheKey, ErrorKind, NewEntry, millis, secs};
use cache_monitor::names;
use cache_testkit::servers::{RedisCluster, RedisServer};

use crate::metrics_a::{Measured, PATIENT};
use crate::support::{SLACK, eventually, fetch, minute, put, timed};

const CLUSTER: &[(&str, &str)] = &[("CACHE_REDIS_TOPOLOGY", "cluster")];

/// Three primaries alone, which go on without one of them.
fn bare() -> RedisCluster {
    let builder = RedisCluster::builder().replicas(0);
    let builder = builder.args(["--cluster-require-full-coverage", "no"]);
    builder.start().expect("the cluster starts")
}

fn measured(cluster: &RedisCluster, more: &[(&str, &str)]) -> Measured {
    Measured::redis(&cluster.url(), &[CLUSTER, more].concat())
}

fn slot(server: &RedisServer, key: &str) -> u16 {
    let slot = server.command(&["CLUSTER", "KEYSLOT", key]);
    let slot = slot.expect("the server answers");
    slot.parse().expect("a slot is a number")
}

fn owner(cluster: &RedisCluster, key: &str) -> usize {
    let owner = cluster.primary_of(slot(cluster.node(1), key));
    owner.expect("every slot has a server")
}

/// Keys of all servers, each with the place of its own.
fn keys(cluster: &RedisCluster, count: usize) -> Vec<(CacheKey, usize)> {
    let names = (0..count).map(|number| format!("k{number}"));
    names
        .map(|name| {
            let owner = owner(cluster, &name);
            (CacheKey::from(name), owner)
        })
        .collect()
}

fn only(keys: &[(CacheKey, usize)]) -> Vec<CacheKey> {
    keys.iter().map(|(key, _)| key.clone()).collect()
}

async fn write_all(measured: &Measured, keys: &[CacheKey]) {
    let entry = |key: &CacheKey| {
        let value = key.as_str().as_bytes().to_vec();
        (key.clone(), NewEntry::new(value, minute()))
    };
    let entries = keys.iter().map(entry).collect();
    let written = measured.storage().set_many(entries).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}

/// Reads all keys at once, and finds the own value of each.
async fn find_all(measured: &Measured, keys: &[CacheKey]) {
    let read = measured.storage().get_many(keys).await;
    assert_eq!(read.len(), keys.len());
    for (key, entry) in keys.iter().zip(read) {
        let entry = entry.expect("the read succeeds").expect("it is there");
        assert_eq!(entry.value, key.as_str());
    }
}

/// A slot that has moved to another server costs its callers a detour and no error, and the map is
/// read once for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_33_a_slot_has_moved() {
    let cluster = bare();
    let measured = measured(&cluster, PATIENT);
    let names: Vec<_> = (0..20)
        .map(|n| CacheKey::from(format!("{{way}}{n}")))
        .collect();
    write_all(&measured, &names).await;
    let slot = slot(cluster.node(0), "{way}");
    let from = cluster.primary_of(slot).unwrap();
    cluster
        .move_slots(slot..slot + 1, from, (from + 1) % 3)
        .unwrap();

    for name in &names {
        let value = fetch(measured.storage(), name.as_str()).await.unwrap();
        assert_eq!(value.as_deref(), Some(name.as_str()));
    }
    find_all(&measured, &names).await;
    let moved = measured.count(names::REDIRECTS_TOTAL, &[("kind", "moved")]);
    assert!((1..=2).contains(&moved), "{moved} detours");
    let patched = [("reason", "moved"), ("result", "ok")];
    eventually(async || {
        put(measured.storage(), "{way}0", "{way}0").await.unwrap();
        (measured.count(names::TOPOLOGY_REFRESH_TOTAL, &patched) > 0).then_some(())
    })
    .await;
    assert_eq!(measured.count(names::TOPOLOGY_REFRESH_TOTAL, &patched), 1);
}

/// Keys of a slot that is on its way are found on either side, one at a time and in batches, of
/// which no part is ever missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_34_a_slot_is_on_its_way() {
    let cluster = bare();
    let measured = measured(&cluster, PATIENT);
    let names: Vec<_> = (0..20)
        .map(|n| CacheKey::from(format!("{{way}}{n}")))
        .collect();
    write_all(&measured, &names).await;
    let slot = slot(cluster.node(0), "{way}");
    let from = cluster.primary_of(slot).unwrap();
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to).unwrap();
    let address = cluster.node(to).address();
    let (host, port) = address.split_once(':').unwrap();
    for name in names.iter().step_by(2) {
        let migrate = ["MIGRATE", host, port, name.as_str(), "0", "5000"];
        assert_eq!(cluster.node(from).command(&migrate).unwrap(), "OK");
    }

    find_all(&measured, &names).await;
    let asked = measured.count(names::REDIRECTS_TOTAL, &[("kind", "ask")]);
    assert!((10..=20).contains(&asked), "{asked} detours of 10 keys");
    for name in &names {
        let value = fetch(measured.storage(), name.as_str()).await.unwrap();
        assert_eq!(value.as_deref(), Some(name.as_str()));
    }
    write_all(&measured, &names).await;
    find_all(&measured, &names).await;
    let again = measured.count(names::REDIRECTS_TOTAL, &[("kind", "tryagain")]);
    assert_eq!(again, 0, "no command has two keys");
}

/// While a replica takes over, the fallback answers for the keys of the server that died, and the
/// others are not affected. Soon after the promotion the server is used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_35_a_replica_is_promoted() {
    let mut cluster = RedisCluster::builder()
        .args(["--cluster-require-full-coverage", "no"])
        .start()
        .unwrap();
    let measured = measured(&cluster, &[("CACHE_FALLBACK", "memory")]);
    measured.stack.warm_up().await.unwrap();
    let keys = keys(&cluster, 30);
    let (lost, victim) = keys[0].clone();
    let (spared, _) = keys.iter().find(|(_, owner)| *owner != victim).unwrap();
    let addresses = cluster.addresses();
    let lost_slot = slot(cluster.node(1), lost.as_str());
    cluster.kill(victim).unwrap();
    let promotion = tokio::task::spawn_blocking(move || {
        let promoted = cluster.wait_for_promotion(lost_slot, victim).unwrap();
        (cluster, promoted, Instant::now())
    });
    let mut opened = [false; 6];
    while !promotion.is_finished() {
        for (place, address) in addresses.iter().enumerate() {
            opened[place] |= is_open(&measured, address);
        }
        for key in [&lost, spared] {
            let (written, took) = timed(put(measured.storage(), key.as_str(), "v")).await;
            written.expect("somebody takes it");
            assert!(took < millis(500) + SLACK, "{took:?}");
        }
        tokio::task::yield_now().await;
    }
    let (cluster, promoted, since) = promotion.await.unwrap();
    eventually(async || {
        put(measured.storage(), lost.as_str(), "after")
            .await
            .unwrap();
        let get = ["GET", lost.as_str()];
        let stored = cluster.node(promoted).command(&get).ok()?;
        (stored == "after").then_some(())
    })
    .await;
    let took = since.elapsed();
    assert!(took < secs(2) + SLACK, "back {took:?} after the promotion");

    assert!(measured.count(names::FALLBACK_TOTAL, &[("from", "redis")]) > 0);
    assert!(opened[victim], "its breaker was open");
    opened[victim] = false;
    opened[promoted] = false;
    assert_eq!(opened, [false; 6], "no other was");
}

fn is_open(measured: &Measured, address: &str) -> bool {
    let levels = measured.gauge(names::BREAKER_STATE, &[("shard", address)]);
    levels.contains(&2.0)
}

/// A shard without a server takes its own keys along and no others: batches say so key by key, and
/// lenient services read them as missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_36_a_whole_shard_is_lost() {
    let mut cluster = bare();
    let measured = measured(&cluster, &[("CACHE_ON_TROUBLE", "miss")]);
    let keys = keys(&cluster, 60);
    let names = only(&keys);
    write_all(&measured, &names).await;
    let owners: Vec<_> = (0..30)
        .map(|number| owner(&cluster, &format!("lenient:k{number}")))
        .collect();
    cluster.kill(0).unwrap();
    for round in 0..5 {
        let (read, took) = timed(measured.storage().get_many(&names)).await;
        assert!(took < secs(2) + SLACK, "{took:?}");
        for ((key, owner), entry) in keys.iter().zip(read) {
            let is_there = matches!(&entry, Ok(Some(_)));
            assert_eq!(is_there, *owner != 0, "round {round}: {key:?}: {entry:?}");
            assert!(is_there || entry.is_err(), "lost is not absent");
        }
    }
    let service = measured.stack.service("lenient").ttl(secs(60)).build();
    let service = service.unwrap();
    for (number, owner) in owners.iter().enumerate() {
        let key = format!("k{number}");
        let written = service.set(&key, &number).await;
        assert_eq!(written.is_ok(), *owner != 0);
        let value = service.get::<usize>(&key).await.unwrap();
        assert_eq!(value, (*owner != 0).then_some(number));
    }
    let lost = owners.iter().filter(|owner| **owner == 0).count() as u64;
    assert!(lost > 0);
    assert_eq!(measured.count(names::DEGRADED_TOTAL, &[]), lost);
}

/// A slot that no server has is trouble that is named, and a miss to lenient services.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_36_a_slot_without_a_server_is_measured() {
    let cluster = bare();
    let slot = slot(cluster.node(0), "lenient:k").to_string();
    for node in cluster.nodes() {
        node.command(&["CLUSTER", "DELSLOTS", &slot]).unwrap();
    }
    let measured = measured(&cluster, &[("CACHE_ON_TROUBLE", "miss")]);
    let (read, took) = timed(fetch(measured.storage(), "lenient:k")).await;
    let error = read.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Connection, "shard")
    );
    assert!(took < millis(500) + SLACK, "{took:?}");
    let service = measured.stack.service("lenient").ttl(secs(60)).build();
    assert_eq!(service.unwrap().get::<i32>("k").await.unwrap(), None);
    let reason = [("reason", "shard")];
    assert_eq!(measured.count(names::DEGRADED_TOTAL, &reason), 1);
}

/// A cluster that refuses everything is not asked for its map by every call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_37_the_cluster_is_down() {
    let mut cluster = RedisCluster::builder().replicas(0).start().unwrap();
    // A breaker would keep the calls away.
    let measured = measured(&cluster, &[("CACHE_BREAKER", "off")]);
    measured.stack.warm_up().await.unwrap();
    cluster.kill(0).unwrap();
    eventually(async || {
        let info = cluster.node(1).command(&["CLUSTER", "INFO"]).unwrap();
        info.contains("cluster_state:fail").then_some(())
    })
    .await;
    let before = measured.count(names::TOPOLOGY_REFRESH_TOTAL, &[]);
    let (started, mut calls) = (Instant::now(), 0_u32);
    // Real time is what is tested: how often within it the map is read.
    while started.elapsed() < secs(3) {
        let (read, took) = timed(fetch(measured.storage(), &format!("k{calls}"))).await;
        assert!(read.expect_err("it is down").is_transient());
        assert!(took < millis(500) + SLACK, "{took:?}");
        calls += 1;
    }
    let readings = measured.count(names::TOPOLOGY_REFRESH_TOTAL, &[]) - before;
    assert!(calls > 50, "{calls} calls");
    assert!(readings <= 5, "{readings} readings in 3 s");
}

/// Batches over all slots are taken apart and put together again; no server ever has to refuse one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_38_batches_over_many_slots() {
    let cluster = bare();
    let measured = measured(&cluster, PATIENT);
    let names = only(&keys(&cluster, 100));
    write_all(&measured, &names).await;
    find_all(&measured, &names).await;
    let deleted = measured.storage().delete_many(&names).await;
    assert!(deleted.into_iter().all(|deleted| deleted.is_ok()));
    for (op, outcome) in [("get_many", "hit"), ("set_many", "ok")] {
        let labels = [("backend", "redis"), ("op", op), ("outcome", outcome)];
        assert_eq!(measured.count(names::OPS_TOTAL, &labels), 100, "{op}");
    }
    for node in cluster.nodes() {
        let refused = node.command(&["INFO", "errorstats"]).unwrap();
        assert!(!refused.contains("CROSSSLOT"), "{refused}");
    }
}

/// Connections to a server that has left are closed, and nobody dials it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_39_a_server_leaves() {
    let cluster = bare();
    let measured = measured(&cluster, PATIENT);
    let names = only(&keys(&cluster, 30));
    write_all(&measured, &names).await;
    let first = (10_900..16_384).find(|slot| cluster.primary_of(*slot).unwrap() == 2);
    // Servers share the slots in order, so that the first one of its own says all.
    let first = first.unwrap().to_string();
    for node in cluster.nodes() {
        let forget = ["CLUSTER", "DELSLOTSRANGE", &first, "16383"];
        node.command(&forget).unwrap();
    }
    let take = ["CLUSTER", "ADDSLOTSRANGE", &first, "16383"];
    eventually(async || {
        cluster
            .node(0)
            .command(&take)
            .ok()
            .filter(|reply| reply == "OK")
    })
    .await;
    eventually(async || (cluster.primary_of(16_383).ok() == Some(0)).then_some(())).await;
    let removed = [("backend", "redis"), ("event", "removed")];
    eventually(async || {
        for name in &names {
            // The other servers may not have heard of it yet.
            _ = put(measured.storage(), name.as_str(), name.as_str()).await;
        }
        (measured.count(names::CONN_TOTAL, &removed) > 0).then_some(())
    })
    .await;
    assert_eq!(measured.count(names::CONN_TOTAL, &removed), 1);
    let opened = measured.count(names::CONN_TOTAL, &[("event", "open")]);
    for _ in 0..20 {
        find_all(&measured, &names).await;
    }
    let later = measured.count(names::CONN_TOTAL, &[("event", "open")]);
    assert_eq!(later, opened, "nobody dials it");
}
