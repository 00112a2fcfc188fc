//! The contract suite over every storage that needs no server.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use cache_breaker::{BreakerOptions, BreakerStorage};
use cache_core::{
    CacheStorage, FallbackStorage, ManualClock, PrefixStorage, TierOptions, TieredStorage,
};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, MeteredStorage, Metrics};
use cache_testkit::chaos::ChaosStorage;
use cache_testkit::contract::{self, Harness, Subject};

/// A stack around a storage in memory.
struct InMemory {
    name: &'static str,
    stack: fn(MemoryCacheStorage) -> Arc<dyn CacheStorage>,
}

#[async_trait]
impl Harness for InMemory {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn subject(&self) -> Subject {
        let clock = ManualClock::new();
        let memory = MemoryCacheStorage::with_clock(clock.clone());
        Subject::on_clock((self.stack)(memory), clock)
    }
}

fn main() -> ExitCode {
    let harness = |name, stack| -> Arc<dyn Harness> { Arc::new(InMemory { name, stack }) };
    contract::main(vec![
        harness("memory", |memory| Arc::new(memory)),
        harness("shared_memory", |memory| {
            let shared: Arc<dyn CacheStorage> = Arc::new(memory);
            Arc::new(shared)
        }),
        harness("prefix", |memory| Arc::new(below("app", memory))),
        harness("prefix_in_prefix", |memory| {
            Arc::new(below("a*:ü", below("{b}", memory)))
        }),
        harness("metered", |memory| {
            Arc::new(MeteredStorage::new(memory, Metrics::global()))
        }),
        harness("chaos", |memory| Arc::new(ChaosStorage::new(memory))),
        harness("breaker", |memory| Arc::new(behind_breakers(memory))),
        harness("fallback", |memory| {
            Arc::new(FallbackStorage::new(memory, MemoryCacheStorage::new()))
        }),
        harness("tiered", |memory| {
            Arc::new(over(empty_like(&memory), memory))
        }),
        harness("tracked", |memory| {
            Arc::clone(CacheMonitor::over(memory).storage())
        }),
        harness("prefix_in_breaker", |memory| {
            Arc::new(behind_breakers(below("app", memory)))
        }),
    ])
}

fn below(prefix: &str, storage: impl CacheStorage) -> PrefixStorage {
    PrefixStorage::new(prefix, storage).expect("the prefix is a key")
}

/// Another storage in memory, by the clock of this one.
fn empty_like(memory: &MemoryCacheStorage) -> MemoryCacheStorage {
    MemoryCacheStorage::with_clock(Arc::clone(&memory.info().clock))
}

fn over(fast: impl CacheStorage, slow: impl CacheStorage) -> TieredStorage {
    let fast_options = TierOptions::default().with_name("fast");
    let tiers = TieredStorage::builder().tier_with(fast, fast_options);
    tiers.tier(slow).build().expect("the names differ")
}

fn behind_breakers(storage: impl CacheStorage) -> BreakerStorage {
    BreakerStorage::new(storage, BreakerOptions::default()).expect("the defaults make sense")
}
