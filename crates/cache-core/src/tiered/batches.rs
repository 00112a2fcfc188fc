//! Writes of many keys.

use super::owed::Owed;
use super::{TieredStorage, is_number};
use crate::entry::NewEntry;
use crate::error::{Operation, Result};
use crate::fills::Writing;
use crate::key::CacheKey;
use crate::layer::{is_left_behind, last_of_each};

type Entries = [(CacheKey, NewEntry)];

impl TieredStorage {
    /// Writes each entry; of a key that is named twice only the last one, whose outcome is that of
    /// all.
    pub(super) async fn set_each(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let check = |key: &_, entry: &_| self.check_entry(Operation::SetMany, key, entry);
        let (entries, place_of) = last_of_each(entries, check);
        let keys: Vec<CacheKey> = entries.iter().map(|(key, _)| key.clone()).collect();
        let writing = self.shared.fills.write_many(&keys).await;
        let mut owed = Owed::new(self, &keys, self.slowest_first().collect());
        let mut outcomes = vec![Ok(()); entries.len()];
        for position in self.slowest_first() {
            self.set_homes(position, &entries, &mut outcomes).await;
        }
        for position in self.slowest_first() {
            self.copy_each(position, &entries, &outcomes).await;
        }
        self.drop_contended(&entries, &writing).await;
        owed.forgive();
        let outcome = |place: Result<usize>| place.and_then(|place| outcomes[place].clone());
        place_of.into_iter().map(outcome).collect()
    }

    /// Writes into a tier those entries about which it decides.
    async fn set_homes(&self, position: usize, entries: &Entries, outcomes: &mut [Result<()>]) {
        let is_home = |place: &usize| self.home_of(&entries[*place].1) == position;
        let places: Vec<usize> = (0..entries.len()).filter(is_home).collect();
        let written = self.set_many_at(position, entries, &places).await;
        for (place, outcome) in places.into_iter().zip(written) {
            outcomes[place] = outcome;
        }
    }

    /// Writes copies of the entries about which another tier has decided, or drops the older ones.
    async fn copy_each(&self, position: usize, entries: &Entries, outcomes: &[Result<()>]) {
        let (mut copied, mut dropped) = (Vec::new(), Vec::new());
        for (place, (key, entry)) in entries.iter().enumerate() {
            if self.home_of(entry) == position {
                continue;
            }
            let is_copied = !is_number(entry) && self.tier(position).takes(&entry.value);
            match &outcomes[place] {
                Ok(()) if is_copied => copied.push(place),
                Err(error) if !is_left_behind(error) => {}
                _ => dropped.push(key.clone()),
            }
        }
        let written = self.set_many_at(position, entries, &copied).await;
        let mut trouble = None;
        for (place, outcome) in copied.into_iter().zip(written) {
            if let Err(error) = outcome {
                if !is_left_behind(&error) {
                    dropped.push(entries[place].0.clone());
                }
                trouble.get_or_insert(error);
            }
        }
        let ended = self.drop_many(position, &dropped).await;
        if let Some(error) = trouble.or_else(|| ended.into_iter().find_map(Result::err)) {
            self.skipped(position, &error);
        }
    }

    /// Deletes the copies of what was written by others at the same time: the tiers may have heard of
    /// the writes in different orders.
    async fn drop_contended(&self, entries: &Entries, writing: &[Writing<'_, ()>]) {
        let contended = entries.iter().zip(writing);
        let contended: Vec<(&CacheKey, usize)> = contended
            .filter(|(_, writing)| writing.is_contended())
            .map(|((key, entry), _)| (key, self.home_of(entry)))
            .collect();
        for position in self.slowest_first() {
            let copies = contended.iter().filter(|(_, home)| *home != position);
            let copies: Vec<CacheKey> = copies.map(|(key, _)| (*key).clone()).collect();
            let ended = self.drop_many(position, &copies).await;
            if let Some(error) = ended.into_iter().find_map(Result::err) {
                self.skipped(position, &error);
            }
        }
    }

    /// Writes the entries at these places into one tier. What it misses is remembered the moment
    /// it fails.
    async fn set_many_at(
        &self,
        position: usize,
        entries: &Entries,
        places: &[usize],
    ) -> Vec<Result<()>> {
        if places.is_empty() {
            return Vec::new();
        }
        let tier = self.tier(position);
        let journal = &tier.layer.journal;
        let before = journal.last_miss();
        let copies = places.iter().map(|place| {
            let (key, entry) = &entries[*place];
            (key.clone(), tier.copy_of(entry))
        });
        let written = tier.storage().set_many(copies.collect()).await;
        for (place, outcome) in places.iter().zip(&written) {
            let key = &entries[*place].0;
            match outcome {
                Ok(()) => {
                    if before > 0 {
                        journal.acknowledged([(key, before)]);
                    }
                    journal.wrote(key);
                }
                Err(error) if is_left_behind(error) => self.missed(position, key, true),
                Err(_) => {}
            }
        }
        written
    }
}
