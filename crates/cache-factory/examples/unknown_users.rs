//! Users that do not exist: the directory is asked for each of them once, not on every request.
//!
//! Any storage will do (`CACHE_STORAGE_TYPE`); without variables the example runs in memory.
//!
//! `cargo run --package cache-factory --example unknown_users`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_factory::cache_core::{
    CacheError, CacheService, ErrorKind, LoadOptions, LoadStatus, LoaderOutcome, Ttl, mins, secs,
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

/// Stands for a slow directory of users, and counts how often it is asked.
#[derive(Default)]
struct Directory(AtomicU64);

impl Directory {
    async fn find(&self, name: &str) -> Result<LoaderOutcome<String>, CacheError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(match name {
            "alice" => LoaderOutcome::value("Alice Liddell".to_owned()),
            // No such user can exist, so it can be remembered for longer.
            _ if name.contains('@') => LoaderOutcome::AbsentFor(Ttl::new(mins(60))?),
            _ => LoaderOutcome::Absent,
        })
    }

    fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The users of a service.
struct Users {
    cache: CacheService,
    directory: Arc<Directory>,
}

impl Users {
    /// The full name; none where there is no such user.
    async fn find(&self, name: &'static str) -> Result<Option<Arc<String>>, CacheError> {
        let directory = Arc::clone(&self.directory);
        let loader = move |_| async move {
            let found = directory.find(name).await;
            found.unwrap_or_else(LoaderOutcome::failed)
        };
        let options = self.cache.load_options();
        // `load` takes "there is nothing" for an answer, `get_or_load` for an error.
        let loaded = self.cache.load(name, options, loader).await?;
        println!("{name}: {:?}", loaded.status);
        Ok(loaded.value)
    }
}

/// A few requests of people who exist and people who do not; `wait` lets time pass.
pub(crate) async fn run<W: Future<Output = ()> + Send>(
    caches: &Caches,
    wait: impl Fn(Duration) -> W + Send,
) -> Result<(), CacheError> {
    let options = LoadOptions::builder().absent_for(secs(2)).build()?;
    let users = Users {
        cache: caches
            .service("user")
            .ttl(mins(10))
            .load_options(options.clone())
            .build()?,
        directory: Arc::default(),
    };
    let (cache, directory) = (&users.cache, &users.directory);

    for _ in 0..3 {
        let alice = users.find("alice").await?;
        assert_eq!(alice.as_deref().map(String::as_str), Some("Alice Liddell"));
        assert_eq!(users.find("mallory").await?, None);
        assert_eq!(users.find("eve@").await?, None);
    }
    assert_eq!(directory.asked(), 3);

    // To everybody else, what is remembered is as if nothing were there.
    assert_eq!(cache.get::<String>("mallory").await?, None);
    assert!(!cache.has("mallory").await?);
    let nobody = cache.load::<String, _, _, _>("mallory", &options, |_| not_called());
    assert_eq!(nobody.await?.status, LoadStatus::Absent);
    let nobody = cache.get_or_load::<String, _, _, _>("mallory", |_| not_called());
    let error = nobody.await.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::Absent));

    wait(secs(3)).await;
    assert_eq!(users.find("mallory").await?, None);
    assert_eq!(users.find("eve@").await?, None);
    assert_eq!(directory.asked(), 4);
    println!("3 s later the directory was asked for mallory again, and not for eve@");

    // Whoever signs up is there at once: a write replaces what was remembered.
    cache.set("mallory", "Mallory Archer").await?;
    assert!(users.find("mallory").await?.is_some());
    assert_eq!(directory.asked(), 4);
    Ok(())
}

/// What is remembered is answered without a loader.
async fn not_called() -> LoaderOutcome<String> {
    LoaderOutcome::failed("the loader was called")
}
