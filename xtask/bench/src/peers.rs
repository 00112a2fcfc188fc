//! Other crates that cache on Redis, each used as its documentation shows.

use std::sync::Arc;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::Pool;
use cached::{AsyncRedisCache, ConcurrentCachedAsync as _};
use hitbox::{CacheKey, CacheValue};
use hitbox_backend::Backend as _;
use hitbox_redis::{ConnectionMode, RedisBackend};
use redis::AsyncCommands as _;
use tokio::runtime::Runtime;

use crate::measure::{Contestant, Effort, Result, Side, Verdict, race};
use crate::redis::runtime;
use crate::sides::{Bare, Ours, decoded, found};
use crate::visitors::{Job, Session, Visitors};

const CALLERS: [usize; 2] = [1, 64];

/// `cached`: a multiplexed connection without a guard, values as MessagePack.
#[derive(Clone)]
struct Cached {
    cache: Arc<AsyncRedisCache<String, Session>>,
    visitors: Arc<Visitors>,
}

impl Side for Cached {
    type Job = ();

    async fn run(&mut self, (): (), number: usize) -> Result {
        let id = &self.visitors.session(number).id;
        found(self.cache.async_cache_get(id).await?)
    }
}

/// `hitbox-redis` at the level of its backend, below hitbox's own machinery: a connection manager,
/// values as hashes, here of JSON.
#[derive(Clone)]
struct Hitbox {
    backend: Arc<RedisBackend>,
    visitors: Arc<Visitors>,
}

impl Side for Hitbox {
    type Job = ();

    async fn run(&mut self, (): (), number: usize) -> Result {
        let key = CacheKey::from_str("session", &self.visitors.session(number).id);
        let read = self.backend.read(&key).await.map_err(shareable)?;
        let value = read.ok_or("a session that was written was not found")?;
        found(serde_json::from_slice(value.data())?)
    }
}

/// hitbox's errors cannot be sent between threads by reference.
#[expect(clippy::needless_pass_by_value, reason = "for use with map_err")]
fn shareable(error: hitbox_backend::BackendError) -> String {
    error.to_string()
}

/// `bb8-redis`: PING when a connection is taken, the guard held until the answer is there.
#[derive(Clone)]
struct Bb8 {
    pool: Pool<RedisConnectionManager>,
    visitors: Arc<Visitors>,
}

impl Side for Bb8 {
    type Job = ();

    async fn run(&mut self, (): (), number: usize) -> Result {
        let mut connection = self.pool.get().await?;
        let stored: Option<Vec<u8>> = connection.get(self.visitors.key(number)).await?;
        found(decoded(stored)?)
    }
}

pub(crate) fn run(url: &str, port: u16, effort: Effort) -> Result<Vec<Verdict>> {
    println!("\nGET of the same session through other crates, to the bare connection");
    println!(
        "{:<24}{:>8}{:>9}{:>11}{:>9}{:>11}{:>9}",
        "", "threads", "callers", "GETs/s", "ratio", "CPU µs", "ratio"
    );
    for threads in [1, 2] {
        let runtime = runtime(threads)?;
        let sides = runtime.block_on(sides(url, port))?;
        for callers in CALLERS {
            table(&runtime, &sides, threads, callers, effort)?;
        }
    }
    Ok(Vec::new())
}

fn table(
    runtime: &Runtime,
    sides: &[Contestant],
    threads: usize,
    callers: usize,
    effort: Effort,
) -> Result {
    for outcome in race(runtime, effort, callers, sides)? {
        println!(
            "{:<24}{threads:>8}{callers:>9}{:>11.0}{:>9.3}{:>11.2}{:>9.3}",
            outcome.name, outcome.rate, outcome.rate_ratio, outcome.cpu, outcome.cpu_ratio
        );
    }
    Ok(())
}

/// All sides, connected on the runtime that polls this, each with every session written.
async fn sides(url: &str, port: u16) -> Result<Vec<Contestant>> {
    let visitors = Visitors::new();
    let bare = Bare::connect(port, &visitors, None).await?;
    let ours = Ours::new(port, &visitors)?;
    let cached = cached(url, &visitors).await?;
    let hitbox = hitbox(url, &visitors).await?;
    let bb8 = Bb8 {
        pool: Pool::builder()
            .build(RedisConnectionManager::new(url)?)
            .await?,
        visitors: Arc::clone(&visitors),
    };
    let mut writer = ours.clone();
    for number in 0..visitors.sessions.len() {
        writer.run(Job::Set, number).await?;
    }
    Ok(vec![
        Contestant::new("bare, default settings", &bare, Job::Get),
        Contestant::new("ours", &ours, Job::Get),
        Contestant::new("cached", &cached, ()),
        Contestant::new("hitbox-redis", &hitbox, ()),
        Contestant::new("bb8-redis", &bb8, ()),
    ])
}

async fn cached(url: &str, visitors: &Arc<Visitors>) -> Result<Cached> {
    let cache = AsyncRedisCache::builder("session")
        .ttl_secs(3600)
        .connection_string(url)
        .build()
        .await?;
    for session in &visitors.sessions {
        cache
            .async_cache_set(session.id.clone(), session.clone())
            .await?;
    }
    Ok(Cached {
        cache: Arc::new(cache),
        visitors: Arc::clone(visitors),
    })
}

async fn hitbox(url: &str, visitors: &Arc<Visitors>) -> Result<Hitbox> {
    let backend = RedisBackend::builder()
        .connection(ConnectionMode::single(url))
        .build()?;
    for session in &visitors.sessions {
        let key = CacheKey::from_str("session", &session.id);
        let value = CacheValue::new(serde_json::to_vec(session)?.into(), None, None);
        backend.write(&key, value).await.map_err(shareable)?;
    }
    Ok(Hitbox {
        backend: Arc::new(backend),
        visitors: Arc::clone(visitors),
    })
}
