//! Health, and the orderly end.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cache_breaker::{BreakerHandle, BreakerOptions, CircuitBreaker};
use cache_core::{
    CacheError, CacheStorage, Clock, ErrorKind, Operation, Result, ShutdownReport, SystemClock,
};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::checks::{Checks, Target};
use crate::feed::StatusFeed;
use crate::names;
use crate::options::{Mode, MonitorOptions};
use crate::sink::Metrics;
use crate::status::{MonitorStatus, Phase};
use crate::tracked::TrackedStorage;
use crate::traffic::Traffic;

/// What closing the storages gets at least, whatever the drain has left of the budget.
const LEAST_FOR_CLOSING: Duration = Duration::from_millis(10);

/// Watches over a stack of storages: checks the health of its backends, knows the calls under way,
/// and ends it in order.
///
/// Applications use [`storage`](Self::storage), which is the stack as the monitor sees it. Cheap to
/// clone; clones are the same monitor. It works without being started, and dropping it leaves
/// nothing behind.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cache_core::CacheError> {
/// use std::sync::Arc;
/// use cache_core::{CacheService, millis, mins};
/// use cache_memory::MemoryCacheStorage;
/// use cache_monitor::{CacheMonitor, Health};
///
/// let memory = Arc::new(MemoryCacheStorage::new());
/// let monitor = CacheMonitor::builder(Arc::clone(&memory)).watch("memory", memory).build()?;
/// let places = CacheService::builder(Arc::clone(monitor.storage())).ttl(mins(5)).build()?;
/// places.set("10.0.0.7", "Vienna").await?;
///
/// assert_eq!(monitor.check_now().await.health, Health::Up);
/// let report = monitor.shutdown(millis(300)).await;
/// assert_eq!(report.cancelled, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheMonitor {
    inner: Arc<Inner>,
}

struct Inner {
    stack: Arc<dyn CacheStorage>,
    tracked: Arc<dyn CacheStorage>,
    traffic: Arc<Traffic>,
    checks: Arc<Checks>,
    feed: StatusFeed,
    metrics: Metrics,
    interval: Duration,
    mode: Mode,
    breaker: CircuitBreaker,
    is_started: AtomicBool,
    stop: Arc<Notify>,
    /// How the shutdown went, once it is over. Held while it is under way.
    report: tokio::sync::Mutex<Option<ShutdownReport>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.notify_waiters();
    }
}

/// A monitor in the making; see [`CacheMonitor::builder`].
#[derive(Debug)]
#[must_use]
pub struct CacheMonitorBuilder {
    stack: Arc<dyn CacheStorage>,
    targets: Vec<Target>,
    options: MonitorOptions,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    feed: StatusFeed,
}

impl CacheMonitor {
    /// Starts a monitor of the stack `storage`.
    pub fn builder(storage: impl CacheStorage) -> CacheMonitorBuilder {
        CacheMonitorBuilder {
            stack: Arc::new(storage),
            targets: Vec::new(),
            options: MonitorOptions::default(),
            metrics: Metrics::global(),
            clock: Arc::new(SystemClock::new()),
            feed: StatusFeed::new(),
        }
    }

    /// A monitor of the stack `storage` that checks nothing: for tests, and for an orderly end.
    #[must_use]
    pub fn over(storage: impl CacheStorage) -> Self {
        let breaker = CircuitBreaker::new(NAME, BreakerOptions::default());
        let breaker = breaker.expect("the defaults are sound");
        Self::builder(storage).finish(breaker)
    }

