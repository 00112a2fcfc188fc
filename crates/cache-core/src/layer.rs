//! One of the storages that answer together, in a fallback or in tiers, and what is remembered
//! about it.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::clock::{Moment, Timestamp};
use crate::entry::{Entry, NewEntry};
use crate::error::{CacheError, ErrorKind, Result};
use crate::key::CacheKey;
use crate::storage::CacheStorage;
use crate::ttl::{Expiry, TimeLeft};

mod drain;
mod front;
mod journal;

pub(crate) use front::Front;
use journal::Journal;

/// What is known about one storage of a fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerStatus {
    /// The backend of the layer.
    pub backend: &'static str,
    /// Where it is.
    pub address: Option<String>,
    /// How many keys it has missed and not deleted yet.
    pub journalled: usize,
    /// When its journal was given up, if it was.
    pub overflowed_at: Option<Timestamp>,
}

/// `delete` or `expire_now`.
pub(crate) type End = for<'k> fn(&'k dyn CacheStorage, &'k CacheKey) -> BoxFuture<'k, Result<bool>>;

/// One of the storages that answer together.
pub(crate) struct Layer {
    pub(crate) storage: Arc<dyn CacheStorage>,
    pub(crate) journal: Journal,
    /// Whether nothing is asked of it before all that it missed was deleted there. Callers then
    /// need another layer to turn to.
    settles_all: bool,
}

impl Layer {
    pub(crate) fn new(storage: Arc<dyn CacheStorage>, capacity: usize) -> Self {
        Self {
            storage,
            journal: Journal::new(capacity),
            settles_all: true,
        }
    }

    /// The same, where only the keys that are asked for have to be settled.
    pub(crate) fn key_by_key(mut self) -> Self {
        self.settles_all = false;
        self
    }

    /// The storage itself. Called on the `Arc`, which is a storage too, each method would box a
    /// second future.
    pub(crate) fn storage(&self) -> &dyn CacheStorage {
        &*self.storage
    }

    pub(crate) fn backend(&self) -> &'static str {
        self.storage.info().backend
    }

    pub(crate) fn wall(&self) -> Timestamp {
        self.storage.info().clock.wall()
    }

    pub(crate) fn now(&self) -> Moment {
        self.storage.info().clock.now()
    }

    /// The entry, unless it is known to be outdated.
    pub(crate) fn judged(&self, key: &CacheKey, found: Option<Entry>) -> Option<Entry> {
        if !self.journal.has_doubts() {
            return found;
        }
        found.filter(|entry| self.journal.is_current(key, entry.created_at, self.now()))
    }

    /// Whether the layer has a fresh entry that is not outdated.
    pub(crate) async fn has(&self, key: &CacheKey) -> Result<bool> {
        if !self.journal.has_doubts() {
            return self.storage().has(key).await;
        }
        let time_left = self.time_left(key).await?;
        Ok(time_left != TimeLeft::Missing)
    }

    /// What is left of an entry that is not outdated.
    pub(crate) async fn time_left(&self, key: &CacheKey) -> Result<TimeLeft> {
        if !self.journal.has_doubts() {
            return self.storage().get_ttl(key).await;
        }
        let found = self.storage().lookup(key).await?;
        let now = self.wall();
        Ok(match self.judged(key, found) {
            Some(entry) if entry.expires_at.is_past(now) => TimeLeft::Missing,
            Some(entry) => match entry.expires_at {
                Expiry::At(end) => TimeLeft::Remaining(end.since(now)),
                Expiry::Never | Expiry::AtServer => TimeLeft::Forever,
            },
            None => TimeLeft::Missing,
        })
    }

    /// Ends an entry and says whether there was a fresh one. An older one that the layer missed the
    /// end of is deleted whatever was asked for: nothing stale must be left of it.
    pub(crate) async fn end(&self, key: &CacheKey, end: End) -> Result<bool> {
        let before = self.journal.last_miss();
        let keys = std::slice::from_ref(key);
        if before > 0 && !self.journal.waiting_of(keys).is_empty() {
            self.storage().delete(key).await?;
            self.journal.acknowledged([(key, before)]);
            return Ok(false);
        }
        end(self.storage(), key).await
    }

    /// Deletes what is there under `key` if it is outdated, before the storage decides by it.
    pub(crate) async fn drop_outdated(&self, key: &CacheKey) -> Result<()> {
        if !self.journal.has_doubts() || !self.journal.can_remember(key) {
            return Ok(());
        }
        let found = self.storage().lookup(key).await?;
        if let Some(entry) = found
            && self.judged(key, Some(entry.clone())).is_none()
        {
            // Only what was looked at: somebody else may have renewed it meanwhile.
            let storage = self.storage();
            storage.compare_and_delete(key, &entry.value).await?;
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> LayerStatus {
        let (journalled, overflowed_at) = self.journal.status();
        let info = self.storage.info();
        LayerStatus {
            backend: info.backend,
            address: info.address.clone(),
            journalled,
            overflowed_at,
        }
    }
}

pub(crate) fn is_trouble(error: &CacheError) -> bool {
    error.kind().is_trouble()
}

/// Whether a storage that refused for this kind of reason may still have the entry. One that was
/// shut down by itself may.
pub(crate) fn is_left_behind(error: &CacheError) -> bool {
    is_trouble(error) || error.kind() == ErrorKind::Closed
}

/// The first error of a call, and whether any of its attempts may have happened.
#[derive(Default)]
pub(crate) struct FirstError(Option<CacheError>);

impl FirstError {
    pub(crate) fn note(&mut self, error: CacheError) {
        self.0 = Some(match self.0.take() {
            None => error,
            Some(first) => {
                let may_have_happened = first.may_have_happened() || error.may_have_happened();
                first.with_may_have_happened(may_have_happened)
            }
        });
    }

    /// `fine` where nothing failed.
    pub(crate) fn into_result<T>(self, fine: T) -> Result<T> {
        self.0.map_or(Ok(fine), Err)
    }

    pub(crate) fn into_error(self) -> CacheError {
        let nothing = || CacheError::new(ErrorKind::Backend, "no layer was asked");
        self.0.unwrap_or_else(nothing)
    }
}

/// Of each key only the last entry, and for each entry of before the place of its key's last one,
/// or why it is refused. Entries that are refused do not count.
pub(crate) fn last_of_each(
    entries: Vec<(CacheKey, NewEntry)>,
    check: impl Fn(&CacheKey, &NewEntry) -> Result<()>,
) -> (Vec<(CacheKey, NewEntry)>, Vec<Result<usize>>) {
    let mut places: HashMap<CacheKey, usize> = HashMap::with_capacity(entries.len());
    let mut last: Vec<(CacheKey, NewEntry)> = Vec::with_capacity(entries.len());
    let mut place_of = Vec::with_capacity(entries.len());
    for (key, entry) in entries {
        if let Err(error) = check(&key, &entry) {
            place_of.push(Err(error));
            continue;
        }
        let place = *places.entry(key.clone()).or_insert(last.len());
        place_of.push(Ok(place));
        if place == last.len() {
            last.push((key, entry));
        } else {
            last[place] = (key, entry);
        }
    }
    (last, place_of)
}
