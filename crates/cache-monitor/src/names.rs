//! The metrics: names, labels and meanings, which stay as they are.

use metrics::{KeyName, Recorder, Unit};

use crate::sink::Metrics;

/// Keys asked for, by what became of each: `hit`, `miss`, `ok`, `not_met` (a condition did not
/// hold), `unknown` (a write whose answer was lost), or the code of the error.
pub const OPS_TOTAL: &str = "cache_ops_total";

/// How long calls took, in seconds; a batch is one call.
pub const OP_SECONDS: &str = "cache_op_seconds";

/// Troubles that a service read as a miss.
pub const DEGRADED_TOTAL: &str = "cache_degraded_total";

/// Calls that waited for another one that was reading or loading their key.
pub const SINGLEFLIGHT_JOINED_TOTAL: &str = "cache_singleflight_joined_total";

/// Loads that ended.
pub const LOADS_TOTAL: &str = "cache_loads_total";

/// Calls that the next layer of a fallback answered.
pub const FALLBACK_TOTAL: &str = "cache_fallback_total";

/// Calls that went on without a tier that was in trouble, or that refused the value.
pub const TIER_SKIPPED_TOTAL: &str = "cache_tier_skipped_total";

/// Times a fallback or a stack of tiers could not remember all keys that a layer missed.
pub const JOURNAL_OVERFLOW_TOTAL: &str = "cache_journal_overflow_total";

/// Time limits that were reached: `connect`, `handshake`, `tls`, `read` or `operation`.
pub const TIMEOUTS_TOTAL: &str = "cache_timeouts_total";

/// The state of a breaker: 0 closed, 1 half open, 2 open, 3 forced open, -1 forced closed, -2
/// disabled. Above zero, calls are turned away. `shard` is `none` where there is one server.
pub const BREAKER_STATE: &str = "cache_breaker_state";

/// Changes of a breaker's state.
pub const BREAKER_TRANSITIONS_TOTAL: &str = "cache_breaker_transitions_total";

/// Calls that a breaker turned away.
pub const BREAKER_REJECTED_TOTAL: &str = "cache_breaker_rejected_total";

/// Probes of half-open breakers: `success`, `failure` or `none`.
pub const BREAKER_PROBE_TOTAL: &str = "cache_breaker_probe_total";

/// Connections made (`open`), not made (`dial_fail`), ended (`close`) and let go (`removed`).
pub const CONN_TOTAL: &str = "cache_conn_total";

/// Commands that a cluster sent elsewhere: `moved`, `ask` or `tryagain`.
pub const REDIRECTS_TOTAL: &str = "cache_redirects_total";

/// Readings of the map of a cluster.
pub const TOPOLOGY_REFRESH_TOTAL: &str = "cache_topology_refresh_total";

/// Attempts that were repeated.
pub const RETRIES_TOTAL: &str = "cache_retries_total";

/// Stored bytes that could not be decoded: `codec`, `header`, `type` or `resp`.
pub const DECODE_ERRORS_TOTAL: &str = "cache_decode_errors_total";

/// Times DynamoDB asked to slow down.
pub const DDB_THROTTLED_TOTAL: &str = "cache_ddb_throttled_total";

/// Keys of batches that DynamoDB left undone at first.
pub const DDB_UNPROCESSED_TOTAL: &str = "cache_ddb_unprocessed_total";

/// Entries past their end that DynamoDB still held; read as absent.
pub const DDB_EXPIRED_FILTERED_TOTAL: &str = "cache_ddb_expired_filtered_total";

/// Steps of health checks: `write`, `read` or `delete`, and `ok` or the code of the error.
pub const HEALTH_PROBE_TOTAL: &str = "cache_health_probe_total";

/// What was done after a silence: `look`, `doubt` or `dial` of a connection; `freeze` for a process
/// that stood still.
pub const THAW_TOTAL: &str = "cache_thaw_total";

/// Jumps of the wall clock of more than a second: `forward` or `back`.
pub const CLOCK_JUMP_TOTAL: &str = "cache_clock_jump_total";