    /// The stack, as applications are to use it.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn CacheStorage> {
        &self.inner.tracked
    }

    /// Begins to check health every interval, on a task of the current runtime. Does nothing in
    /// [`Mode::Lambda`], after a shutdown, or a second time.
    ///
    /// The task ends with the shutdown, or when the last clone of the monitor is gone. Outside of a
    /// tokio runtime there is none, and a line in the log says so.
    pub fn start(&self) {
        let inner = &self.inner;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(target: "cache", "health is not checked: there is no tokio runtime here");
            return;
        };
        if inner.mode == Mode::Lambda
            || inner.traffic.is_closed()
            || inner.is_started.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (weak, stop) = (Arc::downgrade(inner), Arc::clone(&inner.stop));
        runtime.spawn(check_every(inner.interval, weak, stop));
    }

    /// What is known. Costs no I/O.
    #[must_use]
    pub fn status(&self) -> MonitorStatus {
        self.inner.feed.status()
    }

    /// Tells of every change of what is known.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<MonitorStatus> {
        self.inner.feed.subscribe()
    }

    /// How many calls are under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.inner.traffic.in_flight()
    }

    /// How often a recorder has panicked. It was contained.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.inner.metrics.panics()
    }

    /// Checks every backend now: writes a probe that lives for a minute, reads it back, deletes it.
    /// Where a check is under way already, its result is the answer.
    ///
    /// May be dropped at any time; a probe that was written is then left to expire.
    pub async fn check_now(&self) -> MonitorStatus {
        let status = self.inner.checks.now().await;
        let in_flight = self.in_flight();
        self.inner
            .metrics
            .gauge(names::INFLIGHT, &[], count(in_flight));
        status
    }

    /// Runs an operation behind a breaker of the monitor's own: for what is not behind one already,
    /// such as the source of truth. An open breaker is `Ok(None)`; other errors pass.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub async fn execute_with_circuit_breaker<T>(
        &self,
        operation: impl Future<Output = Result<Option<T>, CacheError>>,
    ) -> Result<Option<T>, CacheError> {
        let breaker = &self.inner.breaker;
        breaker.execute_with_circuit_breaker(operation).await
    }

    /// Ends the stack within `budget`: new calls are `Closed` errors at once, those under way may
    /// finish, and are cut off with a `Closed` error when the budget is used up. Checks end, and the
    /// storages are closed. A hung backend does not make it longer.
    ///
    /// Once is enough: a second call, from whichever clone, returns the same report. Dropped
    /// half-way, calls stay refused, and another call brings it to its end.
    pub async fn shutdown(&self, budget: Duration) -> ShutdownReport {
        let inner = &self.inner;
        inner.traffic.close();
        let mut ended = inner.report.lock().await;
        if let Some(report) = &*ended {
            return report.clone();
        }
        let report = inner.end(budget).await;
        *ended = Some(report.clone());
        report
    }
}

impl Inner {
    async fn end(&self, budget: Duration) -> ShutdownReport {
        let began = Instant::now();
        self.feed.enter(Phase::Draining);
        self.stop.notify_waiters();
        let under_way = self.traffic.in_flight();
        if timeout(budget, self.traffic.wait_until_idle())
            .await
            .is_err()
        {
            self.traffic.cut_off();
            // Those that are being polled leave now; one that nobody polls is not waited for.
            _ = timeout(LEAST_FOR_CLOSING, self.traffic.wait_until_idle()).await;
        }
        let left = budget
            .saturating_sub(began.elapsed())
            .max(LEAST_FOR_CLOSING);
        let closing = AssertUnwindSafe(self.stack.shutdown(left)).catch_unwind();
        let error = match timeout(left, closing).await {
            Ok(Ok(outcome)) => outcome.err(),
            Ok(Err(_)) => Some(not_closed(
                &*self.stack,
                "the storage panicked while closing",
            )),
            Err(_) => Some(not_closed(
                &*self.stack,
                "the storage did not close in time",
            )),
        };
        let cancelled = self.traffic.cancelled().max(self.traffic.in_flight());
        let mut report = ShutdownReport::default();
        report.cancelled = cancelled.min(under_way);
        report.drained = under_way.saturating_sub(report.cancelled);
        report.took = began.elapsed();
        report.error = error;
        self.tell(&report);
        report
    }

