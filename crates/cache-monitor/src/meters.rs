//! The counters and histograms of one storage.

use std::time::Duration;

use cache_core::{CacheError, ErrorKind, Operation, Result};
use metrics::{Counter, Histogram, Key};

use crate::names;
use crate::sink::{Kept, Metrics, key};

/// What became of a key where nothing failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Hit,
    Miss,
    Ok,
    /// A condition did not hold.
    NotMet,
}

const OUTCOMES: [Outcome; 4] = [Outcome::Hit, Outcome::Miss, Outcome::Ok, Outcome::NotMet];

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Ok => "ok",
            Self::NotMet => "not_met",
        }
    }
}

/// Counts and times the calls of one storage.
pub(crate) struct Meters {
    backend: &'static str,
    metrics: Metrics,
    kept: [KeptOfOperation; OPERATIONS],
}

const OPERATIONS: usize = Operation::Shutdown as usize + 1;

/// What every call uses, so that no name is looked up in the common case. Errors are rare and are.
#[derive(Default)]
struct KeptOfOperation {
    outcomes: [Kept<Counter>; OUTCOMES.len()],
    seconds: Kept<Histogram>,
}

impl Meters {
    pub(crate) fn new(backend: &'static str, metrics: Metrics) -> Self {
        Self {
            backend,
            metrics,
            kept: Default::default(),
        }
    }

    /// One call that `took` so long.
    pub(crate) fn single(
        &self,
        operation: Operation,
        took: Duration,
        outcome: Result<Outcome, &CacheError>,
    ) {
        self.time(operation, took);
        match outcome {
            Ok(outcome) => self.count(operation, outcome, 1),
            Err(error) => self.count_errors(operation, error_outcome(error), 1),
        }
        if outcome.is_err_and(is_about_key) {
            self.count_invalid_keys(1);
        }
    }

    /// One call for many keys that `took` so long.
    pub(crate) fn batch<'a>(
        &self,
        operation: Operation,
        took: Duration,
        outcomes: impl Iterator<Item = Result<Outcome, &'a CacheError>>,
    ) {
        self.time(operation, took);
        let mut tally = Tally::default();
        outcomes.for_each(|outcome| tally.add(outcome));
        for outcome in OUTCOMES {
            match tally.outcomes[outcome as usize] {
                0 => {}
                keys => self.count(operation, outcome, keys),
            }
        }
        for (outcome, keys) in tally.errors {
            self.count_errors(operation, outcome, keys);
        }
        if tally.invalid_keys > 0 {
            self.count_invalid_keys(tally.invalid_keys);
        }
    }

    fn time(&self, operation: Operation, took: Duration) {
        let key = || {
            let labels = [("backend", self.backend), ("op", operation.as_str())];
            key(names::OP_SECONDS, &labels)
        };
        let kept = &self.kept[operation as usize].seconds;
        kept.time(&self.metrics, key, took);
    }

    fn count(&self, operation: Operation, outcome: Outcome, keys: u64) {
        let key = || self.ops_key(operation, outcome.as_str());
        let kept = &self.kept[operation as usize].outcomes[outcome as usize];
        kept.count(&self.metrics, key, keys);
    }

    fn ops_key(&self, operation: Operation, outcome: &str) -> Key {
        key(names::OPS_TOTAL, &self.labels(operation, outcome))
    }

    fn count_errors(&self, operation: Operation, outcome: &'static str, keys: u64) {
        let labels = self.labels(operation, outcome);
        self.metrics.count(names::OPS_TOTAL, &labels, keys);
    }

    fn labels<'a>(&self, operation: Operation, outcome: &'a str) -> [(&'static str, &'a str); 3] {
        let operation = operation.as_str();
        [
            ("backend", self.backend),
            ("op", operation),
            ("outcome", outcome),
        ]
    }

    fn count_invalid_keys(&self, keys: u64) {
        self.metrics.count(names::INVALID_KEY_TOTAL, &[], keys);
    }
}

/// The outcomes of a batch, so that each is counted in one go.
#[derive(Default)]
struct Tally {
    outcomes: [u64; OUTCOMES.len()],
    errors: Vec<(&'static str, u64)>,
    invalid_keys: u64,
}

impl Tally {
    fn add(&mut self, outcome: Result<Outcome, &CacheError>) {
        match outcome {
            Ok(outcome) => self.outcomes[outcome as usize] += 1,
            Err(error) => {
                self.invalid_keys += u64::from(is_about_key(error));
                self.add_error(error_outcome(error));
            }
        }
    }

    /// Keys of a batch fail for few reasons, so looking through them is cheap.
    fn add_error(&mut self, outcome: &'static str) {
        match self.errors.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, keys)) => *keys += 1,
            None => self.errors.push((outcome, 1)),
        }
    }
}

fn is_about_key(error: &CacheError) -> bool {
    error.kind() == ErrorKind::Key
}

/// The code, but for a write whose answer was lost: what became of it matters more than how.
fn error_outcome(error: &CacheError) -> &'static str {
    let is_lost = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Connection);
    if is_lost && error.may_have_happened() {
        return "unknown";
    }
    error.code()
}
