//! Entries as the integration tests write and read them.

use std::time::{Duration, Instant};

use cache_core::{CacheError, CacheKey, CacheStorage, Condition, NewEntry, Ttl, mins};

/// A time to live that no test outlives.
///
/// # Panics
///
/// Never: a minute is a time to live.
#[must_use]
pub fn minute() -> Ttl {
    Ttl::new(mins(1)).expect("a minute is a time to live")
}

/// Writes text that lives for a minute.
///
/// # Errors
///
/// The storage's.
pub async fn put(storage: &dyn CacheStorage, key: &str, value: &str) -> Result<bool, CacheError> {
    let entry = NewEntry::new(value.as_bytes().to_vec(), minute());
    storage
        .set(&CacheKey::from(key), entry, Condition::Always)
        .await
}

/// Reads text.
///
/// # Errors
///
/// The storage's.
pub async fn fetch(storage: &dyn CacheStorage, key: &str) -> Result<Option<String>, CacheError> {
    let entry = storage.get(&CacheKey::from(key)).await?;
    Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

/// Waits until a server that came back is used again: at the latest when the longest pause between
/// dials, 2 s, is over. Reads `key`.
///
/// # Panics
///
/// When it takes longer.
pub async fn back(storage: &dyn CacheStorage, key: &str) {
    let began = Instant::now();
    while let Err(error) = fetch(storage, key).await {
        let waited = began.elapsed();
        assert!(waited < Duration::from_millis(2_500), "{waited:?}: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How long `future` took, with its output.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (future.await, started.elapsed())
}
