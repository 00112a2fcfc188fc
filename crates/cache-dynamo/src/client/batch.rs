//! Many keys in as few requests as the server takes.

use std::collections::HashMap;
use std::collections::hash_map;

use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest,
};
use cache_core::{CacheError, Entry, ErrorKind, NewEntry, Result};
use futures_util::{StreamExt as _, stream};

use super::Client;
use super::call::{Answer, Budget, Call, Pauses, Repeat};
use crate::error::error;
use crate::item::Item;

const BATCH_GET: &str = "dynamodb:BatchGetItem";
const BATCH_WRITE: &str = "dynamodb:BatchWriteItem";

/// How many keys one request reads, and how many items one writes.
const READS: usize = 100;
const WRITES: usize = 25;

/// How many bytes of one request the items may take. The server takes 16 MB.
const REQUEST_BYTES: usize = 15_000_000;

/// How many requests of one batch are under way at a time.
const CONCURRENCY: usize = 4;

/// One write of a batch.
#[derive(Debug)]
struct Write<'a> {
    key: &'a str,
    request: WriteRequest,
}

impl Client {
    /// The entries under keys, past their ends or not, in the order of the keys.
    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry>>> {
        let budget = self.bulk();
        let (distinct, places) = distinct(keys.iter().copied());
        let chunks = distinct.chunks(READS);
        let requests: Vec<_> = chunks.map(|chunk| self.read_chunk(chunk, budget)).collect();
        let read = stream::iter(requests).buffered(CONCURRENCY);
        let entries = read.collect::<Vec<_>>().await.concat();
        places
            .into_iter()
            .map(|place| entries[place].clone())
            .collect()
    }

    /// Writes entries, always. Of several under one key the last is written, and all have its
    /// outcome.
    pub(crate) async fn set_many(&self, entries: &[(&str, &NewEntry)]) -> Vec<Result<()>> {
        let now = self.now();
        let (keys, places) = distinct(entries.iter().map(|(key, _)| *key));
        let mut last: Vec<&NewEntry> = Vec::with_capacity(keys.len());
        for ((_, entry), place) in entries.iter().zip(&places) {
            match last.get_mut(*place) {
                Some(earlier) => *earlier = entry,
                None => last.push(entry),
            }
        }
        let writes = keys.into_iter().zip(last).map(|(key, entry)| {
            let item = self.layout.encode(key, entry, now);
            let request = PutRequest::builder().set_item(Some(item)).build();
            let request = WriteRequest::builder().set_put_request(request.ok());
            Write {
                key,
                request: request.build(),
            }
        });
        let outcomes = self.write_all(writes.collect(), self.bulk()).await;
        places
            .into_iter()
            .map(|place| outcomes[place].clone())
            .collect()
    }

    /// Deletes entries, whether or not they are there.
    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Vec<Result<()>> {
        self.delete_within(keys, self.bulk()).await
    }

    /// Deletes entries within `budget`.
    pub(super) async fn delete_within(&self, keys: &[&str], budget: Budget) -> Vec<Result<()>> {
        let (distinct, places) = distinct(keys.iter().copied());
        let writes = distinct.into_iter().map(|key| {
            let request = DeleteRequest::builder()
                .set_key(Some(self.layout.key(key)))
                .build();
            let request = WriteRequest::builder().set_delete_request(request.ok());
            Write {
                key,
                request: request.build(),
            }
        });
        let outcomes = self.write_all(writes.collect(), budget).await;
        places
            .into_iter()
            .map(|place| outcomes[place].clone())
            .collect()
    }

    /// Reads up to [`READS`] distinct keys, again and again until the server has answered for each.
    async fn read_chunk(&self, keys: &[&str], budget: Budget) -> Vec<Result<Option<Entry>>> {
        let mut outcomes: HashMap<&str, Result<Option<Entry>>> = HashMap::with_capacity(keys.len());
        let mut rest = keys.to_vec();
        let mut pauses = Pauses::new();
        while !rest.is_empty() {
            let call = Call::read(BATCH_GET, budget.anew());
            let error = match self.batch_get(&rest, call).await {
                Ok((items, unprocessed)) => {
                    let before = rest.len();
                    self.settle(&mut rest, items, &unprocessed, &mut outcomes);
                    if rest.len() < before {
                        pauses.reset();
                    }
                    if rest.is_empty() || pauses.wait(budget.deadline).await {
                        continue;
                    }
                    left_over()
                }
                Err(error) => error,
            };
            outcomes.extend(rest.drain(..).map(|key| (key, Err(error.clone()))));
        }
        keys.iter()
            .map(|key| outcomes.remove(*key).unwrap_or_else(|| Err(left_over())))
            .collect()
    }

