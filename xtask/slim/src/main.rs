//! Sets and gets one value: the smallest program with a cache. With the argument `get` it only gets.

#![expect(
    clippy::print_stdout,
    reason = "without its output the program might be optimised away"
)]

use cache_core::{CacheError, CacheService, CacheStorage, mins};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only_gets = std::env::args().nth(1).is_some_and(|word| word == "get");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(set_and_get(only_gets))?)
}

async fn set_and_get(only_gets: bool) -> Result<(), CacheError> {
    let cache = CacheService::builder(storage()?).ttl(mins(1)).build()?;
    if !only_gets {
        cache.set("greeting", "hello").await?;
    }
    let greeting: Option<String> = cache.get("greeting").await?;
    println!("{}", greeting.unwrap_or_default());
    Ok(())
}

#[cfg(feature = "redis")]
fn storage() -> Result<impl CacheStorage, CacheError> {
    cache_redis::RedisCacheStorage::new(cache_redis::RedisOptions::from_env()?)
}

#[cfg(all(feature = "dynamodb", not(feature = "redis")))]
fn storage() -> Result<impl CacheStorage, CacheError> {
    cache_dynamo::DynamoDbCacheStorage::new(cache_dynamo::DynamoDbOptions::from_env()?)
}

#[cfg(all(feature = "memory", not(any(feature = "dynamodb", feature = "redis"))))]
fn storage() -> Result<impl CacheStorage, CacheError> {
    Ok(cache_memory::MemoryCacheStorage::new())
}

#[cfg(not(any(feature = "dynamodb", feature = "memory", feature = "redis")))]
compile_error!("choose a storage: the feature memory, redis, redis-cluster, redis-tls or dynamodb");
