//! Checks of health: when they are due, and what they find.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use cache_core::{CacheStorage, Clock, Moment};

use crate::feed::StatusFeed;
use crate::health::check_backend;
use crate::options::MonitorOptions;
use crate::sink::Metrics;
use crate::status::BackendHealth;
use crate::{names, status::MonitorStatus};

/// Wall and monotonic clock may differ by this much before it counts.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// A backend to be checked, beneath its breaker.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) storage: Arc<dyn CacheStorage>,
}

/// Makes checks, one at a time.
pub(crate) struct Checks {
    this: Weak<Self>,
    targets: Vec<Target>,
    options: MonitorOptions,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    feed: StatusFeed,
    /// Held while a check is under way; counts those that have ended.
    running: tokio::sync::Mutex<()>,
    ended: AtomicU64,
    /// When a check was last begun on use.
    last_begun: Mutex<Option<Moment>>,
    /// A check that was begun alongside a call which has ended since.
    parked: Mutex<Option<Checking>>,
    last_look: Mutex<Moment>,
}

type Checking = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Checks {
    pub(crate) fn new(
        targets: Vec<Target>,
        options: MonitorOptions,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        feed: StatusFeed,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            targets,
            options,
            metrics,
            last_look: Mutex::new(clock.now()),
            clock,
            feed,
            running: tokio::sync::Mutex::new(()),
            ended: AtomicU64::new(0),
            last_begun: Mutex::new(None),
            parked: Mutex::new(None),
        })
    }

    /// Checks every backend; where a check is under way already, its result will do.
    pub(crate) async fn now(&self) -> MonitorStatus {
        let before = self.ended.load(Ordering::Acquire);
        let _running = self.running.lock().await;
        if self.ended.load(Ordering::Acquire) == before {
            self.look_at_clock();
            let checks = self.targets.iter().map(|target| async move {
                let health = check_backend(target, &self.options, &*self.clock).await;
                self.count(&health);
                health
            });
            let backends = futures_util::future::join_all(checks).await;
            self.feed.checked(backends);
            self.ended.fetch_add(1, Ordering::AcqRel);
        }
        self.feed.status()
    }

    /// A check for a call to carry along, if one is due or waits to be carried on.
    pub(crate) fn on_use(&self) -> Option<Carried<'_>> {
        if let Some(checking) = lock(&self.parked).take() {
            return Some(Carried {
                checks: self,
                checking: Some(checking),
            });
        }
        let now = self.clock.now();
        let mut last_begun = lock(&self.last_begun);
        if last_begun.is_some_and(|last| now.since(last) < self.options.interval) {
            return None;
        }
        *last_begun = Some(now);
        drop(last_begun);
        let this = self.this.upgrade()?;
        let checking = async move {
            this.now().await;
        };
        Some(Carried {
            checks: self,
            checking: Some(Box::pin(checking)),
        })
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
            .field("targets", &self.targets)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A check that a call carries along. Dropped unfinished, it waits for the next call.
pub(crate) struct Carried<'a> {
    checks: &'a Checks,
    checking: Option<Checking>,
}

impl Carried<'_> {
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(checking) = &mut self.checking else {
            return Poll::Ready(());
        };
        let polled = checking.as_mut().poll(context);
        if polled.is_ready() {
            self.checking = None;
        }
        polled
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        if let Some(checking) = self.checking.take() {
            *lock(&self.checks.parked) = Some(checking);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
