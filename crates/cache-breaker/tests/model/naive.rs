//! A breaker that remembers everything and works out each answer from the whole history.

use std::time::Duration;

use cache_breaker::{BreakerOptions, Outcome};

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    start: Duration,
    /// Between which transitions it began.
    era: usize,
    pub(crate) is_probe: bool,
    /// Which probe of its half-open time it is.
    probe: usize,
}

/// A change of state that a verdict made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) open_for: Option<Duration>,
}

/// Something that was counted while the present state lasted.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Duration,
    start: Duration,
    outcome: Option<Outcome>,
}

/// An opening, in a row of such without a long pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Usual,
    Configuration,
}

pub(crate) struct Naive {
    options: BreakerOptions,
    state: &'static str,
    era: usize,
    seen: Vec<Seen>,
    /// When a failure was last counted, in any state.
    counted: Duration,
    open_until: Duration,
    /// When the lease of the probe under way ends.
    lease: Option<Duration>,
    probes: usize,
    probe_successes: u32,
    closed_at: Option<Duration>,
    openings: Vec<Opening>,
}

impl Naive {
    pub(crate) fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            state: "closed",
            era: 0,
            seen: Vec::new(),
            counted: Duration::ZERO,
            open_until: Duration::ZERO,
            lease: None,
            probes: 0,
            probe_successes: 0,
            closed_at: None,
            openings: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> &'static str {
        self.state
    }

    pub(crate) fn is_rejecting(&self, now: Duration) -> bool {
        match self.state {
            "open" => now < self.open_until,
            "half_open" => self.lease.is_some_and(|until| now < until),
            state => state == "forced_open",
        }
    }

    /// A call, or how long none will be admitted.
    pub(crate) fn admit(&mut self, now: Duration) -> Result<Call, Option<Duration>> {
        if self.is_rejecting(now) {
            return Err(match self.state {
                "open" => Some(self.open_until - now),
                "half_open" => self.lease.map(|until| until - now),
                _ => None,
            });
        }
        if self.state == "open" {
            self.enter("half_open");
            self.lease = None;
            self.probe_successes = 0;
        }
        let is_probe = self.state == "half_open";
        if is_probe {
            self.probes += 1;
            self.lease = Some(now + self.options.probe_lease);
        }
        Ok(Call {
            start: now,
            era: self.era,
            is_probe,
            probe: self.probes,
        })
    }

    pub(crate) fn settle(
        &mut self,
        now: Duration,
        call: &Call,
        outcome: Outcome,
    ) -> Option<Change> {
        if !self.is_of_now(call) {
            return None;
        }
        if call.is_probe {
            return self.judge(now, outcome);
        }
        if self.state == "disabled" || outcome == Outcome::Neutral {
            return None;
        }
        let reason = if outcome == Outcome::Configuration {
            Some("config")
        } else {
            self.seen.push(Seen {
                at: now,
                start: call.start,
                outcome: Some(outcome),
            });
            self.broken_rule(now, outcome)
        };
        self.trip(now, reason?)
    }

    pub(crate) fn abandon(&mut self, now: Duration, call: &Call) -> Option<Change> {
        if !self.is_of_now(call) {
            return None;
        }
        if call.is_probe {
            self.lease = None;
            return None;
        }
        if self.state == "disabled" || now - call.start < self.slow_after() {
            return None;
        }
        self.seen.push(Seen {
            at: now,
            start: call.start,
            outcome: None,
        });
        if self.is_mostly_slow(now) {
            return self.trip(now, "slow");
        }
        None
    }

    /// Whether the command changed anything.
    pub(crate) fn command(&mut self, state: &'static str) -> bool {
        let is_automatic = ["closed", "open", "half_open"].contains(&self.state);
        if state == self.state || (state == "automatic" && is_automatic) {
            return false;
        }
        if state == "automatic" {
            self.openings.clear();
            self.closed_at = None;
            self.enter("closed");
        } else {
            self.enter(state);
        }
        true
    }

    /// Calls, failures and slow calls in the window.
    pub(crate) fn counts(&self, now: Duration) -> (u32, u32, u32) {
        let seen = self.in_window(now);
        let count = |those: &dyn Fn(&Seen) -> bool| {
            u32::try_from(seen.iter().filter(|seen| those(seen)).count())
                .expect("histories are short")
        };
        (
            count(&|seen| seen.outcome.is_some()),
            count(&|seen| is_bad(seen.outcome)),
            count(&|seen| self.is_slow(seen)),
        )
    }

    fn is_of_now(&self, call: &Call) -> bool {
        call.era == self.era && (!call.is_probe || call.probe == self.probes)
    }

    fn judge(&mut self, now: Duration, outcome: Outcome) -> Option<Change> {
        self.lease = None;
        match outcome {
            Outcome::Success => {
                self.probe_successes += 1;
                if self.probe_successes < self.options.probe_successes {
                    return None;
                }
                self.closed_at = Some(now);
                self.enter("closed");
                Some(Change {
                    from: "half_open",
                    to: "closed",
                    reason: "probe",
                    open_for: None,
                })
            }
            Outcome::Timeout => Some(self.open(now, "timeout")),
            Outcome::Failure => Some(self.open(now, "failure")),
            Outcome::Configuration => Some(self.open(now, "config")),
            _ => None,
        }
    }

    /// The rule that the latest of `seen` breaks.
    fn broken_rule(&mut self, now: Duration, outcome: Outcome) -> Option<&'static str> {
        if matches!(outcome, Outcome::Timeout | Outcome::Failure) {
            let row = self.failures_in_a_row();
            let is_counted = row.last().is_some_and(|last| last.at == now)
                && self
                    .seen
                    .last()
                    .is_some_and(|last| last.start >= self.counted);
            if is_counted {
                self.counted = now;
                let timeouts = |seen: &&Seen| seen.outcome == Some(Outcome::Timeout);
                let timeouts: Vec<_> = row.iter().filter(timeouts).copied().collect();
                let is_timeout = outcome == Outcome::Timeout;
                if is_timeout && self.is_long(&timeouts, self.options.consecutive_timeouts) {
                    return Some("timeout");
                }
                if self.is_long(&row, self.options.consecutive_failures) {
                    return Some("failure");
                }
            }
        }
        if is_bad(Some(outcome)) && self.is_mostly_failing(now) {
            return Some("rate");
        }
        let is_slow = self.seen.last().is_some_and(|seen| self.is_slow(seen));
        (is_slow && self.is_mostly_slow(now)).then_some("slow")
    }

    /// The counted failures since the last success.
    fn failures_in_a_row(&self) -> Vec<Seen> {
        let mut row: Vec<Seen> = Vec::new();
        // A failure before the present state was counted too.
        let mut counted = Duration::ZERO;
        for seen in &self.seen {
            match seen.outcome {
                Some(Outcome::Success) => row.clear(),
                Some(Outcome::Timeout | Outcome::Failure) if seen.start >= counted => {
                    counted = seen.at;
                    row.push(*seen);
                }
                _ => {}
            }
        }
        row
    }

    /// Whether the last `limit` of a row lie close enough together.
    fn is_long(&self, row: &[Seen], limit: u32) -> bool {
        let limit = usize::try_from(limit).expect("histories are short");
        let Some(oldest) = row.len().checked_sub(limit) else {
            return false;
        };
        let last = row.last().expect("histories are short");
        last.at - row[oldest].at <= self.options.consecutive_within
    }

    fn is_mostly_failing(&self, now: Duration) -> bool {
        let (calls, failures, _) = self.counts(now);
        let share = f64::from(failures) / f64::from(calls);
        calls >= self.options.minimum_calls && share >= self.options.failure_rate - 1e-9
    }

    fn is_mostly_slow(&self, now: Duration) -> bool {
        let seen = u32::try_from(self.in_window(now).len()).expect("histories are short");
        let (_, _, slow) = self.counts(now);
        let share = f64::from(slow) / f64::from(seen);
        seen >= self.options.minimum_calls && share >= self.options.slow_rate - 1e-9
    }

    fn in_window(&self, now: Duration) -> Vec<Seen> {
        let bucket = self.options.window.as_nanos() / 10;
        let number = |at: Duration| at.as_nanos() / bucket;
        let is_in = |seen: &&Seen| number(now) - number(seen.at) < 10;
        self.seen.iter().filter(is_in).copied().collect()
    }

    fn is_slow(&self, seen: &Seen) -> bool {
        seen.at - seen.start >= self.slow_after()
    }

    fn slow_after(&self) -> Duration {
        self.options.slow_after.unwrap_or(Duration::MAX)
    }

    fn trip(&mut self, now: Duration, reason: &'static str) -> Option<Change> {
        if self.state != "closed" {
            return None;
        }
        let within = self.options.relapse_within;
        if self.closed_at.is_none_or(|closed| now - closed > within) {
            self.openings.clear();
        }
        Some(self.open(now, reason))
    }

    fn open(&mut self, now: Duration, reason: &'static str) -> Change {
        let (kind, first, longest) = if reason == "config" {
            let longest = self.options.longest_configuration_open;
            (
                Opening::Configuration,
                self.options.configuration_open_for,
                longest,
            )
        } else {
            (
                Opening::Usual,
                self.options.open_for,
                self.options.longest_open,
            )
        };
        let before = self
            .openings
            .iter()
            .filter(|opening| **opening == kind)
            .count();
        let doublings = u32::try_from(before.min(20)).expect("histories are short");
        let open_for = (first * 2u32.pow(doublings)).min(longest);
        self.openings.push(kind);
        let from = self.state;
        self.enter("open");
        self.open_until = now + open_for;
        Change {
            from,
            to: "open",
            reason,
            open_for: Some(open_for),
        }
    }

    fn enter(&mut self, state: &'static str) {
        self.state = state;
        self.era += 1;
        self.seen.clear();
    }
}

fn is_bad(outcome: Option<Outcome>) -> bool {
    matches!(
        outcome,
        Some(Outcome::Timeout | Outcome::Failure | Outcome::Throttled)
    )
}
