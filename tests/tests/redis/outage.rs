//! The Redis storage while its server dies, hangs, comes back, and hangs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{
    SLACK, back, fetch, info, minute, options, patient_storage, put, scripted, server, storage,
    timed,
};
use cache_core::{
    CacheKey, CacheStorage, Condition, ErrorKind, ManualClock, NewEntry, millis, secs,
};
use cache_redis::RedisCacheStorage;
use tokio::task::JoinSet;

const CALLERS: usize = 64;

/// The whole budget of a single-key operation.
const WHOLE: Duration = millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_and_restart_under_load() {
    killed_and_restarted_under_load(3).await;
}

#[cfg(feature = "drills")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_and_restarts_under_load() {
    killed_and_restarted_under_load(100).await;
}

async fn killed_and_restarted_under_load(times: u32) {
    let mut server = server();
    let storage = Arc::new(patient_storage(&server));
    let is_over = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let storage = Arc::clone(&storage);
        let (is_over, failures) = (Arc::clone(&is_over), Arc::clone(&failures));
        callers.spawn(async move {
            let key = format!("k{caller}");
            while !is_over.load(Ordering::Relaxed) {
                let (written, took) = timed(put(&*storage, &key, &key)).await;
                assert!(took < secs(5), "a call took {took:?}");
                let (read, took) = timed(fetch(&*storage, &key)).await;
                assert!(took < secs(5), "a call took {took:?}");
                for error in [written.err(), read.as_ref().err().cloned()]
                    .into_iter()
                    .flatten()
                {
                    assert!(
                        matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout),
                        "{error}"
                    );
                    failures.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                if let Ok(Some(value)) = read {
                    assert_eq!(value, key, "somebody else's value");
                }
            }
            // After the restart, with the next dial and without rebuilding anything.
            back(&*storage, &key).await;
            put(&*storage, &key, &key)
                .await
                .expect("the server is back");
            let value = fetch(&*storage, &key).await.expect("the server is back");
            assert_eq!(value.as_deref(), Some(&*key));
        });
    }
    for _ in 0..times {
        let before = failures.load(Ordering::Relaxed);
        server.kill().expect("the server dies");
        while failures.load(Ordering::Relaxed) < before + 100 {
            tokio::task::yield_now().await;
        }
        server.restart().expect("the server comes back");
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_costs_no_more_than_the_deadline_and_its_connection() {
    let server = server();
    let storage = Arc::new(storage(&server));
    put(&*storage, "k", "v").await.unwrap();
    let connections = info(&server, "total_connections_received");
    server.pause().expect("the server stops");
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let storage = Arc::clone(&storage);
        callers.spawn(async move {
            let (read, took) = timed(fetch(&*storage, "k")).await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
            assert!(took < millis(100) + SLACK, "one attempt took {took:?}");
            let key = CacheKey::from("n");
            let (counted, took) = timed(storage.increment(&key, 1, minute())).await;
            assert_eq!(counted.unwrap_err().kind(), ErrorKind::Timeout);
            assert!(took < WHOLE + SLACK, "an operation took {took:?}");
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics");
    }
    server.resume().expect("the server goes on");
    back(&*storage, "k").await;
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    // Our own INFO calls connect too: twice by now.
    let dialed = info(&server, "total_connections_received") - connections - 1;
    assert!(dialed >= 1, "the silent connection was replaced");
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_hangs_up_on_idle_connections_is_never_noticed() {
    let server = server();
    let storage = patient_storage(&server);
    for round in 0..100 {
        put(&storage, "k", "v").await.unwrap();
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal"])
            .unwrap();
        match round % 4 {
            0 => assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v")),
            1 => assert!(put(&storage, "k", "v").await.unwrap()),
            2 => {
                let counter = storage.increment(&"n".into(), 1, minute()).await.unwrap();
                assert_eq!(counter.value, round / 4 + 1, "counted once");
            }
            _ => assert!(storage.compare_and_delete(&"k".into(), b"v").await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hung_up_on_with_calls_in_flight_idempotent_calls_succeed() {
    let server = server();
    let storage = Arc::new(patient_storage(&server));
    put(&*storage, "k", "v").await.unwrap();
    for _ in 0..20 {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let storage = Arc::clone(&storage);
            callers.spawn(async move { fetch(&*storage, "k").await });
        }
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal"])
            .unwrap();
        while let Some(read) = callers.join_next().await {
            assert_eq!(read.unwrap().unwrap().as_deref(), Some("v"));
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_increment_of_unknown_outcome_is_not_repeated() {
    let server = server();
    let storage = storage(&server);
    let key = CacheKey::from("n");
    storage.increment(&key, 1, minute()).await.unwrap();
    server
        .command(&["CLIENT", "PAUSE", "400", "WRITE"])
        .unwrap();
    let error = storage.increment(&key, 1, minute()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_happened());
    server.command(&["CLIENT", "UNPAUSE"]).unwrap();
    // The one attempt was executed when the pause ended; reads wait behind it.
    assert_eq!(fetch(&storage, "n").await.unwrap().as_deref(), Some("2"));
    assert_eq!(storage.increment(&key, 1, minute()).await.unwrap().value, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_dropped_futures_cross_no_replies() {
    dropped_futures_cross_no_replies(100_000).await;
}

#[cfg(feature = "drills")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_dropped_futures_cross_no_replies() {
    dropped_futures_cross_no_replies(2_000_000).await;
}

async fn dropped_futures_cross_no_replies(drops: usize) {
    let server = server();
    let storage = Arc::new(patient_storage(&server));
    for key in 0..100 {
        put(&*storage, &key.to_string(), &format!("value of {key}"))
            .await
            .expect("the server answers");
    }
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let storage = Arc::clone(&storage);
        callers.spawn(async move {
            let mut checked = 0;
            for round in 0..drops / CALLERS + 1 {
                let key = (caller * 31 + round * 7) % 100;
                let name = key.to_string();
                // Polled up to four times, with other tasks in between, then dropped.
                let polls = (caller + round) % 5;
                {
                    let read = fetch(&*storage, &name);
                    tokio::pin!(read);
                    let done = poll_some(read, polls).await;
                    checked += usize::from(done.is_some());
                    if let Some(Ok(value)) = done {
                        assert_eq!(value, Some(format!("value of {key}")));
                    }
                }
                if round % 16 == 0 {
                    let value = fetch(&*storage, &name).await.expect("the server answers");
                    assert_eq!(value, Some(format!("value of {key}")));
                }
            }
            checked
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller saw another's value");
    }
    let value = fetch(&*storage, "7").await.expect("the server answers");
    assert_eq!(
        value.as_deref(),
        Some("value of 7"),
        "the connection is still in step"
    );
}

/// Polls `future` at most `polls` times, letting others run in between.
async fn poll_some<F: Future>(
    mut future: std::pin::Pin<&mut F>,
    polls: usize,
) -> Option<F::Output> {
    for _ in 0..polls {
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        });
        if let Some(output) = once.await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn eight_processes_count_exactly() {
    const PROCESSES: i64 = 8;
    const TIMES: i64 = 1_000;
    let server = server();
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            std::process::Command::new(env!("CARGO_BIN_EXE_increment"))
                .args([&server.url(0), "n", &TIMES.to_string()])
                .spawn()
                .expect("the process starts")
        })
        .collect();
    for process in &mut processes {
        assert!(process.wait().expect("the process ends").success());
    }
    let storage = storage(&server);
    assert_eq!(
        fetch(&storage, "n").await.unwrap(),
        Some((PROCESSES * TIMES).to_string())
    );
    let ttl: i64 = server.command(&["PTTL", "n"]).unwrap().parse().unwrap();
    assert!(ttl > 0, "a counter without an expiry never exists");
}

#[tokio::test(flavor = "current_thread")]
async fn after_thirty_seconds_of_silence_nothing_unrepeatable_is_sent_into_the_void() {
    let server = server();
    let clock = ManualClock::new();
    let storage = RedisCacheStorage::new(options(&server).with_clock(clock.clone())).unwrap();
    put(&storage, "n", "1").await.unwrap();
    clock.freeze(secs(31));
    server.pause().unwrap();
    let error = storage
        .increment(&"n".into(), 1, minute())
        .await
        .unwrap_err();
    assert!(!error.may_have_happened(), "it was never sent: {error}");
    server.resume().unwrap();
    // The longest pause after a dial that failed.
    clock.advance(secs(2));
    assert_eq!(
        storage
            .increment(&"n".into(), 1, minute())
            .await
            .unwrap()
            .value,
        2
    );
}

#[tokio::test(flavor = "current_thread")]
async fn after_thirty_seconds_of_silence_a_read_gets_a_second_attempt() {
    let clock = ManualClock::new();
    // The first connection goes silent after the write, without being closed.
    let value = "$1\r\nv\r\n";
    let (options, requests) = scripted(&[&["+PONG\r\n", "+OK\r\n"], &["+PONG\r\n", value]]).await;
    let storage = RedisCacheStorage::new(options.with_clock(clock.clone())).unwrap();
    put(&storage, "k", "v").await.unwrap();
    clock.freeze(secs(31));
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(
        requests.lock().unwrap().len(),
        4,
        "two set-ups, a write and a read"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn after_five_minutes_of_silence_the_connection_is_new() {
    let server = server();
    let clock = ManualClock::new();
    let storage = RedisCacheStorage::new(options(&server).with_clock(clock.clone())).unwrap();
    put(&storage, "k", "v").await.unwrap();
    let before = info(&server, "total_connections_received");
    clock.freeze(secs(299));
    fetch(&storage, "k").await.unwrap();
    assert_eq!(
        info(&server, "total_connections_received"),
        before + 1,
        "only ours"
    );
    clock.freeze(secs(300));
    fetch(&storage, "k").await.unwrap();
    assert_eq!(
        info(&server, "total_connections_received"),
        before + 3,
        "ours and a new one"
    );
}

#[test]
fn a_storage_outlives_its_runtime() {
    let server = server();
    let storage = storage(&server);
    for round in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            put(&storage, "k", &round.to_string()).await.unwrap();
            assert_eq!(fetch(&storage, "k").await.unwrap(), Some(round.to_string()));
        });
    }
}

#[test]
fn a_storage_outlives_a_runtime_that_ended_while_dialing() {
    let server = server();
    let storage = storage(&server);
    server.pause().unwrap();
    for wait in [0, 1, 20] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let read = tokio::time::timeout(millis(wait), fetch(&storage, "k")).await;
            assert!(read.is_err(), "the server is stopped");
        });
    }
    server.resume().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        put(&storage, "k", "v").await.unwrap();
    });
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_is_left_for_whoever_is_primary_now() {
    let server = server();
    let storage = storage(&server);
    put(&storage, "k", "v").await.unwrap();
    let key = CacheKey::from("k");
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    for operation in [
        "set",
        "set if",
        "set many",
        "increment",
        "delete",
        "delete many",
    ] {
        let before = info(&server, "total_connections_received");
        // The first finds out, the second is on a new connection.
        for _ in 0..2 {
            let entry = || NewEntry::new("w", minute());
            let outcome = match operation {
                "set" => storage
                    .set(&key, entry(), Condition::Always)
                    .await
                    .map(drop),
                "set if" => storage
                    .set(&key, entry(), Condition::IfPresent)
                    .await
                    .map(drop),
                "set many" => storage
                    .set_many(vec![(key.clone(), entry())])
                    .await
                    .remove(0),
                "increment" => storage.increment(&"n".into(), 1, minute()).await.map(drop),
                "delete" => storage.delete(&key).await.map(drop),
                _ => storage
                    .delete_many(std::slice::from_ref(&key))
                    .await
                    .remove(0),
            };
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{operation}: {error}");
            assert!(
                !error.may_have_happened(),
                "the server refused it: {operation}"
            );
        }
        let dialed = info(&server, "total_connections_received") - before - 1;
        assert!(dialed >= 1, "{operation} dialed anew");
    }
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    assert!(put(&storage, "k", "w").await.unwrap());
}

#[tokio::test(flavor = "current_thread")]
async fn shutdown_closes_the_connections() {
    let server = server();
    let storage = RedisCacheStorage::new(options(&server).with_connections(4)).unwrap();
    storage.warm_up().await.unwrap();
    assert_eq!(info(&server, "connected_clients"), 5, "four and this one");
    storage.shutdown(millis(300)).await.unwrap();
    storage.shutdown(millis(300)).await.unwrap();
    assert_eq!(
        fetch(&storage, "k").await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    while info(&server, "connected_clients") > 1 {
        tokio::task::yield_now().await;
    }
}
