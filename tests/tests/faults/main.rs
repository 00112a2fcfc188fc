//! The fault matrix: what a storage on Redis or DynamoDB does when its server, its host or the
//! network fails.
//!
//! One test a row, named by its number: what the caller sees, within which time, and what is not
//! lost. Times are bounded from above with room for a busy machine; they are no benchmarks.

mod access;
mod callers;
mod cluster;
mod counted;
mod data;
mod drills;
mod dynamodb;
mod exhausted;
mod limits;
mod metrics_a;
mod metrics_b;
mod monitor;
mod names;
mod network;
mod processes;
mod refusals;
mod resurrection;
mod secured;
mod server;
mod stacked;
mod streams;
mod support;
mod time;
