//! A server that misbehaves in ways that no emulator does, by script.

mod answers;
mod batches;
mod conditions;
mod counters;
mod credentials;
mod errors;
mod model;
mod requests;
mod rounds;
mod silence;
mod speed;
mod stub;
