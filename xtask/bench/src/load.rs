//! `get_or_load`: hits, joins, and other caches' own ways of loading once.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_core::{CacheService, DecodedOptions, LoaderOutcome, hours};
use cache_memory::{MemoryCacheStorage, MemoryOptions};
use cache_tests::Trace;
use dashmap::DashMap;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::measure::{Effort, Result, Target, Verdict, median};
use crate::visitors::Session;

const ENTRIES: usize = 100_000;

/// How many wait for one load.
const WAITERS: usize = 10_000;

/// What other caches and ours may keep of the trace.
const CAPACITY: usize = 2000;

pub(crate) fn run(effort: Effort) -> Result<Vec<Verdict>> {
    let runtime = crate::redis::runtime(1)?;
    let mut verdicts = hits(&runtime, effort)?;
    verdicts.push(hot_key(&runtime, effort)?);
    trace(&runtime, effort)?;
    verdicts.push(joins(&runtime, effort)?);
    Ok(verdicts)
}

/// A way to the values, in the form that its users hold it.
enum Way {
    Dashmap(DashMap<Arc<str>, (Arc<Session>, Instant)>),
    DashmapJson(DashMap<Arc<str>, Bytes>),
    Get(CacheService),
    GetOrLoad(CacheService),
    MokaFuture(moka::future::Cache<String, Arc<Session>>),
    QuickCache(quick_cache::sync::Cache<String, Arc<Session>>),
}

const NOT_FOUND: &str = "an entry that was written was not found";

impl Way {
    /// Reads the entries that `order` names.
    async fn read(&self, keys: &[Arc<str>], order: &[usize]) -> Result {
        for at in order {
            let key = &*keys[*at];
            match self {
                Self::Dashmap(map) => {
                    let found = map.get(key).ok_or(NOT_FOUND)?;
                    let (session, expires_at) = found.value();
                    if *expires_at <= Instant::now() {
                        return Err(NOT_FOUND.into());
                    }
                    black_box(Arc::clone(session));
                }
                Self::DashmapJson(map) => {
                    let bytes = map.get(key).ok_or(NOT_FOUND)?.clone();
                    black_box(serde_json::from_slice::<Session>(&bytes)?);
                }
                Self::Get(cache) => {
                    black_box(cache.get::<Session>(key).await?.ok_or(NOT_FOUND)?);
                }
                Self::GetOrLoad(cache) => {
                    let loader = |_| async { Err::<Session, _>(NOT_FOUND) };
                    black_box(cache.get_or_load(key, loader).await?);
                }
                Self::MokaFuture(cache) => {
                    let init = async { Err::<Arc<Session>, _>(NOT_FOUND) };
                    let found = cache.try_get_with_by_ref(key, init).await;
                    black_box(found.map_err(|error| *error)?);
                }
                Self::QuickCache(cache) => {
                    let init = async { Err::<Arc<Session>, _>(NOT_FOUND) };
                    black_box(cache.get_or_insert_async(key, init).await?);
                }
            }
        }
        Ok(())
    }
}

fn hits(runtime: &Runtime, effort: Effort) -> Result<Vec<Verdict>> {
    let keys: Vec<Arc<str>> = (0..ENTRIES)
        .map(|number| format!("session:{number:016x}").into())
        .collect();
    let ways = runtime.block_on(filled(&keys))?;
    let mut order: Vec<_> = (0..ENTRIES).collect();
    fastrand::shuffle(&mut order);
    println!("\nA hit, {ENTRIES} sessions of 284 bytes as JSON, random order, one thread");
    let times = table(runtime, effort, &ways, &keys, &order)?;
    let ratio = |at: usize, other: usize| {
        let pairs = times[at].iter().zip(&times[other]);
        median(pairs.map(|(own, other)| own / other))
    };
    Ok(vec![
        Verdict::new(
            "decoded hit: time to bare dashmap's",
            ratio(4, 0),
            Target::AtMost(1.5),
        ),
        Verdict::new(
            "get_or_load hit: time to get's",
            ratio(3, 2),
            Target::AtMost(1.1),
        ),
    ])
}

