//! The right to make a call.

use std::time::Duration;

use super::words::{Reason, State, Transition};

/// Whether a call may go.
#[derive(Debug)]
pub enum Admission {
    /// It may. The ticket is handed back with what came of it.
    Admitted(Ticket),
    /// It may not.
    Rejected {
        /// How long until one may go, or until the probe under way must have ended; none for a
        /// breaker that was opened by hand.
        retry_after: Option<Duration>,
        /// Why the breaker is open.
        reason: Reason,
    },
}

/// The right to make one call, and the beginning of it.
#[derive(Debug)]
#[must_use = "a probe's lease is freed by settling or abandoning its ticket"]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) start: Duration,
    pub(super) probe: Probe,
}

/// Whether a call is a probe, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    No,
    First,
    Later,
}

impl Ticket {
    /// The state of affairs the call began in; grows with each change of state and each probe.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the call began.
    #[must_use]
    pub fn start(&self) -> Duration {
        self.start
    }

    /// Whether the call is a probe of a half-open breaker.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe != Probe::No
    }

    /// The change that admitting this call was: to half-open, if it is the first probe.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        (self.probe == Probe::First).then_some(Transition {
            from: State::Open,
            to: State::HalfOpen,
            reason: Reason::Elapsed,
            open_for: None,
        })
    }
}
