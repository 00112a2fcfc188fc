//! What is known about the dials to one place.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cache_core::{Clock, ErrorKind};
use tokio::sync::Notify;

use super::pause::Pause;
use crate::error::Failure;

/// What is known about the dials of one pool.
#[derive(Debug)]
pub(super) struct Dials {
    clock: Arc<dyn Clock>,
    begun: AtomicU64,
    failures: AtomicU64,
    under_way: AtomicU64,
    is_orphaned: AtomicBool,
    phase: AtomicU8,
    pause: Mutex<Pause>,
    last_failure: Mutex<Option<FailedDial>>,
    news: Notify,
}

/// A dial that came to nothing.
#[derive(Debug, Clone)]
pub(super) struct FailedDial {
    pub(super) failure: Failure,
    /// Its place among the dials of its pool, from 1.
    pub(super) number: u64,
}

/// How far a dial has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connect = 0,
    #[cfg(feature = "tls")]
    Tls = 1,
    Handshake = 2,
}

impl Dials {
    /// No dials yet.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            begun: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            is_orphaned: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Connect as u8),
            pause: Mutex::default(),
            last_failure: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// The last failure, while the server is left alone because of it.
    pub(super) fn pausing_after(&self) -> Option<Failure> {
        let now = self.clock.now();
        let pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if !pause.is_on(now) || self.is_dialing() {
            return None;
        }
        drop(pause);
        self.last_failure().map(|dial| dial.failure)
    }

    fn last_failure(&self) -> Option<FailedDial> {
        let last = self.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many dials have begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// How many dials have failed so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Whether a dial is being made.
    pub(super) fn is_dialing(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Whether a dial was dropped half-way, with the runtime it ran on. bb8 counts it as under way
    /// for ever and begins no other.
    pub(super) fn is_orphaned(&self) -> bool {
        self.is_orphaned.load(Ordering::Acquire)
    }

    /// How far the dial under way has come, in one word.
    pub(super) fn phase(&self) -> &'static str {
        match self.phase.load(Ordering::Relaxed) {
            0 => "connect",
            1 => "tls",
            _ => "handshake",
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Waits for a failure after the first `seen` ones.
    pub(super) async fn failed_since(&self, seen: u64) -> FailedDial {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.failures() != seen
                && let Some(failure) = self.last_failure()
            {
                return failure;
            }
            news.await;
        }
    }

    fn succeeded(&self) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.end();
    }

    fn failed(&self, dial: FailedDial) {
        let now = self.clock.now();
        self.pause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lengthen(&dial.failure, now);
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(dial);
        self.failures.fetch_add(1, Ordering::Release);
        self.news.notify_waiters();
    }
}

/// A dial under way; dropped without an outcome, it was lost with the runtime it ran on.
pub(super) struct UnderWay<'a> {
    dials: &'a Dials,
    number: u64,
    pub(super) outcome: Option<Result<(), Failure>>,
}

impl<'a> UnderWay<'a> {
    pub(super) fn new(dials: &'a Dials) -> Self {
        dials.under_way.fetch_add(1, Ordering::AcqRel);
        Self {
            dials,
            number: dials.begun.fetch_add(1, Ordering::AcqRel) + 1,
            outcome: None,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let failure = match self.outcome.take() {
            Some(Ok(())) => {
                self.dials.succeeded();
                None
            }
            Some(Err(failure)) => Some(failure),
            None => {
                self.dials.is_orphaned.store(true, Ordering::Release);
                let reason = "the runtime that was connecting has ended";
                Some(Failure::new(ErrorKind::Connection, reason))
            }
        };
        self.dials.under_way.fetch_sub(1, Ordering::AcqRel);
        if let Some(failure) = failure {
            let number = self.number;
            self.dials.failed(FailedDial { failure, number });
        }
    }
}
