//! The words of a breaker: its states, why it changes them, and what comes of calls.

use std::fmt;
use std::time::Duration;

/// What a breaker does with calls at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls go through and are counted.
    Closed,
    /// Calls are turned away for a while.
    Open,
    /// One call at a time goes through, to see whether things are well again.
    HalfOpen,
    /// Calls are turned away until somebody says otherwise.
    ForcedOpen,
    /// Calls go through and are counted, but nothing opens the breaker.
    ForcedClosed,
    /// Calls go through uncounted.
    Disabled,
}

impl State {
    /// The state in one word, as it appears in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Timeouts in a row, or a probe that timed out.
    Timeout,
    /// Failures in a row, or a probe that failed.
    Failure,
    /// Too large a part of the calls failed.
    Rate,
    /// Too large a part of the calls was slow.
    Slow,
    /// Somebody has to correct the configuration.
    Configuration,
    /// As `Failure` or `Rate`, where the last failure was for lack of memory or capacity.
    Overloaded,
    /// Enough probes succeeded.
    Probe,
    /// The time of being open is over.
    Elapsed,
    /// Somebody said so.
    Manual,
}

impl Reason {
    /// The reason in one word, as it appears in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Failure => "failure",
            Self::Rate => "rate",
            Self::Slow => "slow",
            Self::Configuration => "config",
            Self::Overloaded => "overloaded",
            Self::Probe => "probe",
            Self::Elapsed => "elapsed",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call says about what was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It works.
    Success,
    /// It did not answer in time.
    Timeout,
    /// It is not there, or not well.
    Failure,
    /// It asks to slow down. Counts in the rule on rates only.
    Throttled,
    /// It cannot be used as it is set up. Opens at once, and for longer.
    Configuration,
    /// Nothing: the call was wrong, or never went out.
    Neutral,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// How long it stays open, if that is what it does now.
    pub open_for: Option<Duration>,
}

/// What a breaker has counted since its last change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Calls with a verdict within the window.
    pub calls: u32,
    /// Those of them that failed or were throttled.
    pub failures: u32,
    /// Slow calls within the window, those included whose callers left too late.
    pub slow: u32,
    /// Timeouts in a row, up to the number that opens.
    pub consecutive_timeouts: usize,
    /// Failures of any kind in a row, up to the number that opens.
    pub consecutive_failures: usize,
}
