//! Metrics for CloudWatch from a Lambda function: lines in the embedded metric format on standard
//! output, which the platform reads. No call to CloudWatch is made.
//!
//! `cargo run --package cache-monitor --example cloudwatch_emf`

use std::error::Error;
use std::io::Write;

use cache_core::{CacheService, mins};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{MeteredStorage, Metrics, names};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run(std::io::stdout()).await
}

/// Uses a cache in memory as an invocation would, and writes what was measured.
pub(crate) async fn run(log: impl Write) -> Result<(), Box<dyn Error + Send + Sync>> {
    let collector = metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace("Geo")
        .init()?;

    let metrics = Metrics::global();
    names::describe(&metrics);
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics);
    let cities = CacheService::builder(storage)
        .prefix("geo")
        .ttl(mins(5))
        .build()?;

    cities.set("10.0.0.7", &"Vienna").await?;
    let _: Option<String> = cities.get("10.0.0.7").await?;
    let _: Option<String> = cities.get("10.0.0.8").await?;

    // At the end of each invocation: the process may be frozen right after, and a line of the
    // format takes no more than a hundred times per metric.
    collector.flush(log)?;
    Ok(())
}
