//! Writes of one key.

use futures_util::future::join_all;

use super::{FallbackStorage, FirstError, Layer, is_trouble};
use crate::entry::{Condition, Counter, NewEntry};
use crate::error::{CacheError, Operation, Result};
use crate::key::CacheKey;
use crate::ttl::Ttl;

impl FallbackStorage {
    /// Writes into the first healthy layer.
    pub(super) async fn set_first(&self, key: &CacheKey, entry: NewEntry) -> Result<bool> {
        let mut failed = FirstError::default();
        for (position, layer) in self.layers.iter().enumerate() {
            let entry = self.entry_for(position, &entry);
            let ready = self.layers[position].ready(std::slice::from_ref(key)).await;
            let was_sent = ready.is_ok();
            let outcome = match ready {
                Ok(()) => {
                    if position > 0 {
                        self.lend(position, key, entry.kept_for());
                    }
                    layer.storage().set(key, entry, Condition::Always).await
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(is_written) => {
                    self.took(position, key);
                    return Ok(is_written);
                }
                Err(error) if is_trouble(&error) => {
                    // At once: whoever drops this future must not lose it.
                    self.missed(position, key, was_sent);
                    self.tell_fallback(position, &error);
                    failed.note(error);
                }
                Err(error) if position == 0 => return Err(error),
                // It is the first layer's trouble that the value does not fit into a later one.
                Err(_) => break,
            }
        }
        Err(failed.into_error())
    }

    /// Writes into every layer, for the whole time to live.
    pub(super) async fn set_all(&self, key: &CacheKey, entry: &NewEntry) -> Result<bool> {
        // Refused by the first layer, it would leave the key in every journal, and the value that is
        // there would be lost.
        self.check(Operation::Set, key, entry)?;
        self.note_counter_copies(key, entry);
        let positions = 0..self.layers.len();
        self.mirror(positions, key, entry).await.map(|()| true)
    }

    /// Remembers copies of a number in layers that increments will not reach, which outdate them.
    pub(super) fn note_counter_copies(&self, key: &CacheKey, entry: &NewEntry) {
        if crate::counter::parse(&entry.value).is_some() {
            for position in self.others().filter(|position| *position > 0) {
                self.lend(position, key, entry.kept_for());
                self.layers[position].journal.landed(key);
            }
        }
    }

    /// Writes into these layers; done when one took it, remembered for the others.
    async fn mirror(
        &self,
        positions: impl Iterator<Item = usize>,
        key: &CacheKey,
        entry: &NewEntry,
    ) -> Result<()> {
        let write = |position: usize| async move {
            let layer = &self.layers[position];
            let before = layer.journal.last_miss();
            let entry = entry.clone();
            let written = layer.storage().set(key, entry, Condition::Always).await;
            match &written {
                Ok(_) => {
                    layer.journal.acknowledged([(key, before)]);
                    layer.journal.wrote(key);
                }
                Err(error) => {
                    self.missed(position, key, true);
                    self.tell_missed(position, error);
                }
            }
            written.map(drop)
        };
        let written = join_all(positions.map(write)).await;
        any(written)
    }

    /// Moves the end of a fresh entry of the first healthy layer.
    pub(super) async fn expire_first(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let mut failed = FirstError::default();
        for position in 0..self.layers.len() {
            let ready = self.layers[position].ready(std::slice::from_ref(key)).await;
            let was_sent = ready.is_ok();
            let outcome = match ready {
                Ok(()) => self.expire_at(position, key, ttl).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if is_trouble(&error) => {
                    self.missed(position, key, was_sent);
                    self.tell_fallback(position, &error);
                    failed.note(error);
                }
                outcome => return outcome,
            }
        }
        Err(failed.into_error())
    }

    async fn expire_at(&self, position: usize, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let layer = &self.layers[position];
        // An outdated entry must not be taken for a fresh one.
        if layer.journal.has_doubts() && !layer.has(key).await? {
            return Ok(false);
        }
        let ttl = self.ttl_for(position, ttl);
        if position > 0 {
            self.lend(position, key, ttl.as_duration());
        }
        let was_there = layer.storage().expire(key, ttl).await?;
        if was_there {
            self.took(position, key);
        }
        Ok(was_there)
    }

    /// Moves the end of a fresh entry in every layer.
    pub(super) async fn expire_all(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let expire = |position: usize| async move {
            let outcome = self.layers[position].storage().expire(key, ttl).await;
            if let Err(error) = &outcome
                && is_trouble(error)
            {
                self.missed(position, key, true);
                self.tell_missed(position, error);
            }
            outcome
        };
        let outcomes = join_all((0..self.layers.len()).map(expire)).await;
        let was_there = outcomes.iter().any(|outcome| matches!(outcome, Ok(true)));
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map(drop));
        any(outcomes.collect()).map(|()| was_there)
    }

