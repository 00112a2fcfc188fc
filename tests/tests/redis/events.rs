//! What observers of the storage are told, and the codes that errors carry.

use std::sync::Arc;

use cache_core::{
    CacheKey, CacheStorage, Condition, ErrorKind, ManualClock, NewEntry, Result, millis, secs,
};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::RedisServer;
use cache_tests::events::Told;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

use crate::support::{fetch, minute, options, put, scripted, server};

fn observed(options: RedisOptions) -> (Arc<RedisCacheStorage>, Told) {
    let told = Told::default();
    let options = options.with_observers(told.observers());
    let storage = RedisCacheStorage::new(options).expect("the options are sound");
    (Arc::new(storage), told)
}

fn code<T: std::fmt::Debug>(outcome: Result<T>) -> &'static str {
    outcome.expect_err("the call fails").code()
}

/// A port that nobody listens at.
async fn nobody() -> RedisOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let port = listener.local_addr().expect("the listener is bound").port();
    RedisOptions::new("127.0.0.1", port)
}

async fn told_of(told: &Told, line: &str) {
    while told.count(line) == 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_call_where_all_is_well_tells_of_its_connection_only() {
    let server = server();
    let (storage, told) = observed(options(&server));
    put(&*storage, "k", "v").await.unwrap();
    fetch(&*storage, "k").await.unwrap();
    assert_eq!(told.take(), ["connection open dial"]);
    assert_eq!(storage.info().patience, Some(millis(100)));
    assert_eq!(storage.shard(&CacheKey::from("k")), None);
    storage.shutdown(millis(1)).await.unwrap();
    told_of(&told, "connection removed unused").await;
    assert_eq!(told.take().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_a_refused_dial() {
    let (storage, told) = observed(nobody().await);
    assert_eq!(code(fetch(&*storage, "k").await), "refused");
    assert_eq!(told.take(), ["connection dial_fail refused"]);
}

#[tokio::test]
async fn a_dead_server_is_left_alone_for_a_while_that_grows() {
    let clock = ManualClock::new();
    let (storage, told) = observed(nobody().await.with_clock(clock.clone()));
    let mut dials = 0;
    for _ in 0..100 {
        // The same failure, whether it is the dial's own or that of the pause.
        let error = fetch(&*storage, "k").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Connection, "refused")
        );
        dials += told.take().len();
        clock.advance(millis(10));
    }
    // Of a second, every 50 ms at most to begin with, and hardly ever in the end.
    assert!((2..50).contains(&dials), "{dials} dials");
    // After a freeze nobody waits for what is left of a pause.
    clock.freeze(secs(600));
    fetch(&*storage, "k").await.unwrap_err();
    assert_eq!(told.take(), ["connection dial_fail refused"]);
}

#[tokio::test]
async fn a_server_that_came_back_is_found_with_the_next_dial() {
    let mut server = server();
    let clock = ManualClock::new();
    let (storage, told) = observed(options(&server).with_clock(clock.clone()));
    put(&*storage, "k", "v").await.unwrap();
    server.kill().unwrap();
    fetch(&*storage, "k").await.unwrap_err();
    server.restart().unwrap();
    clock.advance(secs(2));
    fetch(&*storage, "k").await.unwrap();
    assert_eq!(told.count("connection open dial"), 2);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_dns_failure() {
    let (storage, told) = observed(RedisOptions::new("nobody.invalid", 6379));
    let error = fetch(&*storage, "k").await.unwrap_err();
    // A machine without a resolver may take longer to say so than a connection may.
    let is_slow = error.kind() == ErrorKind::Timeout;
    assert!(is_slow || error.code() == "dns", "{error:?}");
    assert!(is_slow || told.count("connection dial_fail dns") > 0);
}

#[tokio::test]
async fn a_stopped_server_is_a_handshake_that_times_out() {
    let server = server();
    server.pause().unwrap();
    let (storage, told) = observed(options(&server));
    let error = fetch(&*storage, "k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Timeout, "handshake")
    );
    let told = told.take();
    let (first, second) = ("timeout handshake", "connection dial_fail timeout");
    assert_eq!(told[..2], [first, second]);
}

#[tokio::test]
async fn a_connection_is_closed_as_silent_after_two_timeouts_without_a_byte() {
    let server = server();
    let (storage, told) = observed(options(&server));
    put(&*storage, "k", "v").await.unwrap();
    told.take();
    server.pause().unwrap();
    assert_eq!(code(fetch(&*storage, "k").await), "read");
    assert_eq!(told.take(), ["timeout read"]);
    assert_eq!(code(fetch(&*storage, "k").await), "read");
    assert_eq!(told.take(), ["connection close silent", "timeout read"]);
}

/// Takes the next connection and answers its set-up.
async fn greeted(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("the storage connects");
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.expect("a PING comes") > 0);
    stream.write_all(b"+PONG\r\n").await.expect("it is read");
    stream
}

/// How a connection ended, seen from the server.
async fn ending(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut requests = [0; 1024];
    while stream.read(&mut requests).await? > 0 {}
    Ok(())
}

#[tokio::test]
async fn a_silent_connection_is_reset_and_one_without_trouble_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (storage, told) = observed(RedisOptions::new("127.0.0.1", port));
    let reader = Arc::clone(&storage);
    let calls = tokio::spawn(async move {
        for _ in 0..2 {
            assert_eq!(code(fetch(&*reader, "k").await), "read");
        }
        reader.ping().await
    });
    let mut silent = greeted(&listener).await;
    let mut talking = greeted(&listener).await;
    let mut request = [0; 1024];
    assert!(talking.read(&mut request).await.unwrap() > 0);
    talking.write_all(b"+PONG\r\n").await.unwrap();
    calls.await.unwrap().unwrap();
    assert_eq!(told.count("connection close silent"), 1);
    let end = ending(&mut silent).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    storage.shutdown(millis(1)).await.unwrap();
    ending(&mut talking).await.unwrap();
}

