//! Slots that move while they are used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{CacheKey, CacheStorage, Condition, Entry, NewEntry, Result};
use cache_redis::RedisCacheStorage;
use cache_tests::entries::{fetch, minute, put};
use tokio::task::JoinSet;

use crate::support::{
    End, bare_cluster, clients, connections, map_readings, patient, patient_options, slot, storage,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slots_move_under_load() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let end = End::default();
    let operations = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (storage, end) = (Arc::clone(&storage), end.clone());
        tasks.spawn(use_own_keys(storage, end, Arc::clone(&operations), task));
    }
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.move_slots(0..1_000, 0, 1).unwrap();
        cluster
    })
    .await
    .unwrap();
    end.announce();
    let written: Vec<_> = tasks.join_all().await;

    assert!(operations.load(Ordering::Relaxed) > 1_000);
    assert_eq!(cluster.primary_of(0).unwrap(), 1);
    for written in written {
        for (key, value) in written {
            let read = fetch(&*storage, &key).await.unwrap();
            assert_eq!(read.as_deref(), Some(&*value), "{key}");
        }
    }
}

/// Writes, reads and counts until the end; every call must succeed and see what was acknowledged.
/// Returns what is stored in the end.
async fn use_own_keys(
    storage: Arc<RedisCacheStorage>,
    end: End,
    operations: Arc<AtomicU64>,
    task: u32,
) -> HashMap<String, String> {
    let mut written = HashMap::new();
    let mut counts: HashMap<String, i64> = HashMap::new();
    let mut round = 0;
    while !end.has_come() {
        round += 1;
        let key = format!("t{task}:{}", round % 200);
        let value = format!("{task}-{round}");
        put(&*storage, &key, &value).await.expect("writes succeed");
        let read = fetch(&*storage, &key).await.expect("reads succeed");
        assert_eq!(read.as_deref(), Some(&*value), "{key}");
        written.insert(key, value);

        let counter = format!("c{task}:{}", round % 50);
        let count = counts.entry(counter.clone()).or_default();
        *count += 1;
        let counted = storage
            .increment(&CacheKey::from(counter), 1, minute())
            .await;
        assert_eq!(counted.expect("counting succeeds").value, *count);

        if round % 20 == 0 {
            read_all(&*storage, &written).await;
        }
        operations.fetch_add(1, Ordering::Relaxed);
    }
    written
}

async fn read_all(storage: &dyn CacheStorage, written: &HashMap<String, String>) {
    let keys: Vec<_> = written
        .keys()
        .map(|key| CacheKey::from(key.as_str()))
        .collect();
    let entries: Vec<Result<Option<Entry>>> = storage.get_many(&keys).await;
    for (key, entry) in keys.iter().zip(entries) {
        let entry = entry.expect("batches succeed").expect("nothing is lost");
        assert_eq!(entry.value, written[key.as_str()], "{key:?}");
    }
}

#[tokio::test]
async fn keys_on_their_way_are_found_on_either_side() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    let slot = slot(cluster.node(0), "{way}");
    let from = cluster.primary_of(slot).unwrap();
    let to = (from + 1) % 3;
    for key in ["{way}:there", "{way}:here", "{way}:counter"] {
        put(&*storage, key, "7").await.unwrap();
    }
    cluster.begin_move(slot, from, to).unwrap();
    let address = cluster.node(to).address();
    let (host, port) = address.split_once(':').unwrap();
    for key in ["{way}:there", "{way}:counter"] {
        let migrate = ["MIGRATE", host, port, key, "0", "5000"];
        assert_eq!(cluster.node(from).command(&migrate).unwrap(), "OK");
    }

    // On both sides, and on neither.
    assert_eq!(
        fetch(&*storage, "{way}:there").await.unwrap().as_deref(),
        Some("7")
    );
    assert_eq!(
        fetch(&*storage, "{way}:here").await.unwrap().as_deref(),
        Some("7")
    );
    assert_eq!(fetch(&*storage, "{way}:new").await.unwrap(), None);
    let keys = ["{way}:there", "{way}:here", "{way}:none"].map(CacheKey::from);
    let read = storage.get_many(&keys).await;
    let found: Vec<_> = read
        .into_iter()
        .map(|entry| entry.unwrap().is_some())
        .collect();
    assert_eq!(found, [true, true, false]);
    let looked = storage.lookup_many(&keys).await;
    let found: Vec<_> = looked
        .into_iter()
        .map(|entry| entry.unwrap().is_some())
        .collect();
    assert_eq!(found, [true, true, false]);

    // A transaction and scripts, of keys that have moved and of new ones.
    let counter = CacheKey::from("{way}:counter");
    assert_eq!(
        storage
            .increment(&counter, 1, minute())
            .await
            .unwrap()
            .value,
        8
    );
    let fresh = CacheKey::from("{way}:fresh");
    assert_eq!(
        storage.increment(&fresh, 1, minute()).await.unwrap().value,
        1
    );
    let token = NewEntry::new("token", minute());
    let lock = CacheKey::from("{way}:lock");
    assert!(
        storage
            .set(&lock, token, Condition::IfAbsent)
            .await
            .unwrap()
    );
    assert!(storage.compare_and_delete(&lock, b"token").await.unwrap());
    assert!(storage.expire(&keys[0], minute()).await.unwrap());
    assert!(storage.has(&keys[0]).await.unwrap());
    assert!(storage.delete(&keys[0]).await.unwrap());
    assert!(storage.delete(&keys[1]).await.unwrap());
    let many = (0..40).map(|number| CacheKey::from(format!("{{way}}:{number}")));
    let many: Vec<_> = many.collect();
    let entry = |key: &CacheKey| (key.clone(), NewEntry::new("v", minute()));
    let written = storage.set_many(many.iter().map(entry).collect()).await;
    assert!(
        written.iter().all(std::result::Result::is_ok),
        "{written:?}"
    );
    let deleted = storage.delete_many(&many).await;
    assert!(
        deleted.iter().all(std::result::Result::is_ok),
        "{deleted:?}"
    );
    let read = storage.get_many(&many).await;
    assert!(read.iter().all(|entry| matches!(entry, Ok(None))));

    cluster.move_keys(slot, from, to).unwrap();
    cluster.end_move(slot, from, to).unwrap();
    assert_eq!(
        storage
            .increment(&counter, 1, minute())
            .await
            .unwrap()
            .value,
        9
    );
}

