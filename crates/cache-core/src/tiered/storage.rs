//! The contract, over several tiers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{TierAccess, TieredStorage};
use crate::entry::{ClearScope, Cleared, Condition, Counter, Entry, NewEntry, StorageStats};
use crate::error::{Operation, Result};
use crate::key::CacheKey;
use crate::layer::FirstError;
use crate::storage::{CacheStorage, Shard, StorageInfo};
use crate::ttl::{TimeLeft, Ttl};

impl TieredStorage {
    /// Clears every tier, slowest first, so that none is filled from one that is not cleared yet.
    async fn clear_each(&self, scope: &ClearScope) -> Result<Cleared> {
        let _clearing = self.shared.fills.clear(scope).await;
        let mut failed = FirstError::default();
        let mut most = None;
        let mut is_everywhere = true;
        for position in self.slowest_first() {
            match self.tier(position).storage().clear(scope).await {
                Ok(cleared) => {
                    // Tiers hold copies of the same entries.
                    most = most.max(Some(cleared.deleted));
                    is_everywhere &= cleared.complete;
                }
                Err(error) => {
                    is_everywhere = false;
                    self.skipped(position, &error);
                    failed.note(error);
                }
            }
        }
        let done = |deleted| Ok(Cleared::new(deleted, is_everywhere));
        most.map_or_else(|| Err(failed.into_error()), done)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for TieredStorage {
    fn info(&self) -> &StorageInfo {
        &self.shared.front.info
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.tier(self.last()).storage().shard(key)
    }

    fn is_closed(&self) -> bool {
        self.shared.front.is_closed()
    }

    fn with_tiers(&self, access: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(Some(Arc::new(self.view(access)?)))
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.shared.front.check_open(Operation::Get)?;
        let outcome = self.read(key, false).await;
        self.shared.front.counters.read(&outcome);
        outcome
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        if let Some(refused) = self.shared.front.closed(Operation::GetMany, keys.len()) {
            return refused;
        }
        let outcomes = self.read_each(keys, false).await;
        outcomes
            .iter()
            .for_each(|outcome| self.shared.front.counters.read(outcome));
        outcomes
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.shared.front.check_open(Operation::Lookup)?;
        let outcome = self.read(key, true).await;
        self.shared.front.counters.read(&outcome);
        outcome
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        if let Some(refused) = self.shared.front.closed(Operation::LookupMany, keys.len()) {
            return refused;
        }
        let outcomes = self.read_each(keys, true).await;
        outcomes
            .iter()
            .for_each(|outcome| self.shared.front.counters.read(outcome));
        outcomes
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        self.shared.front.check_open(Operation::Set)?;
        let outcome = match condition {
            Condition::Always => self.set_always(key, &entry).await,
            condition => self.set_if(key, entry, condition).await,
        };
        self.shared.front.counters.conditional_write(&outcome);
        outcome
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        if let Some(refused) = self.shared.front.closed(Operation::SetMany, entries.len()) {
            return refused;
        }
        let outcomes = self.set_each(entries).await;
        outcomes
            .iter()
            .for_each(|outcome| self.shared.front.counters.write(outcome));
        outcomes
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let report = self.delete_report(key).await;
        self.shared.front.counters.delete(&report);
        report.map(|report| report.existed)
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        if let Some(refused) = self.shared.front.closed(Operation::DeleteMany, keys.len()) {
            return refused;
        }
        let outcomes = self.end_each(keys).await;
        outcomes
            .iter()
            .for_each(|outcome| self.shared.front.counters.delete(outcome));
        outcomes
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.shared.front.check_open(Operation::CompareAndDelete)?;
        let outcome = self.delete_if(key, expected).await;
        self.shared.front.counters.conditional_delete(&outcome);
        outcome
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        self.shared.front.check_open(Operation::Has)?;
        let outcome = self.has_anywhere(key).await;
        self.shared.front.counters.other(&outcome);
        outcome
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.shared.front.check_open(Operation::Expire)?;
        let outcome = self.move_end(key, ttl).await;
        self.shared.front.counters.other(&outcome);
        outcome
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        self.shared.front.check_open(Operation::ExpireNow)?;
        let outcome = self
            .end(Operation::ExpireNow, key, |storage, key| {
                storage.expire_now(key)
            })
            .await;
        self.shared.front.counters.other(&outcome);
        outcome.map(|report| report.existed)
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.shared.front.check_open(Operation::GetTtl)?;
        let outcome = self.time_left(key).await;
        self.shared.front.counters.other(&outcome);
        outcome
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        self.shared.front.check_open(Operation::Increment)?;
        let outcome = self.increment_once(key, delta, ttl).await;
        self.shared.front.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        self.shared.front.check_open(Operation::Clear)?;
        let outcome = self.clear_each(scope).await;
        self.shared.front.counters.other(&outcome);
        outcome
    }

    fn get_stats(&self) -> StorageStats {
        let of_tiers = self.shared.tiers.iter();
        let stats: Vec<_> = of_tiers.map(|tier| tier.storage().get_stats()).collect();
        let last = stats[self.last()];
        StorageStats {
            entries: last.entries,
            bytes: last.bytes,
            evictions: stats.iter().map(|tier| tier.evictions).sum(),
            ..self.shared.front.counters.snapshot()
        }
    }

    async fn ping(&self) -> Result<()> {
        self.shared.front.check_open(Operation::Ping)?;
        let tiers = self.shared.tiers.iter();
        let answers = join_all(tiers.map(|tier| tier.storage().ping())).await;
        let mut last = Ok(());
        for (position, answer) in answers.into_iter().enumerate() {
            if let Err(error) = &answer
                && position != self.last()
            {
                self.skipped(position, error);
            }
            last = answer;
        }
        self.shared.front.counters.other(&last);
        last
    }

    async fn shutdown(&self, budget: Duration) -> Result<()> {
        self.shared.front.close();
        let tiers = self.shared.tiers.iter();
        let ends = join_all(tiers.map(|tier| tier.storage().shutdown(budget))).await;
        ends.into_iter().collect()
    }
}
