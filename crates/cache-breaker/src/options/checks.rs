//! Which options contradict themselves or each other.

use std::fmt::Debug;
use std::time::Duration;

use cache_core::settings::settle;
use cache_core::{ConfigurationError, Result};

use super::BreakerOptions;

/// No rule of a breaker looks further than this.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// Failures in a row are remembered one by one.
pub(super) const MOST_IN_A_ROW: u32 = 1000;

/// More calls of one process than any server takes.
pub(super) const MOST_CALLS: usize = 1_000_000;

/// A tenth of a window is at least a millisecond.
const SHORTEST_WINDOW: Duration = Duration::from_millis(10);

impl BreakerOptions {
    /// These options if they make sense.
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem.
    pub(crate) fn checked(self) -> Result<Self> {
        let problems = self.problems();
        Ok(settle(self, problems)?)
    }

    /// Everything that makes no sense.
    pub(super) fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        self.check_counts(&mut problems);
        self.check_spans(&mut problems);
        self.check_fractions(&mut problems);
        self.check_orders(&mut problems);
        problems
    }

    fn check_counts(&self, problems: &mut Vec<ConfigurationError>) {
        let in_a_row = [
            ("consecutive_timeouts", self.consecutive_timeouts),
            ("consecutive_failures", self.consecutive_failures),
            ("probe_successes", self.probe_successes),
        ];
        for (option, value) in in_a_row {
            if !(1..=MOST_IN_A_ROW).contains(&value) {
                let accepted = format!("from 1 to {MOST_IN_A_ROW}");
                problems.push(refused(option, value, &accepted));
            }
        }
        if self.minimum_calls == 0 {
            problems.push(refused("minimum_calls", 0, "at least 1"));
        }
        if !(1..=MOST_CALLS).contains(&self.max_in_flight) {
            let accepted = format!("from 1 to {MOST_CALLS}");
            problems.push(refused("max_in_flight", self.max_in_flight, &accepted));
        }
    }

    fn check_spans(&self, problems: &mut Vec<ConfigurationError>) {
        let spans = [
            ("consecutive_within", Some(self.consecutive_within)),
            ("slow_after", self.slow_after),
            ("open_for", Some(self.open_for)),
            ("longest_open", Some(self.longest_open)),
            ("configuration_open_for", Some(self.configuration_open_for)),
            (
                "longest_configuration_open",
                Some(self.longest_configuration_open),
            ),
            ("relapse_within", Some(self.relapse_within)),
            ("probe_lease", Some(self.probe_lease)),
            ("patience", self.patience),
        ];
        for (option, span) in spans {
            let Some(span) = span else { continue };
            if span.is_zero() || span > LONGEST {
                problems.push(refused(option, span, "longer than zero and at most 1h"));
            }
        }
        if !(SHORTEST_WINDOW..=LONGEST).contains(&self.window) {
            problems.push(refused("window", self.window, "from 10ms to 1h"));
        }
        if self.queue_for > LONGEST {
            problems.push(refused("queue_for", self.queue_for, "at most 1h"));
        }
    }

    fn check_fractions(&self, problems: &mut Vec<ConfigurationError>) {
        let fractions = [
            ("failure_rate", self.failure_rate),
            ("slow_rate", self.slow_rate),
            ("jitter", self.jitter),
        ];
        for (option, value) in fractions {
            // NaN is in no range.
            if !(0.0..=1.0).contains(&value) {
                problems.push(refused(option, value, "a fraction from 0 to 1"));
            }
        }
    }

    fn check_orders(&self, problems: &mut Vec<ConfigurationError>) {
        let orders = [
            (
                ("open_for", Some(self.open_for)),
                ("longest_open", Some(self.longest_open)),
            ),
            (
                ("configuration_open_for", Some(self.configuration_open_for)),
                (
                    "longest_configuration_open",
                    Some(self.longest_configuration_open),
                ),
            ),
            (("slow_after", self.slow_after), ("patience", self.patience)),
        ];
        for ((shorter, short), (longer, long)) in orders {
            let (Some(short), Some(long)) = (short, long) else {
                continue;
            };
            if short > long {
                let accepted = format!("at most {longer}, which is {long:?}");
                problems.push(refused(shorter, short, &accepted));
            }
        }
    }
}

fn refused(option: &str, value: impl Debug, accepted: &str) -> ConfigurationError {
    let problem = format!("{option} is {value:?}; it must be {accepted}");
    ConfigurationError::new(option, problem).with_value(format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;

    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(BreakerOptions::default().problems(), []);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let options = BreakerOptions {
            consecutive_timeouts: 0,
            consecutive_failures: 1001,
            consecutive_within: Duration::ZERO,
            window: Duration::from_millis(9),
            minimum_calls: 0,
            failure_rate: f64::NAN,
            slow_rate: 1.5,
            slow_after: Some(Duration::from_secs(2)),
            open_for: Duration::from_secs(6),
            longest_open: Duration::from_secs(5),
            configuration_open_for: Duration::from_secs(31),
            longest_configuration_open: Duration::from_secs(30),
            jitter: -0.1,
            relapse_within: Duration::MAX,
            probe_lease: Duration::ZERO,
            probe_successes: 0,
            patience: Some(Duration::from_secs(1)),
            max_in_flight: 0,
            queue_for: Duration::MAX,
        };
        let problems = options.problems();
        let mut named: Vec<_> = problems.iter().map(|one| one.variable.as_str()).collect();
        named.sort_unstable();
        let expected = [
            "configuration_open_for",
            "consecutive_failures",
            "consecutive_timeouts",
            "consecutive_within",
            "failure_rate",
            "jitter",
            "max_in_flight",
            "minimum_calls",
            "open_for",
            "probe_lease",
            "probe_successes",
            "queue_for",
            "relapse_within",
            "slow_after",
            "slow_rate",
            "window",
        ];
        assert_eq!(named, expected);
        let error = options.checked().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.message().matches(" | ").count(), expected.len() - 1);
    }

    #[test]
    fn a_problem_says_what_is_accepted() {
        let options = BreakerOptions::default()
            .with_open_for(Duration::from_secs(6), Duration::from_secs(5))
            .with_failure_rate(2.0);
        let texts: Vec<_> = options.problems().iter().map(ToString::to_string).collect();
        let expected = [
            "failure_rate is 2.0; it must be a fraction from 0 to 1",
            "open_for is 6s; it must be at most longest_open, which is 5s",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn limits_that_are_never_reached_are_no_contradiction() {
        let options = BreakerOptions::default()
            .with_consecutive_failures(1000)
            .with_consecutive_timeouts(1000)
            .with_max_in_flight(1, Duration::ZERO);
        assert_eq!(options.problems(), []);
    }
}
