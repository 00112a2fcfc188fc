//! A storage below a prefix of another.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::entry::{ClearScope, Cleared, Condition, Counter, Entry, NewEntry, StorageStats};
use crate::error::{CacheError, ErrorKind, Result};
use crate::key::{CacheKey, checked_prefix};
use crate::storage::{CacheStorage, Shard, StorageInfo};
use crate::tiered::TierAccess;
use crate::ttl::{TimeLeft, Ttl};

/// Puts every key of a storage below `prefix:`, so that several applications share one backend.
///
/// Clearing everything clears what is below the prefix. The prefix counts towards the length of a
/// key; an error shows the whole key.
///
/// Belongs outside of everything that should see the keys of this application only, usually
/// outermost. Right: `Prefix("app", Redis)`. Wrong: the same prefix around two storages of one
/// stack but not around the third, whose keys then differ.
///
/// ```
/// use cache_core::PrefixStorage;
/// use cache_memory::MemoryCacheStorage;
///
/// let storage = PrefixStorage::new("app", MemoryCacheStorage::new())?;
/// # Ok::<(), cache_core::CacheError>(())
/// ```
pub struct PrefixStorage {
    prefix: Arc<str>,
    inner: Arc<dyn CacheStorage>,
    info: StorageInfo,
}

impl PrefixStorage {
    /// `inner` below `prefix`; one trailing colon of the prefix is dropped.
    ///
    /// # Errors
    ///
    /// `Key` where the prefix breaks a rule of keys or leaves no room for one.
    pub fn new(prefix: &str, inner: impl CacheStorage) -> Result<Self> {
        let prefix = checked_prefix(prefix)?;
        let mut info = inner.info().clone();
        let left = info.max_key_bytes.checked_sub(prefix.len() + 1);
        info.max_key_bytes = left.filter(|left| *left > 0).ok_or_else(|| {
            let message = "the prefix leaves no room for a key";
            CacheError::new(ErrorKind::Key, message)
        })?;
        Ok(Self {
            prefix,
            inner: Arc::new(inner),
            info,
        })
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    fn inner(&self) -> &dyn CacheStorage {
        &*self.inner
    }

    fn full(&self, key: &CacheKey) -> CacheKey {
        key.below(&self.prefix)
    }

    fn all_full(&self, keys: &[CacheKey]) -> Vec<CacheKey> {
        keys.iter().map(|key| self.full(key)).collect()
    }
}

impl fmt::Debug for PrefixStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prefix")
            .field(&self.prefix)
            .field(&self.inner)
            .finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for PrefixStorage {
    fn info(&self) -> &StorageInfo {
        &self.info
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.inner().shard(&self.full(key))
    }

    fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }

    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        let view = self.inner().with_tiers(access)?;
        Ok(view.map(|inner| -> Arc<dyn CacheStorage> {
            Arc::new(Self {
                prefix: Arc::clone(&self.prefix),
                inner,
                info: self.info.clone(),
            })
        }))
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.inner().get(&self.full(key)).await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.inner().get_many(&self.all_full(keys)).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.inner().lookup(&self.full(key)).await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.inner().lookup_many(&self.all_full(keys)).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.inner().set(&self.full(key), entry, condition).await
    }

    async fn set_many(&self, mut entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        for (key, _) in &mut entries {
            *key = self.full(key);
        }
        self.inner().set_many(entries).await
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        self.inner().delete(&self.full(key)).await
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        self.inner().delete_many(&self.all_full(keys)).await
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.inner()
            .compare_and_delete(&self.full(key), expected)
            .await
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.inner().has(&self.full(key)).await
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.inner().expire(&self.full(key), ttl).await
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.inner().expire_now(&self.full(key)).await
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.inner().get_ttl(&self.full(key)).await
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        self.inner().increment(&self.full(key), delta, ttl).await
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.inner().clear(&scope.below(&self.prefix)).await
    }

    fn get_stats(&self) -> StorageStats {
        self.inner().get_stats()
    }

    async fn ping(&self) -> Result<()> {
        self.inner().ping().await
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.inner().shutdown(budget).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disabled::DisabledStorage;

    #[test]
    fn prefixes_that_leave_no_room_are_refused_however_nested() {
        let long = "p".repeat(1022);
        let inner = PrefixStorage::new(&long, DisabledStorage::new()).unwrap();
        assert_eq!(inner.info().max_key_bytes, 1);
        for prefix in ["a", &long] {
            let inner = PrefixStorage::new(&long, DisabledStorage::new()).unwrap();
            let error = PrefixStorage::new(prefix, inner).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Key);
        }
        let error = PrefixStorage::new(&"p".repeat(1023), DisabledStorage::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key);
    }
}
