//! What these tests share.

use std::time::Duration;

use cache_core::{CacheError, ErrorKind, secs};
use cache_redis::{RedisCacheStorage, RedisOptions, TlsOptions};
use cache_testkit::servers::{Certificates, RedisServer};
use cache_tests::entries::{fetch, timed};

/// The whole budget of a single-key operation, and what a busy machine needs to notice.
pub(crate) const DEADLINE: Duration = Duration::from_millis(900);

pub(crate) fn certificates() -> Certificates {
    Certificates::new().expect("the system has randomness")
}

/// TLS that trusts `authority` alone.
pub(crate) fn trusting(authority: &Certificates) -> TlsOptions {
    TlsOptions::new().with_roots_pem(authority.authority_pem())
}

/// The TLS port of a server.
pub(crate) fn tls_options(server: &RedisServer) -> RedisOptions {
    RedisOptions::new(
        "127.0.0.1",
        server.tls_port().expect("the server speaks TLS"),
    )
}

/// A server with the ACL user `app`.
pub(crate) fn server_with_app(password: &str) -> RedisServer {
    let server = RedisServer::start().expect("redis-server starts");
    set_password(&server, password);
    server
}

pub(crate) fn set_password(server: &RedisServer, password: &str) {
    let password = format!(">{password}");
    let user = [
        "ACL", "SETUSER", "app", "reset", "on", &password, "~*", "&*", "+@all",
    ];
    let reply = server.command(&user).expect("the server answers");
    assert_eq!(reply, "OK");
}

/// Ends all connections.
pub(crate) fn hang_up(server: &RedisServer) {
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal"])
        .expect("the server answers");
}

/// The server as `app` reaches it, so far without a password.
pub(crate) fn app(server: &RedisServer) -> RedisOptions {
    RedisOptions::new("127.0.0.1", server.port()).with_username("app")
}

pub(crate) fn storage(options: RedisOptions) -> RedisCacheStorage {
    RedisCacheStorage::new(options).expect("the options are sound")
}

/// For tests of what happens, not of how fast, on a machine that may be busy.
pub(crate) fn patient(options: RedisOptions) -> RedisCacheStorage {
    let options = options
        .with_connect_timeout(secs(3))
        .with_attempt_timeout(secs(3))
        .with_timeout(secs(8));
    storage(options)
}

/// The error of a read that must fail with `kind`, within its deadline.
pub(crate) async fn refusal(options: RedisOptions, kind: ErrorKind) -> CacheError {
    let (read, took) = timed(fetch(&storage(options), "k")).await;
    let error = read.expect_err("the read fails");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(took < DEADLINE, "{took:?}");
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    error
}

/// How many connections a server has accepted so far, that which asks included.
pub(crate) fn connections(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "stats"]);
    let stats = stats.expect("the server answers");
    let mut lines = stats.lines();
    let count = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.expect("the server counts its connections")
}