/// Prints the time of each way to that of the first, and returns all times in nanoseconds.
fn table(
    runtime: &Runtime,
    effort: Effort,
    ways: &[(&str, Way)],
    keys: &[Arc<str>],
    order: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=effort.rounds {
        let mut turns: Vec<_> = (0..ways.len()).collect();
        turns.rotate_left(round % ways.len());
        for turn in turns {
            let (mut passes, began) = (0, Instant::now());
            while passes == 0 || began.elapsed() < effort.slice {
                runtime.block_on(ways[turn].1.read(keys, order))?;
                passes += 1;
            }
            // The first round warms up.
            if round > 0 {
                times[turn].push(nanoseconds(began.elapsed(), passes * order.len()));
            }
        }
    }
    println!("{:<34}{:>10}{:>16}", "way", "ns", "to the first");
    for ((name, _), own) in ways.iter().zip(&times) {
        let ratio = median(own.iter().zip(&times[0]).map(|(own, first)| own / first));
        let time = median(own.iter().copied());
        println!("{name:<34}{time:>10.0}{ratio:>16.3}");
    }
    Ok(times)
}

fn nanoseconds(span: Duration, operations: usize) -> f64 {
    span.as_secs_f64() * 1e9 / operations as f64
}

/// A service over memory with room for everything; decoded or not.
fn service(decoded: bool) -> Result<CacheService> {
    let options = MemoryOptions::default()
        .with_max_entries(2 * ENTRIES)
        .with_max_bytes(1 << 30);
    let storage = MemoryCacheStorage::with_options(options)?;
    let builder = CacheService::builder(storage).prefix("s").ttl(hours(1));
    let keep = DecodedOptions::new()
        .max_entries(2 * ENTRIES)
        .max_bytes(1 << 30)
        .ttl_cap(hours(1));
    let builder = if decoded {
        builder.decoded(keep)
    } else {
        builder
    };
    Ok(builder.build()?)
}

async fn filled(keys: &[Arc<str>]) -> Result<Vec<(&'static str, Way)>> {
    let copy = |key: &Arc<str>| -> Arc<str> { Arc::from(&**key) };
    let sessions = || {
        keys.iter()
            .enumerate()
            .map(|(at, key)| (key, Session::numbered(at)))
    };
    let (map, json) = (DashMap::new(), DashMap::new());
    for (key, session) in sessions() {
        let expires_at = Instant::now() + Duration::from_secs(3600);
        map.insert(copy(key), (Arc::new(session), expires_at));
    }
    for (key, session) in sessions() {
        json.insert(copy(key), Bytes::from(serde_json::to_vec(&session)?));
    }
    let (plain, decoded) = (service(false)?, service(true)?);
    for (key, session) in sessions() {
        plain.set(&**key, &session).await?;
    }
    for (key, session) in sessions() {
        decoded
            .get_or_load(&**key, |_| async { Ok::<_, &str>(session) })
            .await?;
    }
    Ok(vec![
        ("dashmap, bare", Way::Dashmap(map)),
        ("dashmap and JSON", Way::DashmapJson(json)),
        ("ours, get", Way::Get(plain.clone())),
        ("ours, get_or_load", Way::GetOrLoad(plain)),
        ("ours, get_or_load, decoded", Way::GetOrLoad(decoded)),
    ])
}

fn hot_key(runtime: &Runtime, effort: Effort) -> Result<Verdict> {
    let key: Arc<str> = "hot".into();
    let session = Arc::new(Session::numbered(7));
    let decoded = service(true)?;
    let moka = moka::future::Cache::new(1000);
    let quick_cache = quick_cache::sync::Cache::new(1000);
    runtime.block_on(async {
        let stored = Session::numbered(7);
        decoded
            .get_or_load(&*key, |_| async { Ok::<_, &str>(stored) })
            .await?;
        moka.insert(key.to_string(), Arc::clone(&session)).await;
        quick_cache.insert(key.to_string(), session);
        Result::<()>::Ok(())
    })?;
    let json = DashMap::new();
    json.insert(
        Arc::clone(&key),
        serde_json::to_vec(&Session::numbered(7))?.into(),
    );
    let ways = [
        ("ours, get_or_load, decoded", Way::GetOrLoad(decoded)),
        ("dashmap and JSON", Way::DashmapJson(json)),
        ("moka, try_get_with", Way::MokaFuture(moka)),
        (
            "quick_cache, get_or_insert_async",
            Way::QuickCache(quick_cache),
        ),
    ];
    println!("\nOne hot key, one thread");
    let times = table(runtime, effort, &ways, &[key], &[0; 10_000])?;
    let pairs = times[1].iter().zip(&times[0]);
    let ratio = median(pairs.map(|(json, decoded)| json / decoded));
    Ok(Verdict::new(
        "JSON of a hot key again: time to decoded hit's",
        ratio,
        Target::AtLeast(5.0),
    ))
}

