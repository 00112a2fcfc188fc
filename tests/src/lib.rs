//! What the tests, the demo and the benchmarks share: the recorded traffic they replay.
//!
//! The tests themselves are in `tests/`. Nothing here is published.

#[cfg(any(feature = "redis", feature = "dynamodb"))]
pub mod entries;
#[cfg(any(feature = "redis", feature = "dynamodb"))]
pub mod events;
mod trace;

pub use trace::{Endpoint, Request, Trace};

/// The program on the first page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
