//! Rows 4, 18 to 20 and 24: names that lead nowhere, elsewhere, or to several addresses, and
//! connections that nobody accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cache_core::{CacheError, ErrorKind, Observers, millis};
use cache_monitor::MetricsObserver;
use cache_redis::{RedisCacheStorage, RedisOptions, Resolver};
use cache_testkit::servers::RedisServer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::stacked::Meter;
use crate::support::{CONNECT, SLACK, error_within, eventually, fetch, put, timed};

/// Answers what it was told last; nothing is a name that nobody knows.
#[derive(Debug, Clone, Default)]
struct Book(Arc<Mutex<Vec<SocketAddr>>>);

impl Book {
    fn says(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }
}

#[async_trait]
impl Resolver for Book {
    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if addresses.is_empty() {
            return Err(io::Error::other("no such name"));
        }
        Ok(addresses)
    }
}

/// A storage that looks its server up in a book.
fn named(book: &Book) -> (RedisCacheStorage, Meter) {
    let (metrics, meter) = Meter::new();
    let options = RedisOptions::new("cache.test", 6379)
        .with_resolver(book.clone())
        .with_observers(Observers::new(MetricsObserver::new(metrics)));
    let storage = RedisCacheStorage::new(options).expect("the options are sound");
    (storage, meter)
}

fn address(server: &RedisServer) -> SocketAddr {
    server.address().parse().expect("the address is one")
}

fn dials(meter: &Meter, event: &str, reason: &str) -> u64 {
    let labels = [("backend", "redis"), ("event", event), ("reason", reason)];
    meter.count("cache_conn_total", &labels)
}

async fn hang_up(server: &RedisServer, meter: &Meter) {
    let closed = || meter.count("cache_conn_total", &[("event", "close")]);
    let before = closed();
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal"])
        .expect("the server answers");
    eventually(async || (closed() > before).then_some(())).await;
}

/// An address at which the system drops whatever asks for a connection.
async fn dead() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("there is one");
    let any = "127.0.0.1:0".parse().expect("it is an address");
    socket.bind(any).expect("a port is free");
    let listener = socket.listen(1).expect("it is bound");
    let address = listener.local_addr().expect("it is bound");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(millis(100), TcpStream::connect(address)).await {
        waiting.push(connected.expect("somebody listens"));
    }
    (listener, waiting, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_18_a_name_that_is_no_longer_known_leads_where_it_led() {
    let server = RedisServer::start().unwrap();
    let book = Book::default();
    let (storage, meter) = named(&book);
    let unknown = error_within(ErrorKind::Connection, CONNECT, fetch(&storage, "k"));
    assert!(unknown.await.is_transient());
    assert!(dials(&meter, "dial_fail", "dns") > 0);
    book.says(&[address(&server)]);
    eventually(async || put(&storage, "k", "v").await.ok()).await;
    let before = dials(&meter, "dial_fail", "dns");
    book.says(&[]);
    hang_up(&server, &meter).await;
    assert_eq!(fetch(&storage, "k").await.unwrap().unwrap(), "v");
    assert!(dials(&meter, "dial_fail", "dns") > before, "it was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_19_a_name_that_leads_elsewhere_is_followed_at_the_next_connection() {
    let [old, new] = [0; 2].map(|_| RedisServer::start().unwrap());
    let book = Book::default();
    book.says(&[address(&old)]);
    let (storage, meter) = named(&book);
    eventually(async || put(&storage, "k", "old").await.ok()).await;
    book.says(&[address(&new)]);
    hang_up(&old, &meter).await;
    eventually(async || put(&storage, "k", "new").await.ok()).await;
    assert_eq!(new.command(&["GET", "k"]).unwrap(), "new");
    assert_eq!(old.command(&["GET", "k"]).unwrap(), "old");
    assert_eq!(meter.count("cache_conn_total", &[("event", "open")]), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_20_a_dead_address_does_not_hold_up_a_live_one() {
    let server = RedisServer::start().unwrap();
    let (_listener, _waiting, dead) = dead().await;
    let book = Book::default();
    book.says(&[dead, address(&server)]);
    let (storage, meter) = named(&book);
    let connected = async { eventually(async || put(&storage, "k", "v").await.ok()).await };
    let (_, took) = timed(connected).await;
    assert!(took < CONNECT + SLACK, "it took {took:?}");
    assert!(meter.count("cache_conn_total", &[("event", "open")]) > 0);
    assert_eq!(
        meter.count("cache_conn_total", &[("event", "dial_fail")]),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_connections_that_nobody_accepts_are_measured() {
    nobody_accepts().await;
}

/// A full backlog looks from here like a network that loses what asks for a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_4_a_full_backlog_is_measured() {
    nobody_accepts().await;
}

async fn nobody_accepts() {
    let (_listener, _waiting, dead) = dead().await;
    let book = Book::default();
    book.says(&[dead]);
    let (storage, meter) = named(&book);
    let reading: Result<_, CacheError> = fetch(&storage, "k").await;
    let error = reading.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let phase = [("backend", "redis"), ("phase", "connect")];
    eventually(async || (meter.count("cache_timeouts_total", &phase) > 0).then_some(())).await;
    eventually(async || (dials(&meter, "dial_fail", "timeout") > 0).then_some(())).await;
}
