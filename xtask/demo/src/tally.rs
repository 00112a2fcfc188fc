//! What is counted while the demo runs.

use std::time::{Duration, Instant};

/// What the caches did, of one worker or of all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sessions: UseCase,
    pub(crate) limits: UseCase,
    pub(crate) responses: UseCase,
    /// Requests that were let pass because the limit could not be counted.
    pub(crate) uncounted: usize,
    /// The highest value of any rate limit counter.
    pub(crate) busiest: i64,
}

/// What one use of the cache did.
#[derive(Debug, Default)]
pub(crate) struct UseCase {
    /// How long each call to the cache took, without the origin.
    pub(crate) calls: Vec<Duration>,
    pub(crate) reads: usize,
    pub(crate) hits: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            sessions,
            limits,
            responses,
            uncounted,
            busiest,
        } = other;
        self.uncounted += uncounted;
        self.sessions.add(sessions);
        self.limits.add(limits);
        self.responses.add(responses);
        self.busiest = self.busiest.max(busiest);
    }
}

impl UseCase {
    pub(crate) fn read(&mut self, hit: bool) {
        self.reads += 1;
        self.hits += usize::from(hit);
    }

    fn add(&mut self, other: Self) {
        let Self { calls, reads, hits } = other;
        self.calls.extend(calls);
        self.reads += reads;
        self.hits += hits;
    }
}

/// Makes a call and notes how long it took.
pub(crate) async fn timed<T>(calls: &mut Vec<Duration>, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let outcome = call.await;
    calls.push(start.elapsed());
    outcome
}