/// Replies to calls that had given up.
pub const LATE_REPLY_TOTAL: &str = "cache_late_reply_total";

/// Calls under way when last looked at, at health checks and at the end.
pub const INFLIGHT: &str = "cache_inflight";

/// Ends of a cache: `drained`, `cancelled` or `error`.
pub const SHUTDOWN_TOTAL: &str = "cache_shutdown_total";

/// Times credentials were asked for again: `ok`, `same` or `error`.
pub const AUTH_REFRESH_TOTAL: &str = "cache_auth_refresh_total";

/// Panics of foreign code that were contained: `hook`, `codec` or `loader`.
pub const PANICS_TOTAL: &str = "cache_panics_total";

/// Scripts that a server did not know and was sent.
pub const NOSCRIPT_TOTAL: &str = "cache_noscript_total";

/// Keys that were refused before any I/O.
pub const INVALID_KEY_TOTAL: &str = "cache_invalid_key_total";

/// Calls that a limit on calls under way turned away.
pub const SATURATED_TOTAL: &str = "cache_saturated_total";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

/// A metric of this library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The labels that all its measurements carry. Their values are constant words, or the names
    /// that breakers and servers have; never a key.
    pub labels: &'static [&'static str],
    /// What it says, in a few words.
    pub description: &'static str,
}

