//! The right to make one call, and its absence.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheError, ErrorKind};

use crate::lane::Lane;
use crate::state::{Outcome, Reason, Ticket};

/// The right to make one call.
///
/// Hand it back with [`succeed`](Self::succeed) or [`fail`](Self::fail). Dropped, as when the future
/// that holds it is dropped or panics, it says nothing, except that a call that had taken longer
/// than `slow_after` counts as slow; the lease of a probe is free again at once.
#[must_use = "a permit that is dropped at once says that the call was given up"]
pub struct Permit {
    lane: Arc<Lane>,
    ticket: Option<Ticket>,
}

impl Permit {
    pub(crate) fn new(lane: Arc<Lane>, ticket: Ticket) -> Self {
        Self {
            lane,
            ticket: Some(ticket),
        }
    }

    /// Whether the call is a probe of a half-open breaker.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_probe)
    }

    /// The call worked.
    pub fn succeed(self) {
        self.settle(Outcome::Success, None);
    }

    /// The call came to `outcome`.
    pub fn fail(self, outcome: Outcome) {
        self.settle(outcome, None);
    }

    /// The call came to `outcome` because of `error`.
    pub(crate) fn settle(mut self, outcome: Outcome, error: Option<&CacheError>) {
        if let Some(ticket) = self.ticket.take() {
            self.lane.settle(ticket, outcome, error);
        }
    }

    /// Returns once the breaker has opened since the call began.
    pub(crate) async fn opened(&self) {
        let generation = self.ticket.as_ref().map_or(u64::MAX, Ticket::generation);
        self.lane.opened_after(generation).await;
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.lane.abandon(ticket);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.lane.context().name)
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

/// A breaker is open, so the call was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the breaker {breaker:?} is open ({lane}, {reason})")]
#[non_exhaustive]
pub struct Rejected {
    /// The name of the breaker.
    pub breaker: Arc<str>,
    /// `read`, `write`, or `all` for a breaker without lanes.
    pub lane: &'static str,
    /// How long until a call may go; none for a breaker that was opened by hand.
    pub retry_after: Option<Duration>,
    /// Why it is open.
    pub reason: Reason,
}

impl From<Rejected> for CacheError {
    /// Kind `Rejected`, code `breaker_open`.
    fn from(rejected: Rejected) -> Self {
        let retry_after = rejected.retry_after;
        Self::from_source(ErrorKind::Rejected, rejected)
            .with_code("breaker_open")
            .with_retry_after(retry_after)
    }
}
