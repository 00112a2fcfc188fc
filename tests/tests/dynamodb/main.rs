//! The DynamoDB storage against real servers.

mod batches;
mod counters;
mod expired;
mod faults;
mod format;
mod limits;
mod neighbours;
mod setup;
mod support;
mod tables;
mod trouble;
