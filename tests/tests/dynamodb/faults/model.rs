//! A table in memory: as much of DynamoDB as the cache uses, for scripts to execute requests on.

use std::collections::{BTreeMap, HashSet};

use cache_testkit::servers::{Answer, Request};
use serde_json::{Map, Value, json};

mod expression;

use expression::{Scope, holds, updated};

/// The attribute that holds the key.
const KEY: &str = "PK";

/// How many keys the server takes in one request, and how many writes.
const READS: usize = 100;
const WRITES: usize = 25;

/// The items of the one table there is, and what happened to them.
#[derive(Debug, Default)]
pub(crate) struct Model {
    items: BTreeMap<String, Value>,
    /// How many writes each key has seen. A refused one is none.
    writes: BTreeMap<String, u32>,
}

/// An error answer: the code, and the item for which a condition did not hold.
type Refusal = (&'static str, Option<Value>);

impl Model {
    /// Executes a request and gives the answer to it.
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        self.answer_some(request, |_| true)
    }

    /// Executes a request whose answer nobody gets.
    pub(crate) fn execute(&mut self, request: &Request) {
        drop(self.answer(request));
    }

    /// As [`answer`](Self::answer), but leaves those keys of a batch unprocessed for which
    /// `reaches` is false.
    pub(crate) fn answer_some(
        &mut self,
        request: &Request,
        reaches: impl FnMut(&str) -> bool,
    ) -> Answer {
        match self.process(request.operation(), &body(request), reaches) {
            Ok(reply) => Answer::json(200, reply.to_string()),
            Err((code, item)) => {
                let mut reply = json!({ "__type": format!("com.amazonaws.dynamodb#{code}") });
                if let Some(item) = item {
                    reply["Item"] = item;
                }
                Answer::json(400, reply.to_string())
            }
        }
    }

    /// Puts text under a key, as an entry that never expires and past every count.
    pub(crate) fn insert(&mut self, key: &str, text: &str) {
        self.insert_value(key, &json!({ "S": text }));
    }

    /// Puts a counter under a key, as [`insert`](Self::insert) does text.
    pub(crate) fn insert_counter(&mut self, key: &str, count: i64) {
        self.insert_value(key, &json!({ "N": count.to_string() }));
    }

    fn insert_value(&mut self, key: &str, value: &Value) {
        let item = json!({ KEY: { "S": key }, "value": value, "cache_v": { "N": "1" } });
        self.items.insert(key.to_owned(), item);
    }

    /// The value under a key, whatever its type.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let value = self.items.get(key)?["value"].as_object()?;
        value.values().next()?.as_str()
    }

    /// How many writes the key has seen.
    pub(crate) fn writes(&self, key: &str) -> u32 {
        self.writes.get(key).copied().unwrap_or_default()
    }

    fn process(
        &mut self,
        operation: &str,
        body: &Value,
        reaches: impl FnMut(&str) -> bool,
    ) -> Result<Value, Refusal> {
        match operation {
            "GetItem" => Ok(match self.items.get(name(&body["Key"])) {
                Some(item) => json!({ "Item": item }),
                None => json!({}),
            }),
            "PutItem" => self.put(body),
            "UpdateItem" => self.update(body),
            "DeleteItem" => self.delete(body),
            "BatchGetItem" => self.batch_get(&body["RequestItems"], reaches),
            "BatchWriteItem" => self.batch_write(&body["RequestItems"], reaches),
            _ => Err(("UnknownOperationException", None)),
        }
    }

    fn put(&mut self, body: &Value) -> Result<Value, Refusal> {
        let key = name(&body["Item"]);
        self.check(key, body)?;
        self.write(key, Some(body["Item"].clone()));
        Ok(json!({}))
    }

    fn update(&mut self, body: &Value) -> Result<Value, Refusal> {
        let key = name(&body["Key"]);
        self.check(key, body)?;
        let old = self.items.get(key).unwrap_or(&body["Key"]);
        let new = updated(text(&body["UpdateExpression"]), Scope::new(body, old));
        self.write(key, Some(new.clone()));
        Ok(json!({ "Attributes": new }))
    }

    fn delete(&mut self, body: &Value) -> Result<Value, Refusal> {
        let key = name(&body["Key"]);
        self.check(key, body)?;
        Ok(match self.write(key, None) {
            Some(old) => json!({ "Attributes": old }),
            None => json!({}),
        })
    }

    /// Whether the condition of a write holds.
    fn check(&self, key: &str, body: &Value) -> Result<(), Refusal> {
        let old = self.items.get(key);
        let scope = Scope::new(body, old.unwrap_or(&Value::Null));
        if holds(text(&body["ConditionExpression"]), scope) {
            return Ok(());
        }
        Err(("ConditionalCheckFailedException", old.cloned()))
    }

    fn write(&mut self, key: &str, item: Option<Value>) -> Option<Value> {
        *self.writes.entry(key.to_owned()).or_default() += 1;
        match item {
            Some(item) => self.items.insert(key.to_owned(), item),
            None => self.items.remove(key),
        }
    }

    fn batch_get(
        &self,
        tables: &Value,
        mut reaches: impl FnMut(&str) -> bool,
    ) -> Result<Value, Refusal> {
        let (table, asked) = only(tables)?;
        let keys = asked["Keys"].as_array().ok_or(INVALID)?;
        check_batch(keys.iter().map(name), READS)?;
        let (now, later): (Vec<_>, Vec<_>) = keys.iter().partition(|key| reaches(name(key)));
        // The server promises no order.
        let found = now.into_iter().rev();
        let found: Vec<_> = found.filter_map(|key| self.items.get(name(key))).collect();
        let mut reply = json!({ "Responses": { table: found }, "UnprocessedKeys": {} });
        if !later.is_empty() {
            reply["UnprocessedKeys"][table] = json!({ "Keys": later });
        }
        Ok(reply)
    }

    fn batch_write(
        &mut self,
        tables: &Value,
        mut reaches: impl FnMut(&str) -> bool,
    ) -> Result<Value, Refusal> {
        let (table, writes) = only(tables)?;
        let writes = writes.as_array().ok_or(INVALID)?;
        check_batch(writes.iter().map(written), WRITES)?;
        let (now, mut later): (Vec<_>, Vec<_>) =
            writes.iter().partition(|write| reaches(written(write)));
        for write in now {
            self.write(written(write), write["PutRequest"].get("Item").cloned());
        }
        later.reverse();
        let mut reply = json!({ "UnprocessedItems": {} });
        if !later.is_empty() {
            reply["UnprocessedItems"][table] = json!(later);
        }
        Ok(reply)
    }
}

