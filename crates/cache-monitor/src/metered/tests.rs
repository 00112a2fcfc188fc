use cache_core::{CacheError, ErrorKind, mins};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};

use super::*;
use crate::recorded::Recorded;

fn metered(inner: impl CacheStorage) -> (MeteredStorage, Recorded) {
    let (metrics, recorded) = Recorded::new();
    (MeteredStorage::new(inner, metrics), recorded)
}

fn entry() -> NewEntry {
    NewEntry::new("1", minute())
}

fn minute() -> Ttl {
    Ttl::new(mins(1)).expect("a minute is a time to live")
}

/// The outcomes since the last call, as `op outcome count`.
fn outcomes(recorded: &Recorded) -> Vec<String> {
    let lines = recorded.lines();
    let outcome = |line: &String| {
        let rest = line.strip_prefix("cache_ops_total{backend=memory,op=")?;
        Some(rest.replace(",outcome=", " ").replace('}', ""))
    };
    lines.iter().filter_map(outcome).collect()
}

#[tokio::test]
async fn every_method_is_counted_by_its_outcome_and_timed() {
    let (storage, recorded) = metered(MemoryCacheStorage::new());
    let (a, b) = (CacheKey::from("a"), CacheKey::from("b"));
    storage.set(&a, entry(), Condition::Always).await.unwrap();
    storage.set(&a, entry(), Condition::IfAbsent).await.unwrap();
    for key in [&a, &b] {
        storage.get(key).await.unwrap();
        storage.lookup(key).await.unwrap();
        storage.has(key).await.unwrap();
        storage.get_ttl(key).await.unwrap();
        storage.expire(key, minute()).await.unwrap();
        storage.compare_and_delete(key, b"2").await.unwrap();
    }
    storage.increment(&a, 1, minute()).await.unwrap();
    let keys = [a.clone(), b.clone(), b.clone()];
    storage.get_many(&keys).await;
    storage.lookup_many(&keys).await;
    storage.set_many(vec![(b.clone(), entry())]).await;
    storage.delete(&a).await.unwrap();
    storage.delete(&a).await.unwrap();
    storage.expire_now(&b).await.unwrap();
    storage.delete_many(&keys).await;
    storage.clear(&ClearScope::everything()).await.unwrap();
    storage.ping().await.unwrap();
    storage.shutdown(Duration::ZERO).await.unwrap();
    let lines = recorded.lines();
    let timed = |line: &&String| line.starts_with("cache_op_seconds{backend=memory,op=");
    assert_eq!(lines.iter().filter(timed).count(), 17, "{lines:?}");
    assert!(lines.contains(&"cache_op_seconds{backend=memory,op=get_many} 1".to_owned()));
    let mut counted: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("cache_ops_total{backend=memory,op="))
        .map(|line| line.replace(",outcome=", " ").replace('}', ""))
        .collect();
    counted.sort();
    assert_eq!(
        counted,
        [
            "clear ok 1",
            "compare_and_delete not_met 2",
            "delete miss 1",
            "delete ok 1",
            "delete_many ok 3",
            "expire miss 1",
            "expire ok 1",
            "expire_now ok 1",
            "get hit 1",
            "get miss 1",
            "get_many hit 1",
            "get_many miss 2",
            "get_ttl hit 1",
            "get_ttl miss 1",
            "has hit 1",
            "has miss 1",
            "increment ok 1",
            "lookup hit 1",
            "lookup miss 1",
            "lookup_many hit 1",
            "lookup_many miss 2",
            "ping ok 1",
            "set not_met 1",
            "set ok 1",
            "set_many ok 1",
            "shutdown ok 1",
        ]
    );
}

#[tokio::test]
async fn an_error_counts_by_its_code() {
    let chaos = Arc::new(ChaosStorage::new(MemoryCacheStorage::new()));
    let (storage, recorded) = metered(Arc::clone(&chaos));
    let loading = CacheError::new(ErrorKind::Connection, "no").with_code("loading");
    chaos.start_outage(Plan::fail(loading));
    let key = CacheKey::from("a");
    storage.get(&key).await.unwrap_err();
    storage.get(&key).await.unwrap_err();
    assert_eq!(outcomes(&recorded), ["get loading 2"]);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_counts_as_unknown() {
    let chaos = Arc::new(ChaosStorage::new(MemoryCacheStorage::new()));
    let (storage, recorded) = metered(Arc::clone(&chaos));
    let key = CacheKey::from("a");
    for kind in [
        ErrorKind::Timeout,
        ErrorKind::Connection,
        ErrorKind::Backend,
    ] {
        let lost = CacheError::new(kind, "no").with_may_have_happened(true);
        chaos.start_outage(Plan::fail_after(lost));
        let outcome = storage.set(&key, entry(), Condition::Always).await;
        outcome.unwrap_err();
        chaos.end_outage();
    }
    assert_eq!(outcomes(&recorded), ["set backend 1", "set unknown 2"]);
}

#[tokio::test]
async fn refused_keys_are_counted_apart_too() {
    let (storage, recorded) = metered(MemoryCacheStorage::new());
    let (bad, good) = (CacheKey::from(""), CacheKey::from("a"));
    storage.get(&bad).await.unwrap_err();
    storage.get_many(&[bad.clone(), good, bad]).await;
    assert_eq!(
        recorded.lines(),
        [
            "cache_invalid_key_total{} 3",
            "cache_op_seconds{backend=memory,op=get_many} 1",
            "cache_op_seconds{backend=memory,op=get} 1",
            "cache_ops_total{backend=memory,op=get,outcome=key} 1",
            "cache_ops_total{backend=memory,op=get_many,outcome=key} 2",
            "cache_ops_total{backend=memory,op=get_many,outcome=miss} 1",
        ]
    );
}

#[tokio::test]
async fn a_dropped_call_is_not_counted() {
    let chaos = Arc::new(ChaosStorage::new(MemoryCacheStorage::new()));
    let (storage, recorded) = metered(Arc::clone(&chaos));
    chaos.start_outage(Plan::hang());
    let key = CacheKey::from("a");
    let call = storage.get(&key);
    assert!(futures_util::FutureExt::now_or_never(call).is_none());
    assert!(recorded.lines().is_empty());
}
