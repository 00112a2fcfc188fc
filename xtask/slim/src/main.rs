//! Sets and gets one value: the smallest program with a cache.

#![expect(
    clippy::print_stdout,
    reason = "without its output the program might be optimised away"
)]

use cache_core::{CacheError, CacheService, CacheStorage, mins};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(set_and_get())?)
}

async fn set_and_get() -> Result<(), CacheError> {
    let cache = CacheService::builder(storage()?).ttl(mins(1)).build()?;
    cache.set("greeting", "hello").await?;
    let greeting: Option<String> = cache.get("greeting").await?;
    println!("{}", greeting.unwrap_or_default());
    Ok(())
}

#[cfg(feature = "redis")]
fn storage() -> Result<impl CacheStorage, CacheError> {
    cache_redis::RedisCacheStorage::new(cache_redis::RedisOptions::from_env()?)
}

#[cfg(all(feature = "memory", not(feature = "redis")))]
fn storage() -> Result<impl CacheStorage, CacheError> {
    Ok(cache_memory::MemoryCacheStorage::new())
}

#[cfg(not(any(feature = "memory", feature = "redis")))]
compile_error!("choose a storage: the feature memory or redis");
