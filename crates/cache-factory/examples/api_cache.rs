//! Answers of a slow API: served at once while a new one is fetched, asked for by their tag, and
//! still served while the API is down.
//!
//! Any storage will do (`CACHE_STORAGE_TYPE`); without variables the example runs in memory.
//!
//! `cargo run --package cache-factory --example api_cache`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache_factory::cache_core::{
    CacheError, CacheService, LoadContext, LoadOptions, LoadStatus, Loaded, LoaderOutcome, millis,
    mins, secs,
};
use cache_factory::cache_memory::MemoryCacheStorage;
use cache_factory::{CacheStorageFactory, Caches};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), CacheError> {
    let caches = match std::env::var_os("CACHE_STORAGE_TYPE") {
        Some(_) => CacheStorageFactory::from_env()?,
        None => Caches::over(MemoryCacheStorage::new()),
    };
    run(&caches, tokio::time::sleep).await
}

/// The tag of an answer and its text.
type Answer = (u64, String);

/// Stands for an API that knows tags, as HTTP does with `ETag` and `If-None-Match`.
#[derive(Default)]
struct Api {
    version: AtomicU64,
    is_down: AtomicBool,
    requests: AtomicU64,
}

impl Api {
    /// The answer if it is another than that with `known`, and none if it is not.
    async fn fetch(&self, known: Option<u64>) -> Result<Option<Answer>, std::io::Error> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.is_down.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("503 Service Unavailable"));
        }
        let version = self.version.load(Ordering::Relaxed);
        Ok((known != Some(version)).then(|| (version, format!("prices, version {version}"))))
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What the cache asks the API.
async fn load(api: Arc<Api>, context: LoadContext<Answer>) -> LoaderOutcome<Answer> {
    let known = context.stored.as_deref().map(|(tag, _)| *tag);
    match api.fetch(known).await {
        Ok(Some(answer)) => LoaderOutcome::value(answer),
        // What is stored gets a whole new time to live.
        Ok(None) => LoaderOutcome::NotModified,
        Err(error) => LoaderOutcome::failed(error),
    }
}

/// Fresh for two seconds, and fetched anew in the background after one; served for ten minutes
/// more where there is nothing better. An API that has failed is left alone for a second.
fn options() -> Result<LoadOptions, CacheError> {
    LoadOptions::builder()
        .ttl(secs(2))
        .eager_refresh(0.5)
        .stale_for(mins(10))
        .stale_while_revalidate(true)
        .throttle(secs(1))
        .hard_timeout(secs(1))
        .build()
}

/// The life of one answer; `wait` lets time pass.
pub(crate) async fn run<W: Future<Output = ()> + Send>(
    caches: &Caches,
    wait: impl Fn(Duration) -> W + Send,
) -> Result<(), CacheError> {
    let api = Arc::new(Api::default());
    let failures = Arc::new(AtomicU64::new(0));
    let failed = Arc::clone(&failures);
    let cache = caches
        .service("api")
        .load_options(options()?)
        .on_load_error(move |failure| {
            failed.fetch_add(1, Ordering::Relaxed);
            println!("{} (nobody waited: {})", failure.error, failure.background);
        })
        .build()?;

    assert_answer(&prices(&cache, &api).await?, LoadStatus::Loaded, 0);
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Fresh, 0);
    assert_eq!(api.requests(), 1);

    wait(millis(1200)).await;
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Fresh, 0);
    wait(millis(1200)).await;
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Fresh, 0);
    println!("2.4 s later nobody has waited: the API said twice that nothing has changed");

    wait(secs(3)).await;
    api.version.store(1, Ordering::Relaxed);
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Stale, 0);
    wait(millis(100)).await;
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Fresh, 1);

    api.is_down.store(true, Ordering::Relaxed);
    wait(secs(3)).await;
    let asked = api.requests();
    for _ in 0..5 {
        assert_answer(&prices(&cache, &api).await?, LoadStatus::Stale, 1);
        wait(millis(100)).await;
    }
    assert_eq!(api.requests() - asked, 1);
    assert_eq!(failures.load(Ordering::Relaxed), 1);
    println!("the API is down: asked once, and everybody has the old prices");

    api.is_down.store(false, Ordering::Relaxed);
    api.version.store(2, Ordering::Relaxed);
    wait(secs(1)).await;
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Stale, 1);
    wait(millis(100)).await;
    assert_answer(&prices(&cache, &api).await?, LoadStatus::Fresh, 2);
    Ok(())
}

async fn prices(cache: &CacheService, api: &Arc<Api>) -> Result<Loaded<Answer>, CacheError> {
    let api = Arc::clone(api);
    let loader = |context| load(api, context);
    cache.load("prices", cache.load_options(), loader).await
}

fn assert_answer(loaded: &Loaded<Answer>, status: LoadStatus, version: u64) {
    let (tag, text) = loaded.value.as_deref().expect("the API has prices");
    println!("{:?}: {text}", loaded.status);
    assert_eq!((loaded.status, *tag), (status, version));
}