/// Every metric, in the order of the constants.
pub const ALL: &[Metric] = &[
    Metric {
        name: OPS_TOTAL,
        kind: Kind::Counter,
        labels: &["backend", "op", "outcome"],
        description: "keys asked for, by what became of each",
    },
    Metric {
        name: OP_SECONDS,
        kind: Kind::Histogram,
        labels: &["backend", "op"],
        description: "how long calls took",
    },
    Metric {
        name: DEGRADED_TOTAL,
        kind: Kind::Counter,
        labels: &["reason"],
        description: "troubles read as a miss",
    },
    Metric {
        name: SINGLEFLIGHT_JOINED_TOTAL,
        kind: Kind::Counter,
        labels: &[],
        description: "calls that waited for another one's load",
    },
    Metric {
        name: LOADS_TOTAL,
        kind: Kind::Counter,
        labels: &["outcome", "background"],
        description: "loads that ended",
    },
    Metric {
        name: FALLBACK_TOTAL,
        kind: Kind::Counter,
        labels: &["from", "to", "reason"],
        description: "calls answered by the next layer",
    },
    Metric {
        name: TIER_SKIPPED_TOTAL,
        kind: Kind::Counter,
        labels: &["tier", "reason"],
        description: "calls that went on without a tier",
    },
    Metric {
        name: JOURNAL_OVERFLOW_TOTAL,
        kind: Kind::Counter,
        labels: &["backend"],
        description: "journals of missed keys that were full",
    },
    Metric {
        name: TIMEOUTS_TOTAL,
        kind: Kind::Counter,
        labels: &["backend", "phase"],
        description: "time limits reached",
    },
    Metric {
        name: BREAKER_STATE,
        kind: Kind::Gauge,
        labels: &["breaker", "lane", "shard"],
        description: "0 closed, 1 half open, 2 open, 3 forced open, -1 forced closed, -2 disabled",
    },
    Metric {
        name: BREAKER_TRANSITIONS_TOTAL,
        kind: Kind::Counter,
        labels: &["breaker", "lane", "from", "to", "reason"],
        description: "changes of a breaker's state",
    },
    Metric {
        name: BREAKER_REJECTED_TOTAL,
        kind: Kind::Counter,
        labels: &["breaker", "lane"],
        description: "calls turned away by a breaker",
    },
    Metric {
        name: BREAKER_PROBE_TOTAL,
        kind: Kind::Counter,
        labels: &["breaker", "lane", "result"],
        description: "probes of half-open breakers",
    },
    Metric {
        name: CONN_TOTAL,
        kind: Kind::Counter,
        labels: &["backend", "event", "reason"],
        description: "connections made, failed and ended",
    },
    Metric {
        name: REDIRECTS_TOTAL,
        kind: Kind::Counter,
        labels: &["kind"],
        description: "commands a cluster sent elsewhere",
    },
    Metric {
        name: TOPOLOGY_REFRESH_TOTAL,
        kind: Kind::Counter,
        labels: &["reason", "result"],
        description: "readings of the map of a cluster",
    },
    Metric {
        name: RETRIES_TOTAL,
        kind: Kind::Counter,
        labels: &["backend"],
        description: "attempts repeated",
    },
    Metric {
        name: DECODE_ERRORS_TOTAL,
        kind: Kind::Counter,
        labels: &["reason"],
        description: "stored bytes that could not be decoded",
    },
    Metric {
        name: DDB_THROTTLED_TOTAL,
        kind: Kind::Counter,
        labels: &[],
        description: "times DynamoDB asked to slow down",
    },
    Metric {
        name: DDB_UNPROCESSED_TOTAL,
        kind: Kind::Counter,
        labels: &[],
        description: "keys DynamoDB left undone at first",
    },
    Metric {
        name: DDB_EXPIRED_FILTERED_TOTAL,
        kind: Kind::Counter,
        labels: &[],
        description: "expired entries DynamoDB still held",
    },
    Metric {
        name: HEALTH_PROBE_TOTAL,
        kind: Kind::Counter,
        labels: &["backend", "step", "result"],
        description: "steps of health checks",
    },
    Metric {
        name: THAW_TOTAL,
        kind: Kind::Counter,
        labels: &["action"],
        description: "what was done after a silence",
    },
    Metric {
        name: CLOCK_JUMP_TOTAL,
        kind: Kind::Counter,
        labels: &["direction"],
        description: "jumps of the wall clock",
    },
    Metric {
        name: LATE_REPLY_TOTAL,
        kind: Kind::Counter,
        labels: &["backend"],
        description: "replies to calls that had given up",
    },
    Metric {
        name: INFLIGHT,
        kind: Kind::Gauge,
        labels: &[],
        description: "calls under way when last looked at",
    },
    Metric {
        name: SHUTDOWN_TOTAL,
        kind: Kind::Counter,
        labels: &["result"],
        description: "ends of a cache",
    },
    Metric {
        name: AUTH_REFRESH_TOTAL,
        kind: Kind::Counter,
        labels: &["backend", "result"],
        description: "times credentials were asked for again",
    },
    Metric {
        name: PANICS_TOTAL,
        kind: Kind::Counter,
        labels: &["where"],
        description: "panics of foreign code, contained",
    },
    Metric {
        name: NOSCRIPT_TOTAL,
        kind: Kind::Counter,
        labels: &["backend"],
        description: "scripts a server did not know",
    },
    Metric {
        name: INVALID_KEY_TOTAL,
        kind: Kind::Counter,
        labels: &[],
        description: "keys refused before any I/O",
    },
    Metric {
        name: SATURATED_TOTAL,
        kind: Kind::Counter,
        labels: &["backend"],
        description: "calls turned away by a limit on calls under way",
    },
];

/// Tells the recorder what each metric means and in which unit it is. Once, at the start, is enough.
pub fn describe(metrics: &Metrics) {
    for metric in ALL {
        metrics.on_recorder(|recorder| metric.describe_to(recorder));
    }
}

impl Metric {
    fn describe_to(&self, recorder: &dyn Recorder) {
        let name = KeyName::from_const_str(self.name);
        let text = self.description.into();
        match self.kind {
            Kind::Counter => recorder.describe_counter(name, Some(Unit::Count), text),
            Kind::Gauge => recorder.describe_gauge(name, None, text),
            Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_say_what_they_are() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, .. } in ALL {
            assert!(name.starts_with("cache_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(
                name.ends_with("_seconds"),
                *kind == Kind::Histogram,
                "{name}"
            );
        }
    }

    #[test]
    fn labels_never_name_a_key() {
        for metric in ALL {
            assert!(!metric.labels.contains(&"key"), "{metric:?}");
        }
    }
}
