//! What a monitor knows.

use std::sync::Arc;
use std::time::Duration;

use cache_breaker::{Snapshot, State};
use cache_core::{Shard, Timestamp};

/// What a monitor knows of its stack.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorStatus {
    /// Whether calls are taken.
    pub phase: Phase,
    /// The whole in one word.
    pub health: Health,
    /// What the last check of each backend found; none before the first.
    pub backends: Vec<BackendHealth>,
    /// How the breakers stand.
    pub breakers: Vec<BreakerStatus>,
}

/// Whether calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// They are.
    Running,
    /// Those under way may finish, new ones are refused.
    Draining,
    /// No more.
    Closed,
}

/// The health of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// No check has been made, and no breaker is open.
    Unknown,
    /// Every step of every backend's check went well, and no breaker is open.
    Up,
    /// Something is wrong, and something still answers.
    Degraded,
    /// No backend passed any step of its check.
    Down,
}

impl Health {
    /// The health in words, as it appears in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// What a check of one backend found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendHealth {
    /// The name it is watched under.
    pub name: Arc<str>,
    /// Writing a probe.
    pub write: StepResult,
    /// Reading it back.
    pub read: StepResult,
    /// Deleting it.
    pub delete: StepResult,
    /// When the check ended.
    pub checked_at: Timestamp,
}

impl BackendHealth {
    /// Whether all three steps went well.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.steps().iter().all(|(_, step)| step.is_ok())
    }

    pub(crate) fn steps(&self) -> [(&'static str, &StepResult); 3] {
        [
            ("write", &self.write),
            ("read", &self.read),
            ("delete", &self.delete),
        ]
    }
}

/// How one step of a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepResult {
    /// The error in one word; none if the step went well.
    pub code: Option<&'static str>,
    /// How long it took.
    pub took: Duration,
}

impl StepResult {
    /// Whether the step went well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code.is_none()
    }
}

/// How one lane of a breaker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// `read` or `write`.
    pub lane: &'static str,
    /// The server behind it, where there are several.
    pub shard: Option<Shard>,
    /// What it does with calls.
    pub state: State,
}

impl From<Snapshot> for BreakerStatus {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            breaker: snapshot.breaker,
            lane: snapshot.lane,
            shard: snapshot.shard,
            state: snapshot.state,
        }
    }
}

/// The whole in one word.
pub(crate) fn health_of(backends: &[BackendHealth], breakers: &[BreakerStatus]) -> Health {
    let is_open = |breaker: &BreakerStatus| {
        matches!(
            breaker.state,
            State::Open | State::HalfOpen | State::ForcedOpen
        )
    };
    if breakers.iter().any(is_open) {
        let steps = || backends.iter().flat_map(BackendHealth::steps);
        let is_down = steps().next().is_some() && steps().all(|(_, step)| !step.is_ok());
        return if is_down {
            Health::Down
        } else {
            Health::Degraded
        };
    }
    if backends.is_empty() {
        return Health::Unknown;
    }
    let mut steps = backends.iter().flat_map(BackendHealth::steps);
    if backends.iter().all(BackendHealth::is_up) {
        Health::Up
    } else if steps.any(|(_, step)| step.is_ok()) {
        Health::Degraded
    } else {
        Health::Down
    }
}
