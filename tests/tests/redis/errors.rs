//! What callers learn from the Redis storage when something is wrong.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{SLACK, fetch, minute, options, put, server, storage, timed};
use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, ConnectionError, ErrorKind, NewEntry, millis,
};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::RedisServer;
use std::error::Error as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PASSWORD: &str = "hunter2";

fn guarded_server() -> RedisServer {
    RedisServer::builder()
        .args(["--requirepass", PASSWORD])
        .start()
        .expect("redis-server starts")
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

#[tokio::test]
async fn the_right_password_opens() {
    let server = guarded_server();
    let storage = RedisCacheStorage::new(options(&server).with_password(PASSWORD)).unwrap();
    put(&storage, "k", "v").await.unwrap();
    let url = format!("redis://default:{PASSWORD}@{}/3", server.address());
    let storage = RedisCacheStorage::new(RedisOptions::from_url(&url).unwrap()).unwrap();
    assert_eq!(
        fetch(&storage, "k").await.unwrap(),
        None,
        "another database"
    );
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_a_configuration_error_without_the_password() {
    let server = guarded_server();
    let base = options(&server);
    for options in [
        base.clone(),
        base.clone().with_password("hunter3"),
        base.clone()
            .with_username("nobody")
            .with_password("hunter3"),
    ] {
        let storage = RedisCacheStorage::new(options).unwrap();
        let (read, took) = timed(fetch(&storage, "k")).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(!error.is_transient());
        assert!(took < millis(300) + SLACK, "it took {took:?}");
        let text = whole_text(&error) + &format!("{storage:?}");
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[tokio::test]
async fn a_password_that_is_put_right_needs_no_new_storage() {
    let server = guarded_server();
    let storage = RedisCacheStorage::new(options(&server).with_password("hunter3")).unwrap();
    assert!(fetch(&storage, "k").await.is_err());
    server
        .command(&["CONFIG", "SET", "requirepass", "hunter3"])
        .unwrap();
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_password_for_a_server_without_one_is_a_configuration_error() {
    let server = server();
    let storage = RedisCacheStorage::new(options(&server).with_password(PASSWORD)).unwrap();
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(!whole_text(&error).contains(PASSWORD));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_configuration_error() {
    let server = RedisServer::builder()
        .args(["--databases", "16"])
        .start()
        .unwrap();
    let storage = RedisCacheStorage::new(options(&server).with_database(16)).unwrap();
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

#[tokio::test]
async fn a_user_without_permission_is_told_so() {
    let server = server();
    server
        .command(&[
            "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-@write",
        ])
        .unwrap();
    let reader = options(&server).with_username("reader").with_password("pw");
    let reader = RedisCacheStorage::new(reader).unwrap();
    assert_eq!(fetch(&reader, "k").await.unwrap(), None);
    let error = put(&reader, "k", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    let error = reader
        .increment(&"n".into(), 1, minute())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    let error = reader.delete(&"k".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_read_is_told_so_by_conditions_too() {
    let server = server();
    server
        .command(&[
            "ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-get",
        ])
        .unwrap();
    let blind = options(&server).with_username("blind").with_password("pw");
    let blind = RedisCacheStorage::new(blind).unwrap();
    let key = CacheKey::from("k");
    let entry = || NewEntry::new("v", minute());
    for condition in [
        Condition::IfAbsent,
        Condition::IfPresent,
        Condition::IfEquals("v".into()),
    ] {
        let error = blind.set(&key, entry(), condition).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), "0");
    for outcome in [
        blind.expire(&key, minute()).await,
        blind.expire_now(&key).await,
        blind.compare_and_delete(&key, b"v").await,
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn a_delete_succeeds_for_a_user_who_may_not_read() {
    let server = server();
    server
        .command(&[
            "ACL",
            "SETUSER",
            "blind",
            "on",
            ">pw",
            "~*",
            "+@all",
            "-getrange",
        ])
        .unwrap();
    let blind = options(&server).with_username("blind").with_password("pw");
    let blind = RedisCacheStorage::new(blind).unwrap();
    put(&blind, "k", "v").await.unwrap();
    assert!(blind.delete(&"k".into()).await.unwrap());
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), "0");
}

/// A listener that does `behave` with every connection.
async fn impostor<F, B>(behave: B) -> RedisCacheStorage
where
    F: Future<Output = ()> + Send,
    B: Fn(tokio::net::TcpStream) -> F + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let port = listener.local_addr().expect("the listener is bound").port();
    let behave = Arc::new(behave);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let behave = Arc::clone(&behave);
            tokio::spawn(async move { behave(stream).await });
        }
    });
    RedisCacheStorage::new(RedisOptions::new("127.0.0.1", port)).expect("the options are sound")
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_found_out() {
    let answers: [&'static [u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"$4\r\nwhat\r\n",
        b"",
    ];
    for answer in answers {
        let storage = impostor(move |mut stream| async move {
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        })
        .await;
        let (read, took) = timed(fetch(&storage, "k")).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{answer:?}: {error}");
        assert!(took < millis(500) + SLACK, "it took {took:?}");
        let source = error.source().unwrap();
        assert!(source.is::<ConnectionError>());
    }
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    let storage = impostor(|mut stream| async move {
        let mut request = [0; 64];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (read, took) = timed(fetch(&storage, "k")).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took < millis(500) + SLACK, "it took {took:?}");
}

#[tokio::test]
async fn a_reply_cut_in_the_middle_is_never_a_value() {
    let storage = impostor(|mut stream| async move {
        let mut request = [0; 256];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"+PONG\r\n").await;
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"$100\r\nhalf").await;
    })
    .await;
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    // Bound and dropped, so nobody listens.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let storage = RedisCacheStorage::new(RedisOptions::new("127.0.0.1", port)).unwrap();
    let (read, took) = timed(fetch(&storage, "user:42")).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.is_transient());
    assert!(took < SLACK, "it took {took:?}");
    let text = error.to_string();
    let expected =
        format!("redis get \"user:42\": connection refused (standalone 127.0.0.1:{port}");
    assert!(text.starts_with(&expected), "{text}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_connection_error() {
    let options = RedisOptions::new("no-such-host.invalid", 6379);
    let storage = RedisCacheStorage::new(options).unwrap();
    let (read, took) = timed(fetch(&storage, "k")).await;
    let kind = read.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::Connection | ErrorKind::Timeout),
        "{kind}"
    );
    assert!(took < millis(500) + SLACK, "it took {took:?}");
}

#[tokio::test]
async fn constructing_does_nothing() {
    let options = RedisOptions::new("no-such-host.invalid", 1);
    RedisCacheStorage::new(options).unwrap();
}

#[tokio::test]
async fn impossible_options_are_refused_before_any_io() {
    let base = RedisOptions::default();
    for options in [
        RedisOptions::new("", 6379),
        RedisOptions::new("host", 0),
        base.clone().with_connections(0),
        base.clone().with_timeout(Duration::ZERO),
        base.clone().with_timeout(Duration::MAX),
        base.clone().with_attempt_timeout(millis(600)),
        base.clone().with_max_value_bytes(0),
        base.clone().with_username("user"),
    ] {
        let error = RedisCacheStorage::new(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
}

#[tokio::test]
async fn a_full_server_still_reads_and_deletes() {
    let server = server();
    let storage = storage(&server);
    put(&storage, "k", "v").await.unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = put(&storage, "k", "w").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    let error = storage
        .increment(&"n".into(), 1, minute())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    let error = storage
        .set(
            &"k".into(),
            NewEntry::new("w", minute()),
            Condition::IfPresent,
        )
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    let entries = vec![(CacheKey::from("k"), NewEntry::new("w", minute()))];
    let error = storage.set_many(entries).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
    assert!(storage.delete(&"k".into()).await.unwrap());
}

#[tokio::test]
async fn a_server_that_runs_a_script_for_ever_is_overloaded() {
    let server = RedisServer::builder()
        .args(["--busy-reply-threshold", "20"])
        .start()
        .unwrap();
    let storage = storage(&server);
    put(&storage, "k", "v").await.unwrap();
    let address = server.address();
    let busy = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"EVAL 'while true do end' 0\r\n").unwrap();
        stream
    });
    let _keeps_it_running = busy.await.unwrap();
    // Until the threshold is passed the server is silent, from then on it says that it is busy.
    let error = loop {
        match fetch(&storage, "k").await {
            Err(error) if error.kind() != ErrorKind::Timeout => break error,
            _ => {}
        }
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    server.command(&["SCRIPT", "KILL"]).unwrap();
    // The server ends the script a moment after it has said so.
    while fetch(&storage, "k")
        .await
        .is_err_and(|error| error.kind() == ErrorKind::Overloaded)
    {}
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_server_that_knows_fewer_commands_is_unsupported() {
    let server = RedisServer::builder()
        .args(["--rename-command", "GET", "X"])
        .start()
        .unwrap();
    let storage = storage(&server);
    let error = fetch(&storage, "secret-key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(!error.message().contains("secret-key"));
}

#[tokio::test]
async fn something_other_than_a_string_is_left_alone() {
    let server = server();
    let storage = storage(&server);
    let key = CacheKey::from("list");
    server.command(&["RPUSH", "list", "a"]).unwrap();
    assert_eq!(
        fetch(&storage, "list").await.unwrap_err().kind(),
        ErrorKind::Serialization
    );
    let lookup = storage.lookup(&key).await;
    assert_eq!(lookup.unwrap_err().kind(), ErrorKind::Serialization);
    let counted = storage.increment(&key, 1, minute()).await;
    assert_eq!(counted.unwrap_err().kind(), ErrorKind::NotACounter);
    let token = || NewEntry::new("t", minute());
    assert!(
        !storage
            .set(&key, token(), Condition::IfAbsent)
            .await
            .unwrap()
    );
    assert!(
        !storage
            .set(&key, token(), Condition::IfEquals("a".into()))
            .await
            .unwrap()
    );
    assert!(!storage.compare_and_delete(&key, b"a").await.unwrap());
    assert!(storage.has(&key).await.unwrap());
    assert_eq!(
        server
            .command(&["LRANGE", "list", "0", "-1"])
            .unwrap()
            .trim(),
        "a"
    );
    assert_eq!(
        server.command(&["PTTL", "list"]).unwrap(),
        "-1",
        "no expiry was added"
    );
    assert!(storage.expire(&key, minute()).await.unwrap());
    assert!(
        put(&storage, "list", "v").await.unwrap(),
        "a set replaces it"
    );
    assert_eq!(fetch(&storage, "list").await.unwrap().as_deref(), Some("v"));
    server.command(&["DEL", "list"]).unwrap();
    server.command(&["RPUSH", "list", "a"]).unwrap();
    assert!(storage.delete(&key).await.unwrap());
}
