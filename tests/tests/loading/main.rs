//! `get_or_load` over real servers: what the cases promise where a server has a say. Time is moved
//! by hand: both backends judge what they read by the clock of the process.

mod cases;
mod outage;
mod support;
#[path = "../dynamodb/tables.rs"]
#[expect(dead_code, reason = "items past the cache are the storage's tests")]
mod tables;