    fn tell(&self, report: &ShutdownReport) {
        let result = match report {
            ShutdownReport { error: Some(_), .. } => "error",
            ShutdownReport { cancelled: 0, .. } => "drained",
            _ => "cancelled",
        };
        let labels = [("result", result)];
        self.metrics.count(names::SHUTDOWN_TOTAL, &labels, 1);
        let in_flight = self.traffic.in_flight();
        self.metrics.gauge(names::INFLIGHT, &[], count(in_flight));
        self.feed.enter(Phase::Closed);
        let ShutdownReport {
            drained, cancelled, ..
        } = report;
        tracing::info!(target: "cache", result, drained, cancelled, "shut down");
    }
}

/// The task of a server's checks. It keeps the monitor from nothing: between checks it holds none.
async fn check_every(interval: Duration, monitor: Weak<Inner>, stop: Arc<Notify>) {
    loop {
        let stopped = stop.notified();
        tokio::pin!(stopped);
        stopped.as_mut().enable();
        {
            let Some(inner) = monitor.upgrade() else {
                return;
            };
            if inner.traffic.is_closed() {
                return;
            }
            let monitor = CacheMonitor { inner };
            let check = monitor.check_now();
            tokio::pin!(check);
            let either = futures_util::future::select(check, stopped.as_mut());
            if let futures_util::future::Either::Right(_) = either.await {
                return;
            }
        }
        if timeout(interval, stopped).await.is_ok() {
            return;
        }
    }
}

/// The name of the monitor's own breaker.
const NAME: &str = "monitor";

impl CacheMonitorBuilder {
    /// Checks `storage`, a backend beneath its breaker, under `name`.
    pub fn watch(mut self, name: impl Into<Arc<str>>, storage: impl CacheStorage) -> Self {
        self.targets.push(Target {
            name: name.into(),
            storage: Arc::new(storage),
        });
        self
    }

    /// Shows this breaker in the status.
    pub fn breaker(self, breaker: BreakerHandle) -> Self {
        self.feed.add_breaker(breaker);
        self
    }

    /// How health is checked. Defaults to [`MonitorOptions::default`].
    pub fn options(mut self, options: MonitorOptions) -> Self {
        self.options = options;
        self
    }

    /// Where measurements go. Defaults to the recorder of the process.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The clock by which checks are due. Defaults to the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The feed that an observer of the same stack was given.
    pub fn feed(mut self, feed: StatusFeed) -> Self {
        self.feed = feed;
        self
    }

    /// The monitor.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that is wrong with the options.
    pub fn build(self) -> Result<CacheMonitor> {
        self.options.check()?;
        let breaker = CircuitBreaker::new(NAME, BreakerOptions::default())?;
        Ok(self.finish(breaker))
    }

    fn finish(self, breaker: CircuitBreaker) -> CacheMonitor {
        let Self {
            stack,
            targets,
            options,
            metrics,
            clock,
            feed,
        } = self;
        let (interval, mode) = (options.interval, options.mode);
        let has_targets = !targets.is_empty();
        let checks = Checks::new(targets, options, metrics.clone(), clock, feed.clone());
        let checks = Arc::new(checks);
        let traffic = Arc::new(Traffic::default());
        let on_use = (mode == Mode::Lambda && has_targets).then(|| Arc::clone(&checks));
        let tracked = TrackedStorage::new(Arc::clone(&stack), Arc::clone(&traffic), on_use);
        CacheMonitor {
            inner: Arc::new(Inner {
                stack,
                tracked: Arc::new(tracked),
                traffic,
                checks,
                feed,
                metrics,
                interval,
                mode,
                breaker,
                is_started: AtomicBool::new(false),
                stop: Arc::default(),
                report: tokio::sync::Mutex::default(),
            }),
        }
    }
}

impl fmt::Debug for CacheMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheMonitor")
            .field(&self.inner.tracked)
            .finish()
    }
}

fn not_closed(storage: &dyn CacheStorage, message: &str) -> CacheError {
    CacheError::new(ErrorKind::Timeout, message)
        .with_backend(storage.info().backend)
        .with_operation(Operation::Shutdown)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nobody has more calls under way than a double can count"
)]
fn count(calls: u64) -> f64 {
    calls as f64
}
