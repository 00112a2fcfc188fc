//! Events turned into metrics, and changes of state into lines of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{Clock, Event, Observer, SystemClock};

use crate::feed::StatusFeed;
use crate::names;
use crate::sink::Metrics;

/// How long trouble with the configuration is not shouted again.
const QUIET: Duration = Duration::from_mins(1);

/// Counts every [`Event`] and logs changes of state.
///
/// A breaker's transition and a journal's overflow are one line each, with fields, under the target
/// `cache`: a warning where things get worse, information where they get better. Trouble with the
/// configuration is an error, at most once a minute. No line is written for a call.
#[derive(Debug)]
pub struct MetricsObserver {
    metrics: Metrics,
    feed: Option<StatusFeed>,
    clock: Arc<dyn Clock>,
    breakers: Loudness,
    credentials: Loudness,
}

impl MetricsObserver {
    /// An observer whose measurements go to `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            feed: None,
            clock: Arc::new(SystemClock::new()),
            breakers: Loudness::default(),
            credentials: Loudness::default(),
        }
    }

    /// Also lets those who watch `feed` know when a breaker changes. Defaults to none.
    #[must_use]
    pub fn with_feed(mut self, feed: StatusFeed) -> Self {
        self.feed = Some(feed);
        self
    }

    /// Measures the minute of quiet by `clock`. Defaults to the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &str)]) {
        self.metrics.count(name, labels, 1);
    }

    fn measure(&self, event: &Event<'_>) {
        match *event {
            Event::Connection {
                backend,
                event,
                reason,
            } => {
                let labels = [("backend", backend), ("event", event), ("reason", reason)];
                self.count(names::CONN_TOTAL, &labels);
            }
            Event::Timeout { backend, phase } => {
                let labels = [("backend", backend), ("phase", phase)];
                self.count(names::TIMEOUTS_TOTAL, &labels);
            }
            Event::Retry { backend } => self.count_for(names::RETRIES_TOTAL, backend),
            Event::LateReply { backend } => self.count_for(names::LATE_REPLY_TOTAL, backend),
            Event::ScriptMissing { backend } => self.count_for(names::NOSCRIPT_TOTAL, backend),
            Event::Saturated { backend } => self.count_for(names::SATURATED_TOTAL, backend),
            Event::JournalOverflow { backend } => {
                self.count_for(names::JOURNAL_OVERFLOW_TOTAL, backend);
            }
            Event::AuthRefresh { backend, result } => {
                let labels = [("backend", backend), ("result", result)];
                self.count(names::AUTH_REFRESH_TOTAL, &labels);
            }
            Event::Redirect { kind } => self.count(names::REDIRECTS_TOTAL, &[("kind", kind)]),
            Event::TopologyRefresh { reason, result } => {
                let labels = [("reason", reason), ("result", result)];
                self.count(names::TOPOLOGY_REFRESH_TOTAL, &labels);
            }
            Event::Thaw { action, .. } => self.count(names::THAW_TOTAL, &[("action", action)]),
            Event::Fallback { from, to, reason } => {
                let labels = [("from", from), ("to", to), ("reason", reason)];
                self.count(names::FALLBACK_TOTAL, &labels);
            }
            Event::TierSkipped { tier, reason } => {
                let labels = [("tier", tier), ("reason", reason)];
                self.count(names::TIER_SKIPPED_TOTAL, &labels);
            }
            Event::Degraded { reason } => {
                self.count(names::DEGRADED_TOTAL, &[("reason", reason)]);
            }
            Event::DecodeError { reason } => {
                self.count(names::DECODE_ERRORS_TOTAL, &[("reason", reason)]);
            }
            Event::Joined => self.count(names::SINGLEFLIGHT_JOINED_TOTAL, &[]),
            Event::Load {
                outcome,
                background,
            } => {
                let background = if background { "yes" } else { "no" };
                let labels = [("outcome", outcome), ("background", background)];
                self.count(names::LOADS_TOTAL, &labels);
            }
            Event::InvalidKey => self.count(names::INVALID_KEY_TOTAL, &[]),
            Event::Panicked { place } => self.count(names::PANICS_TOTAL, &[("where", place)]),
            _ => self.measure_dynamo(event),
        }
    }

    fn measure_dynamo(&self, event: &Event<'_>) {
        match *event {
            Event::Throttled { .. } => self.count(names::DDB_THROTTLED_TOTAL, &[]),
            Event::Unprocessed { keys, .. } => {
                self.metrics.count(names::DDB_UNPROCESSED_TOTAL, &[], keys);
            }
            Event::ExpiredFiltered { .. } => self.count(names::DDB_EXPIRED_FILTERED_TOTAL, &[]),
            _ => self.measure_breaker(event),
        }
    }

    fn measure_breaker(&self, event: &Event<'_>) {
        match *event {
            Event::BreakerTransition {
                breaker,
                lane,
                shard,
                from,
                to,
                reason,
                ..
            } => {
                let (name, lane) = (("breaker", breaker), ("lane", lane));
                let labels = [name, lane, ("from", from), ("to", to), ("reason", reason)];
                self.count(names::BREAKER_TRANSITIONS_TOTAL, &labels);
                let labels = [name, lane, ("shard", shard.unwrap_or("none"))];
                self.metrics
                    .gauge(names::BREAKER_STATE, &labels, state_value(to));
            }
            Event::BreakerRejected { breaker, lane } => {
                let labels = [("breaker", breaker), ("lane", lane)];
                self.count(names::BREAKER_REJECTED_TOTAL, &labels);
            }
            Event::BreakerProbe {
                breaker,
                lane,
                result,
            } => {
                let labels = [("breaker", breaker), ("lane", lane), ("result", result)];
                self.count(names::BREAKER_PROBE_TOTAL, &labels);
            }
            // An event that is newer than this observer.
            _ => {}
        }
    }

    fn count_for(&self, name: &'static str, backend: &'static str) {
        self.count(name, &[("backend", backend)]);
    }

    fn log(&self, event: &Event<'_>) {
        match *event {
            Event::BreakerTransition { .. } => {
                self.log_transition(event);
                if let Some(feed) = &self.feed {
                    feed.breakers_changed();
                }
            }
            Event::JournalOverflow { backend } => {
                tracing::warn!(target: "cache", backend, "the journal of missed keys is full");
            }
            Event::AuthRefresh {
                backend,
                result: result @ "error",
            } if self.credentials.may_shout(&*self.clock) => {
                tracing::error!(target: "cache", backend, result, "no credentials could be had");
            }
            _ => {}
        }
    }

    fn log_transition(&self, event: &Event<'_>) {
        let Event::BreakerTransition {
            breaker,
            lane,
            shard,
            from,
            to,
            reason,
            message,
            open_for,
        } = *event
        else {
            return;
        };
        let open_for_ms = open_for.map(millis);
        // The level of a line is constant, so there is one for each.
        macro_rules! line {
            ($level:ident, $text:literal) => {
                tracing::$level!(
                    target: "cache",
                    breaker, lane, shard, from, to, reason, error = message, open_for_ms, $text
                )
            };
        }
        if !is_worse(to) {
            line!(info, "the breaker changed for the better");
        } else if reason == "config" && self.breakers.may_shout(&*self.clock) {
            line!(error, "the breaker opened: correct the configuration");
        } else {
            line!(warn, "the breaker changed for the worse");
        }
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event<'_>) {
        self.measure(event);
        self.log(event);
    }
}

/// Lets something be loud at most once a minute.
#[derive(Debug, Default)]
struct Loudness {
    /// When it may be loud next, in milliseconds of the monotonic clock.
    next: AtomicU64,
}

impl Loudness {
    fn may_shout(&self, clock: &dyn Clock) -> bool {
        let now = clock.monotonic();
        let next = self.next.load(Ordering::Relaxed);
        let after = millis(now.saturating_add(QUIET));
        // Of several callers at once, one is loud.
        millis(now) >= next
            && self
                .next
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// The value of the gauge: above zero where calls are turned away, below where nothing protects.
fn state_value(state: &str) -> f64 {
    match state {
        "half_open" => 1.0,
        "open" => 2.0,
        "forced_open" => 3.0,
        "forced_closed" => -1.0,
        "disabled" => -2.0,
        _ => 0.0,
    }
}

/// Whether a breaker in this state is in trouble, or protects no longer.
fn is_worse(to: &str) -> bool {
    !matches!(to, "closed" | "half_open")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
