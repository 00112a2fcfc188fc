//! Sessions: prolonged by use, ended by a cap, and gone after a log-out.
//!
//! `CACHE_STORAGE_TYPE=redis,dynamodb` keeps them in DynamoDB, with copies in Redis; without
//! variables the example runs in memory. `docs/sessions.md` says why each line is as it is.
//!
//! `cargo run --package cache-factory --example sessions`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use cache_factory::cache_core::{
    CacheError, CacheService, Expiry, OnTrouble, SetOptions, Timestamp, secs,
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

/// Who it is, and when the session began, in milliseconds since the Unix epoch.
type Session = (String, u64);

/// The sessions of a service.
pub(crate) struct Sessions {
    cache: CacheService,
    /// How long a session lasts without use.
    idle: Duration,
    /// How long it lasts at most, however much it is used.
    longest: Duration,
}

impl Sessions {
    pub(crate) fn new(
        caches: &Caches,
        idle: Duration,
        longest: Duration,
    ) -> Result<Self, CacheError> {
        let cache = caches.service("session");
        // No stale budget, whatever happens: a session that has ended has ended. And trouble is an
        // error, since "not signed in" would be a wrong answer to it.
        let cache = cache.ttl(idle).on_trouble(OnTrouble::Error).build()?;
        Ok(Self {
            cache,
            idle,
            longest,
        })
    }

    pub(crate) async fn log_in(&self, id: &str, user: &str) -> Result<(), CacheError> {
        let session = (user, self.now().as_millis());
        let options = SetOptions::new().ttl(self.idle.min(self.longest));
        self.cache.set_with(id, &session, options).await.map(drop)
    }

    /// Whose session this is, if it is one. Being asked prolongs it.
    pub(crate) async fn validate(&self, id: &str) -> Result<Option<String>, CacheError> {
        let found = self.cache.lookup::<Session>(id).await?;
        let Some((user, began)) = found.value else {
            return Ok(None);
        };
        // Prolonging is a write, and drops the copies in faster tiers. Once half of the time has
        // passed is often enough.
        let left = match found.expires_at {
            Some(Expiry::At(end)) => end.since(self.now()),
            _ => Duration::ZERO,
        };
        let is_alive = left > self.idle / 2 || self.touch(id, began).await?;
        Ok(is_alive.then_some(user))
    }

    /// Prolongs a session, never beyond its cap; false where there is none any more. This revives
    /// nothing: `expire` moves the end of what is there, and a log-out meanwhile has left nothing.
    pub(crate) async fn touch(&self, id: &str, began: u64) -> Result<bool, CacheError> {
        let age = self.now().since(Timestamp::from_millis(began));
        let left = self.longest.saturating_sub(age);
        if left.is_zero() {
            self.cache.delete(id).await?;
            return Ok(false);
        }
        self.cache.expire(id, self.idle.min(left)).await
    }

    /// True where there was a session.
    pub(crate) async fn log_out(&self, id: &str) -> Result<bool, CacheError> {
        self.cache.delete(id).await
    }

    /// By the clock of the storage, which tests move.
    pub(crate) fn now(&self) -> Timestamp {
        self.cache.storage().info().clock.wall()
    }
}

/// One session from beginning to end; `wait` lets time pass.
pub(crate) async fn run<W: Future<Output = ()> + Send>(
    caches: &Caches,
    wait: impl Fn(Duration) -> W + Send,
) -> Result<(), CacheError> {
    let sessions = Sessions::new(caches, secs(2), secs(5))?;
    sessions.log_in("42", "alice").await?;
    for _ in 0..3 {
        wait(Duration::from_millis(1400)).await;
        // 1.4 s and 2.8 s and 4.2 s after the beginning: alive only because it is used.
        assert_eq!(sessions.validate("42").await?.as_deref(), Some("alice"));
        println!("alice is here, and her session goes on");
    }
    wait(Duration::from_millis(1000)).await;
    assert_eq!(sessions.validate("42").await?, None);
    println!("5 s have passed: used or not, the session is over");

    sessions.log_in("43", "bob").await?;
    let began = sessions.now().as_millis();
    assert!(sessions.log_out("43").await?);
    assert!(!sessions.touch("43", began).await?);
    assert_eq!(sessions.validate("43").await?, None);
    println!("bob is out; a request of his that was still under way has revived nothing");
    Ok(())
}
