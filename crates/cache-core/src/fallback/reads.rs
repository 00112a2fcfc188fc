//! Asking one layer after the other.

use std::borrow::Cow;

use futures_util::future::BoxFuture;

use super::{FallbackStorage, FirstError, Layer, is_trouble};
use crate::entry::Entry;
use crate::error::Result;
use crate::key::CacheKey;
use crate::storage::CacheStorage;

/// One of the two ways to read many keys.
pub(super) type AskMany =
    for<'k> fn(&'k dyn CacheStorage, &'k [CacheKey]) -> BoxFuture<'k, Vec<Result<Option<Entry>>>>;

impl FallbackStorage {
    /// The answer of the first layer that has one.
    pub(super) async fn first<'a, T, F>(
        &'a self,
        key: &'a CacheKey,
        ask: impl Fn(&'a Layer) -> F + Send + Sync + 'a,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let mut failed = FirstError::default();
        for (position, layer) in self.layers.iter().enumerate() {
            let answer = match self.layers[position].ready(std::slice::from_ref(key)).await {
                Ok(()) => ask(layer).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if is_trouble(&error) => {
                    self.tell_fallback(position, &error);
                    failed.note(error);
                }
                answer => return answer,
            }
        }
        Err(failed.into_error())
    }

    /// The outcome of each key from the first layer that has one for it.
    pub(super) async fn first_of_each(
        &self,
        keys: &[CacheKey],
        ask: AskMany,
    ) -> Vec<Result<Option<Entry>>> {
        let mut outcomes: Vec<Result<Option<Entry>>> = vec![Ok(None); keys.len()];
        let mut open: Vec<usize> = (0..keys.len()).collect();
        for (position, layer) in self.layers.iter().enumerate() {
            if open.is_empty() {
                break;
            }
            let asked: Cow<'_, [CacheKey]> = if open.len() == keys.len() {
                Cow::Borrowed(keys)
            } else {
                open.iter().map(|place| keys[*place].clone()).collect()
            };
            let answers = match self.layers[position].ready(&asked).await {
                Ok(()) => ask(layer.storage(), &asked).await,
                Err(error) => vec![Err(error); asked.len()],
            };
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
                    Ok(found) => outcomes[place] = Ok(layer.judged(&keys[place], found)),
                    Err(error) => outcomes[place] = Err(error),
                }
            }
            open = still_open;
        }
        outcomes
    }
}