    /// Writes under a condition, in the one layer that has them.
    pub(super) async fn set_if(
        &self,
        key: &CacheKey,
        entry: NewEntry,
        condition: Condition,
    ) -> Result<bool> {
        let layer = self.only(key).await?;
        let is_written = layer.storage().set(key, entry.clone(), condition).await?;
        if is_written {
            self.took(self.counters_in, key);
            if self.write_all {
                // Done here; what others miss is in their journals.
                _ = self.mirror(self.others(), key, &entry).await;
            } else {
                self.drop_earlier(key).await;
            }
        }
        Ok(is_written)
    }

    /// Adds to a counter, in the one layer that has them.
    pub(super) async fn increment_once(
        &self,
        key: &CacheKey,
        delta: i64,
        ttl: Ttl,
    ) -> Result<Counter> {
        let layer = self.only(key).await?;
        let counter = layer.storage().increment(key, delta, ttl).await?;
        self.took(self.counters_in, key);
        Ok(counter)
    }

    /// The layer of counters and conditional writes, with nothing outdated under `key`.
    pub(super) async fn only(&self, key: &CacheKey) -> Result<&Layer> {
        self.layers[self.counters_in]
            .ready(std::slice::from_ref(key))
            .await?;
        let layer = &self.layers[self.counters_in];
        layer.drop_outdated(key).await?;
        Ok(layer)
    }

    /// Deletes older values in layers that are read before the one of conditional writes.
    async fn drop_earlier(&self, key: &CacheKey) {
        for position in 0..self.counters_in {
            if self.layers[position].storage().delete(key).await.is_err() {
                self.missed(position, key, true);
            }
        }
    }

    /// All layers but the one of counters and conditional writes.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let counters_in = self.counters_in;
        (0..self.layers.len()).filter(move |position| *position != counters_in)
    }

    fn tell_missed(&self, position: usize, error: &CacheError) {
        if position == 0 {
            self.tell_fallback(position, error);
        }
    }

    pub(super) fn entry_for(&self, position: usize, entry: &NewEntry) -> NewEntry {
        let mut entry = entry.clone();
        if position > 0 {
            // An entry that is never fresh has its stale budget instead of a time to live.
            let is_spent = entry.ttl == Ttl::SPENT;
            entry.ttl = self.ttl_for(position, entry.ttl);
            let most = self.fallback_ttl.as_duration();
            entry.stale_for = entry.stale_for.filter(|_| is_spent);
            entry.stale_for = entry
                .stale_for
                .map(|span| most.map_or(span, |most| span.min(most)));
        }
        entry
    }

    fn ttl_for(&self, position: usize, ttl: Ttl) -> Ttl {
        let most = self.fallback_ttl;
        let is_longer = ttl
            .as_duration()
            .is_none_or(|span| Some(span) > most.as_duration());
        if position > 0 && is_longer { most } else { ttl }
    }
}

/// Done when any layer did it; the first layer's error otherwise.
pub(super) fn any(outcomes: Vec<Result<()>>) -> Result<()> {
    // A mistake of the caller is one in every layer.
    if let Some(Err(error)) = outcomes.first()
        && !is_trouble(error)
    {
        return Err(error.clone());
    }
    let mut failed = FirstError::default();
    let mut is_done = false;
    for outcome in outcomes {
        match outcome {
            Ok(()) => is_done = true,
            Err(error) => failed.note(error),
        }
    }
    if is_done {
        return Ok(());
    }
    Err(failed.into_error())
}
