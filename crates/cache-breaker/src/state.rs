//! The breaker itself: a machine that takes the time and says what changed. No I/O, no lock.

mod ladder;
mod record;
mod streak;
mod ticket;
mod window;
mod words;

use std::time::Duration;

use ladder::Ladder;
use record::Record;
use ticket::Probe;

pub use ticket::{Admission, Ticket};
pub use words::{Counts, Outcome, Reason, State, Transition};

use crate::options::BreakerOptions;

/// A circuit breaker as a plain value.
///
/// Every call passes through [`admit`](Self::admit) and then, with the ticket it got, through
/// [`settle`](Self::settle) or [`abandon`](Self::abandon). `now` is the reading of a monotonic
/// clock; one that lies before an earlier one counts as that one, so threads may read the clock
/// before they take turns. No method allocates, but for [`new`](Self::new).
///
/// The verdict on a call that began before the last change of state says nothing about the state
/// since, so it is ignored. [`CircuitBreaker`](crate::CircuitBreaker) puts a clock, a lock and an
/// observer around this.
#[derive(Debug, Clone)]
pub struct Machine {
    rules: Rules,
    phase: Phase,
    /// Counts changes of state, and probes: a verdict of an older one is ignored.
    generation: u64,
    since: Duration,
    reason: Reason,
    latest: Duration,
    record: Record,
    ladder: Ladder,
    configuration_ladder: Ladder,
    /// When a half-open breaker last closed.
    closed_at: Option<Duration>,
    random: fastrand::Rng,
}

/// What the options say about probes and relapses.
#[derive(Debug, Clone, Copy)]
struct Rules {
    relapse_within: Duration,
    probe_lease: Duration,
    probe_successes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Duration },
    HalfOpen { lease: Option<Duration>, left: u32 },
    ForcedOpen,
    ForcedClosed,
    Disabled,
}

impl Machine {
    /// A closed breaker by the rules of `options`, whose chance begins with `seed`.
    ///
    /// Options that were not checked make a breaker that follows them as far as they make sense.
    #[must_use]
    pub fn new(options: &BreakerOptions, seed: u64) -> Self {
        let ladder = |first, longest| Ladder::new(first, longest, options.jitter);
        Self {
            rules: Rules::new(options),
            phase: Phase::Closed,
            generation: 0,
            since: Duration::ZERO,
            reason: Reason::Manual,
            latest: Duration::ZERO,
            record: Record::new(options),
            ladder: ladder(options.open_for, options.longest_open),
            configuration_ladder: ladder(
                options.configuration_open_for,
                options.longest_configuration_open,
            ),
            closed_at: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether a call may go at `now`.
    pub fn admit(&mut self, now: Duration) -> Admission {
        let now = self.at(now);
        match self.phase {
            Phase::Closed | Phase::ForcedClosed | Phase::Disabled => self.ticket(now, Probe::No),
            Phase::Open { until } if now >= until => {
                self.enter(now, Phase::half_open(&self.rules), self.reason);
                self.probe(now, Probe::First)
            }
            Phase::HalfOpen { lease, .. } if lease.is_none_or(|until| now >= until) => {
                self.generation += 1;
                self.probe(now, Probe::Later)
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } | Phase::ForcedOpen => {
                Admission::Rejected {
                    retry_after: self.retry_after(now),
                    reason: self.reason,
                }
            }
        }
    }

    /// Takes the verdict on a call, and says what it changed.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket is used up, so that nothing is counted twice"
    )]
    pub fn settle(
        &mut self,
        now: Duration,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Option<Transition> {
        let now = self.at(now);
        let Ticket {
            generation, start, ..
        } = ticket;
        if generation != self.generation {
            return None;
        }
        match self.phase {
            Phase::Closed => {
                let reason = self.record.count(now, start, outcome)?;
                Some(self.trip(now, reason))
            }
            Phase::HalfOpen { left, .. } => self.judge(now, left, outcome),
            Phase::ForcedClosed => {
                _ = self.record.count(now, start, outcome);
                None
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => None,
        }
    }

    /// Takes a call back that was dropped without a verdict, and says what that changed.
    ///
    /// A probe frees its lease. Any other call that took too long for its caller says something
    /// all the same: it counts in the rule on slow calls, and nowhere else.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket is used up, so that nothing is counted twice"
    )]
    pub fn abandon(&mut self, now: Duration, ticket: Ticket) -> Option<Transition> {
        let now = self.at(now);
        let Ticket {
            generation, start, ..
        } = ticket;
        if generation != self.generation {
            return None;
        }
        match self.phase {
            Phase::HalfOpen { left, .. } => {
                self.phase = Phase::HalfOpen { lease: None, left };
                None
            }
            Phase::Closed => {
                let reason = self.record.abandon(now, start)?;
                Some(self.trip(now, reason))
            }
            Phase::ForcedClosed => {
                _ = self.record.abandon(now, start);
                None
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => None,
        }
    }

    /// Turns every call away until told otherwise.
    pub fn force_open(&mut self, now: Duration) -> Option<Transition> {
        self.force(now, Phase::ForcedOpen)
    }

    /// Lets every call through and goes on counting, until told otherwise.
    pub fn force_closed(&mut self, now: Duration) -> Option<Transition> {
        self.force(now, Phase::ForcedClosed)
    }

    /// Lets every call through and counts nothing, until told otherwise.
    pub fn disable(&mut self, now: Duration) -> Option<Transition> {
        self.force(now, Phase::Disabled)
    }

    /// Decides by itself again, beginning closed; without effect on one that does already.
    pub fn automatic(&mut self, now: Duration) -> Option<Transition> {
        let is_forced = matches!(
            self.phase,
            Phase::ForcedOpen | Phase::ForcedClosed | Phase::Disabled
        );
        if !is_forced {
            return None;
        }
        self.ladder.descend();
        self.configuration_ladder.descend();
        self.closed_at = None;
        self.force(now, Phase::Closed)
    }

    /// The present state. An open breaker stays open until a call comes that may probe.
    #[must_use]
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// Counts changes of state and probes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the present state began.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Why the breaker opened last, or was set by hand; none for one that never did.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let is_fresh = self.phase == Phase::Closed && self.generation == 0;
        (!is_fresh).then_some(self.reason)
    }

