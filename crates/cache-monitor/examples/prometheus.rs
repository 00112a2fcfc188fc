//! Metrics for Prometheus, as text that a page of one's own service may show.
//!
//! `cargo run --package cache-monitor --example prometheus`

use std::error::Error;
use std::io::Write;

use cache_core::{CacheService, mins};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{MeteredStorage, Metrics, names};
use metrics_exporter_prometheus::PrometheusBuilder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run(std::io::stdout()).await
}

/// Uses a cache in memory and writes what was measured.
pub(crate) async fn run(mut page: impl Write) -> Result<(), Box<dyn Error>> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;

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

    // A service calls `run_upkeep` of the handle now and then, which bounds what it holds.
    page.write_all(handle.render().as_bytes())?;
    Ok(())
}
