//! Names and addresses: resolvers that fail or are slow, and addresses that say nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cache_core::{CacheStorage as _, ErrorKind, millis};
use cache_redis::{RedisCacheStorage, RedisOptions, Resolver};
use cache_testkit::servers::RedisServer;
use cache_tests::events::Told;

use crate::support::{SLACK, back, fetch, put, server, timed};

/// What a resolver does when it is asked.
#[derive(Debug, Clone)]
enum Mood {
    Answer(Vec<SocketAddr>),
    Fail,
    Sleep,
}

#[derive(Debug, Clone)]
struct Scripted(Arc<Mutex<Mood>>);

impl Scripted {
    fn new(mood: Mood) -> Self {
        Self(Arc::new(Mutex::new(mood)))
    }

    fn set(&self, mood: Mood) {
        *self.0.lock().expect("no test panics in between") = mood;
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "cache.internal");
        let mood = self.0.lock().expect("no test panics in between").clone();
        match mood {
            Mood::Answer(addresses) => Ok(addresses),
            Mood::Fail => Err(io::Error::other("SERVFAIL")),
            Mood::Sleep => std::future::pending().await,
        }
    }
}

fn at(server: &RedisServer) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

fn storage(resolver: &Scripted) -> (RedisCacheStorage, Told) {
    let told = Told::default();
    let options = RedisOptions::new("cache.internal", 6379)
        .with_resolver(resolver.clone())
        .with_observers(told.observers());
    let storage = RedisCacheStorage::new(options).expect("the options are sound");
    (storage, told)
}

fn hang_up(server: &RedisServer) {
    let killed = server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    killed.expect("the server answers");
}

#[tokio::test]
async fn without_an_address_a_dial_fails_for_its_name() {
    let (storage, told) = storage(&Scripted::new(Mood::Fail));
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Connection, "dns"));
    assert_eq!(told.take(), ["connection dial_fail dns"]);
    let (storage, _) = self::storage(&Scripted::new(Mood::Answer(Vec::new())));
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.code(), "dns", "{error}");
}

#[tokio::test]
async fn the_last_good_address_does_while_the_resolver_fails_or_is_slow() {
    let server = server();
    let resolver = Scripted::new(Mood::Answer(vec![at(&server)]));
    let (storage, told) = storage(&resolver);
    put(&storage, "k", "v").await.unwrap();
    for mood in [Mood::Fail, Mood::Sleep, Mood::Answer(Vec::new())] {
        resolver.set(mood.clone());
        hang_up(&server);
        // A busy machine may need a second dial: a slow resolver takes half of the time of one.
        back(&storage, "k").await;
        assert!(told.count("connection dial_fail dns") > 0, "{mood:?}");
        assert!(told.count("connection open dial") > 0, "{mood:?}");
        told.take();
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_followed_by_the_next_dial() {
    let (old, new) = (server(), server());
    let resolver = Scripted::new(Mood::Answer(vec![at(&old)]));
    let (storage, _) = storage(&resolver);
    put(&storage, "k", "old").await.unwrap();
    resolver.set(Mood::Answer(vec![at(&new)]));
    hang_up(&old);
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_address_is_passed_over() {
    let server = server();
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = refusing.local_addr().unwrap();
    drop(refusing);
    let resolver = Scripted::new(Mood::Answer(vec![dead, at(&server)]));
    let (storage, _) = storage(&resolver);
    put(&storage, "k", "v").await.unwrap();
}

#[tokio::test]
async fn a_silent_address_costs_a_tenth_of_a_second() {
    let server = server();
    // A listener whose backlog is full answers no connection any more.
    let socket = socket_with_full_backlog();
    let resolver = Scripted::new(Mood::Answer(vec![socket.address, at(&server)]));
    let (storage, told) = storage(&resolver);
    let (written, took) = timed(put(&storage, "k", "v")).await;
    written.unwrap();
    assert!(took >= millis(100), "the first was tried first: {took:?}");
    assert!(took < millis(100) + SLACK, "{took:?}");
    assert_eq!(told.take(), ["connection open dial"]);
    assert_eq!(
        storage.info().address.as_deref(),
        Some("cache.internal:6379")
    );
}

struct FullBacklog {
    address: SocketAddr,
    _held: Vec<std::net::TcpStream>,
    _listener: std::net::TcpListener,
}

/// A listener that accepts nothing, with so many connections waiting that no more are taken.
fn socket_with_full_backlog() -> FullBacklog {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, millis(200)) {
        held.push(stream);
    }
    FullBacklog {
        address,
        _held: held,
        _listener: listener,
    }
}
