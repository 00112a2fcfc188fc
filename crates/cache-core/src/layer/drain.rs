//! Deleting what a layer missed before it is used again.

use super::journal::Missed;
use super::{Layer, is_left_behind};
use crate::error::{CacheError, ErrorKind, Result};
use crate::key::CacheKey;
use crate::storage::Shard;

/// How many keys are deleted at a time.
const AT_A_TIME: usize = 500;

impl Layer {
    /// Makes the layer fit for use with `keys`, or says why it is not.
    ///
    /// Of a backend with several servers only the keys concerned have to be settled: one server that
    /// is away must not keep the others from being asked. So it is where callers have nothing else
    /// to turn to: a server that refuses deletes may still answer reads.
    pub(crate) async fn ready(&self, keys: &[CacheKey]) -> Result<()> {
        if !self.journal.has_missed() {
            return Ok(());
        }
        let shard = keys.first().and_then(|key| self.storage().shard(key));
        // Boxed, since the way here is rare and its future large.
        match shard {
            None if self.settles_all => Box::pin(drain(self)).await,
            shard => Box::pin(drain_own(self, keys, shard.as_ref())).await,
        }
    }
}

/// Deletes those of `keys` that wait, and then some that wait for the same server.
async fn drain_own(layer: &Layer, keys: &[CacheKey], shard: Option<&Shard>) -> Result<()> {
    let own = layer.journal.waiting_of(keys);
    match &own[..] {
        [] => return Ok(()),
        [(key, number)] => {
            settled(layer.storage().delete(key).await.map(drop))?;
            layer.journal.acknowledged([(key, *number)]);
        }
        own => delete_all(layer, own).await?,
    }
    let mut waiting = layer.journal.waiting(AT_A_TIME);
    waiting.retain(|(key, _)| layer.storage().shard(key).as_ref() == shard);
    if !waiting.is_empty() {
        // What is left waits for whoever wants it.
        _ = delete_all(layer, &waiting).await;
    }
    Ok(())
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
        delete_all(layer, &waiting).await?;
    }
}

/// Deletes keys that wait. Those that were deleted leave the journal, whatever became of the others.
async fn delete_all(layer: &Layer, waiting: &[Missed]) -> Result<()> {
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
    trouble.map_or(Ok(()), Err)
}

/// A key that the layer refuses cannot be in it.
fn settled(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if is_left_behind(&error) => Err(error),
        _ => Ok(()),
    }
}
