//! Checks of health: when they are due, and what they find.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{CacheStorage, Clock, Moment};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::feed::StatusFeed;
use crate::health::check_backend;
use crate::names;
use crate::options::MonitorOptions;
use crate::sink::Metrics;
use crate::status::{BackendHealth, MonitorStatus};

/// Wall and monotonic clock may differ by this much before it counts.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// A backend to be checked, beneath its breaker.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) storage: Arc<dyn CacheStorage>,
}

/// Makes checks, one at a time.
///
/// A check under way is a future that everybody who waits for it polls: calls that carry it along,
/// and those who asked for it. So it goes on as long as anybody does, and nobody waits for a check
/// that nobody makes.
pub(crate) struct Checks {
    checker: Arc<Checker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When a check was last begun.
    last_begun: Option<Moment>,
    under_way: Option<Checking>,
}

/// A check that any number of tasks may poll. It does not panic.
pub(crate) type Checking = Shared<BoxFuture<'static, ()>>;

impl Checks {
    pub(crate) fn new(
        targets: Vec<Target>,
        options: MonitorOptions,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        feed: StatusFeed,
    ) -> Self {
        let checker = Checker {
            targets,
            options,
            metrics,
            last_look: Mutex::new(clock.now()),
            clock,
            feed,
        };
        Self {
            checker: Arc::new(checker),
            state: Mutex::default(),
        }
    }

    /// Checks every backend; where a check is under way already, its result will do.
    pub(crate) async fn now(&self) -> MonitorStatus {
        let checking = {
            let mut state = lock(&self.state);
            self.under_way(&mut state)
                .unwrap_or_else(|| self.begin(&mut state))
        };
        checking.await;
        self.checker.feed.status()
    }

    /// A check for a call to carry along, if one is under way or due.
    pub(crate) fn on_use(&self) -> Option<Checking> {
        let mut state = lock(&self.state);
        if let Some(checking) = self.under_way(&mut state) {
            return Some(checking);
        }
        let now = self.checker.clock.now();
        let interval = self.checker.options.interval;
        let is_due = state
            .last_begun
            .is_none_or(|last| now.since(last) >= interval);
        is_due.then(|| self.begin(&mut state))
    }

    #[expect(
        clippy::unused_self,
        reason = "the state is the monitor's, and locked by the caller"
    )]
    fn under_way(&self, state: &mut State) -> Option<Checking> {
        if state.under_way.as_ref()?.peek().is_some() {
            state.under_way = None;
        }
        state.under_way.clone()
    }

    fn begin(&self, state: &mut State) -> Checking {
        state.last_begun = Some(self.checker.clock.now());
        let checker = Arc::clone(&self.checker);
        let checking = async move {
            let check = AssertUnwindSafe(checker.check()).catch_unwind();
            if check.await.is_err() {
                let labels = [("where", "hook")];
                checker.metrics.count(names::PANICS_TOTAL, &labels, 1);
            }
        };
        let checking = checking.boxed().shared();
        state.under_way = Some(checking.clone());
        checking
    }
}

/// What a check needs. It knows nothing of the checks under way, so that one that is never ended
/// keeps nothing alive once the monitor is gone.
struct Checker {
    targets: Vec<Target>,
    options: MonitorOptions,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    feed: StatusFeed,
    last_look: Mutex<Moment>,
}

impl Checker {
    async fn check(&self) {
        self.look_at_clock();
        let checks = self.targets.iter().map(|target| async move {
            let health = check_backend(target, &self.options, &*self.clock).await;
            self.count(&health);
            health
        });
        let backends = futures_util::future::join_all(checks).await;
        self.feed.checked(backends);
    }

    /// Notes whether the two clocks of the machine have gone apart since the last look.
    fn look_at_clock(&self) {
        let now = self.clock.now();
        let last = std::mem::replace(&mut *lock(&self.last_look), now);
        let monotonic = now.monotonic.saturating_sub(last.monotonic);
        // A clock that was set back may stand before its last reading.
        let (forth, back) = (now.wall.since(last.wall), last.wall.since(now.wall));
        let ahead = forth.saturating_sub(monotonic);
        let behind = monotonic.saturating_add(back).saturating_sub(forth);
        if ahead > CLOCK_TOLERANCE {
            // A process that was frozen looks the same as a clock that was set forward.
            let labels = [("action", "freeze")];
            self.metrics.count(names::THAW_TOTAL, &labels, 1);
            let labels = [("direction", "forward")];
            self.metrics.count(names::CLOCK_JUMP_TOTAL, &labels, 1);
        } else if behind > CLOCK_TOLERANCE {
            let labels = [("direction", "back")];
            self.metrics.count(names::CLOCK_JUMP_TOTAL, &labels, 1);
        }
    }

    fn count(&self, health: &BackendHealth) {
        for (step, result) in health.steps() {
            let labels = [
                ("backend", &*health.name),
                ("step", step),
                ("result", result.code.unwrap_or("ok")),
            ];
            self.metrics.count(names::HEALTH_PROBE_TOTAL, &labels, 1);
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks")
            .field("targets", &self.checker.targets)
            .field("options", &self.checker.options)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