const INVALID: Refusal = ("ValidationException", None);

/// The keys that a request is about, in its order.
pub(crate) fn keys(request: &Request) -> Vec<String> {
    let body = body(request);
    let Ok((_, asked)) = only(&body["RequestItems"]) else {
        let key = body.get("Key").unwrap_or(&body["Item"]);
        return vec![name(key).to_owned()];
    };
    let read = asked["Keys"].as_array().into_iter().flatten().map(name);
    let written = asked.as_array().into_iter().flatten().map(written);
    read.chain(written).map(str::to_owned).collect()
}

pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

/// Batches here are about one table.
fn only(tables: &Value) -> Result<(&String, &Value), Refusal> {
    let table = tables.as_object().map(Map::iter);
    table.and_then(|mut tables| tables.next()).ok_or(INVALID)
}

/// The server refuses batches that are empty, too long, or name a key twice.
fn check_batch<'a>(keys: impl Iterator<Item = &'a str>, most: usize) -> Result<(), Refusal> {
    let mut known = HashSet::new();
    let mut number = 0;
    for key in keys {
        number += 1;
        if !known.insert(key) {
            return Err(INVALID);
        }
    }
    if (1..=most).contains(&number) {
        return Ok(());
    }
    Err(INVALID)
}

/// The key in an item or in an item's key.
fn name(item: &Value) -> &str {
    text(&item[KEY]["S"])
}

/// The key that one write of a batch is about.
fn written(write: &Value) -> &str {
    match write.get("PutRequest") {
        Some(put) => name(&put["Item"]),
        None => name(&write["DeleteRequest"]["Key"]),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
