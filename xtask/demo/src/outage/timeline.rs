//! What happened when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::CacheError;
use cache_factory::cache_breaker::{Snapshot, State};
use tokio::time::Instant;

use crate::tally::{Tally, UseCase};

/// What the replay did, column by column and phase by phase.
pub(crate) struct Timeline {
    start: Instant,
    column: Duration,
    inner: Mutex<Inner>,
}

struct Inner {
    columns: Vec<Column>,
    phase: Phase,
    phases: [PhaseTally; 3],
}

/// The parts of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Before,
    Outage,
    After,
}

/// One stretch of the replay.
#[derive(Debug, Default, Clone)]
pub(crate) struct Column {
    pub(crate) requests: usize,
    pub(crate) reads: usize,
    pub(crate) hits: usize,
    /// How long each call to the cache took.
    pub(crate) calls: Vec<Duration>,
    /// The worst state of the breaker in it.
    pub(crate) breaker: Breaker,
}

/// The state of the breaker, from good to bad.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breaker {
    #[default]
    Closed,
    HalfOpen,
    Open,
}

/// What callers saw in one phase.
#[derive(Debug, Default, Clone)]
pub(crate) struct PhaseTally {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) uncounted: usize,
    pub(crate) reads: usize,
    pub(crate) hits: usize,
    pub(crate) calls: Vec<Duration>,
    pub(crate) last_error: Option<CacheError>,
}

impl Timeline {
    pub(crate) fn new(start: Instant, column: Duration, end: Duration) -> Self {
        let columns = end.as_millis() / column.as_millis();
        let columns = vec![Column::default(); usize::try_from(columns).unwrap_or_default()];
        Self {
            start,
            column,
            inner: Mutex::new(Inner {
                columns,
                phase: Phase::Before,
                phases: Default::default(),
            }),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Notes a request that has just been served.
    pub(crate) fn note(&self, tally: Tally, error: Option<CacheError>) {
        let position = self.position();
        let (reads, hits) = (tally.sum(UseCase::reads), tally.sum(UseCase::hits));
        let uses = [tally.sessions, tally.places, tally.limits, tally.responses];
        let calls: Vec<_> = uses.into_iter().flat_map(|one| one.calls).collect();
        let mut inner = self.lock();
        let phase = inner.phase as usize;
        let in_phase = &mut inner.phases[phase];
        in_phase.requests += 1;
        in_phase.uncounted += tally.uncounted;
        in_phase.reads += reads;
        in_phase.hits += hits;
        in_phase.calls.extend(&calls);
        if error.is_some() {
            in_phase.failed += 1;
            in_phase.last_error = error;
        }
        if let Some(column) = inner.columns.get_mut(position) {
            column.requests += 1;
            column.reads += reads;
            column.hits += hits;
            column.calls.extend(calls);
        }
    }

    /// Notes the state of the breaker at this moment: the worst of its lanes.
    pub(crate) fn note_breaker(&self, lanes: &[Snapshot]) {
        let worst = lanes.iter().map(|lane| match lane.state {
            State::Open | State::ForcedOpen => Breaker::Open,
            State::HalfOpen => Breaker::HalfOpen,
            _ => Breaker::Closed,
        });
        let worst = worst.max().unwrap_or_default();
        let position = self.position();
        if let Some(column) = self.lock().columns.get_mut(position) {
            column.breaker = column.breaker.max(worst);
        }
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        self.lock().columns.clone()
    }

    pub(crate) fn phases(&self) -> [(&'static str, PhaseTally); 3] {
        let [before, outage, after] = self.lock().phases.clone();
        [("before", before), ("outage", outage), ("after", after)]
    }

    /// How long a column is.
    pub(crate) fn column(&self) -> Duration {
        self.column
    }

    fn position(&self) -> usize {
        let column = self.start.elapsed().as_millis() / self.column.as_millis();
        usize::try_from(column).unwrap_or(usize::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
