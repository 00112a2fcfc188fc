//! Deletes go to every layer.

use futures_util::future::join_all;

use super::{DeleteReport, FallbackStorage, FirstError, is_trouble};
use crate::error::{Operation, Result};
use crate::key::CacheKey;
use crate::layer::End;

impl FallbackStorage {
    /// Deletes as [`delete`](crate::CacheStorage::delete) does, and says which layers missed it.
    ///
    /// # Errors
    ///
    /// No layer acknowledged it.
    pub async fn delete_report(&self, key: &CacheKey) -> Result<DeleteReport> {
        self.front.refuse_closed(Operation::Delete)?;
        self.end(key, 0..self.layers.len(), |storage, key| {
            storage.delete(key)
        })
        .await
    }

    /// Ends an entry in these layers, all at the same time. What a layer missed is remembered the
    /// moment it fails, so that a dropped future loses nothing.
    pub(super) async fn end(
        &self,
        key: &CacheKey,
        positions: impl Iterator<Item = usize>,
        end: End,
    ) -> Result<DeleteReport> {
        let outcomes = join_all(
            positions
                .map(|position| async move { (position, self.end_at(position, key, end).await) }),
        );
        let mut failed = FirstError::default();
        let mut report = DeleteReport {
            existed: false,
            missed: Vec::new(),
        };
        let mut is_acknowledged = false;
        for (position, outcome) in outcomes.await {
            match outcome {
                Ok(existed) => {
                    is_acknowledged = true;
                    report.existed |= existed;
                }
                Err(error) if is_trouble(&error) => {
                    report.missed.push(self.layers[position].backend());
                    failed.note(error);
                }
                Err(error) if position == 0 => return Err(error),
                Err(_) => {}
            }
        }
        if is_acknowledged {
            return Ok(report);
        }
        Err(failed.into_error())
    }

    async fn end_at(&self, position: usize, key: &CacheKey, end: End) -> Result<bool> {
        let layer = &self.layers[position];
        let outcome = layer.end(key, end).await;
        if let Err(error) = &outcome
            && is_trouble(error)
        {
            self.missed(position, key, true);
            if position == 0 {
                self.tell_fallback(position, error);
            }
        }
        outcome
    }

    /// Deletes many keys in every layer.
    pub(super) async fn delete_all(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let delete = |position: usize| async move {
            let layer = &self.layers[position];
            let before = layer.journal.last_miss();
            let outcomes = layer.storage().delete_many(keys).await;
            for (key, outcome) in keys.iter().zip(&outcomes) {
                match outcome {
                    Ok(()) if before > 0 => layer.journal.acknowledged([(key, before)]),
                    Err(error) if is_trouble(error) => self.missed(position, key, true),
                    _ => {}
                }
            }
            outcomes
        };
        let per_layer = join_all((0..self.layers.len()).map(delete)).await;
        self.tell_first_trouble(&per_layer[0]);
        let mut outcomes: Vec<_> = per_layer.into_iter().map(Vec::into_iter).collect();
        let of_key = |_| {
            let of_layers = outcomes.iter_mut().filter_map(Iterator::next);
            self.any_of(of_layers)
        };
        keys.iter().map(of_key).collect()
    }

    /// Writes into one layer are told of once a batch.
    pub(super) fn tell_first_trouble<T>(&self, outcomes: &[Result<T>]) {
        let trouble = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        if let Some(error) = trouble.into_iter().find(|error| is_trouble(error)) {
            self.tell_fallback(0, error);
        }
    }

    /// One key's outcome from its outcomes in each layer.
    pub(super) fn any_of<T>(&self, outcomes: impl Iterator<Item = Result<T>>) -> Result<T> {
        let mut done = None;
        let mut failed = FirstError::default();
        for (position, outcome) in outcomes.enumerate() {
            match outcome {
                Ok(value) => {
                    done.get_or_insert(value);
                }
                Err(error) if position == 0 && !is_trouble(&error) => return Err(error),
                Err(error) => failed.note(error),
            }
        }
        done.ok_or_else(|| failed.into_error())
    }
}
