//! What the last calls came to, in ten buckets that stay in place.

use std::time::Duration;

/// How many parts a window has: the oldest of them goes at once.
const BUCKETS: usize = 10;

/// Calls within a span of time that moves along, counted in ten buckets.
///
/// The span is exact to a tenth: a call leaves with the bucket it was counted in.
#[derive(Debug, Clone)]
pub(super) struct Window {
    buckets: [Tally; BUCKETS],
    total: Tally,
    /// The length of a bucket in nanoseconds.
    bucket: u64,
    /// The number of the current bucket since the clock began.
    current: u64,
    /// Where the current bucket ends, in nanoseconds, so that most calls need no division.
    ends: u64,
}

/// Calls by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Calls that came to a verdict.
    pub(super) completed: u32,
    /// Those of them that failed or were throttled.
    pub(super) failed: u32,
    /// Those of them that were slow.
    pub(super) slow: u32,
    /// Slow calls whose callers left before there was a verdict.
    pub(super) abandoned: u32,
}

impl Window {
    /// An empty window over `span`, at least ten nanoseconds.
    pub(super) fn new(span: Duration) -> Self {
        Self {
            buckets: [Tally::default(); BUCKETS],
            total: Tally::default(),
            bucket: (nanos(span) / BUCKETS as u64).max(1),
            current: 0,
            ends: 0,
        }
    }

    /// Counts `calls` at `now`, which never lies before an earlier `now`.
    pub(super) fn add(&mut self, now: Duration, calls: Tally) {
        self.advance(nanos(now));
        self.buckets[place(self.current)].add(calls);
        self.total.add(calls);
    }

    /// All calls within the span up to `now`.
    pub(super) fn total(&mut self, now: Duration) -> Tally {
        self.advance(nanos(now));
        self.total
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buckets = [Tally::default(); BUCKETS];
        self.total = Tally::default();
    }

    fn advance(&mut self, now: u64) {
        if now < self.ends {
            return;
        }
        let reached = now / self.bucket;
        let passed = reached.saturating_sub(self.current).min(BUCKETS as u64);
        for bucket in reached + 1 - passed..=reached {
            let oldest = std::mem::take(&mut self.buckets[place(bucket)]);
            self.total.remove(oldest);
        }
        self.current = reached;
        self.ends = (reached + 1).saturating_mul(self.bucket);
    }
}

impl Tally {
    /// Calls the slow rule looks at: those that completed, and those whose callers left too late.
    pub(super) fn timed(self) -> u32 {
        self.completed + self.abandoned
    }

    /// Those of [`timed`](Self::timed) that were slow.
    pub(super) fn all_slow(self) -> u32 {
        self.slow + self.abandoned
    }

    fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.slow += other.slow;
        self.abandoned += other.abandoned;
    }

    fn remove(&mut self, other: Self) {
        self.completed -= other.completed;
        self.failed -= other.failed;
        self.slow -= other.slow;
        self.abandoned -= other.abandoned;
    }
}

fn place(bucket: u64) -> usize {
    usize::try_from(bucket % BUCKETS as u64).unwrap_or_default()
}

/// 580 years are enough for a clock that starts with the process.
fn nanos(span: Duration) -> u64 {
    span.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(span.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Tally = Tally {
        completed: 1,
        failed: 0,
        slow: 0,
        abandoned: 0,
    };

    #[test]
    fn a_call_leaves_with_its_bucket() {
        let mut window = Window::new(Duration::from_secs(10));
        window.add(Duration::from_millis(500), ONE);
        window.add(Duration::from_millis(1500), ONE);
        assert_eq!(window.total(Duration::from_millis(9999)).completed, 2);
        assert_eq!(window.total(Duration::from_secs(10)).completed, 1);
        assert_eq!(window.total(Duration::from_secs(11)).completed, 0);
    }

    #[test]
    fn a_long_silence_empties_it() {
        let mut window = Window::new(Duration::from_secs(10));
        window.add(Duration::from_secs(3), ONE);
        window.add(Duration::from_secs(1_000_000), ONE);
        assert_eq!(window.total(Duration::from_secs(1_000_000)), ONE);
        assert_eq!(window.total(Duration::MAX).completed, 0);
    }

    #[test]
    fn a_cleared_window_counts_anew() {
        let mut window = Window::new(Duration::from_secs(1));
        window.add(Duration::from_secs(5), ONE);
        window.clear();
        assert_eq!(window.total(Duration::from_secs(5)), Tally::default());
        window.add(Duration::from_secs(5), ONE);
        assert_eq!(window.total(Duration::from_secs(20)), Tally::default());
    }
}
