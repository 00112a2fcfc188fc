//! Writes of one key.

use super::owed::Owed;
use super::tier::Tier;
use super::{TieredStorage, is_number};
use crate::entry::{Condition, Counter, NewEntry};
use crate::error::{CacheError, ErrorKind, Operation, Result};
use crate::key::CacheKey;
use crate::layer::is_left_behind;
use crate::ttl::Ttl;

impl TieredStorage {
    /// Writes an entry into the tier that decides, and copies of it into the others.
    pub(super) async fn set_always(&self, key: &CacheKey, entry: &NewEntry) -> Result<bool> {
        self.check_entry(Operation::Set, key, entry)?;
        let writing = self.shared.fills.write(key).await;
        let home = self.home_of(entry);
        let others = self.others(home);
        let mut owed = Owed::new(self, std::slice::from_ref(key), others.clone());
        if let Err(error) = self.set_at(home, key, entry).await {
            if is_left_behind(&error) {
                self.drop_copies(key, &others, &mut owed).await;
            } else {
                owed.forgive();
            }
            return Err(error);
        }
        if is_number(entry) {
            self.drop_copies(key, &others, &mut owed).await;
            return Ok(true);
        }
        for position in &others {
            self.copy_to(*position, key, entry).await;
        }
        if writing.is_contended() {
            // The tiers may have heard of the writes in different orders.
            self.drop_copies(key, &others, &mut owed).await;
        }
        owed.forgive();
        Ok(true)
    }

    /// Writes into one tier. What it misses is remembered the moment it fails.
    async fn set_at(&self, position: usize, key: &CacheKey, entry: &NewEntry) -> Result<bool> {
        let tier = self.tier(position);
        let before = tier.layer.journal.last_miss();
        let copy = tier.copy_of(entry);
        let written = tier.storage().set(key, copy, Condition::Always).await;
        match &written {
            Ok(_) => {
                if before > 0 {
                    tier.layer.journal.acknowledged([(key, before)]);
                }
                tier.layer.journal.wrote(key);
            }
            Err(error) if is_left_behind(error) => self.missed(position, key, true),
            Err(_) => {}
        }
        written
    }

    /// Writes a copy into one tier, or deletes the older one that is there.
    async fn copy_to(&self, position: usize, key: &CacheKey, entry: &NewEntry) {
        if self.tier(position).takes(&entry.value) {
            let Err(error) = self.set_at(position, key, entry).await else {
                return;
            };
            self.skipped(position, &error);
            if is_left_behind(&error) {
                return;
            }
        }
        self.drop_copy(position, key).await;
    }

    /// Writes under a condition, in the tier that decides.
    pub(super) async fn set_if(
        &self,
        key: &CacheKey,
        entry: NewEntry,
        condition: Condition,
    ) -> Result<bool> {
        self.check_entry(Operation::Set, key, &entry)?;
        let _writing = self.shared.fills.write(key).await;
        let tier = self.only(Operation::Set, key).await?;
        let others = self.others(self.shared.counters_in);
        let mut owed = Owed::new(self, std::slice::from_ref(key), others.clone());
        let written = tier
            .storage()
            .set(key, tier.copy_of(&entry), condition)
            .await;
        self.follow(
            key,
            &written,
            matches!(written, Ok(true)),
            &others,
            &mut owed,
        )
        .await;
        written
    }

    /// Deletes under a condition, in the tier that decides.
    pub(super) async fn delete_if(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        self.check_key(Operation::CompareAndDelete, key)?;
        let _writing = self.shared.fills.write(key).await;
        let tier = self.only(Operation::CompareAndDelete, key).await?;
        let others = self.others(self.shared.counters_in);
        let mut owed = Owed::new(self, std::slice::from_ref(key), others.clone());
        let deleted = tier.storage().compare_and_delete(key, expected).await;
        self.follow(
            key,
            &deleted,
            matches!(deleted, Ok(true)),
            &others,
            &mut owed,
        )
        .await;
        deleted
    }

    /// Adds to a counter, in the tier that has them.
    pub(super) async fn increment_once(
        &self,
        key: &CacheKey,
        delta: i64,
        ttl: Ttl,
    ) -> Result<Counter> {
        self.check_key(Operation::Increment, key)?;
        let _writing = self.shared.fills.write(key).await;
        let tier = self.only(Operation::Increment, key).await?;
        let mut others = self.others(self.shared.counters_in);
        let mut owed = Owed::new(self, std::slice::from_ref(key), others.clone());
        let counter = tier.storage().increment(key, delta, tier.capped(ttl)).await;
        let is_old = matches!(&counter, Ok(counter) if counter.value != delta);
        if is_old {
            // Copies of another value went when the counter was started; those of this process may
            // be older than that if another one started it.
            let is_near = |position: &usize| self.tier(*position).is_private();
            others.retain(is_near);
        }
        self.follow(key, &counter, counter.is_ok(), &others, &mut owed)
            .await;
        counter
    }

    /// Lets the other tiers drop their copies if the deciding tier has changed something, or may
    /// have.
    async fn follow<T>(
        &self,
        key: &CacheKey,
        outcome: &Result<T>,
        is_done: bool,
        others: &[usize],
        owed: &mut Owed<'_>,
    ) where
        T: Sync,
    {
        if is_done {
            let journal = &self.tier(self.shared.counters_in).layer.journal;
            journal.wrote(key);
        }
        let may_have_happened = matches!(outcome, Err(error) if error.may_have_happened());
        if is_done || may_have_happened {
            self.drop_copies(key, others, owed).await;
        }
        owed.forgive();
    }

    /// The tier of counters and conditional writes, with nothing outdated under `key`.
    async fn only(&self, operation: Operation, key: &CacheKey) -> Result<&Tier> {
        let position = self.shared.counters_in;
        let tier = self.tier(position);
        if !self.access.writes(position) {
            let message = "the tier that decides is left out of this call";
            let error = CacheError::new(ErrorKind::Unsupported, message);
            return Err(error
                .with_backend(tier.layer.backend())
                .with_operation(operation)
                .with_key(key));
        }
        tier.layer.ready(std::slice::from_ref(key)).await?;
        tier.layer.drop_outdated(key).await?;
        Ok(tier)
    }
}
