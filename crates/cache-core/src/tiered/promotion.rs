//! Copies of what a slower tier had.

use futures_util::future::join_all;

use super::owed::Owed;
use super::search::Search;
use super::{TieredStorage, is_number};
use crate::entry::{Condition, Entry, NewEntry};
use crate::error::{CacheError, ErrorKind, Operation, Result};
use crate::key::CacheKey;

/// How many keys are promoted at a time.
const AT_A_TIME: usize = 64;

impl TieredStorage {
    /// Gives a fresh entry to the tiers that lacked it, unless this process has written the key
    /// since the search began. A tier that is slow for its own standards is given up.
    pub(super) async fn promote(&self, entry: &Entry, search: &Search<'_>) {
        let key = search.key();
        let Some(filling) = &search.filling else {
            return;
        };
        let copies = async {
            let promotions = search.lacking.iter();
            join_all(promotions.map(|position| self.promote_to(*position, key, entry))).await;
        };
        filling.fill.store(copies).await;
    }

    /// Promotes what was found in one tier.
    pub(super) async fn promote_each(&self, found: &[(usize, Entry, Search<'_>)]) {
        for some in found.chunks(AT_A_TIME) {
            let mut promotions = Vec::with_capacity(some.len());
            for (_, entry, search) in some {
                promotions.push(self.promote(entry, search));
            }
            join_all(promotions).await;
        }
    }

    async fn promote_to(&self, position: usize, key: &CacheKey, entry: &Entry) {
        let tier = self.tier(position);
        let Some(copy) = tier.promoted(entry) else {
            return;
        };
        if is_number(&copy) || !tier.takes(&copy.value) {
            return;
        }
        let mut owed = Owed::new(self, std::slice::from_ref(key), vec![position]);
        match self.store_copy(position, key, copy).await {
            Ok(is_stored) => {
                if is_stored {
                    tier.layer.journal.wrote(key);
                }
                owed.settle(position);
            }
            Err(error) => {
                // What comes late must not come after a delete, so it is deleted before the tier is
                // read again.
                if !error.may_have_happened() {
                    owed.settle(position);
                }
                self.skipped(position, &error);
            }
        }
    }

    /// Writes a copy over no fresh entry, which would be a newer one, within the tier's patience.
    async fn store_copy(&self, position: usize, key: &CacheKey, copy: NewEntry) -> Result<bool> {
        let tier = self.tier(position);
        let store = tier.storage().set(key, copy, Condition::IfAbsent);
        let Some(patience) = tier.storage().info().patience else {
            return store.await;
        };
        let in_time = tokio::time::timeout(patience, store).await;
        in_time.unwrap_or_else(|_| {
            let error = CacheError::new(ErrorKind::Timeout, "the copy took too long");
            Err(error
                .with_backend(tier.layer.backend())
                .with_operation(Operation::Set)
                .with_key(key)
                .with_may_have_happened(true))
        })
    }
}
