//! The search for one key, tier by tier: what the answers so far come to.

use std::sync::Arc;

use super::TieredStorage;
use crate::entry::Entry;
use crate::error::{CacheError, Result};
use crate::fills::{Fill, Fills};
use crate::key::CacheKey;
use crate::layer::FirstError;

/// A search under way.
pub(super) struct Search<'a> {
    storage: &'a TieredStorage,
    key: &'a CacheKey,
    stale: Option<Entry>,
    failed: FirstError,
    /// Whether the tier that has everything has answered.
    has_truth: bool,
    /// Whether a tier could not say of something that no other has.
    lacks_truth: bool,
    /// The tiers that may get a copy.
    pub(super) lacking: Vec<usize>,
    pub(super) filling: Option<Filling<'a>>,
}

/// A fill that ends with the search.
pub(super) struct Filling<'a> {
    fills: &'a Fills<()>,
    key: &'a CacheKey,
    pub(super) fill: Arc<Fill<()>>,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.fills.end(self.key, &self.fill);
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(storage: &'a TieredStorage, key: &'a CacheKey) -> Self {
        Self {
            storage,
            key,
            stale: None,
            failed: FirstError::default(),
            has_truth: false,
            lacks_truth: false,
            lacking: Vec::new(),
            filling: None,
        }
    }

    pub(super) fn key(&self) -> &CacheKey {
        self.key
    }

    /// Prepares for asking the next tier; true if what it has may be promoted. From then on, a write
    /// of the key by this process forbids that.
    pub(super) fn prepare(&mut self) -> bool {
        if self.lacking.is_empty() {
            return false;
        }
        let (storage, key) = (self.storage, self.key);
        self.filling.get_or_insert_with(|| {
            let fills = &storage.shared.fills;
            let fill = fills.begin(key, ());
            Filling { fills, key, fill }
        });
        true
    }

    /// Takes the answer of the tier at `position`; a fresh entry ends the search.
    pub(super) fn take(&mut self, position: usize, answer: Result<Option<Entry>>) -> Option<Entry> {
        let storage = self.storage;
        let tier = storage.tier(position);
        let found = match answer {
            Ok(found) => found.map(|mut entry| {
                entry.tier = Some(tier.name);
                entry
            }),
            Err(error) => {
                self.fail(position, error);
                return None;
            }
        };
        self.has_truth |= position == storage.last();
        match found {
            Some(entry) if tier.is_fresh(&entry) => {
                tier.count_hit();
                return Some(entry);
            }
            Some(entry) if self.stale.is_none() => self.stale = Some(entry),
            _ => {}
        }
        tier.count_miss();
        if storage.access.writes(position) {
            self.lacking.push(position);
        }
        None
    }

    fn fail(&mut self, position: usize, error: CacheError) {
        self.storage.skipped(position, &error);
        let shared = &self.storage.shared;
        self.lacks_truth |= position == shared.counters_in || position == self.storage.last();
        self.failed.note(error);
    }

    /// What the search comes to where no tier had a fresh entry.
    pub(super) fn conclude(self) -> Result<Option<Entry>> {
        if self.stale.is_some() || (self.has_truth && !self.lacks_truth) {
            return Ok(self.stale);
        }
        self.failed.into_result(None)
    }
}
