//! Rows 40 to 44 and 46 to 48 once more: what is measured while signing in goes wrong, and what
//! callers of a whole stack see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use cache_core::{CacheError, ErrorKind};
use cache_monitor::names;
use cache_redis::{Credentials, CredentialsProvider, RedisOptions};
use cache_testkit::proxy::{Direction, End, Fault, FaultProxy};
use cache_testkit::servers::{Certificate, Certificates, RedisServer};
use tokio::task::JoinSet;

use crate::metrics_a::{Measured, Measurements, PATIENT};
use crate::support::{Bench, CONNECT, SLACK, error_within, fetch, patient, put, read, timed};

const AUTH: &[(&str, &str)] = &[("backend", "redis"), ("outcome", "auth")];
const TLS: &[(&str, &str)] = &[("backend", "redis"), ("outcome", "tls")];
const MISCONFIGURED: &[(&str, &str)] = &[("to", "open"), ("reason", "config")];

/// The URL of the proxy, signed in as `user`, such as `:password@`.
fn url(bench: &Bench, user: &str) -> String {
    format!("redis://{user}{}", bench.proxy.address())
}

/// Reads until it was refused, and finds that the breaker asks no more after that.
async fn is_refused_once(measured: &Measured, labels: &[(&str, &str)]) {
    let reading = read(measured.storage(), "k");
    let error = error_within(ErrorKind::Configuration, CONNECT, reading).await;
    assert!(!error.is_transient(), "somebody has to do something");
    assert_eq!(measured.count(names::OPS_TOTAL, labels), 1);
    let opened = measured.count(names::BREAKER_TRANSITIONS_TOTAL, MISCONFIGURED);
    assert_eq!(opened, 1, "one refusal is enough");
    for _ in 0..20 {
        let (reading, took) = timed(read(measured.storage(), "k")).await;
        assert!(reading.is_err() && took < SLACK, "{took:?}");
    }
    assert_eq!(measured.count(names::OPS_TOTAL, labels), 1, "asked no more");
    assert_eq!(measured.count(names::BREAKER_REJECTED_TOTAL, &[]), 20);
}

/// A stack that was given a wrong password says so when it is warmed up. Otherwise the first call
/// is refused, and the server is left alone for seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_40_a_wrong_password_is_measured_and_not_tried_again_at_once() {
    let bench = Bench::with(guarded(), patient).await;
    let measured = Measured::redis(&url(&bench, ":hunter2@"), PATIENT);
    is_refused_once(&measured, AUTH).await;

    let eager = Measured::redis(&url(&bench, ":hunter2@"), &[]);
    let warming = eager.stack.warm_up();
    let error = error_within(ErrorKind::Configuration, CONNECT, warming).await;
    assert_eq!(error.code(), "auth");
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
}

/// With a fallback, callers see nothing of a wrong password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_40_a_fallback_stands_in_for_a_wrong_password() {
    let bench = Bench::with(guarded(), patient).await;
    let fallback = [("CACHE_FALLBACK", "memory")];
    let measured = Measured::redis(&url(&bench, ":hunter2@"), &fallback);
    for _ in 0..3 {
        put(measured.storage(), "k", "v").await.unwrap();
        let value = fetch(measured.storage(), "k").await.unwrap();
        assert_eq!(value.as_deref(), Some("v"));
    }
    let refused = measured.count(names::OPS_TOTAL, AUTH);
    assert!((1..=2).contains(&refused), "once a lane, not {refused}");
    assert_eq!(measured.count(names::FALLBACK_TOTAL, &[]), 6);
}

fn guarded() -> cache_testkit::servers::RedisServerBuilder {
    RedisServer::builder().args(["--requirepass", "hunter1"])
}

/// Gives one password, and another one from the moment that one was refused.
#[derive(Debug, Clone, Default)]
struct Rotating {
    asked: Arc<AtomicU32>,
    is_rotated: Arc<AtomicBool>,
}

#[async_trait]
impl CredentialsProvider for Rotating {
    async fn credentials(&self, refused: Option<&Credentials>) -> Result<Credentials, CacheError> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        if refused.is_some() {
            self.is_rotated.store(true, Ordering::Release);
        }
        let is_rotated = self.is_rotated.load(Ordering::Acquire);
        let password = if is_rotated { "hunter2" } else { "hunter1" };
        Ok(Credentials::new(password))
    }
}

async fn rotating(server_has: &str) -> (Bench, Rotating, Measurements) {
    let (observers, measured) = Measurements::observers();
    let provider = Rotating::default();
    let own = provider.clone();
    let options = |options: RedisOptions| {
        let options = options.with_credentials(own).with_observers(observers);
        patient(options)
    };
    let server = RedisServer::builder().args(["--requirepass", server_has]);
    let bench = Bench::with(server, options).await;
    (bench, provider, measured)
}

/// A password that was rotated costs one more question to whoever gives it, and no caller an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_41_a_rotated_password_is_measured() {
    let (bench, _, measured) = rotating("hunter1").await;
    bench.given("k").await;
    assert_eq!(measured.count(names::AUTH_REFRESH_TOTAL, &[]), 0);
    let rotate = ["CONFIG", "SET", "requirepass", "hunter2"];
    bench.server.command(&rotate).unwrap();
    bench.proxy.reset_all();
    assert!(read(&*bench.storage, "k").await.unwrap());
    let refreshed = [("backend", "redis"), ("result", "ok")];
    assert_eq!(measured.count(names::AUTH_REFRESH_TOTAL, &refreshed), 1);
    assert_eq!(measured.count(names::AUTH_REFRESH_TOTAL, &[]), 1);
}

