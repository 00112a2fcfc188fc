//! The rules of a breaker from the environment.

use std::time::Duration;

use cache_core::settings::{Setting, Settings};
use cache_core::{ConfigurationError, Result};

use super::BreakerOptions;
use super::checks::{MOST_CALLS, MOST_IN_A_ROW};

/// What all settings here have in common: they accept a duration and are no secret.
const DURATION: Setting = Setting {
    name: "",
    meaning: "",
    accepts: "a duration up to `1h`, such as `500ms`, `2s`",
    default: "",
    secret: false,
};

const FRACTION: Setting = Setting {
    accepts: "a fraction from `0` to `1`",
    ..DURATION
};

const COUNT: Setting = Setting {
    accepts: "a whole number from 1 to 1000",
    ..DURATION
};

const TIMEOUTS: Setting = Setting {
    name: "CACHE_BREAKER_TIMEOUTS",
    meaning: "A breaker opens at so many timeouts in a row.",
    default: "2",
    ..COUNT
};

const FAILURES: Setting = Setting {
    name: "CACHE_BREAKER_FAILURES",
    meaning: "A breaker opens at so many failures in a row, timeouts included.",
    default: "3",
    ..COUNT
};

const WITHIN: Setting = Setting {
    name: "CACHE_BREAKER_WITHIN",
    meaning: "How close together failures in a row must lie.",
    default: "10s",
    ..DURATION
};

const WINDOW: Setting = Setting {
    name: "CACHE_BREAKER_WINDOW",
    meaning: "How far back the rates of failed and slow calls look.",
    accepts: "a duration from `10ms` to `1h`",
    default: "10s",
    ..DURATION
};

const MINIMUM_CALLS: Setting = Setting {
    name: "CACHE_BREAKER_MINIMUM_CALLS",
    meaning: "The least number of calls in the window before a rate says anything.",
    accepts: "a whole number from 1 to 1000000",
    default: "20",
    ..COUNT
};

const FAILURE_RATE: Setting = Setting {
    name: "CACHE_BREAKER_FAILURE_RATE",
    meaning: "A breaker opens when this fraction of calls failed or was throttled.",
    default: "0.5",
    ..FRACTION
};

const SLOW_RATE: Setting = Setting {
    name: "CACHE_BREAKER_SLOW_RATE",
    meaning: "A breaker opens when this fraction of calls was slow.",
    default: "0.8",
    ..FRACTION
};

const SLOW_AFTER: Setting = Setting {
    name: "CACHE_BREAKER_SLOW_AFTER",
    meaning: "A call that takes this long is slow.",
    default: "half of `CACHE_BREAKER_PATIENCE`",
    ..DURATION
};

const OPEN: Setting = Setting {
    name: "CACHE_BREAKER_OPEN",
    meaning: "How long a breaker stays open at first; twice as long each time after.",
    default: "1s",
    ..DURATION
};

const LONGEST_OPEN: Setting = Setting {
    name: "CACHE_BREAKER_LONGEST_OPEN",
    meaning: "The longest time a breaker stays open.",
    default: "5s",
    ..DURATION
};

const CONFIGURATION_OPEN: Setting = Setting {
    name: "CACHE_BREAKER_CONFIGURATION_OPEN",
    meaning: "How long a breaker stays open at first where the configuration is wrong.",
    default: "5s",
    ..DURATION
};

const LONGEST_CONFIGURATION_OPEN: Setting = Setting {
    name: "CACHE_BREAKER_LONGEST_CONFIGURATION_OPEN",
    meaning: "The longest time a breaker stays open where the configuration is wrong.",
    default: "30s",
    ..DURATION
};

const JITTER: Setting = Setting {
    name: "CACHE_BREAKER_JITTER",
    meaning: "The largest fraction by which chance shortens the time of being open.",
    default: "0.2",
    ..FRACTION
};

const RELAPSE: Setting = Setting {
    name: "CACHE_BREAKER_RELAPSE",
    meaning: "A breaker that opens again within this span stays open for longer.",
    default: "1m",
    ..DURATION
};

const PROBE_LEASE: Setting = Setting {
    name: "CACHE_BREAKER_PROBE_LEASE",
    meaning: "After this long without an answer to a probe another one may go.",
    default: "1s",
    ..DURATION
};

const PROBES: Setting = Setting {
    name: "CACHE_BREAKER_PROBES",
    meaning: "A breaker closes at so many successful probes in a row.",
    default: "2",
    ..COUNT
};

