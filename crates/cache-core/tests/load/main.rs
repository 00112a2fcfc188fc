//! `get_or_load` over memory, with time moved by hand; timeouts run on tokio's paused clock.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use cache_core::{CacheError, CacheService, LoaderOutcome, ManualClock, mins};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::ChaosStorage;

mod basics;
mod batches;
mod failures;
mod leaving;
mod model;
mod nested;
mod overtaken;
mod stale;
mod threads;

/// A service over memory that can go wrong, with a clock that is moved by hand.
struct Fixture {
    clock: ManualClock,
    chaos: ChaosStorage,
    cache: CacheService,
}

impl Fixture {
    /// Values are fresh for a minute and stale for five more.
    fn new() -> Self {
        Self::with(|builder| builder.stale_for(mins(5)))
    }

    /// Values are fresh for a minute; the rest is up to `decide`.
    fn with(
        decide: impl FnOnce(cache_core::CacheServiceBuilder) -> cache_core::CacheServiceBuilder,
    ) -> Self {
        let clock = ManualClock::new();
        let chaos = ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
        let builder = CacheService::builder(chaos.clone())
            .prefix("t")
            .ttl(mins(1));
        let cache = decide(builder).build().expect("the service is sound");
        Self {
            clock,
            chaos,
            cache,
        }
    }
}

/// Counts how often it is asked to load.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU64>);

impl Source {
    fn loads(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn asked(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// A value at once.
    fn value(&self, value: u64) -> Result<u64, CacheError> {
        self.asked();
        Ok(value)
    }

    /// A failure at once.
    fn down(&self) -> LoaderOutcome<u64> {
        self.asked();
        LoaderOutcome::failed("the source is down")
    }
}

/// Lets every task go on until nothing is left to do.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Lets a future go on as far as it gets at once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}
