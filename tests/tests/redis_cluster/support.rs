//! What the cluster tests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cache_core::{CacheKey, Topology, secs};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::{RedisCluster, RedisServer};

/// Three primaries, each with a replica.
pub(crate) fn cluster() -> RedisCluster {
    RedisCluster::start().expect("the cluster starts")
}

/// Three primaries alone.
pub(crate) fn bare_cluster() -> RedisCluster {
    let builder = RedisCluster::builder().replicas(0);
    builder.start().expect("the cluster starts")
}

/// The entry to a cluster, with the deadlines that applications have.
pub(crate) fn options(cluster: &RedisCluster) -> RedisOptions {
    RedisOptions::from_url(&cluster.url())
        .expect("the URL is one")
        .with_topology(Topology::Cluster)
}

pub(crate) fn storage(options: RedisOptions) -> Arc<RedisCacheStorage> {
    Arc::new(RedisCacheStorage::new(options).expect("the options are sound"))
}

/// For tests of what happens, not of how fast, on a machine that may be busy.
pub(crate) fn patient(cluster: &RedisCluster) -> Arc<RedisCacheStorage> {
    storage(patient_options(cluster))
}

pub(crate) fn patient_options(cluster: &RedisCluster) -> RedisOptions {
    options(cluster)
        .with_connect_timeout(secs(2))
        .with_attempt_timeout(secs(2))
        .with_timeout(secs(5))
        .with_bulk_timeout(secs(10))
}

/// Keys that a server of the cluster puts into this slot.
pub(crate) fn slot(server: &RedisServer, key: &str) -> u16 {
    let slot = server.command(&["CLUSTER", "KEYSLOT", key]);
    let slot = slot.expect("the server answers");
    slot.parse().expect("a slot is a number")
}

/// `count` keys, spread over all slots.
pub(crate) fn keys(name: &str, count: usize) -> Vec<CacheKey> {
    (0..count)
        .map(|number| CacheKey::from(format!("{name}:{number}")))
        .collect()
}

/// Tells tasks when to end.
#[derive(Clone, Default)]
pub(crate) struct End(Arc<AtomicBool>);

impl End {
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often a server was asked for the map of slots.
pub(crate) fn map_readings(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let stats = stats.expect("the server answers");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls="));
    let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

/// How many connections of clients a server has, besides the one that asks.
pub(crate) fn clients(server: &RedisServer) -> usize {
    let list = server.command(&["CLIENT", "LIST", "TYPE", "normal"]);
    let list = list.expect("the server answers");
    let is_asking = |line: &&str| line.contains("cmd=client|list");
    list.lines()
        .filter(|line| !line.is_empty() && !is_asking(line))
        .count()
}

/// How many connections a server has accepted so far, that which asks included.
pub(crate) fn connections(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "stats"]);
    let stats = stats.expect("the server answers");
    let mut lines = stats.lines();
    let count = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.expect("the server counts its connections")
}
