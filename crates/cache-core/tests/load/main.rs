//! `get_or_load` over memory, with time moved by hand; timeouts run on tokio's paused clock.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cache_core::{
    CacheError, CacheService, CacheServiceBuilder, LoadOptions, LoadOptionsBuilder, LoadStatus,
    Loaded, LoaderOutcome, ManualClock, Result, mins,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::ChaosStorage;
use tokio::sync::Notify;

mod api;
mod bad_input;
mod basics;
mod batch;
mod batches;
mod decoded;
mod eager;
mod failures;
mod leaving;
mod model;
mod nested;
mod outcomes;
mod overtaken;
mod spent;
mod stale;
mod stampede;
mod threads;
mod timeouts;
mod writes;

/// A service over memory that can go wrong, with a clock that is moved by hand.
struct Fixture {
    clock: ManualClock,
    chaos: ChaosStorage,
    cache: CacheService,
    /// Counts the loads of [`Fixture::load`].
    source: Source,
}

impl Fixture {
    /// Values are fresh for a minute and stale for five more.
    fn new() -> Self {
        Self::with(|builder| builder.stale_for(mins(5)))
    }

    /// Values are fresh for a minute; the rest is up to `decide`.
    fn with(decide: impl FnOnce(CacheServiceBuilder) -> CacheServiceBuilder) -> Self {
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
            source: Source::default(),
        }
    }

    /// Puts a value under `k` that is past its time to live, and stale for four minutes more.
    async fn put_stale(&self, value: u64) {
        let put = self.cache.set("k", &value).await;
        put.expect("memory takes every number");
        self.clock.advance(mins(2));
    }

    /// One call for `k`, whose loader comes back at once.
    async fn load(
        &self,
        options: &LoadOptions,
        outcome: LoaderOutcome<u64>,
    ) -> Result<Loaded<u64>> {
        let source = self.source.clone();
        let loader = |_| async move {
            source.asked();
            outcome
        };
        self.cache.load("k", options, loader).await
    }

    /// As [`load`](Self::load), for a call that gets something.
    async fn got(
        &self,
        options: &LoadOptions,
        outcome: LoaderOutcome<u64>,
    ) -> (Option<u64>, LoadStatus) {
        let loaded = self.load(options, outcome).await;
        short(&loaded.expect("this call gets something"))
    }

    async fn get(&self) -> Option<u64> {
        self.cache.get("k").await.expect("memory answers")
    }
}

/// What a call got and where from.
fn short(loaded: &Loaded<u64>) -> (Option<u64>, LoadStatus) {
    (loaded.value.as_deref().copied(), loaded.status)
}

/// Sound options.
fn options(decide: impl FnOnce(LoadOptionsBuilder) -> LoadOptionsBuilder) -> LoadOptions {
    let options = decide(LoadOptions::builder()).build();
    options.expect("the options are sound")
}

/// A loader that has begun, and ends when it is told to.
#[derive(Clone, Default)]
struct Gate(Arc<(Notify, Notify)>);

impl Gate {
    /// Called by the loader.
    async fn pass(&self) {
        self.0.0.notify_one();
        self.0.1.notified().await;
    }

    /// Resolves once the loader has begun.
    async fn begun(&self) {
        self.0.0.notified().await;
    }

    /// Lets the loader end.
    fn open(&self) {
        self.0.1.notify_one();
    }
}

/// Tells when it is dropped.
#[derive(Clone, Default)]
struct Dropped(Arc<Notify>);

impl Dropped {
    /// What the loader holds on to.
    fn guard(&self) -> impl Drop + Send + use<> {
        struct Guard(Arc<Notify>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        Guard(Arc::clone(&self.0))
    }

    async fn wait(&self) {
        self.0.notified().await;
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

/// Resolves when the clock of timeouts, which the test holds, has come so far: what a loader takes.
async fn takes(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Moves the clock of timeouts, which the test holds, and lets go on whoever waited for it.
async fn pass(span: Duration) {
    // Whoever is about to wait for it does so first.
    settle().await;
    tokio::time::advance(span).await;
    settle().await;
}

/// Resolves when so many calls wait for the load of another.
async fn all_joined(cache: &CacheService, calls: u64) {
    while cache.get_stats().joined < calls {
        tokio::task::yield_now().await;
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
