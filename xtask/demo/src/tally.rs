//! What is counted while the demo runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cache_core::{LoadStatus, Loaded};

/// What the caches did, of one worker or of all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sessions: UseCase,
    pub(crate) places: UseCase,
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
    pub(crate) operations: usize,
    /// How long each call to the cache took, without the origin. Joined calls are not among
    /// them.
    pub(crate) calls: Vec<Duration>,
    /// Calls that were answered with an entry, by the tier that had it.
    pub(crate) tiers: BTreeMap<&'static str, usize>,
    /// Calls that were answered with a note that there is nothing.
    pub(crate) absent: usize,
    /// Calls that asked the origin and waited for it.
    pub(crate) loaded: usize,
    /// Calls that waited for what another one had begun to load, or for its reading of such a note:
    /// nothing tells these apart.
    pub(crate) joined: usize,
    /// Of the answers of tiers, those that were stale.
    pub(crate) stale: usize,
    /// How often the origin was asked, in the background too.
    pub(crate) asked: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            sessions,
            places,
            limits,
            responses,
            uncounted,
            busiest,
        } = other;
        self.sessions.add(sessions);
        self.places.add(places);
        self.limits.add(limits);
        self.responses.add(responses);
        self.uncounted += uncounted;
        self.busiest = self.busiest.max(busiest);
    }

    /// A number of all that load what is missing, together.
    pub(crate) fn sum(&self, number: impl Fn(&UseCase) -> usize) -> usize {
        number(&self.sessions) + number(&self.places) + number(&self.responses)
    }
}

impl UseCase {
    /// Counts a load that took so long, with the time of the origin if it was asked by then.
    pub(crate) fn load<T>(&mut self, loaded: &Loaded<T>, took: Duration, origin: Option<Duration>) {
        self.operations += 1;
        self.stale += usize::from(loaded.status == LoadStatus::Stale);
        // What is loaded behind the answer of a tier keeps nobody waiting.
        let (count, took) = match (loaded.tier, origin) {
            (Some(tier), _) => (self.tiers.entry(tier).or_default(), Some(took)),
            (None, Some(origin)) => (&mut self.loaded, Some(took.saturating_sub(origin))),
            (None, None) if loaded.joined => (&mut self.joined, None),
            (None, None) => (&mut self.absent, Some(took)),
        };
        *count += 1;
        self.calls.extend(took);
    }

    /// Makes a call that loads nothing and notes how long it took.
    pub(crate) async fn call<T>(&mut self, call: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let outcome = call.await;
        self.operations += 1;
        self.calls.push(start.elapsed());
        outcome
    }

    pub(crate) fn reads(&self) -> usize {
        self.hits() + self.loaded + self.joined
    }

    /// Answers of tiers, with an entry or with a note.
    pub(crate) fn hits(&self) -> usize {
        self.tiers.values().sum::<usize>() + self.absent
    }

    fn add(&mut self, other: Self) {
        let Self {
            operations,
            calls,
            tiers,
            absent,
            loaded,
            joined,
            stale,
            asked,
        } = other;
        self.operations += operations;
        self.calls.extend(calls);
        for (tier, hits) in tiers {
            *self.tiers.entry(tier).or_default() += hits;
        }
        self.absent += absent;
        self.loaded += loaded;
        self.joined += joined;
        self.stale += stale;
        self.asked += asked;
    }
}