const PATIENCE: Setting = Setting {
    name: "CACHE_BREAKER_PATIENCE",
    meaning: "How long a single-key call or a probe may take.",
    default: "20ms more than the backend needs where all is well",
    ..DURATION
};

const MAX_IN_FLIGHT: Setting = Setting {
    name: "CACHE_BREAKER_MAX_IN_FLIGHT",
    meaning: "The most calls under way to a storage; a batch is one call.",
    accepts: "a whole number from 1 to 1000000",
    default: "1024",
    ..COUNT
};

const QUEUE: Setting = Setting {
    name: "CACHE_BREAKER_QUEUE",
    meaning: "How long a call waits for its turn where so many are under way.",
    default: "20ms",
    ..DURATION
};

/// The options that may contradict themselves or each other, and where they came from.
const VARIABLES: &[(&str, &Setting)] = &[
    ("consecutive_within", &WITHIN),
    ("window", &WINDOW),
    ("slow_after", &SLOW_AFTER),
    ("open_for", &OPEN),
    ("longest_open", &LONGEST_OPEN),
    ("configuration_open_for", &CONFIGURATION_OPEN),
    ("longest_configuration_open", &LONGEST_CONFIGURATION_OPEN),
    ("relapse_within", &RELAPSE),
    ("probe_lease", &PROBE_LEASE),
    ("patience", &PATIENCE),
    ("queue_for", &QUEUE),
];

impl BreakerOptions {
    /// The environment variables that [`from_settings`](Self::from_settings) reads.
    pub const SETTINGS: &[&Setting] = &[
        &TIMEOUTS,
        &FAILURES,
        &WITHIN,
        &WINDOW,
        &MINIMUM_CALLS,
        &FAILURE_RATE,
        &SLOW_RATE,
        &SLOW_AFTER,
        &OPEN,
        &LONGEST_OPEN,
        &CONFIGURATION_OPEN,
        &LONGEST_CONFIGURATION_OPEN,
        &JITTER,
        &RELAPSE,
        &PROBE_LEASE,
        &PROBES,
        &PATIENCE,
        &MAX_IN_FLIGHT,
        &QUEUE,
    ];

    /// Options from the variables of this process, the defaults where a variable is not set.
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem: a value that is not accepted, values that contradict
    /// each other, an unknown variable that begins with `CACHE_BREAKER_`.
    pub fn from_env() -> Result<Self> {
        Self::from_own_settings(&Settings::from_env())
    }

    /// Options from `settings`; what is wrong with them is added to `problems`.
    ///
    /// Unknown variables are for the caller to refuse, who knows which others there are.
    #[must_use]
    pub fn from_settings(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let mut options = Self::default();
        options.read_counts(settings, problems);
        options.read_fractions(settings, problems);
        options.read_durations(settings, problems);
        problems.extend(settings.naming(options.problems(), VARIABLES));
        options
    }

    fn read_counts(&mut self, settings: &Settings, problems: &mut Vec<ConfigurationError>) {
        let in_a_row = [
            (&TIMEOUTS, &mut self.consecutive_timeouts),
            (&FAILURES, &mut self.consecutive_failures),
            (&PROBES, &mut self.probe_successes),
        ];
        for (setting, count) in in_a_row {
            replace(
                count,
                settings.number(setting, (1, MOST_IN_A_ROW), problems),
            );
        }
        let most = u32::try_from(MOST_CALLS).unwrap_or(u32::MAX);
        let calls = settings.number(&MINIMUM_CALLS, (1, most), problems);
        replace(&mut self.minimum_calls, calls);
        let calls = settings.number(&MAX_IN_FLIGHT, (1, MOST_CALLS), problems);
        replace(&mut self.max_in_flight, calls);
    }

    fn read_fractions(&mut self, settings: &Settings, problems: &mut Vec<ConfigurationError>) {
        let fractions = [
            (&FAILURE_RATE, &mut self.failure_rate),
            (&SLOW_RATE, &mut self.slow_rate),
            (&JITTER, &mut self.jitter),
        ];
        for (setting, fraction) in fractions {
            let read = settings.read(setting, "a fraction from 0 to 1", problems, |text| {
                let fraction: f64 = text.parse().ok()?;
                (0.0..=1.0).contains(&fraction).then_some(fraction)
            });
            replace(fraction, read);
        }
    }