#[tokio::test]
async fn a_late_reply_is_told_with_the_next_answer() {
    let server = server();
    let (storage, told) = observed(options(&server));
    put(&*storage, "k", "v").await.unwrap();
    told.take();
    server.pause().unwrap();
    assert_eq!(code(fetch(&*storage, "k").await), "read");
    server.resume().unwrap();
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(told.take(), ["timeout read", "late"]);
    // And so is one for a call that was dropped.
    {
        let read = fetch(&*storage, "k");
        tokio::pin!(read);
        assert!(futures_pending(read.as_mut()).await);
    }
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(told.take(), ["late"]);
}

/// Polls `future` once and says whether it has still to wait.
async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        std::task::Poll::Ready(polled.is_pending())
    })
    .await
}

#[tokio::test]
async fn a_killed_connection_is_told_with_its_repetition() {
    let (options, _) = scripted(&[&["+PONG\r\n", ""], &["+PONG\r\n", "$1\r\nv\r\n"]]).await;
    let (storage, told) = observed(options);
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    let told = told.take();
    assert_eq!(told.iter().filter(|line| *line == "retry").count(), 1);
    let is_end = |line: &&String| line.starts_with("connection close");
    assert_eq!(told.iter().filter(is_end).count(), 1, "{told:?}");
    assert_eq!(told.last().unwrap(), "connection open dial");
}

#[tokio::test]
async fn what_is_not_redis_is_a_decode_error_and_ends_the_connection() {
    let (options, _) = scripted(&[&["+PONG\r\n", "HTTP/1.1 400\r\n"]]).await;
    let (storage, told) = observed(options);
    let key = CacheKey::from("k");
    let error = storage.increment(&key, 1, minute()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Connection, "resp")
    );
    assert_eq!(told.count("decode resp"), 1);
    assert_eq!(told.count("connection close resp"), 1);
}

#[tokio::test]
async fn a_demoted_server_is_left_and_told() {
    let server = server();
    let (storage, told) = observed(options(&server));
    put(&*storage, "k", "v").await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    assert_eq!(code(put(&*storage, "k", "v").await), "readonly");
    assert_eq!(told.count("connection close demoted"), 1);
}

#[tokio::test]
async fn silent_connections_are_looked_at_doubted_and_replaced() {
    let server = server();
    let clock = ManualClock::new();
    let (storage, told) = observed(options(&server).with_clock(clock.clone()));
    fetch(&*storage, "k").await.unwrap();
    told.take();
    clock.advance(secs(6));
    fetch(&*storage, "k").await.unwrap();
    assert_eq!(told.take(), ["thaw look"]);
    clock.advance(secs(31));
    fetch(&*storage, "k").await.unwrap();
    assert_eq!(told.take(), ["thaw look", "thaw doubt"]);
    clock.advance(secs(301));
    fetch(&*storage, "k").await.unwrap();
    let replaced = ["thaw dial", "connection close idle", "connection open dial"];
    assert_eq!(told.take(), replaced);
}

#[tokio::test]
async fn a_script_that_the_server_does_not_know_is_told() {
    let server = server();
    let (storage, told) = observed(options(&server));
    let key = CacheKey::from("lock");
    for _ in 0..2 {
        let entry = NewEntry::new("token", minute());
        storage.set(&key, entry, Condition::IfAbsent).await.unwrap();
    }
    assert_eq!(told.count("script"), 1);
}

#[tokio::test]
async fn a_refused_password_is_an_auth_failure() {
    let server = RedisServer::builder()
        .args(["--requirepass", "hunter2"])
        .start()
        .unwrap();
    let (storage, told) = observed(options(&server).with_password("hunter3"));
    assert_eq!(code(fetch(&*storage, "k").await), "auth");
    assert_eq!(told.take(), ["auth same", "connection dial_fail auth"]);
}

#[tokio::test]
async fn entries_that_cannot_be_read_are_decode_errors() {
    let server = server();
    let (storage, told) = observed(options(&server));
    server.command(&["LPUSH", "list", "v"]).unwrap();
    assert_eq!(code(fetch(&*storage, "list").await), "wrongtype");
    server
        .command(&["EVAL", "redis.call('SET', 'newer', '\\255\\202\\9')", "0"])
        .unwrap();
    assert_eq!(code(fetch(&*storage, "newer").await), "serialization");
    assert_eq!(told.take()[1..], ["decode type", "decode header"]);
}

#[tokio::test]
async fn refusals_carry_the_servers_own_word() {
    let server = server();
    let rules = [
        "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-@write",
    ];
    server.command(&rules).unwrap();
    let reader = options(&server).with_username("reader").with_password("pw");
    let (reader, _) = observed(reader);
    let key = CacheKey::from("k");
    assert_eq!(code(put(&*reader, "k", "v").await), "noperm");
    // Of a transaction, the refusal of its own command rather than that of the whole.
    assert_eq!(code(reader.increment(&key, 1, minute()).await), "noperm");
    let (storage, _) = observed(options(&server));
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    assert_eq!(code(put(&*storage, "k", "v").await), "oom");
    assert_eq!(code(storage.increment(&key, 1, minute()).await), "oom");
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    put(&*storage, "text", "v").await.unwrap();
    let counted = storage.increment(&"text".into(), 1, minute()).await;
    assert_eq!(code(counted), "not_a_counter");
}
