//! What calls came to since the last change of state, and which rule that breaks.

use std::time::Duration;

use super::streak::{Row, Streak};
use super::window::{Tally, Window};
use super::words::{Counts, Outcome, Reason};
use crate::options::BreakerOptions;

/// The rows and the window of a breaker, with the rules on them.
#[derive(Debug, Clone)]
pub(super) struct Record {
    streak: Streak,
    window: Window,
    failure_rate: f64,
    slow_rate: f64,
    slow_after: Duration,
    minimum_calls: u32,
}

impl Record {
    pub(super) fn new(options: &BreakerOptions) -> Self {
        Self {
            streak: Streak::new(
                options.consecutive_timeouts,
                options.consecutive_failures,
                options.consecutive_within,
            ),
            window: Window::new(options.window),
            failure_rate: options.failure_rate,
            slow_rate: options.slow_rate,
            slow_after: options.slow_after.unwrap_or(Duration::MAX),
            minimum_calls: options.minimum_calls,
        }
    }

    /// Counts a verdict, and says why the breaker must open, if it must.
    pub(super) fn count(
        &mut self,
        now: Duration,
        start: Duration,
        outcome: Outcome,
    ) -> Option<Reason> {
        let is_failure = match outcome {
            Outcome::Success => false,
            Outcome::Timeout | Outcome::Failure | Outcome::Throttled => true,
            Outcome::Configuration => return Some(Reason::Configuration),
            Outcome::Neutral => return None,
        };
        let is_slow = self.is_slow(now, start);
        let call = Tally {
            completed: 1,
            failed: u32::from(is_failure),
            slow: u32::from(is_slow),
            abandoned: 0,
        };
        self.window.add(now, call);
        let row = self.extend_streak(now, start, outcome);
        // A success that is quick never opens, whatever left the window meanwhile.
        row.or_else(|| (is_failure && self.is_mostly_failing(now)).then_some(Reason::Rate))
            .or_else(|| (is_slow && self.is_mostly_slow(now)).then_some(Reason::Slow))
    }

    /// Counts a call that began at `start` and was given up, if that took long, and says why the
    /// breaker must open, if it must.
    pub(super) fn abandon(&mut self, now: Duration, start: Duration) -> Option<Reason> {
        if !self.is_slow(now, start) {
            return None;
        }
        let abandoned = Tally {
            abandoned: 1,
            ..Tally::default()
        };
        self.window.add(now, abandoned);
        self.is_mostly_slow(now).then_some(Reason::Slow)
    }

    /// What is counted up to `now`.
    pub(super) fn counts(&mut self, now: Duration) -> Counts {
        let total = self.window.total(now);
        let (timeouts, failures) = self.streak.lengths();
        Counts {
            calls: total.completed,
            failures: total.failed,
            slow: total.all_slow(),
            consecutive_timeouts: timeouts,
            consecutive_failures: failures,
        }
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.streak.succeed();
        self.window.clear();
    }

    fn extend_streak(
        &mut self,
        now: Duration,
        start: Duration,
        outcome: Outcome,
    ) -> Option<Reason> {
        let row = match outcome {
            Outcome::Success => {
                self.streak.succeed();
                None
            }
            Outcome::Timeout => self.streak.fail(now, start, true),
            Outcome::Failure => self.streak.fail(now, start, false),
            Outcome::Throttled | Outcome::Configuration | Outcome::Neutral => None,
        };
        match row? {
            Row::Timeouts => Some(Reason::Timeout),
            Row::Failures => Some(Reason::Failure),
        }
    }

    fn is_slow(&self, now: Duration, start: Duration) -> bool {
        now.saturating_sub(start) >= self.slow_after
    }

    fn is_mostly_failing(&mut self, now: Duration) -> bool {
        let total = self.window.total(now);
        let enough = total.completed >= self.minimum_calls;
        enough && is_share(total.failed, total.completed, self.failure_rate)
    }

    fn is_mostly_slow(&mut self, now: Duration) -> bool {
        let total = self.window.total(now);
        let enough = total.timed() >= self.minimum_calls;
        enough && is_share(total.all_slow(), total.timed(), self.slow_rate)
    }
}

/// Whether `part` is at least the fraction `share` of `all`; a product such as 0.07 * 100 comes out
/// a little above 7.
fn is_share(part: u32, all: u32, share: f64) -> bool {
    f64::from(part) + 1e-6 >= share * f64::from(all)
}
