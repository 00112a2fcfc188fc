//! What a call still owes to tiers.

use super::TieredStorage;
use crate::key::CacheKey;

/// The tiers that a write or delete has not reached yet. Dropped half-way, with the future of the
/// call, it notes the keys as missed there: they are deleted before the tier is read again.
pub(super) struct Owed<'a> {
    storage: &'a TieredStorage,
    keys: &'a [CacheKey],
    positions: Vec<usize>,
}

impl<'a> Owed<'a> {
    pub(super) fn new(
        storage: &'a TieredStorage,
        keys: &'a [CacheKey],
        positions: Vec<usize>,
    ) -> Self {
        Self {
            storage,
            keys,
            positions,
        }
    }

    /// The tier has got it, or it was remembered that it has not.
    pub(super) fn settle(&mut self, position: usize) {
        self.positions.retain(|other| *other != position);
    }

    /// Nothing has changed anywhere.
    pub(super) fn forgive(&mut self) {
        self.positions.clear();
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        for position in &self.positions {
            for key in self.keys {
                self.storage.missed(*position, key, true);
            }
        }
    }
}
