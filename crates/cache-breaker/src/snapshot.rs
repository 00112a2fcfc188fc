//! How a breaker stands.

use std::sync::Arc;
use std::time::Duration;

use cache_core::Shard;

use crate::state::{Counts, Reason, State};

/// How a breaker, or one lane of it, stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name; a storage's is that of its backend.
    pub breaker: Arc<str>,
    /// `read`, `write`, or `all` for a breaker without lanes.
    pub lane: &'static str,
    /// The server behind it, where there are several.
    pub shard: Option<Shard>,
    /// What it does with calls. An open breaker stays open until a call comes that may probe.
    pub state: State,
    /// How long ago this state began; for a breaker that never left its first state, by its
    /// clock's beginning.
    pub since: Duration,
    /// Why it opened last, or was set by hand; none if it never was.
    pub reason: Option<Reason>,
    /// How long calls are turned away at most; none where none are, or where nobody knows.
    pub retry_after: Option<Duration>,
    /// What is counted of the calls since the last change of state.
    pub counts: Counts,
}
