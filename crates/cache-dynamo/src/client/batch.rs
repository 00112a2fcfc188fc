//! Many keys in as few requests as the server takes.

use std::collections::{HashMap, hash_map};

use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest,
};
use cache_core::{CacheError, Entry, ErrorKind, Event, NewEntry, Result};
use futures_util::{StreamExt as _, stream};

use super::Client;
use super::call::{Answer, Budget, Call, Pauses, Repeat};
use crate::error::{BACKEND, error};
use crate::item::Item;

const BATCH_GET: &str = "dynamodb:BatchGetItem";
const BATCH_WRITE: &str = "dynamodb:BatchWriteItem";

/// How many keys one request reads, and how many items one writes.
const READS: usize = 100;
pub(super) const WRITES: usize = 25;

/// How many bytes of one request the items may take. The server takes 16 MB.
const REQUEST_BYTES: usize = 15_000_000;

/// How many requests of one batch are under way at a time.
pub(super) const CONCURRENCY: usize = 4;

/// One write of a batch.
#[derive(Debug)]
struct Write<'a> {
    key: &'a str,
    request: WriteRequest,
}

/// The keys of one request, and what has become of them.
#[derive(Debug)]
struct Reading<'a> {
    keys: &'a [&'a str],
    /// The place of each key among those of all requests, and of the first one of this request.
    places: &'a HashMap<&'a str, usize>,
    first: usize,
    /// In the order of the keys. A key that the server has got to without an item is not there.
    outcomes: Vec<Result<Option<Entry>>>,
    /// The places of the keys that the server has not got to.
    rest: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn new(keys: &'a [&'a str], places: &'a HashMap<&'a str, usize>, first: usize) -> Self {
        Self {
            keys,
            places,
            first,
            outcomes: vec![Ok(None); keys.len()],
            rest: (0..keys.len()).collect(),
        }
    }

    fn outcome(&mut self, key: &str) -> Option<&mut Result<Option<Entry>>> {
        let place = self.places.get(key)?.checked_sub(self.first)?;
        self.outcomes.get_mut(place)
    }

    /// Leaves the rest unread.
    fn give_up(&mut self, error: &CacheError) {
        for at in self.rest.drain(..) {
            self.outcomes[at] = Err(error.clone());
        }
    }
}

impl Client {
    /// The entries under keys, past their ends or not, in the order of the keys.
    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Entry>>> {
        let budget = self.bulk();
        let distinct = Distinct::of(keys.iter().copied());
        let chunks = distinct.keys.chunks(READS).zip((0..).step_by(READS));
        let requests: Vec<_> = chunks
            .map(|(chunk, first)| Reading::new(chunk, &distinct.known, first))
            // Boxed, since futures of some kilobytes would be moved again and again.
            .map(|reading| Box::pin(self.read_chunk(reading, budget)))
            .collect();
        let read = stream::iter(requests).buffered(CONCURRENCY);
        distinct.spread(read.concat().await)
    }

    /// Writes entries, always. Of several under one key the last is written, and all have its
    /// outcome.
    pub(crate) async fn set_many(&self, entries: &[(&str, &NewEntry)]) -> Vec<Result<()>> {
        let now = self.now();
        let distinct = Distinct::of(entries.iter().map(|(key, _)| *key));
        let mut last: Vec<&NewEntry> = Vec::with_capacity(distinct.keys.len());
        for ((_, entry), place) in entries.iter().zip(&distinct.places) {
            match last.get_mut(*place) {
                Some(earlier) => *earlier = entry,
                None => last.push(entry),
            }
        }
        let writes = distinct.keys.iter().zip(last).map(|(key, entry)| {
            let item = self.layout.encode(key, entry, now);
            let request = PutRequest::builder().set_item(Some(item)).build();
            let request = WriteRequest::builder().set_put_request(request.ok());
            Write {
                key,
                request: request.build(),
            }
        });
        let outcomes = self.write_all(writes.collect(), self.bulk()).await;
        distinct.spread(outcomes)
    }

    /// Deletes entries, whether or not they are there.
    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Vec<Result<()>> {
        self.delete_within(keys, self.bulk()).await
    }

