//! Rows 7 to 13 and 16: the server answers, but not what was hoped for.

use std::io::Write as _;
use std::net::TcpStream;

use cache_core::{CacheStorage, ErrorKind, millis};
use cache_redis::RedisOptions;
use cache_testkit::servers::RedisServer;

use crate::support::{
    Bench, count, error_within, eventually, fetch, minute, patient, put, read, value_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_7_the_server_loads_its_data() {
    let slow_to_load = RedisServer::builder()
        .args(["--key-load-delay", "500"])
        .args(["--loading-process-events-interval-bytes", "1024"])
        .while_loading();
    let mut bench = Bench::with(slow_to_load, |options| options).await;
    bench.given("k").await;
    bench
        .server
        .command(&["DEBUG", "POPULATE", "20000", "filler"])
        .unwrap();
    bench.server.command(&["SAVE"]).unwrap();
    bench.server.restart().unwrap();
    // The connection of before is gone, and so is its storage's idea of it.
    let error = error_within(ErrorKind::Connection, millis(2), read(&*bench.storage, "k")).await;
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.code(), "loading");
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Connection, millis(2), write).await;
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    error_within(ErrorKind::Connection, millis(2), bench.storage.ping()).await;
    // Faster from here on.
    let hurry = ["CONFIG", "SET", "key-load-delay", "0"];
    eventually(async || bench.server.command(&hurry).ok()).await;
    eventually(async || read(&*bench.storage, "k").await.ok().filter(|found| *found)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_8_the_server_is_busy_with_a_script() {
    let soon_busy = RedisServer::builder().args(["--busy-reply-threshold", "20"]);
    let bench = Bench::with(soon_busy, patient).await;
    bench.given("k").await;
    let mut endless = TcpStream::connect(bench.server.address()).unwrap();
    endless
        .write_all(b"EVAL 'while true do end' 0\r\n")
        .unwrap();
    // Silent up to the threshold, and from then on it says what it does.
    eventually(async || read(&*bench.storage, "k").await.err()).await;
    for _ in 0..10 {
        let (reading, writing) = (read(&*bench.storage, "k"), put(&*bench.storage, "w", "v"));
        error_within(ErrorKind::Overloaded, millis(1), reading).await;
        let error = error_within(ErrorKind::Overloaded, millis(1), writing).await;
        assert!(!error.may_have_happened(), "the server refused it");
        assert_eq!(error.code(), "busy");
    }
    // Whoever started the script ends it: nothing here did.
    bench.server.command(&["SCRIPT", "KILL"]).unwrap();
    bench.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_9_the_server_is_full() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    bench.server.command(&full).unwrap();
    let before = bench.refusals("OOM");
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Overloaded, millis(1), write).await;
    assert!(!error.may_have_happened(), "the server refused it");
    assert_eq!(error.code(), "oom");
    assert_eq!(bench.refusals("OOM"), before + 1, "it was sent once");
    assert!(read(&*bench.storage, "k").await.unwrap());
    assert!(bench.storage.expire(&"k".into(), minute()).await.unwrap());
    assert!(bench.storage.delete(&"k".into()).await.unwrap());
    let roomy = ["CONFIG", "SET", "maxmemory", "0"];
    bench.server.command(&roomy).unwrap();
    bench.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_hot_keys_are_evicted() {
    let bench = Bench::patient().await;
    let policy = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    bench.server.command(&policy).unwrap();
    let info = bench.server.command(&["INFO", "memory"]).unwrap();
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap().trim().parse().unwrap();
    let most = (used + 512 * 1024).to_string();
    let limit = ["CONFIG", "SET", "maxmemory", &most];
    bench.server.command(&limit).unwrap();
    let mut misses = 0;
    for round in 0..200 {
        let key = format!("{:04}", round % 100);
        let large = value_of(&key).repeat(1000);
        if let Some(value) = fetch(&*bench.storage, &key).await.unwrap() {
            assert_eq!(value, large, "somebody else's value");
        } else {
            misses += 1;
        }
        put(&*bench.storage, &key, &large).await.unwrap();
        let counted = count(&*bench.storage).await.unwrap();
        assert!((1..=round + 1).contains(&counted), "{counted} in {round}");
    }
    assert!(misses > 100, "some were evicted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_11_a_replica_without_its_primary() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let honest = ["CONFIG", "SET", "replica-serve-stale-data", "no"];
    bench.server.command(&honest).unwrap();
    bench
        .server
        .command(&["REPLICAOF", "127.0.0.1", "1"])
        .unwrap();
    let error = error_within(ErrorKind::Connection, millis(2), read(&*bench.storage, "k")).await;
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.code(), "masterdown");
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Connection, millis(2), write).await;
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    bench.server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    bench.recovers().await;
    assert!(read(&*bench.storage, "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_12_too_few_replicas_to_write() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    let careful = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    bench.server.command(&careful).unwrap();
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Connection, millis(1), write).await;
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.code(), "noreplicas");
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    let error = error_within(ErrorKind::Connection, millis(1), count(&*bench.storage)).await;
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    assert!(read(&*bench.storage, "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_13_the_server_cannot_save() {
    let bench = Bench::patient().await;
    bench.given("k").await;
    std::fs::remove_dir_all(bench.server.directory()).unwrap();
    let saving = ["CONFIG", "SET", "save", "3600 1"];
    bench.server.command(&saving).unwrap();
    // The server tells whoever asks for it either at once or when its child has failed.
    let _ = bench.server.command(&["BGSAVE"]);
    eventually(async || {
        let info = bench.server.command(&["INFO", "persistence"]).ok()?;
        info.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Configuration, millis(1), write).await;
    assert!(!error.is_transient(), "somebody has to do something");
    assert_eq!(error.code(), "misconf");
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    assert!(read(&*bench.storage, "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_the_user_may_not_write() {
    let reader = |options: RedisOptions| {
        let options = options.with_username("reader").with_password("hunter2");
        patient(options)
    };
    let bench = Bench::with(RedisServer::builder(), reader).await;
    let user = ["ACL", "SETUSER", "reader", "on", ">hunter2"];
    let rights = ["~*", "+@all", "-@write"];
    let created: Vec<&str> = user.into_iter().chain(rights).collect();
    bench.server.command(&created).unwrap();
    assert!(!read(&*bench.storage, "k").await.unwrap());
    let before = bench.refusals("NOPERM");
    let write = put(&*bench.storage, "w", "v");
    let error = error_within(ErrorKind::Configuration, millis(1), write).await;
    assert!(!error.is_transient(), "somebody has to do something");
    assert_eq!(error.code(), "noperm");
    assert!(!error.may_have_happened(), "the server refused it: {error}");
    assert!(!format!("{error} {error:?}").contains("hunter"));
    assert_eq!(bench.refusals("NOPERM"), before + 1, "it was sent once");
    assert!(!read(&*bench.storage, "k").await.unwrap());
    assert_eq!(bench.proxy.counters().accepted, 1, "the connection is fine");
}