    fn read_durations(&mut self, settings: &Settings, problems: &mut Vec<ConfigurationError>) {
        let spans: [(&Setting, &mut Duration); 9] = [
            (&WITHIN, &mut self.consecutive_within),
            (&WINDOW, &mut self.window),
            (&OPEN, &mut self.open_for),
            (&LONGEST_OPEN, &mut self.longest_open),
            (&CONFIGURATION_OPEN, &mut self.configuration_open_for),
            (
                &LONGEST_CONFIGURATION_OPEN,
                &mut self.longest_configuration_open,
            ),
            (&RELAPSE, &mut self.relapse_within),
            (&PROBE_LEASE, &mut self.probe_lease),
            (&QUEUE, &mut self.queue_for),
        ];
        for (setting, span) in spans {
            replace(span, settings.duration(setting, problems));
        }
        self.slow_after = settings.duration(&SLOW_AFTER, problems);
        self.patience = settings.duration(&PATIENCE, problems);
    }

    fn from_own_settings(settings: &Settings) -> Result<Self> {
        let mut problems = Vec::new();
        let options = Self::from_settings(settings, &mut problems);
        // To this crate alone the variables of backends are unknown, but they are not wrong.
        let unknown = settings.unknown(Self::SETTINGS).into_iter();
        problems.extend(unknown.filter(|problem| !is_others(&problem.variable)));
        Ok(cache_core::settings::settle(options, problems)?)
    }
}

const FAMILY: &str = "CACHE_BREAKER_";

fn is_others(variable: &str) -> bool {
    let families = cache_core::settings::FAMILIES.iter();
    let mut others = families.filter(|family| **family != FAMILY);
    others.any(|family| variable.starts_with(family))
}

fn replace<T>(option: &mut T, set: Option<T>) {
    if let Some(set) = set {
        *option = set;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(pairs: [(&str, &str); N]) -> Result<BreakerOptions> {
        BreakerOptions::from_own_settings(&Settings::from_pairs(pairs))
    }

    #[test]
    fn the_described_defaults_are_the_defaults() {
        let described = BreakerOptions::SETTINGS
            .iter()
            .filter(|setting| setting.default.len() < 6)
            .map(|setting| (setting.name, setting.default));
        assert_eq!(
            described.clone().count(),
            BreakerOptions::SETTINGS.len() - 2
        );
        let settings = Settings::from_pairs(described);
        let options = BreakerOptions::from_own_settings(&settings).unwrap();
        assert_eq!(options, BreakerOptions::default());
        assert_eq!(read([]).unwrap(), BreakerOptions::default());
        assert!(COUNT.accepts.ends_with(&MOST_IN_A_ROW.to_string()));
        assert!(MAX_IN_FLIGHT.accepts.ends_with(&MOST_CALLS.to_string()));
    }

    #[test]
    fn each_variable_sets_something() {
        for setting in BreakerOptions::SETTINGS {
            let other = match setting.accepts {
                _ if setting.name.contains("LONGEST_CONFIGURATION") => "6s",
                accepts if accepts.contains("duration") => "4s",
                accepts if accepts.contains("fraction") => "0.25",
                _ => "7",
            };
            let options = read([(setting.name, other)]).unwrap();
            assert_ne!(options, BreakerOptions::default(), "{}", setting.name);
        }
    }

    #[test]
    fn reports_every_problem_at_once_by_the_variable_it_came_from() {
        let error = read([
            ("CACHE_BREAKER_TIMEOUTS", "0"),
            ("CACHE_BREAKER_FAILURE_RATE", "NaN"),
            ("CACHE_BREAKER_OPEN", "6s"),
            ("CACHE_BREAKER_PATIENCE", "2h"),
            ("CACHE_BREAKER_QUEUE", "soon"),
            ("CACHE_BREAKER_PROBE", "1"),
        ])
        .unwrap_err();
        let expected = [
            "CACHE_BREAKER_TIMEOUTS=\"0\" is not a whole number from 1 to 1000",
            "CACHE_BREAKER_FAILURE_RATE=\"NaN\" is not a fraction from 0 to 1",
            "CACHE_BREAKER_QUEUE=\"soon\" is not a duration; try 500ms, 2s",
            "CACHE_BREAKER_PATIENCE is 7200s; it must be longer than zero and at most 1h",
            "CACHE_BREAKER_OPEN is 6s; it must be at most longest_open, which is 5s",
            "CACHE_BREAKER_PROBE is not a setting; did you mean CACHE_BREAKER_PROBES?",
        ];
        assert_eq!(error.message(), expected.join(" | "));
    }

    #[test]
    fn leaves_the_variables_of_others_alone() {
        assert!(read([("CACHE_REDIS_MAX_BYTES", "?")]).is_ok());
        assert!(read([("CACHE_CONTROL", "no-store")]).is_ok());
    }
}
