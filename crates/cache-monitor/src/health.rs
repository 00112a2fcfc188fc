//! Checking one backend: write a probe, read it back, delete it.

use std::time::{Duration, Instant};

use cache_core::{CacheKey, CacheStorage, Clock, Condition, NewEntry, Result, Ttl};
use tokio::time::timeout;

use crate::checks::Target;
use crate::options::MonitorOptions;
use crate::status::{BackendHealth, StepResult};

/// How long a probe lives that could not be deleted.
const PROBE_TTL: Duration = Duration::from_secs(60);

/// Checks a backend, again where it failed.
pub(crate) async fn check_backend(
    target: &Target,
    options: &MonitorOptions,
    clock: &dyn Clock,
) -> BackendHealth {
    let mut attempt = 0;
    loop {
        let health = check_once(target, options.timeout, clock).await;
        attempt += 1;
        if health.is_up() || attempt > options.retries {
            return health;
        }
    }
}

async fn check_once(target: &Target, patience: Duration, clock: &dyn Clock) -> BackendHealth {
    let storage = &*target.storage;
    // Of its own in each check: processes that check at the same time must not meet.
    let token = format!("{:016x}", fastrand::u64(..));
    let key = CacheKey::from(format!("cache-health:{token}"));
    let write = step(patience, write(storage, &key, &token)).await;
    let read = step(patience, read_back(storage, &key, &token, write.is_ok())).await;
    let delete = step(patience, async { storage.delete(&key).await.map(|_| None) }).await;
    BackendHealth {
        name: std::sync::Arc::clone(&target.name),
        write,
        read,
        delete,
        checked_at: clock.wall(),
    }
}

async fn write(
    storage: &dyn CacheStorage,
    key: &CacheKey,
    token: &str,
) -> Result<Option<&'static str>> {
    let ttl = Ttl::new(PROBE_TTL)?;
    let entry = NewEntry::new(token.to_owned(), ttl);
    storage.set(key, entry, Condition::Always).await?;
    Ok(None)
}

/// A backend that could not be written to is read all the same: it may still serve reads.
async fn read_back(
    storage: &dyn CacheStorage,
    key: &CacheKey,
    token: &str,
    was_written: bool,
) -> Result<Option<&'static str>> {
    let found = storage.get(key).await?;
    let is_right = match found {
        Some(entry) => entry.value == token.as_bytes(),
        None => !was_written,
    };
    Ok((!is_right).then_some("wrong_value"))
}

/// Runs a step and says what is wrong, if anything is.
async fn step(
    patience: Duration,
    step: impl Future<Output = Result<Option<&'static str>>>,
) -> StepResult {
    let began = Instant::now();
    let code = match timeout(patience, step).await {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => Some(error.code()),
        Err(_) => Some("timeout"),
    };
    StepResult {
        code,
        took: began.elapsed(),
    }
}