    /// Deletes entries within `budget`.
    pub(super) async fn delete_within(&self, keys: &[&str], budget: Budget) -> Vec<Result<()>> {
        let distinct = Distinct::of(keys.iter().copied());
        let writes = distinct.keys.iter().map(|key| {
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
        distinct.spread(outcomes)
    }

    /// Reads up to [`READS`] distinct keys, again and again until the server has answered for each.
    async fn read_chunk(
        &self,
        mut reading: Reading<'_>,
        budget: Budget,
    ) -> Vec<Result<Option<Entry>>> {
        let mut pauses = Pauses::new();
        while !reading.rest.is_empty() {
            let call = Call::read(BATCH_GET, budget.anew());
            let error = match self.batch_get(reading.keys, &reading.rest, call).await {
                Ok((items, unprocessed)) => {
                    let before = reading.rest.len();
                    self.settle(&mut reading, items, &unprocessed);
                    if reading.rest.len() < before {
                        pauses.reset();
                    }
                    self.tell_unprocessed(reading.rest.len());
                    if reading.rest.is_empty() || pauses.wait(budget.deadline).await {
                        continue;
                    }
                    left_over()
                }
                Err(error) => error,
            };
            reading.give_up(&error);
        }
        reading.outcomes
    }

    /// Takes down what the server has answered for.
    fn settle(&self, reading: &mut Reading<'_>, items: Vec<Item>, unprocessed: &[Item]) {
        for item in items {
            let (key, entry) = self.layout.entry_with_key(item);
            if let Some(outcome) = key.and_then(|key| reading.outcome(&key)) {
                *outcome = entry.map(Some).map_err(CacheError::from);
            }
        }
        let Reading {
            keys,
            outcomes,
            rest,
            ..
        } = reading;
        rest.retain(|at| {
            let is_unanswered = matches!(outcomes[*at], Ok(None));
            is_unanswered && self.is_among(keys[*at], unprocessed)
        });
    }

    /// The items under those of `keys` that are at `places`, and the keys that the server did not
    /// get to.
    async fn batch_get(
        &self,
        keys: &[&str],
        places: &[usize],
        call: Call,
    ) -> Result<(Vec<Item>, Vec<Item>)> {
        let answer = self.call(call, || {
            let keys = places.iter().map(|at| self.layout.key(keys[*at])).collect();
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
        let items = self.of_table(reply.responses);
        let unprocessed = self.of_table(reply.unprocessed_keys);
        let unprocessed = unprocessed.map(|asked| asked.keys);
        Ok((items.unwrap_or_default(), unprocessed.unwrap_or_default()))
    }

    /// What an answer says of the one table that was asked for, by whatever name the server calls it.
    fn of_table<T>(&self, tables: Option<HashMap<String, T>>) -> Option<T> {
        let mut tables = tables?;
        let named = tables.remove(&self.options.table);
        named.or_else(|| tables.into_values().next())
    }

    /// Tells whoever measures it how many keys the server did not get to, if there are any.
    fn tell_unprocessed(&self, keys: usize) {
        if keys > 0 {
            self.tell(&Event::Unprocessed {
                backend: BACKEND,
                keys: keys as u64,
            });
        }
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
                    self.tell_unprocessed(rest.len());
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

/// Keys without the duplicates among them.
#[derive(Debug)]
struct Distinct<'a> {
    /// Each key once, in the order of first appearance.
    keys: Vec<&'a str>,
    /// Its place in that list.
    known: HashMap<&'a str, usize>,
    /// The place in that list of each key that was given.
    places: Vec<usize>,
}

impl<'a> Distinct<'a> {
    fn of(given: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let mut keys = Vec::with_capacity(given.len());
        let mut known = HashMap::with_capacity(given.len());
        let places = given
            .map(|key| match known.entry(key) {
                hash_map::Entry::Occupied(place) => *place.get(),
                hash_map::Entry::Vacant(vacant) => {
                    keys.push(key);
                    *vacant.insert(keys.len() - 1)
                }
            })
            .collect();
        Self {
            keys,
            known,
            places,
        }
    }

    /// The outcome of each key that was given, from those of the distinct ones.
    fn spread<T: Clone>(&self, outcomes: Vec<T>) -> Vec<T> {
        // Where no key comes twice, each is in its place already.
        if outcomes.len() == self.places.len() {
            return outcomes;
        }
        let places = self.places.iter();
        places.map(|place| outcomes[*place].clone()).collect()
    }
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
        let distinct = Distinct::of(["a", "b", "a", "c", "b"].into_iter());
        assert_eq!(distinct.keys, ["a", "b", "c"]);
        assert_eq!(distinct.places, [0, 1, 0, 2, 1]);
        assert_eq!(distinct.spread(vec![7, 8, 9]), [7, 8, 7, 9, 8]);
    }

    #[test]
    fn distinct_keys_keep_their_places() {
        let distinct = Distinct::of(["b", "a"].into_iter());
        assert_eq!(distinct.spread(vec![7, 8]), [7, 8]);
    }

    #[test]
    fn a_request_knows_only_its_own_keys() {
        let distinct = Distinct::of(["a", "b", "c"].into_iter());
        let mut reading = Reading::new(&distinct.keys[1..2], &distinct.known, 1);
        assert!(reading.outcome("a").is_none());
        assert!(reading.outcome("b").is_some());
        assert!(reading.outcome("c").is_none());
        assert!(reading.outcome("d").is_none());
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
