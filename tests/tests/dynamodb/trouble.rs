//! What callers learn when the server cannot be reached, says nothing, or takes no credentials.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, ConnectionError, ErrorKind,
    ManualClock, millis,
};
use cache_dynamo::{
    AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions, Roots,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{SLACK, Table, entry, fetch, minute, put, storage, timed};

/// The default budgets, which these tests are about.
const TIMEOUT: Duration = millis(500);
const BULK_TIMEOUT: Duration = millis(2_000);

fn options(endpoint: &str) -> DynamoDbOptions {
    let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter2"));
    DynamoDbOptions::new("cache")
        .with_region("eu-west-1")
        .with_endpoint(endpoint)
        .with_credentials(credentials)
}

/// Everything an error says, sources included.
fn whole_text(error: &CacheError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

/// A server that answers every request with `answer`, or with nothing at all, and counts the
/// connections it has taken. An empty answer ends the connection instead.
async fn server(answer: Option<&'static [u8]>) -> (String, Arc<AtomicUsize>) {
    let bound = TcpListener::bind("127.0.0.1:0").await;
    let listener = bound.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let Some(answer) = answer else {
                silent.push(stream);
                continue;
            };
            tokio::spawn(async move {
                let mut request = vec![0; 65_536];
                if let Ok(1..) = stream.read(&mut request).await
                    && !answer.is_empty()
                {
                    // A client that has left needs no answer.
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    (format!("http://{address}"), taken)
}

#[track_caller]
fn connection(error: &CacheError) -> &ConnectionError {
    let source = error.source().expect("the cause is kept");
    source.downcast_ref().expect("it is about the connection")
}

#[tokio::test]
async fn a_refused_connection_is_told_within_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let storage = storage(options(&endpoint));
    let (read, took) = timed(fetch(&storage, "k")).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.is_transient() && !error.may_have_happened());
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");
    let cause = connection(&error);
    assert_eq!(cause.reason, "connection refused");
    assert_eq!(cause.address, format!("cache@{endpoint}"));
    assert_eq!(cause.attempt, 3);
    for error in [
        put(&storage, "k", "v").await.unwrap_err(),
        storage
            .increment(&"n".into(), 1, minute())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert!(!error.may_have_happened(), "nothing was sent");
    }
}

#[tokio::test]
async fn a_host_that_takes_no_connection_is_a_timeout_within_the_deadline() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: once the queue is full, further connections are not answered.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(millis(100), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let storage = storage(options(&format!("http://{address}")));
    let (written, took) = timed(put(&storage, "k", "v")).await;
    let error = written.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(!error.may_have_happened() || took >= TIMEOUT, "{error}");
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");
}

#[tokio::test]
async fn a_silent_server_costs_no_call_more_than_its_deadline() {
    let (endpoint, taken) = server(None).await;
    let storage = storage(options(&endpoint));
    let key = CacheKey::from("k");
    let began = Instant::now();
    let error = storage.get(&key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.is_transient() && !error.may_have_happened());
    assert_eq!(connection(&error).attempt, 2, "a read is repeated");
    assert!(
        (TIMEOUT..TIMEOUT + SLACK).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    let (written, took) = timed(storage.set(&key, entry("v"), Condition::IfAbsent)).await;
    let error = written.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_happened());
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");
    let before = taken.load(Ordering::SeqCst);
    let (counted, took) = timed(storage.increment(&key, 1, minute())).await;
    let error = counted.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_happened());
    assert_eq!(connection(&error).attempt, 1, "it could count twice");
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");
    let deleted = storage.compare_and_delete(&key, b"v").await.unwrap_err();
    assert!(deleted.may_have_happened());
    assert_eq!(taken.load(Ordering::SeqCst) - before, 2, "one attempt each");
}

#[tokio::test]
async fn a_silent_server_costs_batches_and_clears_no_more_than_their_deadlines() {
    let (endpoint, _) = server(None).await;
    let options = options(&endpoint).with_clear_timeout(millis(700));
    let storage = storage(options);
    let keys: Vec<_> = (0..1_000)
        .map(|n| CacheKey::from(format!("k:{n}")))
        .collect();
    let (read, took) = timed(storage.get_many(&keys)).await;
    assert!(took < BULK_TIMEOUT + SLACK, "it took {took:?}");
    assert_eq!(read.len(), keys.len());
    for outcome in read {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    }
    let entries = keys.iter().map(|key| (key.clone(), entry("v"))).collect();
    let (written, took) = timed(storage.set_many(entries)).await;
    assert!(took < BULK_TIMEOUT + SLACK, "it took {took:?}");
    let errors: Vec<_> = written.into_iter().map(Result::unwrap_err).collect();
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::Timeout)
    );
    let unknown = errors
        .iter()
        .filter(|error| error.may_have_happened())
        .count();
    assert!(
        (25..=200).contains(&unknown),
        "{unknown}: what was not sent has not happened"
    );
    let (cleared, took) = timed(storage.clear(&ClearScope::everything())).await;
    assert!(took < millis(700) + SLACK, "it took {took:?}");
    let cleared = cleared.unwrap();
    assert_eq!((cleared.deleted, cleared.complete), (0, false));
}