/// A user that was deleted is a configuration error, after which the server is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_deleted_user_is_measured() {
    let bench = Bench::with(RedisServer::builder(), patient).await;
    let user = ["ACL", "SETUSER", "app", "on", ">hunter1", "~*", "+@all"];
    bench.server.command(&user).unwrap();
    let measured = Measured::redis(&url(&bench, "app:hunter1@"), PATIENT);
    assert!(!read(measured.storage(), "k").await.unwrap());
    bench.server.command(&["ACL", "DELUSER", "app"]).unwrap();
    is_refused_once(&measured, AUTH).await;
}

/// Whoever was let in stays in when a password is demanded; a new connection is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_43_a_password_demanded_is_measured() {
    let bench = Bench::patient().await;
    let measured = Measured::redis(&url(&bench, ""), PATIENT);
    assert!(!read(measured.storage(), "k").await.unwrap());
    let demand = ["CONFIG", "SET", "requirepass", "hunter1"];
    bench.server.command(&demand).unwrap();
    assert!(!read(measured.storage(), "k").await.unwrap(), "it is in");
    assert_eq!(measured.count(names::OPS_TOTAL, AUTH), 0);
    bench.proxy.reset_all();
    is_refused_once(&measured, AUTH).await;
}

/// Tokens are asked for by each dial. One that expired before it was used is replaced once, and
/// the call that met it succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_44_a_token_that_expired_before_the_dial() {
    let (bench, provider, measured) = rotating("hunter2").await;
    assert!(!read(&*bench.storage, "k").await.unwrap());
    assert_eq!(provider.asked.load(Ordering::Acquire), 2, "a fresh one");
    let refreshed = [("backend", "redis"), ("result", "ok")];
    assert_eq!(measured.count(names::AUTH_REFRESH_TOTAL, &refreshed), 1);
    bench.proxy.reset_all();
    assert!(!read(&*bench.storage, "k").await.unwrap());
    assert_eq!(provider.asked.load(Ordering::Acquire), 3, "once a dial");
    assert_eq!(measured.count(names::AUTH_REFRESH_TOTAL, &[]), 1);
}

fn trusting(server: &RedisServer, authority: &Certificates, port: u16) -> Measured {
    let roots = authority.write_authority_to(server.directory());
    let roots = roots.expect("the directory can be written");
    let roots = roots.to_str().expect("the path is text");
    let more = [&[("CACHE_REDIS_TLS_ROOTS_FILE", roots)], PATIENT].concat();
    Measured::redis(&format!("rediss://127.0.0.1:{port}"), &more)
}

/// A certificate that is expired, of another host or of a stranger is a configuration error, after
/// which the server is left alone. Nothing is ever sent in plain text instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_46_certificates_that_are_no_good() {
    let authority = Certificates::new().unwrap();
    let stranger = Certificates::new().unwrap();
    let bad: [(&Certificates, Certificate); 3] = [
        (&authority, authority.issue_expired(&["127.0.0.1"]).unwrap()),
        (&authority, authority.issue(&["other.example"]).unwrap()),
        (&stranger, authority.issue(&["127.0.0.1"]).unwrap()),
    ];
    for (trusted, certificate) in &bad {
        let server = RedisServer::builder().tls_as(&authority, certificate);
        let server = server.start().unwrap();
        let measured = trusting(&server, trusted, server.tls_port().unwrap());
        is_refused_once(&measured, TLS).await;
        let seen = server.command(&["INFO", "commandstats"]).unwrap();
        assert!(!seen.contains("cmdstat_get:"), "never in plain text");
    }
}

/// A handshake that stalls costs what a connection may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_47_a_stalled_tls_handshake_is_measured() {
    let authority = Certificates::new().unwrap();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let target = ([127, 0, 0, 1], server.tls_port().unwrap()).into();
    let proxy = FaultProxy::start(target).await.unwrap();
    let roots = authority.write_authority_to(server.directory()).unwrap();
    let more = [
        ("CACHE_REDIS_TLS_ROOTS_FILE", roots.to_str().unwrap()),
        ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
        ("CACHE_REDIS_TIMEOUT", "10s"),
    ];
    let measured = Measured::redis(&format!("rediss://{}", proxy.address()), &more);
    proxy.set(Fault::CutEach(Direction::Down, 0, End::Hang));
    let (writing, took) = timed(put(measured.storage(), "k", "v")).await;
    let error = writing.unwrap_err();
    assert!(!error.may_have_happened(), "it was never sent: {error}");
    assert!(took < CONNECT + SLACK, "it took {took:?}");
    let stalled = [("backend", "redis"), ("phase", "tls")];
    assert_eq!(measured.count(names::TIMEOUTS_TOTAL, &stalled), 1);
}

/// When everybody has to connect again, each process makes a connection or two, whatever the
/// number of its callers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_48_connecting_again_is_measured() {
    const STACKS: u64 = 20;
    let bench = Bench::patient().await;
    let url = url(&bench, "");
    let stacks: Vec<_> = (0..STACKS)
        .map(|_| Measured::redis(&url, PATIENT))
        .collect();
    for measured in &stacks {
        assert!(!read(measured.storage(), "k").await.unwrap());
    }
    bench.proxy.reset_all();
    let mut callers = JoinSet::new();
    for measured in &stacks {
        for _ in 0..50 {
            let storage = Arc::clone(measured.stack.storage());
            callers.spawn(async move { read(&*storage, "k").await });
        }
    }
    while let Some(reading) = callers.join_next().await {
        assert!(!reading.expect("no caller panics").unwrap());
    }
    for measured in &stacks {
        let opened = measured.count(names::CONN_TOTAL, &[("event", "open")]);
        assert!((2..=3).contains(&opened), "{opened} connections");
    }
    let accepted = bench.proxy.counters().accepted;
    assert!(accepted <= 3 * STACKS, "{accepted} dials");
}
