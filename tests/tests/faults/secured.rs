//! Rows 40 to 43, 45, 47 and 48: signing in goes wrong, or has to be done again by everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use cache_core::{CacheError, ErrorKind, secs};
use cache_redis::{Credentials, CredentialsProvider, RedisCacheStorage, RedisOptions, TlsOptions};
use cache_testkit::proxy::{Direction, End, Fault, FaultProxy};
use cache_testkit::servers::{Certificates, RedisServer, RedisServerBuilder};
use tokio::task::JoinSet;

use crate::support::{
    Bench, CONNECT, SLACK, count, error_within, fetch, patient, put, read, timed,
};

fn guarded() -> RedisServerBuilder {
    RedisServer::builder().args(["--requirepass", "hunter1"])
}

fn assert_tells_no_secret(error: &CacheError, bench: &Bench) {
    let text = format!("{error} {error:?} {:?}", bench.storage);
    assert!(!text.contains("hunter"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_40_a_wrong_password_from_the_start() {
    let wrong = |options: RedisOptions| options.with_password("hunter2");
    let bench = Bench::with(guarded(), wrong).await;
    for _ in 0..3 {
        let reading = read(&*bench.storage, "k");
        let error = error_within(ErrorKind::Configuration, CONNECT, reading).await;
        assert!(!error.is_transient(), "somebody has to do something");
        assert_eq!(error.code(), "auth");
        assert_tells_no_secret(&error, &bench);
    }
    let error = error_within(ErrorKind::Configuration, CONNECT, count(&*bench.storage)).await;
    assert!(!error.may_have_happened(), "it was never sent");
    bench.tells(&["AuthRefresh", "same"]).await;
    bench.tells(&["Connection", "dial_fail", "auth"]).await;
}

/// Gives a password, and another one once that was refused.
#[derive(Debug, Default)]
struct Rotating {
    refused: Arc<AtomicU32>,
}

#[async_trait]
impl CredentialsProvider for Rotating {
    async fn credentials(&self, refused: Option<&Credentials>) -> Result<Credentials, CacheError> {
        if refused.is_some() {
            self.refused.fetch_add(1, Ordering::AcqRel);
        }
        let is_rotated = self.refused.load(Ordering::Acquire) > 0;
        let password = if is_rotated { "hunter2" } else { "hunter1" };
        Ok(Credentials::new(password))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_41_a_password_rotated_under_a_connection() {
    let provider = Rotating::default();
    let refused = Arc::clone(&provider.refused);
    let rotating = |options: RedisOptions| {
        let options = options.with_username("app").with_credentials(provider);
        patient(options)
    };
    let bench = Bench::with(RedisServer::builder(), rotating).await;
    let user = |password| {
        [
            "ACL", "SETUSER", "app", "reset", "on", password, "~*", "+@all",
        ]
    };
    bench.server.command(&user(">hunter1")).unwrap();
    bench.given("k").await;
    // Without `reset`, which would end the connections of the user.
    let rotate = ["ACL", "SETUSER", "app", "resetpass", ">hunter2"];
    bench.server.command(&rotate).unwrap();
    assert!(read(&*bench.storage, "k").await.unwrap());
    assert_eq!(refused.load(Ordering::Acquire), 0, "live connections go on");
    bench.proxy.reset_all();
    assert!(read(&*bench.storage, "k").await.unwrap());
    assert_eq!(
        refused.load(Ordering::Acquire),
        1,
        "asked once for a new one"
    );
    bench.tells(&["AuthRefresh", "ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_the_user_is_deleted() {
    let app = |options: RedisOptions| {
        let options = options.with_username("app").with_password("hunter1");
        patient(options)
    };
    let bench = Bench::with(RedisServer::builder(), app).await;
    let user = ["ACL", "SETUSER", "app", "on", ">hunter1", "~*", "+@all"];
    bench.server.command(&user).unwrap();
    bench.given("k").await;
    bench.server.command(&["ACL", "DELUSER", "app"]).unwrap();
    let reading = read(&*bench.storage, "k");
    let error = error_within(ErrorKind::Configuration, CONNECT, reading).await;
    assert_tells_no_secret(&error, &bench);
    bench.server.command(&user).unwrap();
    assert!(read(&*bench.storage, "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_43_a_password_is_demanded_from_now_on() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let demand = ["CONFIG", "SET", "requirepass", "hunter1"];
    bench.server.command(&demand).unwrap();
    assert!(read(&*bench.storage, "k").await.unwrap(), "it was let in");
    bench.proxy.reset_all();
    let reading = read(&*bench.storage, "k");
    let error = error_within(ErrorKind::Configuration, CONNECT, reading).await;
    assert!(!error.is_transient(), "somebody has to do something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_45_the_answer_to_signing_in_is_lost() {
    let right = |options: RedisOptions| options.with_password("hunter1");
    let bench = Bench::with(guarded(), right).await;
    bench.proxy.set(Fault::Blackhole(Direction::Down));
    error_within(ErrorKind::Timeout, CONNECT, read(&*bench.storage, "k")).await;
    let error = error_within(ErrorKind::Timeout, CONNECT, count(&*bench.storage)).await;
    assert!(!error.may_have_happened(), "it was never sent");
    let seen = bench.server.command(&["INFO", "commandstats"]).unwrap();
    assert!(seen.contains("cmdstat_auth"), "the server was asked");
    for command in ["cmdstat_get:", "cmdstat_incrby:"] {
        assert!(!seen.contains(command), "sent before the answer: {seen}");
    }
    bench.proxy.reset_all();
    bench.proxy.set(Fault::Pass);
    bench.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_47_the_tls_handshake_stalls_or_is_garbage() {
    let authority = Certificates::new().expect("the system has randomness");
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let port = server.tls_port().unwrap();
    let proxy = FaultProxy::start(([127, 0, 0, 1], port).into())
        .await
        .unwrap();
    let trusting = TlsOptions::new().with_roots_pem(authority.authority_pem());
    let options = RedisOptions::new("127.0.0.1", proxy.address().port()).with_tls(trusting);
    let storage = RedisCacheStorage::new(options.clone()).unwrap();
    // Not a timeout: most often it is a server that does not speak TLS.
    for bytes in [0, 100] {
        proxy.set(Fault::CutEach(Direction::Down, bytes, End::Hang));
        let write = put(&storage, "k", "v");
        let error = error_within(ErrorKind::Connection, CONNECT, write).await;
        assert!(!error.may_have_happened(), "it was never sent");
    }
    proxy.reset_all();
    proxy.set(Fault::TlsGarbage);
    let (reading, took) = timed(fetch(&storage, "k")).await;
    let kind = reading.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::Connection | ErrorKind::Configuration),
        "{kind}"
    );
    assert!(took < CONNECT + SLACK, "it took {took:?}");
    let seen = server.command(&["INFO", "commandstats"]).unwrap();
    assert!(!seen.contains("cmdstat_get:"), "never in plain text");
    proxy.set(Fault::Pass);
    let storage = RedisCacheStorage::new(patient(options)).unwrap();
    put(&storage, "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_48_everybody_has_to_connect_again() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    for _ in 0..10 {
        let before = bench.proxy.counters().accepted;
        bench.proxy.reset_all();
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let storage = Arc::clone(&bench.storage);
            callers.spawn(async move { read(&*storage, "k").await });
        }
        while let Some(reading) = callers.join_next().await {
            assert!(reading.expect("no caller panics").unwrap());
        }
        let dialed = bench.proxy.counters().accepted - before;
        assert!(dialed <= 2, "one serves them all, not {dialed}");
    }
    let waited = tokio::time::timeout(secs(5), bench.proxy.wait_until_open(1)).await;
    waited.expect("the others are closed");
}
