//! The hang drill: Redis stops under load, with its connections open, and comes back.

use std::time::{Duration, Instant};

use cache_breaker::State;
use cache_core::{ErrorKind, millis, secs};
use cache_testkit::servers::RedisServer;
use tokio::time::sleep;

use super::load::{Call, Load, p99};
use super::{SLACK, alive, alone, long_or, until};
use crate::stacked::{Measured, sockets_to};

/// How long Redis does not answer.
const HUNG: Duration = long_or(secs(30), secs(6));

/// What callers saw, and when what happened.
struct Drill {
    calls: Vec<Call>,
    hung: Instant,
    opened: Instant,
    returned: Instant,
}

impl Drill {
    /// Hangs the server for a while under load, and checks what does not depend on the stack.
    async fn of(stack: &Measured, server: &RedisServer) -> Self {
        let load = Load::on(&stack.service()).await;
        let (tasks, sockets) = (alive(), sockets_to(server.port()));
        server.pause().expect("the server runs");
        let hung = Instant::now();
        until(|| is_open(stack)).await;
        let opened = Instant::now();
        // The hang itself: nothing else ends it.
        sleep(HUNG.saturating_sub(hung.elapsed())).await;
        let probes = ["read", "write"].map(|lane| probes(stack, lane));
        server.resume().expect("the server is there");
        let returned = Instant::now();
        back(stack, &load).await;
        let back = returned.elapsed();
        let now = (alive(), sockets_to(server.port()));
        let calls = load.end().await;

        let opening = opened - hung;
        assert!(opening <= millis(250) + SLACK, "open after {opening:?}");
        assert!(probes.iter().all(|probes| *probes <= 10), "{probes:?}");
        assert!(back <= secs(6) + SLACK, "back after {back:?}");
        assert!(now.0 <= tasks + 2, "{} tasks, {tasks} before", now.0);
        assert!(now.1 <= sockets + 1, "{} sockets, {sockets} before", now.1);
        Self {
            calls,
            hung,
            opened,
            returned,
        }
    }

    /// How many calls may be slow, and how slow.
    fn holds_up_few(&self) {
        let slow = self.calls.iter().filter(|call| call.took > millis(100));
        let slow: Vec<_> = slow
            .map(|call| (call.began - self.hung, call.took))
            .collect();
        let (count, opened) = (slow.len(), self.opened - self.hung);
        assert!(
            count <= 80,
            "{count} slow calls, open after {opened:?}: {slow:?}"
        );
        let slowest = self.calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(millis(150) + SLACK), "{slowest:?}");
    }

    /// What was called while the breaker was open, or probed.
    fn while_open(&self) -> impl Iterator<Item = &Call> {
        let open = self.opened..self.returned;
        self.calls
            .iter()
            .filter(move |call| open.contains(&call.began))
    }
}

/// Whether a lane is open. Through a fallback one may be enough: what it missed has to be deleted
/// before anything else is sent, so the other is asked nothing.
fn is_open(stack: &Measured) -> bool {
    ["read", "write"]
        .iter()
        .any(|lane| stack.is(lane, State::Open))
}

fn probes(stack: &Measured, lane: &str) -> u64 {
    let labels = [("breaker", "redis"), ("lane", lane)];
    stack.count("cache_breaker_probe_total", &labels)
}

/// Waits until Redis answers 99 of 100 calls.
async fn back(stack: &Measured, load: &Load) {
    let turned_away = || stack.count("cache_breaker_rejected_total", &[("breaker", "redis")]);
    loop {
        let (calls, before) = (load.calls().len(), turned_away());
        sleep(millis(250)).await;
        let calls = (load.calls().len() - calls) as u64;
        if (turned_away() - before) * 100 <= calls {
            return;
        }
    }
}

fn is_measured(stack: &Measured) {
    let changes = |labels: &[_]| stack.count("cache_breaker_transitions_total", labels);
    let opened = changes(&[("from", "closed"), ("to", "open"), ("reason", "timeout")]);
    assert!((1..=2).contains(&opened), "once a lane: {opened}");
    assert_eq!(changes(&[("to", "closed")]), opened);
    assert!(stack.has("cache_timeouts_total", &[("backend", "redis")]));
}

#[test]
fn row_2_a_hang_under_load_costs_callers_nothing_where_there_is_a_fallback() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        let drill = Drill::of(&stack, &server).await;
        let failed: Vec<_> = drill.calls.iter().filter(|c| c.error.is_some()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        drill.holds_up_few();
        let open = p99(drill.while_open());
        assert!(open <= millis(12) + SLACK, "{open:?} through the fallback");
        is_measured(&stack);
        let fallback = [
            ("from", "redis"),
            ("to", "memory"),
            ("reason", "breaker_open"),
        ];
        assert!(stack.has("cache_fallback_total", &fallback));
    })
}

#[test]
fn row_2_a_hang_under_load_is_misses_where_there_is_no_fallback() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::alone(server.port());
        let drill = Drill::of(&stack, &server).await;
        for call in &drill.calls {
            let Some(error) = &call.error else { continue };
            // A write that went nowhere says so, whatever reads take trouble for.
            assert!(call.is_write, "{error}");
            assert!(call.began + millis(250) > drill.hung, "{error}");
            let kinds = [ErrorKind::Timeout, ErrorKind::Rejected];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        drill.holds_up_few();
        let reads = drill.while_open().filter(|call| !call.is_write);
        let open = p99(reads);
        assert!(open <= millis(1) + SLACK, "{open:?} to a miss");
        is_measured(&stack);
        assert!(stack.has("cache_degraded_total", &[("reason", "breaker_open")]));
    })
}