#[tokio::test]
async fn a_server_without_slots_is_left() {
    let cluster = bare_cluster();
    let storage = patient(&cluster);
    storage.warm_up().await.unwrap();
    assert!(clients(cluster.node(2)) > 0);
    let is_own = |slot: &u16| cluster.primary_of(*slot).unwrap() == 2;
    // Servers share the slots in order, so that the first one of its own says all.
    let first = (10_900..16_384).find(is_own).unwrap();
    cluster.move_slots(first..16_384, 2, 0).unwrap();
    let mut number = 0;
    while clients(cluster.node(2)) > 0 {
        number += 1;
        put(&*storage, &format!("k{number}"), "v").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let readings: u64 = cluster.nodes().iter().map(map_readings).sum();
    for round in 0..300 {
        put(&*storage, &format!("after{round}"), "v").await.unwrap();
    }
    assert_eq!(clients(cluster.node(2)), 0, "nobody dials it again");
    let later: u64 = cluster.nodes().iter().map(map_readings).sum();
    assert!(
        later - readings <= 1,
        "{} readings in no time",
        later - readings
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_about_to_get_its_first_slot_is_dialed_once() {
    let cluster = bare_cluster();
    let is_own = |slot: &u16| cluster.primary_of(*slot).unwrap() == 2;
    let first = (10_900..16_384).find(is_own).unwrap();
    cluster.move_slots(first..16_384, 2, 0).unwrap();
    let storage = patient(&cluster);
    let slot = slot(cluster.node(0), "{way}");
    let from = cluster.primary_of(slot).unwrap();
    cluster.begin_move(slot, from, 2).unwrap();
    storage.warm_up().await.unwrap();
    let before = connections(cluster.node(2));
    let keys: Vec<_> = (0..200)
        .map(|number| CacheKey::from(format!("{{way}}:{number}")))
        .collect();
    let entry = |key: &CacheKey| (key.clone(), NewEntry::new("v", minute()));
    let written = storage.set_many(keys.iter().map(entry).collect()).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    for key in &keys {
        assert!(storage.has(key).await.unwrap());
    }
    // One of them is that which asks.
    assert_eq!(connections(cluster.node(2)) - before, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_two_values_stays_while_their_slot_moves() {
    let cluster = bare_cluster();
    let options = patient_options(&cluster).with_connections(4);
    let storage = storage(options);
    let slot = slot(cluster.node(0), "{way}");
    let from = cluster.primary_of(slot).unwrap();
    cluster.begin_move(slot, from, (from + 1) % 3).unwrap();
    storage.warm_up().await.unwrap();
    for round in 0..200 {
        let key = CacheKey::from(format!("{{way}}:{round}"));
        let values = ["first", "second", "third", "last"];
        let entry = |value| (key.clone(), NewEntry::new(value, minute()));
        let written = storage.set_many(values.map(entry).to_vec()).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        let read = fetch(&*storage, key.as_str()).await.unwrap();
        assert_eq!(read.as_deref(), Some("last"), "round {round}");
    }
}