/// A server that answers the first request of each connection and is silent on it from then on, as
/// one is that closed the connection while the client was frozen.
async fn forgetful_server() -> (String, Arc<AtomicUsize>) {
    let bound = TcpListener::bind("127.0.0.1:0").await;
    let listener = bound.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 65_536];
            if let Ok(1..) = stream.read(&mut request).await {
                // A client that has left needs no answer.
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    .await;
                open.push(stream);
            }
        }
    });
    (format!("http://{address}"), taken)
}

#[tokio::test]
async fn a_process_that_was_frozen_uses_no_connection_of_before() {
    let (endpoint, taken) = forgetful_server().await;
    let clock = ManualClock::new();
    let storage = storage(options(&endpoint).with_clock(clock.clone()));
    for round in 1..=3 {
        let deleted = storage.compare_and_delete(&"k".into(), b"v").await;
        assert!(deleted.unwrap(), "what is sent once at most arrives");
        assert_eq!(taken.load(Ordering::SeqCst), round);
        clock.freeze(millis(15_000));
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_asked_again_and_told() {
    let (endpoint, taken) = server(Some(b"")).await;
    let storage = storage(options(&endpoint));
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.is_transient());
    assert_eq!(connection(&error).attempt, 3);
    let before = taken.load(Ordering::SeqCst);
    let error = storage
        .increment(&"n".into(), 1, minute())
        .await
        .unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert_eq!(connection(&error).attempt, 1);
    assert_eq!(taken.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn what_is_no_answer_is_trouble_with_the_connection() {
    let page: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n<html> hunter3";
    let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"Item\":";
    let other: &[u8] = b"+PONG\r\n";
    for answer in [page, cut, other] {
        let (endpoint, _) = server(Some(answer)).await;
        let storage = storage(options(&endpoint));
        let error = fetch(&storage, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert!(error.is_transient(), "{error}");
        let written = put(&storage, "k", "v").await.unwrap_err();
        assert!(written.may_have_happened(), "{written}");
        assert!(!whole_text(&error).contains("hunter"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_a_configuration_error() {
    let (endpoint, _) = server(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let storage = storage(options(&endpoint.replace("http:", "https:")));
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(!error.is_transient() && !error.may_have_happened());
    assert_eq!(connection(&error).reason, "the server does not speak TLS");
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_named_when_the_storage_is_made() {
    let roots = Roots::File("/nowhere/roots.pem".into());
    let made = DynamoDbCacheStorage::new(options("https://localhost").with_roots(roots));
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("/nowhere/roots.pem"), "{error}");
}

#[tokio::test]
async fn missing_credentials_are_a_configuration_error_that_says_so() {
    let (endpoint, taken) = server(None).await;
    let none = CredentialsSource::from_fn(|| async {
        Err(CacheError::new(
            ErrorKind::Configuration,
            "no AWS credentials: the vault is empty",
        ))
    });
    let storage = storage(options(&endpoint).with_credentials(none));
    let error = put(&storage, "k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert_eq!(error.message(), "no AWS credentials: the vault is empty");
    assert_eq!(error.backend(), Some("dynamodb"));
    assert!(!error.may_have_happened());
    assert_eq!(taken.load(Ordering::SeqCst), 0, "nothing was sent");
}

#[tokio::test]
async fn credentials_slower_than_one_call_serve_a_later_one() {
    let table = Table::new().await;
    let opened = Arc::new(tokio::sync::Notify::new());
    let vault = Arc::clone(&opened);
    let slow = CredentialsSource::from_fn(move || {
        let vault = Arc::clone(&vault);
        async move {
            // Opened once: who begins anew waits for ever.
            vault.notified().await;
            Ok(AwsCredentials::new("AKIA", "hunter2"))
        }
    });
    let options = table
        .options
        .clone()
        .with_credentials(slow)
        .with_timeout(millis(200));
    let storage = storage(options);
    let (read, took) = timed(fetch(&storage, "k")).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.is_transient());
    assert!(took < millis(200) + SLACK, "it took {took:?}");
    opened.notify_one();
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
}

#[tokio::test]
async fn after_a_shutdown_every_call_is_refused() {
    let table = Table::new().await;
    put(&table.storage, "k", "v").await.unwrap();
    table.storage.shutdown(Duration::ZERO).await.unwrap();
    let error = fetch(&table.storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    for refused in [
        table.storage.check_table().await,
        table.storage.create_table().await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert!(table.item("k").await.is_some(), "entries stay");
}

#[tokio::test]
async fn an_unknown_region_is_refused_without_io() {
    let options = DynamoDbOptions::new("cache").with_region("eu west");
    let error = DynamoDbCacheStorage::new(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("\"eu west\""), "{error}");
}

#[test]
fn a_storage_outlives_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let table = runtime().block_on(async {
        let table = Table::new().await;
        put(&table.storage, "k", "v").await.unwrap();
        table
    });
    for _ in 0..3 {
        let read = runtime().block_on(fetch(&table.storage, "k"));
        assert_eq!(read.unwrap().as_deref(), Some("v"));
    }
}
