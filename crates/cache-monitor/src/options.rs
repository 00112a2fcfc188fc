//! How health is checked.

use std::time::Duration;

use cache_core::settings::{Setting, Settings, any_of};
use cache_core::{ConfigurationError, ConfigurationErrors, Result, hours, millis, secs};

/// How a [`CacheMonitor`](crate::CacheMonitor) checks health.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorOptions {
    /// How long from one check to the next. Defaults to 30 seconds.
    pub interval: Duration,
    /// The longest one step of a check may take. Defaults to 500 ms.
    pub timeout: Duration,
    /// How often a failed check is repeated before it counts. Defaults to 2.
    pub retries: u32,
    /// When checks are made. Defaults to [`Mode::Lambda`] where the process is a Lambda function, and
    /// to [`Mode::Server`] elsewhere.
    pub mode: Mode,
}

/// When checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// By a task, once it was started by [`CacheMonitor::start`](crate::CacheMonitor::start).
    Server,
    /// Alongside a call that is made anyway, when a check is due. There is no task and no timer, so
    /// that a process which is frozen between calls misses nothing.
    Lambda,
}

const INTERVAL: Setting = Setting {
    name: "CACHE_MONITOR_INTERVAL",
    meaning: "How long from one health check to the next.",
    accepts: "a duration from `1s` to `24h`",
    default: "30s",
    secret: false,
};

const TIMEOUT: Setting = Setting {
    name: "CACHE_MONITOR_TIMEOUT",
    meaning: "The longest one step of a health check may take.",
    accepts: "a duration, at most `CACHE_MONITOR_INTERVAL`",
    default: "500ms",
    secret: false,
};

const RETRIES: Setting = Setting {
    name: "CACHE_MONITOR_RETRIES",
    meaning: "How often a failed health check is repeated before it counts.",
    accepts: "a whole number from 0 to 10",
    default: "2",
    secret: false,
};

const MODE: Setting = Setting {
    name: "CACHE_MONITOR_MODE",
    meaning: "Whether health checks are made by a task, or alongside calls when they are due.",
    accepts: "`server` or `lambda`",
    default: "`lambda` in a Lambda function, `server` elsewhere",
    secret: false,
};

const MOST_RETRIES: u32 = 10;

impl MonitorOptions {
    /// The environment variables that [`from_settings`](Self::from_settings) reads.
    pub const SETTINGS: &[&Setting] = &[&INTERVAL, &TIMEOUT, &RETRIES, &MODE];

    /// Options from `settings`; what is wrong with them is added to `problems`.
    ///
    /// Unknown variables are for the caller to refuse, who knows which others there are.
    #[must_use]
    pub fn from_settings(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let mut options = Self::default();
        if let Some(interval) = settings.duration(&INTERVAL, problems) {
            options.interval = interval;
        }
        if let Some(timeout) = settings.duration(&TIMEOUT, problems) {
            options.timeout = timeout;
        }
        if let Some(retries) = settings.number(&RETRIES, (0, MOST_RETRIES), problems) {
            options.retries = retries;
        }
        let words = ["server", "lambda"];
        let mode = settings.read(&MODE, &any_of(&words), problems, |text| match text {
            "server" => Some(Mode::Server),
            "lambda" => Some(Mode::Lambda),
            _ => None,
        });
        options.mode = mode.unwrap_or(options.mode);
        let variables: [(&str, &Setting); 2] = [("interval", &INTERVAL), ("timeout", &TIMEOUT)];
        problems.extend(settings.naming(options.problems(), &variables));
        options
    }

    /// Sets how long it is from one check to the next.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long one step of a check may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a failed check is repeated.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets when checks are made.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigurationErrors(problems).into())
    }

    fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, problem: String| {
            problems.push(ConfigurationError::new(option, problem));
        };
        let Self {
            interval,
            timeout,
            retries,
            mode: _,
        } = self;
        if *interval < secs(1) || *interval > hours(24) {
            let problem = format!("interval: {interval:?} is not between 1s and 24h");
            refuse("interval", problem);
        }
        if *timeout < millis(1) || timeout > interval {
            let problem = format!("timeout: {timeout:?} is not between 1ms and the interval");
            refuse("timeout", problem);
        }
        if *retries > MOST_RETRIES {
            let problem = format!("retries: {retries} is more than {MOST_RETRIES}");
            refuse("retries", problem);
        }
        problems
    }
}

impl Default for MonitorOptions {
    fn default() -> Self {
        // Set by Lambda in every function, whatever its runtime.
        let is_lambda = std::env::var_os("AWS_LAMBDA_FUNCTION_NAME").is_some();
        Self {
            interval: secs(30),
            timeout: millis(500),
            retries: 2,
            mode: if is_lambda {
                Mode::Lambda
            } else {
                Mode::Server
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_checked_all_at_once() {
        let read = |pairs: &[(&str, &str)]| {
            let mut problems = Vec::new();
            let settings = Settings::from_pairs(pairs.iter().copied());
            let options = MonitorOptions::from_settings(&settings, &mut problems);
            (options, problems.len())
        };
        let (options, problems) = read(&[
            ("CACHE_MONITOR_INTERVAL", "10s"),
            ("CACHE_MONITOR_MODE", "lambda"),
        ]);
        assert_eq!((options.interval, options.mode), (secs(10), Mode::Lambda));
        assert_eq!(problems, 0);
        let (_, problems) = read(&[
            ("CACHE_MONITOR_INTERVAL", "10ms"),
            ("CACHE_MONITOR_MODE", "serverless"),
            ("CACHE_MONITOR_RETRIES", "11"),
        ]);
        assert_eq!(problems, 4, "the timeout is longer than the interval, too");
    }
}
