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

/// The programs in the other pages, compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../docs/loading.md")]
    struct Loading;

    #[doc = include_str!("../../docs/sessions.md")]
    struct Sessions;

    #[doc = include_str!("../../docs/stale.md")]
    struct Stale;

    #[doc = include_str!("../../docs/stampede.md")]
    struct Stampede;

    #[doc = include_str!("../../docs/timeouts.md")]
    struct Timeouts;
}
