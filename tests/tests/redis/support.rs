//! What the Redis tests share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::secs;
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::RedisServer;
pub(crate) use cache_tests::entries::{back, fetch, minute, put, timed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Every call must end within its own deadline plus what a busy machine needs to notice.
pub(crate) const SLACK: Duration = Duration::from_millis(400);

pub(crate) fn server() -> RedisServer {
    RedisServer::start().expect("redis-server starts")
}

pub(crate) fn options(server: &RedisServer) -> RedisOptions {
    RedisOptions::new("127.0.0.1", server.port())
}

pub(crate) fn storage(server: &RedisServer) -> RedisCacheStorage {
    RedisCacheStorage::new(options(server)).expect("the options are sound")
}

/// For tests of what happens, not of how fast, on a machine that may be busy.
pub(crate) fn patient_storage(server: &RedisServer) -> RedisCacheStorage {
    let options = options(server)
        .with_connect_timeout(secs(2))
        .with_attempt_timeout(secs(2))
        .with_timeout(secs(5))
        .with_bulk_timeout(secs(10));
    RedisCacheStorage::new(options).expect("the options are sound")
}

/// A number from `INFO`.
pub(crate) fn info(server: &RedisServer, name: &str) -> u64 {
    let info = server.command(&["INFO"]).expect("the server answers");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .expect("INFO has the field");
    line.trim().parse().expect("the field is a number")
}

/// What a scripted server was sent, piece by piece.
pub(crate) type Requests = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that follows a script: a list of answers for each connection, one for each piece that
/// arrives. An empty answer ends the connection; after the last answer a connection stays open and
/// silent, and after the last connection nobody listens any more.
pub(crate) async fn scripted(script: &[&[&'static str]]) -> (RedisOptions, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let port = listener.local_addr().expect("the listener is bound").port();
    let script: Vec<Vec<&'static str>> = script.iter().map(|answers| answers.to_vec()).collect();
    let requests = Requests::default();
    let heard = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut listener = Some(listener);
        let mut silent = Vec::new();
        let last = script.len().saturating_sub(1);
        for (at, answers) in script.into_iter().enumerate() {
            let Some((mut stream, _)) = accept(&mut listener, at == last).await else {
                return;
            };
            let mut is_open = true;
            for answer in answers {
                let mut request = vec![0; 4096];
                let Ok(length @ 1..) = stream.read(&mut request).await else {
                    is_open = false;
                    break;
                };
                request.truncate(length);
                heard
                    .lock()
                    .expect("no test panics in between")
                    .push(request);
                if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                    is_open = false;
                    break;
                }
            }
            if is_open {
                silent.push(stream);
            }
        }
        std::future::pending::<()>().await;
    });
    let options = RedisOptions::new("127.0.0.1", port)
        .with_timeout(secs(5))
        .with_attempt_timeout(secs(2));
    (options, requests)
}

/// The next connection; with the last one the listener goes.
async fn accept(
    listener: &mut Option<TcpListener>,
    is_last: bool,
) -> Option<(tokio::net::TcpStream, std::net::SocketAddr)> {
    let accepted = listener.as_ref()?.accept().await.ok();
    if is_last {
        listener.take();
    }
    accepted
}