    /// Moves what the server has answered for from `rest` to `outcomes`.
    fn settle<'a>(
        &self,
        rest: &mut Vec<&'a str>,
        items: Vec<Item>,
        unprocessed: &[Item],
        outcomes: &mut HashMap<&'a str, Result<Option<Entry>>>,
    ) {
        let mut found: HashMap<String, Item> = items
            .into_iter()
            .filter_map(|item| Some((self.layout.key_of(&item)?.to_owned(), item)))
            .collect();
        rest.retain(|key| {
            let item = found.remove(*key);
            let is_open = item.is_none() && self.is_among(key, unprocessed);
            if !is_open {
                let entry = item.map(|item| self.layout.entry(item)).transpose();
                outcomes.insert(key, entry.map_err(CacheError::from));
            }
            is_open
        });
    }

    /// The items under `keys`, and the keys that the server did not get to.
    async fn batch_get(&self, keys: &[&str], call: Call) -> Result<(Vec<Item>, Vec<Item>)> {
        let answer = self.call(call, || {
            let keys = keys.iter().map(|key| self.layout.key(key)).collect();
            let asked = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(self.options.consistent_reads)
                .build();
            let tables = asked.map(|asked| (self.options.table.clone(), asked));
            self.sdk
                .batch_get_item()
                .set_request_items(Some(tables.into_iter().collect()))
                .send()
        });
        let reply = answer.await?.reply;
        let items = reply.responses.unwrap_or_default();
        let unprocessed = reply.unprocessed_keys.unwrap_or_default();
        Ok((
            items.into_values().flatten().collect(),
            unprocessed
                .into_values()
                .flat_map(|asked| asked.keys)
                .collect(),
        ))
    }

    /// Whether the item key of `key` is among `items`.
    fn is_among(&self, key: &str, items: &[Item]) -> bool {
        items
            .iter()
            .any(|item| self.layout.key_of(item) == Some(key))
    }

    /// Writes under distinct keys, in their order.
    async fn write_all(&self, writes: Vec<Write<'_>>, budget: Budget) -> Vec<Result<()>> {
        let mut rest = &*writes;
        let mut requests = Vec::with_capacity(writes.len() / WRITES + 1);
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_length(rest));
            requests.push(self.write_chunk(chunk, budget));
            rest = later;
        }
        let written = stream::iter(requests).buffered(CONCURRENCY);
        written.collect::<Vec<_>>().await.concat()
    }

    /// Writes up to [`WRITES`] items, again and again until the server has taken each.
    async fn write_chunk(&self, writes: &[Write<'_>], budget: Budget) -> Vec<Result<()>> {
        let mut outcomes = vec![Ok(()); writes.len()];
        let mut rest: Vec<usize> = (0..writes.len()).collect();
        let mut pauses = Pauses::new();
        let mut after_unknown = false;
        while !rest.is_empty() {
            let call = Call::write(BATCH_WRITE, Repeat::Same, budget.anew());
            let error = match self.batch_write(writes, &rest, call).await {
                Ok(answer) => {
                    after_unknown |= answer.after_unknown;
                    let before = rest.len();
                    rest.retain(|at| self.is_among(writes[*at].key, &answer.reply));
                    if rest.len() < before {
                        pauses.reset();
                    }
                    if rest.is_empty() || pauses.wait(budget.deadline).await {
                        continue;
                    }
                    left_over()
                }
                Err(error) => error,
            };
            let may_have_happened = after_unknown || error.may_have_happened();
            let outcome = Err(error.with_may_have_happened(may_have_happened));
            rest.drain(..).for_each(|at| outcomes[at] = outcome.clone());
        }
        outcomes
    }

    /// Sends those of `writes` that are at `places`; returns the items or keys that the server did
    /// not get to.
    async fn batch_write(
        &self,
        writes: &[Write<'_>],
        places: &[usize],
        call: Call,
    ) -> Result<Answer<Vec<Item>>> {
        let answer = self.call(call, || {
            let requests = places
                .iter()
                .map(|at| writes[*at].request.clone())
                .collect();
            self.sdk
                .batch_write_item()
                .request_items(&self.options.table, requests)
                .send()
        });
        let Answer {
            reply,
            after_unknown,
        } = answer.await?;
        let item = |request: WriteRequest| match (request.put_request, request.delete_request) {
            (Some(put), _) => Some(put.item),
            (None, Some(delete)) => Some(delete.key),
            (None, None) => None,
        };
        let unprocessed = reply.unprocessed_items.unwrap_or_default();
        let unprocessed = unprocessed.into_values().flatten();
        Ok(Answer {
            reply: unprocessed.filter_map(item).collect(),
            after_unknown,
        })
    }
}

/// Each key once, in the order of first appearance, and the place of each in that list.
fn distinct<'a>(keys: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<usize>) {
    let mut distinct = Vec::new();
    let mut known = HashMap::new();
    let places = keys
        .map(|key| match known.entry(key) {
            hash_map::Entry::Occupied(place) => *place.get(),
            hash_map::Entry::Vacant(vacant) => {
                distinct.push(key);
                *vacant.insert(distinct.len() - 1)
            }
        })
        .collect();
    (distinct, places)
}

