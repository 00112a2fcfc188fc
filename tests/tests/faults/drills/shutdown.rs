//! The end of a stack under load, while its server is well and while it hangs.

use std::time::Duration;

use cache_core::{ErrorKind, millis};
use cache_testkit::servers::RedisServer;

use super::load::Load;
use super::{SLACK, alive, alone, until};
use crate::stacked::{Measured, sockets_to};
use crate::support::timed;

/// What a function that is about to be frozen gives.
const BUDGET: Duration = millis(300);

/// Ends a stack under load, and checks what does not depend on the server's state; says how many
/// calls were cut off.
async fn end(stack: &Measured, server: &RedisServer, hangs: bool) -> u64 {
    let service = stack.service();
    let before = alive();
    let load = Load::on(&service).await;
    if hangs {
        server.pause().expect("the server runs");
        // More than could be under way while it answers.
        until(|| stack.caches.monitor().in_flight() > 16).await;
    }
    let calls = load.calls().len();
    let (report, took) = timed(stack.caches.shutdown(BUDGET)).await;
    assert!(took <= BUDGET + millis(100) + SLACK, "it took {took:?}");
    assert!(report.error.is_none(), "{report:?}");
    let (again, took) = timed(stack.caches.shutdown(BUDGET)).await;
    assert!(took <= millis(10) + SLACK, "the second took {took:?}");
    assert_eq!(again.drained, report.drained, "the same report");

    let (closed, took) = timed(service.get::<String>("k")).await;
    let refused = closed.expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
    assert!(took <= millis(5) + SLACK, "turned away after {took:?}");
    let calls = load.end().await.split_off(calls);
    for error in calls.iter().filter_map(|call| call.error.as_ref()) {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    // Neither tasks nor sockets are left behind.
    until(|| alive() <= before && sockets_to(server.port()) == 0).await;
    assert_eq!(stack.caches.monitor().in_flight(), 0);
    assert_eq!(stack.count("cache_shutdown_total", &[]), 1, "ended once");
    report.cancelled
}

#[test]
fn row_84_a_shutdown_under_load_lets_calls_finish() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        assert_eq!(end(&stack, &server, false).await, 0, "nobody was cut off");
        let drained = [("result", "drained")];
        assert_eq!(stack.count("cache_shutdown_total", &drained), 1);
    });
}

#[test]
fn row_84_a_shutdown_under_load_is_not_held_up_by_a_server_that_hangs() {
    alone(async {
        let server = RedisServer::start().unwrap();
        // Calls would wait for seconds, so that the budget decides.
        let patient = [
            ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
            ("CACHE_REDIS_TIMEOUT", "10s"),
            ("CACHE_BREAKER_PATIENCE", "10s"),
        ];
        let stack = Measured::of_redis(server.port(), &patient);
        let cancelled = end(&stack, &server, true).await;
        assert!(cancelled > 0, "they had to be cut off");
        let labels = [("result", "cancelled")];
        assert_eq!(stack.count("cache_shutdown_total", &labels), 1);
    });
}

#[test]
fn row_84_a_shutdown_under_load_while_a_server_hangs_behind_its_breaker() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        end(&stack, &server, true).await;
    });
}
