//! Deletes go to every tier, the slowest first.

use super::TieredStorage;
use super::owed::Owed;
use crate::error::{Operation, Result};
use crate::fallback::DeleteReport;
use crate::key::CacheKey;
use crate::layer::{End, is_left_behind};
use crate::ttl::{TimeLeft, Ttl};

impl TieredStorage {
    /// Deletes as [`delete`](crate::CacheStorage::delete) does, and says which of the faster tiers missed
    /// it, by name.
    ///
    /// # Errors
    ///
    /// The last tier missed it, and the error says why. The others have been asked all the same, and
    /// the entry is not read any more by this process, unless it is written again.
    pub async fn delete_report(&self, key: &CacheKey) -> Result<DeleteReport> {
        self.shared.front.refuse_closed(Operation::Delete)?;
        self.end(Operation::Delete, key, |storage, key| storage.delete(key))
            .await
    }

    /// Ends an entry in every tier.
    pub(super) async fn end(
        &self,
        operation: Operation,
        key: &CacheKey,
        end: End,
    ) -> Result<DeleteReport> {
        self.check_key(operation, key)?;
        let _writing = self.shared.fills.write(key).await;
        let home = self.home();
        let mut owed = Owed::new(
            self,
            std::slice::from_ref(key),
            self.slowest_first().collect(),
        );
        let mut report = DeleteReport {
            existed: false,
            missed: Vec::new(),
        };
        let mut failed = None;
        for position in self.slowest_first() {
            match self.end_at(position, key, end).await {
                // Others have copies, and another caller may have ended the original.
                Ok(existed) if position == home || position == self.shared.counters_in => {
                    report.existed |= existed;
                }
                Ok(_) => {}
                Err(error) if position == home => failed = Some(error),
                Err(error) => {
                    self.skipped(position, &error);
                    report.missed.push(self.tier(position).name);
                }
            }
            owed.settle(position);
        }
        failed.map_or(Ok(report), Err)
    }

    /// Ends an entry in one tier. What it misses is remembered the moment it fails.
    async fn end_at(&self, position: usize, key: &CacheKey, end: End) -> Result<bool> {
        let outcome = self.tier(position).layer.end(key, end).await;
        if let Err(error) = &outcome
            && is_left_behind(error)
        {
            self.missed(position, key, true);
        }
        outcome
    }

    /// Deletes the copies that these tiers have, slowest first.
    pub(super) async fn drop_copies(
        &self,
        key: &CacheKey,
        positions: &[usize],
        owed: &mut Owed<'_>,
    ) {
        for position in positions {
            self.drop_copy(*position, key).await;
            owed.settle(*position);
        }
    }

    pub(super) async fn drop_copy(&self, position: usize, key: &CacheKey) {
        let dropped = self
            .end_at(position, key, |storage, key| storage.delete(key))
            .await;
        if let Err(error) = dropped {
            self.skipped(position, &error);
        }
    }

    /// Deletes many keys in every tier; the outcomes are those of the slowest.
    pub(super) async fn end_each(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let checked = |key| self.check_key(Operation::DeleteMany, key);
        let mut outcomes: Vec<Result<()>> = keys.iter().map(checked).collect();
        let sound = keys.iter().zip(&outcomes).filter(|(_, ok)| ok.is_ok());
        let sound: Vec<CacheKey> = sound.map(|(key, _)| key.clone()).collect();
        let _writing = self.shared.fills.write_many(&sound).await;
        let home = self.home();
        let mut owed = Owed::new(self, &sound, self.slowest_first().collect());
        for position in self.slowest_first() {
            let ended = self.drop_many(position, &sound).await;
            owed.settle(position);
            if position == home {
                let mut ended = ended.into_iter();
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = ended.next().unwrap_or(Ok(()));
                }
            } else if let Some(error) = ended.into_iter().find_map(Result::err) {
                self.skipped(position, &error);
            }
        }
        outcomes
    }

    /// Deletes many keys in one tier. What it misses is remembered the moment it fails.
    pub(super) async fn drop_many(&self, position: usize, keys: &[CacheKey]) -> Vec<Result<()>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let layer = &self.tier(position).layer;
        let before = layer.journal.last_miss();
        let outcomes = layer.storage().delete_many(keys).await;
        for (key, outcome) in keys.iter().zip(&outcomes) {
            match outcome {
                Ok(()) if before > 0 => layer.journal.acknowledged([(key, before)]),
                Err(error) if is_left_behind(error) => self.missed(position, key, true),
                _ => {}
            }
        }
        outcomes
    }

    /// Moves the end of a fresh entry in the tier that has it for certain, and drops the copies:
    /// nobody knows whether they are of the same value.
    pub(super) async fn move_end(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        self.check_key(Operation::Expire, key)?;
        let _writing = self.shared.fills.write(key).await;
        let home = self.home();
        let counters_in = self.shared.counters_in;
        // Before the first tier is asked: a call that is dropped may have moved the end there.
        let everywhere = self.slowest_first().collect::<Vec<_>>();
        let copies = everywhere.iter().copied().filter(|tier| *tier != home);
        let mut owed = Owed::new(self, std::slice::from_ref(key), copies.collect());
        let mut moved = self.move_end_at(home, key, ttl).await;
        let mut kept_in = home;
        if matches!(moved, Ok(false)) && home != counters_in && self.access.writes(counters_in) {
            moved = self.move_end_at(counters_in, key, ttl).await;
            kept_in = counters_in;
        }
        let may_have_moved = moved
            .as_ref()
            .map_or_else(|error| error.may_have_happened(), |_| true);
        if may_have_moved {
            owed.settle(kept_in);
            let others = self.others(kept_in);
            self.drop_copies(key, &others, &mut owed).await;
        }
        owed.forgive();
        moved
    }

    async fn move_end_at(&self, position: usize, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let tier = self.tier(position);
        let layer = &tier.layer;
        layer.ready(std::slice::from_ref(key)).await?;
        // An outdated entry must not be taken for a fresh one.
        if layer.journal.has_doubts() && layer.time_left(key).await? == TimeLeft::Missing {
            return Ok(false);
        }
        let was_there = layer.storage().expire(key, tier.capped(ttl)).await?;
        if was_there {
            layer.journal.wrote(key);
        }
        Ok(was_there)
    }
}
