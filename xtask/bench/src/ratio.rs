//! Hit ratios on the recorded trace: our bounded storage against other caches of the same size.

use bytes::Bytes;
use cache_core::{CacheKey, CacheStorage, Condition, NewEntry, Ttl};
use cache_memory::{MemoryCacheStorage, MemoryOptions};
use cache_tests::Trace;

use crate::measure::{Result, Target, Verdict};

const CAPACITIES: [usize; 4] = [500, 1000, 2000, 5000];

/// moka decides by a sketch with random seeds: the best of so many runs counts.
const MOKA_RUNS: usize = 5;

const VALUE: Bytes = Bytes::from_static(b"a page");

pub(crate) fn run() -> Result<Vec<Verdict>> {
    let trace = Trace::web12();
    let objects = trace.objects();
    println!(
        "\nHit ratio on web12, {} accesses; a miss is written",
        objects.len()
    );
    println!(
        "{:<10}{:>10}{:>10}{:>10}{:>14}",
        "entries", "ours", "moka", "quick", "ours/moka"
    );
    let mut verdicts = Vec::new();
    for capacity in CAPACITIES {
        let ours = ours(objects, capacity)?;
        let moka = (0..MOKA_RUNS)
            .map(|_| moka(objects, capacity))
            .fold(0.0, f64::max);
        let quick = quick_cache(objects, capacity);
        let ratio = ours / moka;
        println!("{capacity:<10}{ours:>10.4}{moka:>10.4}{quick:>10.4}{ratio:>14.3}");
        let what = format!("hit ratio at {capacity} entries, to moka's");
        verdicts.push(Verdict::new(what, ratio, Target::AtLeast(0.98)));
    }
    Ok(verdicts)
}

fn ours(objects: &[u32], capacity: usize) -> Result<f64> {
    let options = MemoryOptions::default()
        .with_max_entries(capacity)
        .with_max_bytes(1 << 30);
    let storage = MemoryCacheStorage::with_options(options)?;
    crate::redis::runtime(1)?.block_on(async {
        for object in objects {
            let key = CacheKey::from(*object);
            if storage.get(&key).await?.is_none() {
                let entry = NewEntry::new(VALUE, Ttl::FOREVER);
                storage.set(&key, entry, Condition::Always).await?;
            }
        }
        Result::<()>::Ok(())
    })?;
    let hits = storage.get_stats().hits;
    Ok(hits as f64 / objects.len() as f64)
}

fn moka(objects: &[u32], capacity: usize) -> f64 {
    let cache = moka::sync::Cache::new(capacity as u64);
    replayed(objects, |object| {
        let hit = cache.get(&object).is_some();
        if !hit {
            cache.insert(object, VALUE);
        }
        hit
    })
}

fn quick_cache(objects: &[u32], capacity: usize) -> f64 {
    let cache = quick_cache::sync::Cache::new(capacity);
    replayed(objects, |object| {
        let hit = cache.get(&object).is_some();
        if !hit {
            cache.insert(object, VALUE);
        }
        hit
    })
}

fn replayed(objects: &[u32], mut access: impl FnMut(u32) -> bool) -> f64 {
    let hits = objects.iter().filter(|object| access(**object)).count();
    hits as f64 / objects.len() as f64
}
