//! The contract, over several layers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::writes::any;
use super::{FallbackStorage, FirstError};
use crate::entry::{ClearScope, Cleared, Condition, Counter, Entry, NewEntry, StorageStats};
use crate::error::{Operation, Result};
use crate::key::CacheKey;
use crate::storage::{CacheStorage, Shard, StorageInfo};
use crate::tiered::TierAccess;
use crate::ttl::{TimeLeft, Ttl};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for FallbackStorage {
    fn info(&self) -> &StorageInfo {
        &self.front.info
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.layers[0].storage().shard(key)
    }

    fn is_closed(&self) -> bool {
        self.front.is_closed()
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.front.check_open(Operation::Get)?;
        let outcome = self
            .first(key, |layer| async move {
                let found = layer.storage().get(key).await?;
                Ok(layer.judged(key, found))
            })
            .await;
        self.front.counters.read(&outcome);
        outcome
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        if let Some(refused) = self.front.closed(Operation::GetMany, keys.len()) {
            return refused;
        }
        let outcomes = self
            .first_of_each(keys, |storage, keys| storage.get_many(keys))
            .await;
        outcomes
            .iter()
            .for_each(|outcome| self.front.counters.read(outcome));
        outcomes
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.front.check_open(Operation::Lookup)?;
        let outcome = self
            .first(key, |layer| async move {
                let found = layer.storage().lookup(key).await?;
                Ok(layer.judged(key, found))
            })
            .await;
        self.front.counters.read(&outcome);
        outcome
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        if let Some(refused) = self.front.closed(Operation::LookupMany, keys.len()) {
            return refused;
        }
        let outcomes = self
            .first_of_each(keys, |storage, keys| storage.lookup_many(keys))
            .await;
        outcomes
            .iter()
            .for_each(|outcome| self.front.counters.read(outcome));
        outcomes
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.front.check_open(Operation::Set)?;
        let outcome = match condition {
            Condition::Always if self.write_all => self.set_all(key, &entry).await,
            Condition::Always => self.set_first(key, entry).await,
            condition => self.set_if(key, entry, condition).await,
        };
        self.front.counters.conditional_write(&outcome);
        outcome
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        if let Some(refused) = self.front.closed(Operation::SetMany, entries.len()) {
            return refused;
        }
        let outcomes = self.set_each(entries).await;
        outcomes
            .iter()
            .for_each(|outcome| self.front.counters.write(outcome));
        outcomes
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let report = self.delete_report(key).await;
        self.front.counters.delete(&report);
        report.map(|report| report.existed)
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        if let Some(refused) = self.front.closed(Operation::DeleteMany, keys.len()) {
            return refused;
        }
        let outcomes = self.delete_all(keys).await;
        outcomes
            .iter()
            .for_each(|outcome| self.front.counters.delete(outcome));
        outcomes
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.front.check_open(Operation::CompareAndDelete)?;
        let outcome = async {
            let layer = self.only(key).await?;
            let is_deleted = layer.storage().compare_and_delete(key, expected).await?;
            if is_deleted {
                // Done here; what others miss is in their journals.
                _ = self
                    .end(key, self.others(), |storage, key| storage.delete(key))
                    .await;
            }
            Ok(is_deleted)
        };
        let outcome = outcome.await;
        self.front.counters.conditional_delete(&outcome);
        outcome
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.front.check_open(Operation::Has)?;
        let outcome = self.first(key, |layer| layer.has(key)).await;
        self.front.counters.other(&outcome);
        outcome
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.front.check_open(Operation::Expire)?;
        let outcome = if self.write_all {
            self.expire_all(key, ttl).await
        } else {
            self.expire_first(key, ttl).await
        };
        self.front.counters.other(&outcome);
        outcome
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.front.check_open(Operation::ExpireNow)?;
        let all = 0..self.layers.len();
        let outcome = self
            .end(key, all, |storage, key| storage.expire_now(key))
            .await;
        self.front.counters.other(&outcome);
        outcome.map(|report| report.existed)
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.front.check_open(Operation::GetTtl)?;
        let outcome = self.first(key, |layer| layer.time_left(key)).await;
        self.front.counters.other(&outcome);
        outcome
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        self.front.check_open(Operation::Increment)?;
        let outcome = self.increment_once(key, delta, ttl).await;
        self.front.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.front.check_open(Operation::Clear)?;
        let cleared = join_all(self.layers.iter().map(|layer| layer.storage().clear(scope))).await;
        let is_everywhere = cleared
            .iter()
            .all(|cleared| matches!(cleared, Ok(one) if one.complete));
        let done = cleared.iter().flatten().map(|cleared| cleared.deleted);
        let outcome = match done.max() {
            // Layers hold copies of the same entries.
            Some(deleted) => Ok(Cleared::new(deleted, is_everywhere)),
            None => {
                let mut failed = FirstError::default();
                let errors = cleared.into_iter().filter_map(Result::err);
                errors.for_each(|error| failed.note(error));
                Err(failed.into_error())
            }
        };
        self.front.counters.other(&outcome);
        outcome
    }

    fn get_stats(&self) -> StorageStats {
        let first = self.layers[0].storage().get_stats();
        StorageStats {
            entries: first.entries,
            bytes: first.bytes,
            evictions: first.evictions,
            ..self.front.counters.snapshot()
        }
    }

    async fn ping(&self) -> Result<()> {
        self.front.check_open(Operation::Ping)?;
        let answers = join_all(self.layers.iter().map(|layer| layer.storage().ping())).await;
        self.tell_first_trouble(&answers);
        any(answers)
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.front.close();
        let ends = self
            .layers
            .iter()
            .map(|layer| layer.storage().shutdown(budget));
        join_all(ends).await.into_iter().collect()
    }
}
