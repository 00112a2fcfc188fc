//! The machine against a second implementation that is slow and obviously right.

#[path = "model/naive.rs"]
mod naive;

use std::time::Duration;

use cache_breaker::{Admission, BreakerOptions, Machine, Outcome, Ticket, Transition};
use naive::Naive;

/// How many random histories are compared.
const ROUNDS: u64 = 1_000_000;

const OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
    Outcome::Timeout,
    Outcome::Failure,
    Outcome::Throttled,
    Outcome::Configuration,
    Outcome::Neutral,
];

/// Rules small enough that short histories reach all of them.
fn options(random: &mut fastrand::Rng) -> BreakerOptions {
    let ms = Duration::from_millis;
    let first = ms(random.u64(1..4) * 500);
    BreakerOptions::default()
        .with_jitter(0.0)
        .with_consecutive_timeouts(random.u32(1..4))
        .with_consecutive_failures(random.u32(1..5))
        .with_consecutive_within(ms(random.u64(1..4) * 1000))
        .with_window(ms(random.u64(1..4) * 1000), random.u32(2..6))
        .with_failure_rate(f64::from(random.u32(1..5)) * 0.25)
        .with_slow_rate(f64::from(random.u32(1..5)) * 0.25)
        .with_slow_after(ms(random.u64(1..4) * 100))
        .with_open_for(first, first * random.u32(1..6))
        .with_configuration_open_for(first * 2, first * random.u32(2..9))
        .with_relapse_within(ms(random.u64(1..5) * 1000))
        .with_probes(ms(random.u64(1..4) * 500), random.u32(1..4))
}

/// Both implementations and the calls under way in them, at one moment.
struct Pair {
    machine: Machine,
    naive: Naive,
    under_way: Vec<(Ticket, naive::Call)>,
    now: Duration,
}

impl Pair {
    fn new(random: &mut fastrand::Rng) -> Self {
        let options = options(random);
        Self {
            machine: Machine::new(&options, random.u64(..)),
            naive: Naive::new(options),
            under_way: Vec::new(),
            now: Duration::ZERO,
        }
    }

    fn step(&mut self, random: &mut fastrand::Rng) {
        match random.u8(0..32) {
            0..=5 => self.now += Duration::from_millis(random.u64(0..40) * 50),
            6..=15 => self.admit(),
            16..=18 => self.abandon(random),
            19..=30 => {
                self.admit();
                self.settle(random);
            }
            _ if random.u8(0..4) == 0 => self.command(random),
            _ => self.settle(random),
        }
        let now = self.now;
        assert_eq!(self.machine.state().as_str(), self.naive.state());
        assert_eq!(self.machine.is_rejecting(now), self.naive.is_rejecting(now));
        let counts = self.machine.counts(now);
        let expected = self.naive.counts(now);
        assert_eq!((counts.calls, counts.failures, counts.slow), expected);
    }

    fn admit(&mut self) {
        let admission = self.machine.admit(self.now);
        let expected = self.naive.admit(self.now);
        match (admission, expected) {
            (Admission::Admitted(ticket), Ok(call)) => {
                assert_eq!(ticket.is_probe(), call.is_probe);
                self.under_way.push((ticket, call));
            }
            (Admission::Rejected { retry_after, .. }, Err(expected)) => {
                assert_eq!(retry_after, expected);
            }
            (admission, expected) => unreachable!("{admission:?} instead of {expected:?}"),
        }
    }

    fn settle(&mut self, random: &mut fastrand::Rng) {
        let Some((ticket, call)) = self.any_call(random) else {
            return;
        };
        let outcome = OUTCOMES[random.usize(..OUTCOMES.len())];
        let change = self.machine.settle(self.now, ticket, outcome);
        let expected = self.naive.settle(self.now, &call, outcome);
        assert_eq!(told(change), expected);
    }

    fn abandon(&mut self, random: &mut fastrand::Rng) {
        let Some((ticket, call)) = self.any_call(random) else {
            return;
        };
        let change = self.machine.abandon(self.now, ticket);
        let expected = self.naive.abandon(self.now, &call);
        assert_eq!(told(change), expected);
    }

    fn command(&mut self, random: &mut fastrand::Rng) {
        let (change, state) = match random.u8(0..4) {
            0 => (self.machine.force_open(self.now), "forced_open"),
            1 => (self.machine.force_closed(self.now), "forced_closed"),
            2 => (self.machine.disable(self.now), "disabled"),
            _ => (self.machine.automatic(self.now), "automatic"),
        };
        let is_change = self.naive.command(state);
        assert_eq!(change.is_some(), is_change, "{state}");
    }

    fn any_call(&mut self, random: &mut fastrand::Rng) -> Option<(Ticket, naive::Call)> {
        if self.under_way.is_empty() {
            return None;
        }
        let place = random.usize(..self.under_way.len());
        Some(self.under_way.swap_remove(place))
    }
}

fn told(change: Option<Transition>) -> Option<naive::Change> {
    change.map(|change| naive::Change {
        from: change.from.as_str(),
        to: change.to.as_str(),
        reason: change.reason.as_str(),
        open_for: change.open_for,
    })
}

#[test]
fn both_implementations_agree_on_every_history() {
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(&mut random);
        let steps = random.u32(4..48);
        for _ in 0..steps {
            pair.step(&mut random);
        }
    }
}

#[test]
fn random_histories_reach_every_state_and_reason() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(&mut random);
        for _ in 0..48 {
            pair.step(&mut random);
            let reason = pair.machine.reason().map(|reason| reason.as_str());
            seen.insert((pair.machine.state().as_str(), reason.unwrap_or("none")));
        }
    }
    for reason in ["timeout", "failure", "rate", "slow", "config"] {
        for state in ["open", "half_open", "closed"] {
            assert!(seen.contains(&(state, reason)), "{state} for {reason}");
        }
    }
}
