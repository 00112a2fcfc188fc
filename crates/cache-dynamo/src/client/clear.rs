//! Deleting everything below a prefix.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use cache_core::{Cleared, ErrorKind, Event, MAX_KEY_BYTES, Result};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::Client;
use super::batch::{CONCURRENCY, WRITES};
use super::call::{Call, Pauses};
use super::expressions::names;
use crate::error::BACKEND;
use crate::item::{Item, Layout};
use crate::options::KeySchema;

const SCAN: &str = "dynamodb:Scan";
const QUERY: &str = "dynamodb:Query";

/// How many parts of a table are scanned at a time.
const SEGMENTS: i32 = 4;

/// How many entries are deleted at a time: as many as the requests under way hold.
const DELETES: usize = CONCURRENCY * WRITES;

/// Which items a clear reads, and what of them.
#[derive(Debug)]
struct Search {
    /// What a query's keys have to be; none for a scan.
    keys: Option<String>,
    filter: String,
    projection: String,
    names: HashMap<String, String>,
    values: Option<Item>,
}

/// One page of a search.
#[derive(Debug)]
struct Page {
    items: Vec<Item>,
    next: Option<Item>,
}

impl Client {
    /// Deletes every entry whose key begins with `prefix`.
    pub(crate) async fn clear(&self, prefix: Option<&str>) -> Result<Cleared> {
        if prefix.is_some_and(|prefix| prefix.len() > MAX_KEY_BYTES) {
            // No key is that long, and a sort key is not compared with more than it can hold.
            return Ok(Cleared::new(0, true));
        }
        let deadline = Instant::now() + self.options.clear_timeout;
        let search = Search::new(&self.layout, prefix);
        let segments = if search.keys.is_some() { 1 } else { SEGMENTS };
        let parts = (0..segments).map(|segment| {
            let segment = (search.keys.is_none()).then_some(segment);
            self.clear_part(&search, segment, deadline)
        });
        let mut whole = Cleared::new(0, true);
        for part in join_all(parts).await {
            let part = part?;
            whole.deleted += part.deleted;
            whole.complete &= part.complete;
        }
        Ok(whole)
    }

    /// Deletes what the search finds in one segment of the table, or everywhere.
    async fn clear_part(
        &self,
        search: &Search,
        segment: Option<i32>,
        deadline: Instant,
    ) -> Result<Cleared> {
        let mut cleared = Cleared::new(0, false);
        let mut start = None;
        let mut pauses = Pauses::new();
        loop {
            let next = self.clear_page(search, segment, &start, deadline, &mut cleared.deleted);
            match next.await {
                Ok(None) => {
                    cleared.complete = true;
                    return Ok(cleared);
                }
                Ok(next) => {
                    start = next;
                    pauses.reset();
                }
                // A clear is in no hurry: what was throttled is asked for again, from the same
                // place.
                Err(error) if error.kind() == ErrorKind::Throttled => {
                    if !pauses.wait(deadline).await {
                        return Ok(cleared);
                    }
                    self.tell(&Event::Retry { backend: BACKEND });
                }
                Err(_) if Instant::now() >= deadline => return Ok(cleared),
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(cleared);
            }
        }
    }

    /// Deletes what one page of the search finds; returns where the next one begins.
    async fn clear_page(
        &self,
        search: &Search,
        segment: Option<i32>,
        start: &Option<Item>,
        deadline: Instant,
        deleted: &mut u64,
    ) -> Result<Option<Item>> {
        let page = self.page(search, segment, start, deadline).await?;
        let now = self.now();
        // What was absent already is deleted and not counted.
        let counts = |item| {
            let head = Layout::head(item);
            head.map_or(true, |head| !head.stale_until().is_past(now))
        };
        let found: Vec<_> = page
            .items
            .iter()
            .filter_map(|item| Some((self.layout.key_of(item)?, counts(item))))
            .collect();
        // A page may hold thousands of entries, and each part has the time of a batch.
        for part in found.chunks(DELETES) {
            let keys: Vec<_> = part.iter().map(|(key, _)| *key).collect();
            let budget = self.bulk().until(deadline);
            let outcomes = self.delete_within(&keys, budget).await;
            let mut first_error = Ok(());
            for (outcome, (_, counts)) in outcomes.into_iter().zip(part) {
                match outcome {
                    Ok(()) => *deleted += u64::from(*counts),
                    Err(error) => first_error = first_error.and(Err(error)),
                }
            }
            first_error?;
        }
        Ok(page.next)
    }

    /// The page of the search that begins after `start`.
    async fn page(
        &self,
        search: &Search,
        segment: Option<i32>,
        start: &Option<Item>,
        deadline: Instant,
    ) -> Result<Page> {
        let budget = self.bulk().until(deadline);
        if search.keys.is_some() {
            return self.query(search, start, Call::read(QUERY, budget)).await;
        }
        let answer = self.call(Call::read(SCAN, budget), || {
            self.sdk
                .scan()
                .table_name(&self.options.table)
                .consistent_read(true)
                .set_segment(segment)
                .set_total_segments(segment.map(|_| SEGMENTS))
                .filter_expression(&search.filter)
                .projection_expression(&search.projection)
                .set_expression_attribute_names(Some(search.names.clone()))
                .set_expression_attribute_values(search.values.clone())
                .set_exclusive_start_key(start.clone())
                .send()
        });
        let reply = answer.await?.reply;
        Ok(Page {
            items: reply.items.unwrap_or_default(),
            next: reply.last_evaluated_key,
        })
    }

    async fn query(&self, search: &Search, start: &Option<Item>, call: Call) -> Result<Page> {
        let answer = self.call(call, || {
            self.sdk
                .query()
                .table_name(&self.options.table)
                .consistent_read(true)
                .set_key_condition_expression(search.keys.clone())
                .filter_expression(&search.filter)
                .projection_expression(&search.projection)
                .set_expression_attribute_names(Some(search.names.clone()))
                .set_expression_attribute_values(search.values.clone())
                .set_exclusive_start_key(start.clone())
                .send()
        });
        let reply = answer.await?.reply;
        Ok(Page {
            items: reply.items.unwrap_or_default(),
            next: reply.last_evaluated_key,
        })
    }
}

impl Search {
    fn new(layout: &Layout, prefix: Option<&str>) -> Self {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut values = Item::new();
        let mut keys = Vec::new();
        let mut letters = "kmes".to_owned();
        if let Some((_, constant)) = layout.schema.constant() {
            keys.push("#c = :c");
            letters.push('c');
            values.insert(":c".to_owned(), text(constant));
        }
        if let Some(prefix) = prefix {
            keys.push("begins_with(#k, :prefix)");
            values.insert(":prefix".to_owned(), text(prefix));
        }
        let is_query = matches!(layout.schema, KeySchema::ConstantPartition { .. });
        let mut filter = vec!["attribute_exists(#m)"];
        if !is_query {
            filter.append(&mut keys);
        }
        Self {
            keys: is_query.then(|| keys.join(" AND ")),
            filter: filter.join(" AND "),
            projection: "#k, #m, #e, #s".to_owned(),
            names: names(layout, &letters),
            values: (!values.is_empty()).then_some(values),
        }
    }
}
