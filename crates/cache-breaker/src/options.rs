//! When a breaker opens, for how long, and what it lets its callers wait.

mod checks;
mod settings;

use std::time::Duration;

/// The rules of a breaker.
///
/// The last three fields matter to a [`BreakerStorage`](crate::BreakerStorage) only.
///
/// ```
/// use std::time::Duration;
///
/// use cache_breaker::{BreakerOptions, CircuitBreaker};
///
/// let options = BreakerOptions::default()
///     .with_consecutive_failures(5)
///     .with_open_for(Duration::from_secs(1), Duration::from_secs(10));
/// let breaker = CircuitBreaker::new("geo", options)?;
/// # Ok::<(), cache_core::CacheError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// Opens at so many timeouts in a row: without a success between them, within
    /// `consecutive_within`, calls that hung together counted once. Defaults to 2.
    pub consecutive_timeouts: u32,
    /// Opens at so many failures in a row, timeouts included. Defaults to 3.
    pub consecutive_failures: u32,
    /// How close together failures in a row must lie. Defaults to 10 seconds.
    pub consecutive_within: Duration,
    /// How far back the rules on rates look; a call leaves with the tenth of this it was counted
    /// in. Defaults to 10 seconds.
    pub window: Duration,
    /// The least number of calls in the window before a rate says anything. Defaults to 20.
    pub minimum_calls: u32,
    /// Opens when this fraction of the calls in the window failed or was throttled. Defaults to
    /// 0.5.
    pub failure_rate: f64,
    /// Opens when this fraction of the calls in the window was slow. Defaults to 0.8.
    pub slow_rate: f64,
    /// A call that takes this long is slow. Defaults to none: half of the patience for a storage,
    /// and no call is slow for any other breaker.
    pub slow_after: Option<Duration>,
    /// How long it stays open the first time; twice as long each time after. Defaults to 1 second.
    pub open_for: Duration,
    /// The longest time it stays open. Defaults to 5 seconds; 10 suit a server that runs for days.
    pub longest_open: Duration,
    /// As `open_for`, where the configuration is wrong. Defaults to 5 seconds.
    pub configuration_open_for: Duration,
    /// As `longest_open`, where the configuration is wrong. Defaults to 30 seconds.
    pub longest_configuration_open: Duration,
    /// The largest fraction by which chance shortens the time of being open. Defaults to 0.2; 0 is
    /// no chance.
    pub jitter: f64,
    /// A breaker that opens again within this span of closing stays open for longer, as if it had
    /// not closed. Defaults to 60 seconds.
    pub relapse_within: Duration,
    /// After this long without a verdict on a probe another one may go. Defaults to 1 second.
    pub probe_lease: Duration,
    /// Closes at so many successful probes in a row. Defaults to 2.
    pub probe_successes: u32,
    /// How long a storage lets a single-key call or a probe take. Defaults to none: 20 ms longer
    /// than the storage inside says of itself, or 120 ms where that says nothing.
    pub patience: Option<Duration>,
    /// The most calls under way to a storage; a batch is one call. Defaults to 1,024.
    pub max_in_flight: usize,
    /// How long a call waits for its turn where so many are under way; zero turns it away at once.
    /// Defaults to 20 milliseconds.
    pub queue_for: Duration,
}

impl BreakerOptions {
    /// Opens at so many timeouts in a row.
    #[must_use]
    pub fn with_consecutive_timeouts(mut self, timeouts: u32) -> Self {
        self.consecutive_timeouts = timeouts;
        self
    }

    /// Opens at so many failures in a row.
    #[must_use]
    pub fn with_consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Sets how close together failures in a row must lie.
    #[must_use]
    pub fn with_consecutive_within(mut self, span: Duration) -> Self {
        self.consecutive_within = span;
        self
    }

    /// Sets how far back the rules on rates look, and how many calls they need.
    #[must_use]
    pub fn with_window(mut self, window: Duration, minimum_calls: u32) -> Self {
        self.window = window;
        self.minimum_calls = minimum_calls;
        self
    }

    /// Opens at this fraction of failed calls.
    #[must_use]
    pub fn with_failure_rate(mut self, fraction: f64) -> Self {
        self.failure_rate = fraction;
        self
    }

    /// Opens at this fraction of slow calls.
    #[must_use]
    pub fn with_slow_rate(mut self, fraction: f64) -> Self {
        self.slow_rate = fraction;
        self
    }

    /// Calls a call slow that takes this long.
    #[must_use]
    pub fn with_slow_after(mut self, span: Duration) -> Self {
        self.slow_after = Some(span);
        self
    }

    /// Stays open for `first`, then twice as long each time, up to `longest`.
    #[must_use]
    pub fn with_open_for(mut self, first: Duration, longest: Duration) -> Self {
        self.open_for = first;
        self.longest_open = longest;
        self
    }

    /// As [`with_open_for`](Self::with_open_for), where the configuration is wrong.
    #[must_use]
    pub fn with_configuration_open_for(mut self, first: Duration, longest: Duration) -> Self {
        self.configuration_open_for = first;
        self.longest_configuration_open = longest;
        self
    }

    /// Lets chance shorten the time of being open by up to this fraction.
    #[must_use]
    pub fn with_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// Sets within which span of closing opening again is a relapse.
    #[must_use]
    pub fn with_relapse_within(mut self, span: Duration) -> Self {
        self.relapse_within = span;
        self
    }

    /// Sets for how long a probe keeps others from going, and how many must succeed.
    #[must_use]
    pub fn with_probes(mut self, lease: Duration, successes: u32) -> Self {
        self.probe_lease = lease;
        self.probe_successes = successes;
        self
    }

    /// Lets a single-key call take this long.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Lets so many calls be under way, and others wait this long for their turn.
    #[must_use]
    pub fn with_max_in_flight(mut self, calls: usize, queue_for: Duration) -> Self {
        self.max_in_flight = calls;
        self.queue_for = queue_for;
        self
    }
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            consecutive_timeouts: 2,
            consecutive_failures: 3,
            consecutive_within: Duration::from_secs(10),
            window: Duration::from_secs(10),
            minimum_calls: 20,
            failure_rate: 0.5,
            slow_rate: 0.8,
            slow_after: None,
            open_for: Duration::from_secs(1),
            longest_open: Duration::from_secs(5),
            configuration_open_for: Duration::from_secs(5),
            longest_configuration_open: Duration::from_secs(30),
            jitter: 0.2,
            relapse_within: Duration::from_secs(60),
            probe_lease: Duration::from_secs(1),
            probe_successes: 2,
            patience: None,
            max_in_flight: 1024,
            queue_for: Duration::from_millis(20),
        }
    }
}
