//! A configuration that many requests read: parsed once, shared by all, renewed by name, and with
//! a default for the day on which its source is down.
//!
//! Any storage will do (`CACHE_STORAGE_TYPE`); without variables the example runs in memory.
//!
//! `cargo run --package cache-factory --features decoded --example parsed_config`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_factory::cache_core::{
    CacheError, CacheService, DecodedOptions, LoadOptions, LoadStatus, Loaded, mins, secs,
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

/// Limits by their names.
type Config = BTreeMap<String, u64>;

/// Stands for a bucket or a parameter store; down where there is no text.
#[derive(Default)]
struct Source {
    text: Mutex<Option<&'static str>>,
    parsed: AtomicU64,
}

impl Source {
    fn becomes(&self, text: Option<&'static str>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    async fn read(&self) -> Result<Config, io::Error> {
        let text = *self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text.ok_or_else(|| io::Error::other("the source is down"))?;
        self.parsed.fetch_add(1, Ordering::Relaxed);
        let line = |line: &str| {
            let (name, limit) = line.split_once('=')?;
            Some((name.to_owned(), limit.parse().ok()?))
        };
        let lines: Option<Config> = text.split_whitespace().map(line).collect();
        lines.ok_or_else(|| io::Error::other("a line is not `name=number`"))
    }
}

/// A service's configuration.
struct Configuration {
    cache: CacheService,
    source: Arc<Source>,
    /// For everybody: the defaults where there is nothing else.
    usual: LoadOptions,
    /// For those who know that something has changed.
    anew: LoadOptions,
}

impl Configuration {
    fn new(caches: &Caches) -> Result<Self, CacheError> {
        let usual = LoadOptions::builder()
            .stale_for(mins(60))
            .throttle(secs(1))
            .or_default(Config::from([("requests".to_owned(), 10)]))
            .build()?;
        Ok(Self {
            cache: caches
                .service("config")
                .ttl(mins(5))
                .decoded(DecodedOptions::new().ttl_cap(secs(30)))
                .build()?,
            source: Arc::default(),
            anew: usual.to_builder().refresh().build()?,
            usual,
        })
    }

    async fn load(&self, options: &LoadOptions) -> Result<Loaded<Config>, CacheError> {
        let source = Arc::clone(&self.source);
        let loader = move |_| async move { source.read().await };
        let loaded = self.cache.load("limits", options, loader).await?;
        println!("{:?}: {:?}", loaded.status, loaded.value);
        Ok(loaded)
    }
}

/// A source that comes up, changes and goes down again; `wait` lets time pass.
pub(crate) async fn run<W: Future<Output = ()> + Send>(
    caches: &Caches,
    wait: impl Fn(Duration) -> W + Send,
) -> Result<(), CacheError> {
    let config = Configuration::new(caches)?;

    // Nothing was ever read: the defaults, which are not stored, and no second try for a second.
    let loaded = config.load(&config.usual).await?;
    assert_eq!(
        (loaded.status, requests(&loaded)),
        (LoadStatus::Default, 10)
    );
    wait(secs(2)).await;

    config.source.becomes(Some("requests=100"));
    let loaded = config.load(&config.usual).await?;
    assert_eq!(
        (loaded.status, requests(&loaded)),
        (LoadStatus::Loaded, 100)
    );

    // Everybody has the same value, without a copy and without parsing anything.
    let first = config.load(&config.usual).await?.value;
    let again = config.load(&config.usual).await?.value;
    let is_shared = first
        .zip(again)
        .map(|(first, again)| Arc::ptr_eq(&first, &again));
    assert_eq!(is_shared, Some(true));
    assert_eq!(config.source.parsed.load(Ordering::Relaxed), 1);

    config.source.becomes(Some("requests=200"));
    assert_eq!(requests(&config.load(&config.usual).await?), 100);
    assert_eq!(requests(&config.load(&config.anew).await?), 200);
    assert_eq!(requests(&config.load(&config.usual).await?), 200);

    // A refresh that fails says so, and leaves everything as it was.
    config.source.becomes(None);
    let loaded = config.load(&config.anew).await?;
    assert_eq!((loaded.status, requests(&loaded)), (LoadStatus::Fresh, 200));
    assert!(loaded.trouble.is_some());
    assert_eq!(requests(&config.load(&config.usual).await?), 200);
    Ok(())
}

fn requests(loaded: &Loaded<Config>) -> u64 {
    let limits = loaded.value.as_deref();
    let limit = limits.and_then(|limits| limits.get("requests"));
    limit.copied().unwrap_or_default()
}