    /// How long calls are turned away at most, from `now`; none where none are, or where nobody
    /// knows.
    #[must_use]
    pub fn retry_after(&self, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_sub(now)),
            Phase::HalfOpen { lease, .. } => lease.map(|until| until.saturating_sub(now)),
            _ => None,
        }
    }

    /// Whether a call at `now` would be turned away. Changes nothing.
    #[must_use]
    pub fn is_rejecting(&self, now: Duration) -> bool {
        let is_waiting = self.retry_after(now).is_some_and(|left| !left.is_zero());
        is_waiting || self.phase == Phase::ForcedOpen
    }

    /// What is counted of the calls since the last change of state, up to `now`.
    pub fn counts(&mut self, now: Duration) -> Counts {
        let now = self.at(now);
        self.record.counts(now)
    }

    /// Says better why the breaker is as it is.
    pub(crate) fn blame(&mut self, reason: Reason) {
        self.reason = reason;
    }

    /// The later of `now` and all moments before.
    fn at(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn ticket(&self, start: Duration, probe: Probe) -> Admission {
        Admission::Admitted(Ticket {
            generation: self.generation,
            start,
            probe,
        })
    }

    fn probe(&mut self, now: Duration, probe: Probe) -> Admission {
        if let Phase::HalfOpen { lease, .. } = &mut self.phase {
            *lease = Some(now.saturating_add(self.rules.probe_lease));
        }
        self.ticket(now, probe)
    }

    /// What a probe's verdict changes.
    fn judge(&mut self, now: Duration, left: u32, outcome: Outcome) -> Option<Transition> {
        match outcome {
            Outcome::Success if left <= 1 => Some(self.close(now)),
            Outcome::Success => {
                self.phase = Phase::HalfOpen {
                    lease: None,
                    left: left - 1,
                };
                None
            }
            Outcome::Timeout => Some(self.open(now, Reason::Timeout)),
            Outcome::Failure => Some(self.open(now, Reason::Failure)),
            Outcome::Configuration => Some(self.open(now, Reason::Configuration)),
            // The server answers, or was not asked: neither better nor worse than before.
            Outcome::Throttled | Outcome::Neutral => {
                self.phase = Phase::HalfOpen { lease: None, left };
                None
            }
        }
    }

    /// Opens a closed breaker. One that had closed a moment ago goes on where it was.
    fn trip(&mut self, now: Duration, reason: Reason) -> Transition {
        let within = self.rules.relapse_within;
        let is_relapse = |closed: Duration| now.saturating_sub(closed) <= within;
        if !self.closed_at.is_some_and(is_relapse) {
            self.ladder.descend();
            self.configuration_ladder.descend();
        }
        self.open(now, reason)
    }

    fn open(&mut self, now: Duration, reason: Reason) -> Transition {
        let ladder = match reason {
            Reason::Configuration => &mut self.configuration_ladder,
            _ => &mut self.ladder,
        };
        let open_for = ladder.climb(&mut self.random);
        let until = now.saturating_add(open_for);
        let change = self.enter(now, Phase::Open { until }, reason);
        Transition {
            open_for: Some(open_for),
            ..change
        }
    }

    fn close(&mut self, now: Duration) -> Transition {
        self.closed_at = Some(now);
        let opened_for = self.reason;
        let change = self.enter(now, Phase::Closed, Reason::Probe);
        self.reason = opened_for;
        change
    }

    fn force(&mut self, now: Duration, phase: Phase) -> Option<Transition> {
        let now = self.at(now);
        (self.phase != phase).then(|| self.enter(now, phase, Reason::Manual))
    }

    fn enter(&mut self, now: Duration, phase: Phase, reason: Reason) -> Transition {
        let change = Transition {
            from: self.phase.state(),
            to: phase.state(),
            reason,
            open_for: None,
        };
        self.phase = phase;
        self.generation += 1;
        self.since = now;
        self.reason = reason;
        self.record.clear();
        change
    }
}

impl Rules {
    fn new(options: &BreakerOptions) -> Self {
        Self {
            relapse_within: options.relapse_within,
            probe_lease: options.probe_lease,
            probe_successes: options.probe_successes,
        }
    }
}

impl Phase {
    fn half_open(rules: &Rules) -> Self {
        Self::HalfOpen {
            lease: None,
            left: rules.probe_successes,
        }
    }

    fn state(self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
            Self::Disabled => State::Disabled,
        }
    }
}

#[cfg(test)]
mod tests;