/// How many of `writes` go into one request.
fn chunk_length(writes: &[Write<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = writes.iter().take(WRITES).take_while(|write| {
        bytes += request_bytes(&write.request);
        bytes <= REQUEST_BYTES
    });
    fitting.count().max(1)
}

/// About how many bytes a write takes in a request.
fn request_bytes(request: &WriteRequest) -> usize {
    let item = match (&request.put_request, &request.delete_request) {
        (Some(put), _) => &put.item,
        (None, Some(delete)) => &delete.key,
        (None, None) => return 0,
    };
    let attribute = |(name, value): (&String, &AttributeValue)| {
        const PUNCTUATION: usize = 16;
        let value = match value {
            AttributeValue::S(text) | AttributeValue::N(text) => json_bytes(text),
            AttributeValue::B(blob) => blob.as_ref().len().div_ceil(3) * 4,
            _ => 0,
        };
        PUNCTUATION + json_bytes(name) + value
    };
    item.iter().map(attribute).sum()
}

/// How long `text` is as a JSON string.
fn json_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 2,
        0..=0x1F => 6,
        _ => 1,
    });
    escaped.sum()
}

fn left_over() -> CacheError {
    let message = "the server did not get to the key in time; the table has too little throughput";
    error(ErrorKind::Throttled, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_their_places_kept() {
        let (keys, places) = distinct(["a", "b", "a", "c", "b"].into_iter());
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(places, [0, 1, 0, 2, 1]);
    }

    fn write(value: AttributeValue) -> Write<'static> {
        let item = Item::from([("value".to_owned(), value)]);
        let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
        Write {
            key: "k",
            request: WriteRequest::builder().put_request(put).build(),
        }
    }

    #[test]
    fn requests_are_cut_by_number_and_by_what_they_weigh_when_sent() {
        let text = |bytes| AttributeValue::S("v".repeat(bytes));
        let small: Vec<_> = (0..60).map(|_| write(text(1))).collect();
        assert_eq!(chunk_length(&small), WRITES);
        let large: Vec<_> = (0..30).map(|_| write(text(400_000))).collect();
        assert_eq!(chunk_length(&large), WRITES);
        let escaped = || write(AttributeValue::S("\u{1}".repeat(400_000)));
        let escaped: Vec<_> = (0..30).map(|_| escaped()).collect();
        assert_eq!(chunk_length(&escaped), 6);
        assert_eq!(chunk_length(&[write(text(REQUEST_BYTES + 1))]), 1);
    }
}
