//! The state of a stack, told to whoever watches.

use std::sync::{Arc, Mutex, PoisonError};

use cache_breaker::BreakerHandle;
use tokio::sync::watch;

use crate::status::{BackendHealth, BreakerStatus, Health, MonitorStatus, Phase, health_of};

/// Carries the state of a stack from where it changes to where it is watched: checks, breakers, the
/// end. Cheap to clone; clones are the same feed.
///
/// Given to a [`MetricsObserver`](crate::MetricsObserver), it lets watchers know of a breaker the
/// moment it changes rather than at the next check.
#[derive(Debug, Clone)]
pub struct StatusFeed {
    status: Arc<watch::Sender<MonitorStatus>>,
    breakers: Arc<Mutex<Vec<BreakerHandle>>>,
}

impl StatusFeed {
    /// A feed of a stack that nothing is known about yet.
    #[must_use]
    pub fn new() -> Self {
        let (status, _) = watch::channel(MonitorStatus {
            phase: Phase::Running,
            health: Health::Unknown,
            backends: Vec::new(),
            breakers: Vec::new(),
        });
        Self {
            status: Arc::new(status),
            breakers: Arc::default(),
        }
    }

    pub(crate) fn add_breaker(&self, breaker: BreakerHandle) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.push(breaker);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<MonitorStatus> {
        self.status.subscribe()
    }

    pub(crate) fn status(&self) -> MonitorStatus {
        self.breakers_changed();
        self.status.borrow().clone()
    }

    pub(crate) fn checked(&self, backends: Vec<BackendHealth>) {
        self.change(|status| status.backends = backends);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.change(|status| status.phase = phase);
    }

    /// Reads the breakers anew.
    pub(crate) fn breakers_changed(&self) {
        self.change(|_| {});
    }

    /// Applies a change and tells of it if it was one, with a line in the log where it changes the
    /// health.
    fn change(&self, change: impl FnOnce(&mut MonitorStatus)) {
        let breakers = self.breakers_now();
        let mut turned = None;
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            status.breakers = breakers;
            status.health = health_of(&status.backends, &status.breakers);
            if status.health != before.health {
                turned = Some((before.health, status.health));
            }
            *status != before
        });
        if let Some((from, to)) = turned {
            log(from, to);
        }
    }

    fn breakers_now(&self) -> Vec<BreakerStatus> {
        let handles = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let handles = handles.clone();
        let snapshots = handles.iter().flat_map(BreakerHandle::breakers);
        snapshots.map(BreakerStatus::from).collect()
    }
}

impl Default for StatusFeed {
    fn default() -> Self {
        Self::new()
    }
}

fn log(from: Health, to: Health) {
    let (from, to) = (from.as_str(), to.as_str());
    if matches!(to, "up" | "unknown") {
        tracing::info!(target: "cache", from, to, "health changed");
    } else {
        tracing::warn!(target: "cache", from, to, "health changed");
    }
}
