use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache_core::ManualClock;

use super::*;
use crate::recorded::Recorded;

fn opened(reason: &'static str) -> Event<'static> {
    transition("closed", "open", reason)
}

fn transition(from: &'static str, to: &'static str, reason: &'static str) -> Event<'static> {
    Event::BreakerTransition {
        breaker: "redis",
        lane: "read",
        shard: None,
        from,
        to,
        reason,
        message: Some("connection refused"),
        open_for: Some(Duration::from_secs(1)),
    }
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `act` writes to the log.
fn logged(act: impl FnOnce()) -> Vec<String> {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = page.bytes();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::to_owned).collect()
}

/// Every event but transitions, with the measurement it makes.
fn events() -> Vec<(Event<'static>, &'static str)> {
    let backend = "redis";
    vec![
        (
            Event::Connection {
                backend,
                event: "dial_fail",
                reason: "refused",
            },
            "cache_conn_total{backend=redis,event=dial_fail,reason=refused} 1",
        ),
        (
            Event::Timeout {
                backend,
                phase: "read",
            },
            "cache_timeouts_total{backend=redis,phase=read} 1",
        ),
        (
            Event::Retry { backend },
            "cache_retries_total{backend=redis} 1",
        ),
        (
            Event::Redirect { kind: "ask" },
            "cache_redirects_total{kind=ask} 1",
        ),
        (
            Event::TopologyRefresh {
                reason: "moved",
                result: "ok",
            },
            "cache_topology_refresh_total{reason=moved,result=ok} 1",
        ),
        (
            Event::LateReply { backend },
            "cache_late_reply_total{backend=redis} 1",
        ),
        (
            Event::AuthRefresh {
                backend,
                result: "same",
            },
            "cache_auth_refresh_total{backend=redis,result=same} 1",
        ),
        (
            Event::ScriptMissing { backend },
            "cache_noscript_total{backend=redis} 1",
        ),
        (
            Event::Throttled { backend },
            "cache_ddb_throttled_total{} 1",
        ),
        (
            Event::Unprocessed { backend, keys: 7 },
            "cache_ddb_unprocessed_total{} 7",
        ),
        (
            Event::ExpiredFiltered { backend },
            "cache_ddb_expired_filtered_total{} 1",
        ),
        (
            Event::Thaw {
                backend,
                action: "doubt",
            },
            "cache_thaw_total{action=doubt} 1",
        ),
        (
            Event::Saturated { backend },
            "cache_saturated_total{backend=redis} 1",
        ),
        (
            Event::Fallback {
                from: "redis",
                to: "dynamodb",
                reason: "timeout",
            },
            "cache_fallback_total{from=redis,to=dynamodb,reason=timeout} 1",
        ),
        (
            Event::TierSkipped {
                tier: "memory",
                reason: "timeout",
            },
            "cache_tier_skipped_total{tier=memory,reason=timeout} 1",
        ),
        (
            Event::JournalOverflow { backend },
            "cache_journal_overflow_total{backend=redis} 1",
        ),
        (
            Event::BreakerRejected {
                breaker: "b",
                lane: "all",
            },
            "cache_breaker_rejected_total{breaker=b,lane=all} 1",
        ),
        (
            Event::BreakerProbe {
                breaker: "b",
                lane: "all",
                result: "success",
            },
            "cache_breaker_probe_total{breaker=b,lane=all,result=success} 1",
        ),
        (
            Event::Degraded { reason: "loading" },
            "cache_degraded_total{reason=loading} 1",
        ),
        (Event::Joined, "cache_singleflight_joined_total{} 1"),
        (
            Event::Load {
                outcome: "value",
                background: true,
            },
            "cache_loads_total{outcome=value,background=yes} 1",
        ),
        (
            Event::DecodeError { reason: "header" },
            "cache_decode_errors_total{reason=header} 1",
        ),
        (Event::InvalidKey, "cache_invalid_key_total{} 1"),
        (
            Event::Panicked { place: "codec" },
            "cache_panics_total{where=codec} 1",
        ),
    ]
}

#[test]
fn every_event_is_counted_under_its_name() {
    for (event, line) in events() {
        let (metrics, recorded) = Recorded::new();
        MetricsObserver::new(metrics).observe(&event);
        assert_eq!(recorded.lines(), [line], "{event:?}");
    }
}

#[test]
fn a_transition_is_counted_and_its_state_shown() {
    let (metrics, recorded) = Recorded::new();
    MetricsObserver::new(metrics).observe(&opened("timeout"));
    let labels = "breaker=redis,lane=read";
    assert_eq!(
        recorded.lines(),
        [
            format!("cache_breaker_state{{{labels},shard=none}} 2"),
            format!(
                "cache_breaker_transitions_total{{{labels},from=closed,to=open,reason=timeout}} 1"
            ),
        ]
    );
}

#[test]
fn labels_are_those_that_the_names_declare() {
    let (metrics, recorded) = Recorded::new();
    let observer = MetricsObserver::new(metrics);
    observer.observe(&opened("timeout"));
    for (event, _) in events() {
        observer.observe(&event);
    }
    for line in recorded.lines() {
        let (name, rest) = line.split_once('{').unwrap();
        let metric = names::ALL.iter().find(|metric| metric.name == name);
        let (labels, _) = rest.split_once('}').unwrap();
        let labels: Vec<_> = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label)
            .collect();
        assert_eq!(labels, metric.unwrap().labels, "{line}");
    }
}

#[test]
fn each_change_of_state_is_one_line() {
    let (metrics, _) = Recorded::new();
    let observer = MetricsObserver::new(metrics);
    let lines = logged(|| {
        observer.observe(&opened("timeout"));
        observer.observe(&transition("open", "half_open", "elapsed"));
        observer.observe(&Event::JournalOverflow { backend: "redis" });
    });
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains(r#""level":"WARN""#), "{lines:?}");
    assert!(lines[1].contains(r#""level":"INFO""#), "{lines:?}");
    assert!(lines[2].contains(r#""level":"WARN""#), "{lines:?}");
    for field in [
        r#""target":"cache""#,
        r#""breaker":"redis""#,
        r#""to":"open""#,
        r#""reason":"timeout""#,
        r#""error":"connection refused""#,
        r#""open_for_ms":1000"#,
    ] {
        assert!(lines[0].contains(field), "{field} {lines:?}");
    }
}

#[test]
fn what_happens_to_a_call_is_no_line() {
    let (metrics, _) = Recorded::new();
    let observer = MetricsObserver::new(metrics);
    let backend = "redis";
    let lines = logged(|| {
        observer.observe(&Event::Retry { backend });
        observer.observe(&Event::Degraded { reason: "timeout" });
        observer.observe(&Event::BreakerRejected {
            breaker: "redis",
            lane: "read",
        });
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn trouble_with_the_configuration_is_loud_once_a_minute() {
    let (metrics, _) = Recorded::new();
    let clock = ManualClock::new();
    let observer = MetricsObserver::new(metrics).with_clock(Arc::new(clock.clone()));
    let refused = Event::AuthRefresh {
        backend: "redis",
        result: "error",
    };
    let lines = logged(|| {
        for pause in [0, 59, 1] {
            clock.advance(Duration::from_secs(pause));
            observer.observe(&opened("config"));
            observer.observe(&refused);
        }
    });
    let loud = |line: &&String| line.contains(r#""level":"ERROR""#);
    assert_eq!(lines.iter().filter(loud).count(), 4, "{lines:?}");
    // The transition between them is a line all the same.
    assert_eq!(lines.len(), 5, "{lines:?}");
}
