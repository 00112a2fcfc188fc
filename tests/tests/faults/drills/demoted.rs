//! Redis becomes a replica under load: it refuses writes from then on, and every connection that
//! hears so is replaced, since elsewhere there is a new primary.

use std::time::Instant;

use cache_breaker::State;
use cache_core::{ErrorKind, millis, secs};
use cache_testkit::servers::RedisServer;
use tokio::time::sleep;

use super::load::{Call, Load};
use super::outages::{TROUBLE, back, errors};
use super::{SLACK, alone, until};
use crate::stacked::{Measured, sockets_to};

/// A server that is demoted and promoted again under load, and what callers saw.
struct Demotion {
    stack: Measured,
    calls: Vec<Call>,
}

impl Demotion {
    async fn of(server: &RedisServer, stack: Measured) -> Self {
        let load = Load::on(&stack.service()).await;
        let sockets = sockets_to(server.port());
        // Its primary is nowhere, so it keeps its data and serves reads of it.
        let demote = ["REPLICAOF", "127.0.0.1", "1"];
        server.command(&demote).expect("the server answers");
        let demoted = Instant::now();
        until(|| stack.is("write", State::Open)).await;
        let opening = demoted.elapsed();
        assert!(opening <= millis(250) + SLACK, "open after {opening:?}");
        // Those that were replaced are gone, and none is left behind for each refusal.
        until(|| sockets_to(server.port()) <= sockets + 1).await;
        assert!(demoted.elapsed() <= secs(10) + SLACK);
        sleep(TROUBLE).await;
        until(|| sockets_to(server.port()) <= sockets + 1).await;
        let promote = ["REPLICAOF", "NO", "ONE"];
        server.command(&promote).expect("the server answers");
        back(&stack).await;
        let calls = load.end().await;
        Self { stack, calls }
    }

    /// What holds whatever else is in the stack.
    fn replaces_connections(&self) {
        let refused = [("backend", "redis"), ("outcome", "readonly")];
        let refused = self.stack.count("cache_ops_total", &refused);
        assert!(refused >= 3, "{refused} were refused");
        let of = |event, reason| {
            let labels = [("backend", "redis"), ("event", event), ("reason", reason)];
            self.stack.count("cache_conn_total", &labels)
        };
        let replaced = of("close", "demoted");
        assert!(replaced >= 1 && replaced <= refused, "{replaced} replaced");
        assert!(of("open", "dial") > replaced, "others took their places");
        assert_eq!(self.stack.count("cache_retries_total", &[]), 0);
        let slowest = self.calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(millis(150) + SLACK), "{slowest:?}");
    }
}

#[test]
fn row_19_a_server_demoted_under_load_goes_on_answering_reads() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::of_redis(server.port(), &[]);
        let demotion = Demotion::of(&server, stack).await;
        demotion.replaces_connections();
        for call in errors(&demotion.calls) {
            let error = call.error.as_ref().unwrap();
            assert!(call.is_write, "reads go on: {error}");
            let kinds = [ErrorKind::Connection, ErrorKind::Rejected];
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(!error.may_have_happened(), "it was refused: {error}");
        }
        let stack = &demotion.stack;
        let changes = |lane| stack.count("cache_breaker_transitions_total", &[("lane", lane)]);
        assert_eq!(changes("read"), 0, "reads go on");
        assert!(changes("write") >= 3, "it opened, probed, and closed");
    });
}

#[test]
fn row_19_a_server_demoted_under_load_costs_callers_nothing_where_there_is_a_fallback() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        let demotion = Demotion::of(&server, stack).await;
        demotion.replaces_connections();
        let failed = errors(&demotion.calls);
        assert!(failed.is_empty(), "{failed:?}");
        let fallback = [("from", "redis"), ("to", "memory")];
        assert!(demotion.stack.has("cache_fallback_total", &fallback));
    });
}
