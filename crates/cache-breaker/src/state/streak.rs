//! Failures in a row.

use std::time::Duration;

/// Failures without a success between them, by when they were counted.
///
/// Calls that are stuck in one stall end together and say one thing, so they count once: a failure
/// counts if its call started when the failure counted before it was known.
#[derive(Debug, Clone)]
pub(super) struct Streak {
    within: Duration,
    timeouts: Recent,
    failures: Recent,
    /// When a failure was last counted. A success does not end a stall: what hung before it and
    /// fails after it still is of that stall.
    counted: Duration,
}

/// Which row is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Timeouts,
    Failures,
}

impl Streak {
    /// A row that is long enough at so many timeouts, or so many failures of any kind, `within` a
    /// span.
    pub(super) fn new(timeouts: u32, failures: u32, within: Duration) -> Self {
        Self {
            within,
            timeouts: Recent::new(timeouts),
            failures: Recent::new(failures),
            counted: Duration::ZERO,
        }
    }

    /// Counts the failure of a call that began at `start`, and says whether a row is long enough.
    pub(super) fn fail(&mut self, now: Duration, start: Duration, is_timeout: bool) -> Option<Row> {
        if start < self.counted {
            return None;
        }
        self.counted = now;
        self.failures.note(now);
        if is_timeout {
            self.timeouts.note(now);
            if self.timeouts.all_within(now, self.within) {
                return Some(Row::Timeouts);
            }
        }
        let is_long = self.failures.all_within(now, self.within);
        is_long.then_some(Row::Failures)
    }

    /// A success ends every row.
    pub(super) fn succeed(&mut self) {
        self.timeouts.noted = 0;
        self.failures.noted = 0;
    }

    /// Timeouts in a row and failures of any kind in a row, as far as they are remembered.
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.timeouts.length(), self.failures.length())
    }
}

/// The last moments something happened, as many as a limit needs; allocated once.
#[derive(Debug, Clone)]
struct Recent {
    moments: Box<[Duration]>,
    /// How many were noted since the row began; the latest is before `noted % len`.
    noted: usize,
}

impl Recent {
    fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        Self {
            moments: vec![Duration::ZERO; limit].into(),
            noted: 0,
        }
    }

    fn note(&mut self, now: Duration) {
        let place = self.noted % self.moments.len();
        self.moments[place] = now;
        self.noted += 1;
    }

    /// Whether as many as the limit lie within `span` before `now`.
    fn all_within(&self, now: Duration, span: Duration) -> bool {
        let limit = self.moments.len();
        // The oldest is the next to be overwritten.
        self.noted >= limit && now.saturating_sub(self.moments[self.noted % limit]) <= span
    }

    fn length(&self) -> usize {
        self.noted.min(self.moments.len())
    }
}
