//! Deleting what a layer missed before it is used again.

use super::layer::Layer;
use super::{FallbackStorage, is_trouble};
use crate::error::{CacheError, ErrorKind, Result};
use crate::key::CacheKey;

/// How many keys are deleted at a time.
const AT_A_TIME: usize = 500;

impl FallbackStorage {
    /// Makes the layer at `position` fit for use, or says why it is not.
    pub(super) async fn ready(&self, position: usize) -> Result<()> {
        let layer = &self.layers[position];
        if !layer.journal.has_missed() {
            return Ok(());
        }
        // Boxed, since the way here is rare and its future large.
        Box::pin(drain(layer)).await
    }
}

/// Deletes everything that waits. Dropped half-way, what was acknowledged is done and the rest waits
/// on.
///
/// One caller does it; the others go on to the next layer meanwhile. The first delete is of a single
/// key: it is short, and behind a breaker it is the probe.
async fn drain(layer: &Layer) -> Result<()> {
    let Some(_right) = layer.journal.begin_drain() else {
        let message = "what the storage missed is being deleted";
        let error = CacheError::new(ErrorKind::Rejected, message).with_code("draining");
        return Err(error.with_backend(layer.backend()));
    };
    if let [(key, number)] = &layer.journal.waiting(1)[..] {
        settled(layer.storage().delete(key).await.map(drop))?;
        layer.journal.acknowledged([(key, *number)]);
    }
    loop {
        let waiting = layer.journal.waiting(AT_A_TIME);
        if waiting.is_empty() {
            return Ok(());
        }
        let keys: Vec<CacheKey> = waiting.iter().map(|(key, _)| key.clone()).collect();
        let outcomes = layer.storage().delete_many(&keys).await;
        let mut trouble = None;
        let deleted = waiting
            .iter()
            .zip(outcomes)
            .filter_map(|(missed, outcome)| match settled(outcome) {
                Ok(()) => Some((&missed.0, missed.1)),
                Err(error) => {
                    trouble.get_or_insert(error);
                    None
                }
            });
        let deleted: Vec<_> = deleted.collect();
        layer.journal.acknowledged(deleted);
        if let Some(error) = trouble {
            return Err(error);
        }
    }
}

/// A key that the layer refuses cannot be in it.
fn settled(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if is_trouble(&error) || error.kind() == ErrorKind::Closed => Err(error),
        _ => Ok(()),
    }
}