/// The trace through each cache's own get-or-insert.
fn trace(runtime: &Runtime, effort: Effort) -> Result {
    let trace = Trace::web12();
    let objects = trace.objects();
    println!(
        "\nThe trace web12, {} accesses, room for {CAPACITY} values, a miss is loaded at once",
        objects.len()
    );
    println!("{:<34}{:>10}{:>12}", "way", "ns", "hit ratio");
    let rounds = effort.rounds.div_ceil(3);
    let line = |name: &str, replay: &dyn Fn() -> Result<usize>| -> Result {
        let (mut times, mut loads) = (Vec::new(), 0);
        for _ in 0..rounds {
            let began = Instant::now();
            loads = replay()?;
            times.push(nanoseconds(began.elapsed(), objects.len()));
        }
        let hit_ratio = 1.0 - loads as f64 / objects.len() as f64;
        println!(
            "{name:<34}{:>10.0}{hit_ratio:>12.4}",
            median(times.into_iter())
        );
        Ok(())
    };
    line("ours, memory", &|| {
        let options = MemoryOptions::default().with_max_entries(CAPACITY);
        let storage = MemoryCacheStorage::with_options(options)?;
        let cache = CacheService::builder(storage).ttl(hours(24)).build()?;
        runtime.block_on(replayed(&cache, objects))
    })?;
    line("ours, decoded over memory", &|| {
        let options = MemoryOptions::default().with_max_entries(CAPACITY);
        let storage = MemoryCacheStorage::with_options(options)?;
        let cache = CacheService::builder(storage)
            .ttl(hours(24))
            .decoded(
                DecodedOptions::new()
                    .max_entries(CAPACITY)
                    .ttl_cap(hours(24)),
            )
            .build()?;
        runtime.block_on(replayed(&cache, objects))
    })?;
    line("moka, get_with", &|| {
        let cache = moka::future::Cache::new(CAPACITY as u64);
        let loads = AtomicUsize::new(0);
        runtime.block_on(async {
            for object in objects {
                let load = async {
                    loads.fetch_add(1, Ordering::Relaxed);
                    Arc::new(*object)
                };
                black_box(cache.get_with(*object, load).await);
            }
        });
        Ok(loads.into_inner())
    })?;
    line("quick_cache, get_or_insert_async", &|| {
        let cache = quick_cache::sync::Cache::new(CAPACITY);
        let loads = AtomicUsize::new(0);
        runtime.block_on(async {
            for object in objects {
                let load = async {
                    loads.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::convert::Infallible>(Arc::new(*object))
                };
                black_box(cache.get_or_insert_async(object, load).await)?;
            }
            Result::<()>::Ok(())
        })?;
        Ok(loads.into_inner())
    })
}

async fn replayed(cache: &CacheService, objects: &[u32]) -> Result<usize> {
    for &object in objects {
        let loader = move |_| async move { LoaderOutcome::value(object) };
        black_box(cache.get_or_load(object, loader).await?);
    }
    Ok(usize::try_from(cache.get_stats().loads)?)
}

/// What it costs to wait for somebody else's load.
fn joins(runtime: &Runtime, effort: Effort) -> Result<Verdict> {
    let mut times = Vec::new();
    for round in 0..effort.rounds {
        let cache = service(false)?;
        let key = format!("k{round}");
        let go = Arc::new(Notify::new());
        let time = runtime.block_on(async {
            let (goes, first, own_key) = (Arc::clone(&go), cache.clone(), key.clone());
            let leader = tokio::spawn(async move {
                let loader = move |_| async move {
                    goes.notified().await;
                    Ok::<_, &str>(7u64)
                };
                first.get_or_load(own_key, loader).await
            });
            tokio::task::yield_now().await;
            let began = Instant::now();
            let waiters = (0..WAITERS)
                .map(|_| cache.get_or_load(key.as_str(), |_| async { Err::<u64, _>(NOT_FOUND) }));
            let release = async {
                go.notify_one();
            };
            let (values, ()) = tokio::join!(join_all(waiters), release);
            let time = nanoseconds(began.elapsed(), WAITERS) / 1000.0;
            for value in values {
                value?;
            }
            leader.await??;
            Result::<f64>::Ok(time)
        })?;
        times.push(time);
    }
    let time = median(times.into_iter());
    println!("\n{WAITERS} callers join a load: {time:.3} us each, from the call to the value");
    Ok(Verdict::new(
        "joining a load, us a caller",
        time,
        Target::AtMost(2.0),
    ))
}
