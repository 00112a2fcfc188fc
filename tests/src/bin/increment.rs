//! One of several processes that count together: `increment URL KEY TIMES`, or `increment env KEY
//! TIMES` to reach the server that the environment names.

use std::error::Error;

use cache_core::{CacheService, mins};
use cache_redis::{RedisCacheStorage, RedisOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, times] = &arguments[..] else {
        return Err("increment URL KEY TIMES".into());
    };
    let options = match url.as_str() {
        "env" => RedisOptions::from_env()?,
        url => RedisOptions::from_url(url)?,
    };
    let storage = RedisCacheStorage::new(options)?;
    let counters = CacheService::builder(storage).build()?;
    for _ in 0..times.parse::<u32>()? {
        counters.increment(key, 1, mins(5)).await?;
    }
    Ok(())
}
