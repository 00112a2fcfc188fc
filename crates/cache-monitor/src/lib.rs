//! Health checks, metrics, structured logs and an orderly end for caches.
//!
//! Measurements go to the [`metrics`] facade, under the names in [`names`], and to any recorder
//! that an application installs; changes of state go to `tracing` under the target `cache`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_core::{CacheService, mins};
//! use cache_memory::MemoryCacheStorage;
//! use cache_monitor::{MeteredStorage, Metrics, names};
//!
//! let metrics = Metrics::global();
//! names::describe(&metrics);
//! let storage = MeteredStorage::new(MemoryCacheStorage::new(), metrics);
//! let service = CacheService::builder(storage).prefix("geo").ttl(mins(5)).build()?;
//! service.set("10.0.0.7", &"Vienna").await?;
//! # Ok(())
//! # }
//! ```

mod checks;
mod feed;
mod health;
mod metered;
mod meters;
mod monitor;
pub mod names;
mod observer;
mod options;
#[cfg(test)]
mod recorded;
mod sink;
mod status;
mod tracked;
mod traffic;

pub use feed::StatusFeed;
pub use metered::MeteredStorage;
pub use monitor::{CacheMonitor, CacheMonitorBuilder};
pub use observer::MetricsObserver;
pub use options::{Mode, MonitorOptions};
pub use sink::Metrics;
pub use status::{BackendHealth, BreakerStatus, Health, MonitorStatus, Phase, StepResult};
