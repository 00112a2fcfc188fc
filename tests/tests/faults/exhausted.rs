//! Row 32: the process has no descriptor left for a connection.

use std::fs::File;

use cache_breaker::State;
use cache_core::{CacheError, ErrorKind};
use cache_testkit::servers::RedisServer;
use tokio::runtime::Builder;

use crate::processes::{Process, part};
use crate::stacked::Measured;
use crate::support::{eventually, put, read, value_of};

/// How many files the process may hold.
const FILES: u32 = 64;

/// What the system calls having no descriptor left.
const EMFILE: i32 = 24;

/// A typed error of this machine's own, which accuses nobody; connections that are there go on, and
/// new ones are made as soon as they can be.
#[test]
fn row_32_there_is_no_descriptor_left() {
    if let Some(port) = part() {
        return starve(port.parse().expect("it is a port"));
    }
    let server = RedisServer::start().unwrap();
    let port = server.port().to_string();
    let starved = Process::start_with_files(FILES, row_32_there_is_no_descriptor_left, &port);
    let end = starved.end_within(cache_core::secs(30));
    assert!(end.status.success(), "{end:?}");
    assert!(end.place("recovered").is_some(), "it has run: {end:?}");
}

/// Lives through it, in a process of its own.
fn starve(port: u16) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the system has a runtime left");
    runtime.block_on(async {
        let connected = Measured::of_redis(port, &[("CACHE_ON_TROUBLE", "error")]);
        let late = Measured::of_redis(port, &[("CACHE_ON_TROUBLE", "error")]);
        let else_memory = Measured::else_memory(port);
        let storage = &**connected.caches.storage();
        eventually(async || put(storage, "k", &value_of("k")).await.ok()).await;

        let files = every_descriptor();
        for _ in 0..10 {
            assert!(read(storage, "k").await.expect("it is connected"));
            is_exhausted(&late).await;
            falls_back(&else_memory).await;
        }
        accuses_nobody(&connected, 0);
        accuses_nobody(&late, 1);
        accuses_nobody(&else_memory, 1);
        drop(files);

        let found = read(&**late.caches.storage(), "k").await;
        assert!(found.expect("the next call works"));
        let opened = [("backend", "redis"), ("event", "open")];
        assert!(late.has("cache_conn_total", &opened));
        falls_back(&else_memory).await;
        eventually(async || else_memory.has("cache_conn_total", &opened).then_some(())).await;
    });
    eprintln!("recovered");
}

/// All descriptors that the process may still have.
fn every_descriptor() -> Vec<File> {
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}");
                assert!(!files.is_empty() && files.len() < FILES as usize);
                return files;
            }
        }
    }
}

/// Calls that need a connection say what there was none for, and that they were not sent.
async fn is_exhausted(stack: &Measured) {
    let storage = &**stack.caches.storage();
    let is_typed = |error: &CacheError| {
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert_eq!(error.code(), "local_exhausted", "{error}");
        assert!(!error.may_have_happened(), "{error}");
    };
    is_typed(
        &read(storage, "k")
            .await
            .expect_err("there is no connection"),
    );
    let written = put(storage, "w", "v").await;
    is_typed(&written.expect_err("there is no connection"));
}

/// Whoever has another storage does without.
async fn falls_back(stack: &Measured) {
    let service = stack.service();
    let written = service.set("m", &value_of("m")).await;
    written.expect("there is memory");
    let read = service.get::<String>("m").await;
    assert_eq!(read.expect("there is memory"), Some(value_of("m")));
}

/// No breaker has opened, and dials that failed are told as what they are.
fn accuses_nobody(stack: &Measured, dials: u64) {
    let transitions = stack.count("cache_breaker_transitions_total", &[]);
    assert_eq!(transitions, 0, "the server has not failed");
    assert!(stack.is("read", State::Closed) && stack.is("write", State::Closed));
    let all = [("backend", "redis"), ("event", "dial_fail")];
    let local = [&all[..], &[("reason", "emfile")]].concat();
    let failed = stack.count("cache_conn_total", &local);
    assert!(failed >= dials, "{failed} dials");
    assert_eq!(stack.count("cache_conn_total", &all), failed, "no other");
}
