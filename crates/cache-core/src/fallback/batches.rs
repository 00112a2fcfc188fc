//! Writes of many keys.

use futures_util::future::join_all;

use super::{FallbackStorage, is_trouble};
use crate::entry::NewEntry;
use crate::error::{Operation, Result};
use crate::key::CacheKey;
use crate::layer::last_of_each;

impl FallbackStorage {
    /// Writes each entry; of a key that is named twice only the last one, whose outcome is that of
    /// all: with the earlier one alone in a layer, the older value would be the current one. Entries
    /// that no layer would take do not count.
    pub(super) async fn set_each(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let check = |key: &_, entry: &_| self.check(Operation::SetMany, key, entry);
        let (last, place_of) = last_of_each(entries, check);
        let outcomes = if self.write_all {
            self.set_many_all(last).await
        } else {
            self.set_many_first(last).await
        };
        let outcome = |place: Result<usize>| place.and_then(|place| outcomes[place].clone());
        place_of.into_iter().map(outcome).collect()
    }

    /// Refuses what the first layer would refuse, before anything is sent or remembered.
    pub(super) fn check(
        &self,
        operation: Operation,
        key: &CacheKey,
        entry: &NewEntry,
    ) -> Result<()> {
        let checked = self.front.info.check_key(key);
        checked
            .and_then(|()| self.front.info.check_value(&entry.value))
            .map_err(|error| error.with_operation(operation).with_key(key))
    }

    /// Writes each entry into the first layer that takes it.
    async fn set_many_first(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let mut outcomes: Vec<Result<()>> = vec![Ok(()); entries.len()];
        let mut open: Vec<usize> = (0..entries.len()).collect();
        for position in 0..self.layers.len() {
            if open.is_empty() {
                break;
            }
            let batch: Vec<_> = open
                .iter()
                .map(|place| {
                    let (key, entry) = &entries[*place];
                    (key.clone(), self.entry_for(position, entry))
                })
                .collect();
            let answers = self.write_batch(position, batch).await;
            let mut still_open = Vec::new();
            for (place, answer) in open.into_iter().zip(answers) {
                match answer {
                    Err(error) if is_trouble(&error) => {
                        if still_open.is_empty() {
                            self.tell_fallback(position, &error);
                        }
                        still_open.push(place);
                        if position == 0 {
                            outcomes[place] = Err(error);
                        }
                    }
                    Ok(()) => outcomes[place] = Ok(()),
                    Err(error) if position == 0 => outcomes[place] = Err(error),
                    // The first layer's trouble stays what it was.
                    Err(_) => {}
                }
            }
            open = still_open;
        }
        outcomes
    }

    /// Writes a batch into one layer and remembers what became of it.
    async fn write_batch(
        &self,
        position: usize,
        batch: Vec<(CacheKey, NewEntry)>,
    ) -> Vec<Result<()>> {
        let keys: Vec<CacheKey> = batch.iter().map(|(key, _)| key.clone()).collect();
        let ready = self.layers[position].ready(&keys).await;
        let was_sent = ready.is_ok();
        let answers = match ready {
            Ok(()) => {
                if position > 0 {
                    for (key, entry) in &batch {
                        self.lend(position, key, entry.kept_for());
                    }
                }
                self.layers[position].storage().set_many(batch).await
            }
            Err(error) => vec![Err(error); keys.len()],
        };
        for (key, answer) in keys.iter().zip(&answers) {
            match answer {
                Ok(()) => self.took(position, key),
                Err(error) if is_trouble(error) => self.missed(position, key, was_sent),
                Err(_) => {}
            }
        }
        answers
    }

    /// Writes every entry into every layer.
    pub(super) async fn set_many_all(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let entries = &entries;
        let write = |position: usize| async move {
            let layer = &self.layers[position];
            let before = layer.journal.last_miss();
            let outcomes = layer.storage().set_many(entries.clone()).await;
            for ((key, _), outcome) in entries.iter().zip(&outcomes) {
                match outcome {
                    Ok(()) => {
                        layer.journal.acknowledged([(key, before)]);
                        layer.journal.wrote(key);
                    }
                    // Refused as too large here only, it leaves an older value behind.
                    Err(_) => self.missed(position, key, true),
                }
            }
            outcomes
        };
        let per_layer = join_all((0..self.layers.len()).map(write)).await;
        self.tell_first_trouble(&per_layer[0]);
        let mut outcomes: Vec<_> = per_layer.into_iter().map(Vec::into_iter).collect();
        let of_entry = |_| {
            let of_layers = outcomes.iter_mut().filter_map(Iterator::next);
            self.any_of(of_layers)
        };
        entries.iter().map(of_entry).collect()
    }
}
