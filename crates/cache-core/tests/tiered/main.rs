//! Tiers over storages that fail, hang, lose their replies, and come back.

mod access;
mod cases;
mod counters;
mod model;
mod options;
mod races;
mod reads;
mod writes;

use std::sync::Arc;

use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, Entry, ErrorKind, ManualClock, NewEntry, Result,
    TierOptions, TieredBuilder, TieredStorage, Ttl, hours, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};

/// Two tiers, `fast` and `slow`.
struct Pair {
    stack: Arc<TieredStorage>,
    fast: ChaosStorage,
    slow: ChaosStorage,
    clock: ManualClock,
}

fn pair() -> Pair {
    pair_with(TierOptions::default(), |builder| builder)
}

/// Two tiers, of which the fast one keeps entries for at most ten seconds.
fn capped_pair() -> Pair {
    pair_with(TierOptions::default().with_ttl_cap(secs(10)), |builder| {
        builder
    })
}

fn pair_with(fast_options: TierOptions, options: fn(TieredBuilder) -> TieredBuilder) -> Pair {
    let clock = ManualClock::new();
    let (fast, slow) = (tier(&clock), tier(&clock));
    let builder = TieredStorage::builder()
        .tier_with(fast.clone(), fast_options.with_name("fast"))
        .tier_with(slow.clone(), named("slow"));
    Pair {
        stack: Arc::new(options(builder).build().expect("the options are sound")),
        fast,
        slow,
        clock,
    }
}

fn tier(clock: &ManualClock) -> ChaosStorage {
    ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()))
}

fn named(name: &'static str) -> TierOptions {
    TierOptions::default().with_name(name)
}

fn refused() -> Plan {
    Plan::fail(error(ErrorKind::Connection))
}

/// The call is carried out and its answer lost.
fn lost() -> Plan {
    Plan::fail_after(error(ErrorKind::Timeout).with_may_have_happened(true))
}

fn error(kind: ErrorKind) -> CacheError {
    CacheError::new(kind, "on purpose")
}

fn key(name: &str) -> CacheKey {
    CacheKey::from(name)
}

fn ttl(span: std::time::Duration) -> Ttl {
    Ttl::new(span).expect("the span is a time to live")
}

fn entry(value: impl Into<String>) -> NewEntry {
    NewEntry::new(value.into(), ttl(hours(1)))
}

async fn set(storage: &dyn CacheStorage, name: &str, entry: NewEntry) -> Result<bool> {
    storage.set(&key(name), entry, Condition::Always).await
}

/// The value and the tier that had it.
async fn get(storage: &dyn CacheStorage, name: &str) -> Option<(String, &'static str)> {
    let found = storage.get(&key(name)).await.expect("a tier answers");
    found.map(|entry| (text(&entry), entry.tier.unwrap_or("none")))
}

/// The value that a single tier has.
async fn held(tier: &ChaosStorage, name: &str) -> Option<String> {
    let found = tier.get(&key(name)).await.expect("the tier answers");
    found.map(|entry| text(&entry))
}

fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.value).into_owned()
}

fn answer(value: &str, tier: &'static str) -> Option<(String, &'static str)> {
    Some((value.to_owned(), tier))
}
