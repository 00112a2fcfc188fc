//! A hit in memory: our storage against a bare map and other caches, on one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{CacheKey, CacheStorage, Condition, NewEntry, Ttl};
use cache_memory::{MemoryCacheStorage, MemoryOptions};
use dashmap::DashMap;
use tokio::runtime::Runtime;

use crate::measure::{Effort, Result, Target, Verdict, median};

const ENTRIES: usize = 100_000;

/// Every cache has room for all entries.
const ROOM: usize = 2 * ENTRIES;

/// A session as the JSON of a web shop.
const VALUE_BYTES: usize = 275;

const TTL: Duration = Duration::from_secs(3600);

/// A cache, in the form that its users hold it.
enum Contender {
    Ours(Arc<dyn CacheStorage>, Vec<CacheKey>),
    Dashmap(DashMap<Arc<str>, (Bytes, Instant)>),
    QuickCache(quick_cache::sync::Cache<Arc<str>, (Bytes, Instant)>),
    MokaSync(moka::sync::Cache<Arc<str>, Bytes>),
    MokaFuture(moka::future::Cache<Arc<str>, Bytes>),
}

impl Contender {
    /// Reads the entries that `order` names and returns how many were hits.
    async fn read(&self, keys: &[Arc<str>], order: &[usize]) -> Result<usize> {
        let keys = || order.iter().map(|at| &*keys[*at]);
        Ok(match self {
            Self::Ours(storage, keys) => {
                // The trait object itself: the `Arc` is a storage too, and would add a box.
                let (storage, mut hits): (&dyn CacheStorage, _) = (&**storage, 0);
                for at in order {
                    hits += usize::from(black_box(storage.get(&keys[*at]).await?).is_some());
                }
                hits
            }
            Self::Dashmap(map) => hits(keys(), |key| fresh(map.get(key)?.value())),
            Self::QuickCache(cache) => hits(keys(), |key| fresh(&cache.get(key)?)),
            Self::MokaSync(cache) => hits(keys(), |key| cache.get(key)),
            Self::MokaFuture(cache) => {
                let mut hits = 0;
                for key in keys() {
                    hits += usize::from(black_box(cache.get(key).await).is_some());
                }
                hits
            }
        })
    }
}

fn hits<'a>(keys: impl Iterator<Item = &'a str>, get: impl Fn(&str) -> Option<Bytes>) -> usize {
    keys.filter(|key| black_box(get(key)).is_some()).count()
}

fn fresh(entry: &(Bytes, Instant)) -> Option<Bytes> {
    let (value, expires_at) = entry;
    (*expires_at > Instant::now()).then(|| value.clone())
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Verdict>> {
    let runtime = crate::redis::runtime(1)?;
    let keys: Vec<Arc<str>> = (0..ENTRIES)
        .map(|number| format!("session:{number:016x}").into())
        .collect();
    let caches = runtime.block_on(filled(&keys))?;
    let mut order: Vec<_> = (0..ENTRIES).collect();
    let mut times = vec![Vec::new(); caches.len()];
    for round in 0..=effort.rounds {
        fastrand::shuffle(&mut order);
        let mut turns: Vec<_> = (0..caches.len()).collect();
        turns.rotate_left(round % caches.len());
        for turn in turns {
            let time = passed(&runtime, &caches[turn].1, &keys, &order, effort.slice)?;
            // The first round warms up.
            if round > 0 {
                times[turn].push(time);
            }
        }
    }
    Ok(report(&caches, &times))
}

/// Nanoseconds a read, over whole passes in the given order for the length of a slice.
fn passed(
    runtime: &Runtime,
    cache: &Contender,
    keys: &[Arc<str>],
    order: &[usize],
    slice: Duration,
) -> Result<f64> {
    let (mut passes, began) = (0, Instant::now());
    while passes == 0 || began.elapsed() < slice {
        if runtime.block_on(cache.read(keys, order))? != ENTRIES {
            return Err("an entry that was written was not found".into());
        }
        passes += 1;
    }
    Ok(began.elapsed().as_secs_f64() * 1e9 / (passes * ENTRIES) as f64)
}

fn report(caches: &[(&str, Contender)], times: &[Vec<f64>]) -> Vec<Verdict> {
    let ratio_to = |at: usize, other: usize| {
        let pairs = times[at].iter().zip(&times[other]);
        median(pairs.map(|(own, other)| own / other))
    };
    println!(
        "\nA hit in memory: {ENTRIES} entries of {VALUE_BYTES} bytes, random order, one thread"
    );
    println!("{:<34}{:>10}{:>20}", "cache", "ns", "time to dashmap's");
    for (at, (name, _)) in caches.iter().enumerate() {
        let time = median(times[at].iter().copied());
        println!("{name:<34}{time:>10.0}{:>20.3}", ratio_to(at, 1));
    }
    let time = Verdict::new(
        "memory hit: time to bare dashmap's",
        ratio_to(0, 1),
        Target::AtMost(1.3),
    );
    let rate = Verdict::new(
        "memory hit: rate to moka's (sync)",
        ratio_to(3, 0),
        Target::AtLeast(1.5),
    );
    vec![time, rate]
}

async fn filled(keys: &[Arc<str>]) -> Result<Vec<(&'static str, Contender)>> {
    let value = |number: usize| Bytes::from(vec![number as u8; VALUE_BYTES]);
    let options = MemoryOptions::default()
        .with_max_entries(ROOM)
        .with_max_bytes(1 << 30);
    let ours: Arc<dyn CacheStorage> = Arc::new(MemoryCacheStorage::with_options(options)?);
    let own_keys: Vec<_> = keys.iter().cloned().map(CacheKey::from).collect();
    let map = DashMap::new();
    let quick_cache = quick_cache::sync::Cache::new(ROOM);
    let moka_sync = moka::sync::Cache::builder()
        .max_capacity(ROOM as u64)
        .time_to_live(TTL)
        .build();
    let moka_future = moka::future::Cache::builder()
        .max_capacity(ROOM as u64)
        .time_to_live(TTL)
        .build();
    let ttl = Ttl::new(TTL)?;
    // A copy each: a caller asks with a key of its own, not with the one that a cache holds, which
    // would then be in the processor's cache already.
    let copy = |key: &Arc<str>| -> Arc<str> { Arc::from(&**key) };
    // One cache after the other, so that each finds its entries side by side in memory.
    for (number, key) in own_keys.iter().enumerate() {
        let entry = NewEntry::new(value(number), ttl);
        ours.set(key, entry, Condition::Always).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        map.insert(copy(key), (value(number), Instant::now() + TTL));
    }
    for (number, key) in keys.iter().enumerate() {
        quick_cache.insert(copy(key), (value(number), Instant::now() + TTL));
    }
    for (number, key) in keys.iter().enumerate() {
        moka_sync.insert(copy(key), value(number));
    }
    for (number, key) in keys.iter().enumerate() {
        moka_future.insert(copy(key), value(number)).await;
    }
    Ok(vec![
        (
            "ours, through dyn CacheStorage",
            Contender::Ours(ours, own_keys),
        ),
        ("dashmap, bare", Contender::Dashmap(map)),
        ("quick_cache", Contender::QuickCache(quick_cache)),
        ("moka (sync)", Contender::MokaSync(moka_sync)),
        ("moka (future)", Contender::MokaFuture(moka_future)),
    ])
}
