//! What stands in the server, for those who look at it with other tools.

use cache_testkit::servers::RedisServer;

use crate::support::{fetch, minute, put, server, storage};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use cache_core::{
    CacheKey, CacheService, CacheStorage, Codec, Condition, ErrorKind, Expiry, NewEntry, TimeLeft,
    Ttl, hours, mins, secs, wire,
};

fn pttl(server: &RedisServer, key: &str) -> i64 {
    let ttl = server.command(&["PTTL", key]).expect("the server answers");
    ttl.parse().expect("PTTL is a number")
}

#[tokio::test]
async fn json_is_readable_at_a_console() {
    let server = server();
    let cache = CacheService::builder(storage(&server))
        .prefix("session")
        .ttl(mins(1));
    let cache = cache.build().unwrap();
    cache.set("42", &("alice", 7)).await.unwrap();
    assert_eq!(
        server.command(&["GET", "session:42"]).unwrap(),
        r#"["alice",7]"#
    );
    let ttl = pttl(&server, "session:42");
    assert!((55_000..=60_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn what_others_write_is_read() {
    let server = server();
    let cache = CacheService::builder(storage(&server)).build().unwrap();
    server.command(&["SET", "k", r#"{"a": 1}"#]).unwrap();
    let value: std::collections::HashMap<String, i32> = cache.get("k").await.unwrap().unwrap();
    assert_eq!(value["a"], 1);
    assert_eq!(cache.get_ttl("k").await.unwrap(), TimeLeft::Forever);
    server.command(&["SET", "n", "41"]).unwrap();
    assert_eq!(cache.increment("n", 1, mins(1)).await.unwrap().value, 42);
}

#[tokio::test]
async fn counters_are_decimal_text_with_an_expiry_from_the_first_moment() {
    let server = server();
    let storage = storage(&server);
    let key = CacheKey::from("n");
    storage
        .increment(&key, 9_007_199_254_740_993, minute())
        .await
        .unwrap();
    assert_eq!(server.command(&["GET", "n"]).unwrap(), "9007199254740993");
    assert!(pttl(&server, "n") > 0);
    storage
        .increment(&key, -1, Ttl::new(hours(1)).unwrap())
        .await
        .unwrap();
    assert!(
        pttl(&server, "n") <= 60_000,
        "an existing counter keeps its expiry"
    );
}

#[tokio::test]
async fn the_server_keeps_stale_budgets_and_no_longer() {
    let server = server();
    let storage = storage(&server);
    let entry = NewEntry::new("v", minute())
        .with_stale_for(mins(5))
        .unwrap();
    storage
        .set(&"k".into(), entry, Condition::Always)
        .await
        .unwrap();
    let ttl = pttl(&server, "k");
    assert!((350_000..=360_000).contains(&ttl), "{ttl}");
    assert!(
        storage
            .expire(&"k".into(), Ttl::new(hours(1)).unwrap())
            .await
            .unwrap()
    );
    let ttl = pttl(&server, "k");
    assert!(
        (3_890_000..=3_900_000).contains(&ttl),
        "header and server move together: {ttl}"
    );
    let entry = storage.get(&"k".into()).await.unwrap().unwrap();
    let (Expiry::At(fresh), Expiry::At(kept)) = (entry.expires_at, entry.stale_until) else {
        panic!("the entry expires");
    };
    assert_eq!(kept.since(fresh), mins(5));
    assert!(storage.expire(&"k".into(), Ttl::FOREVER).await.unwrap());
    assert_eq!(pttl(&server, "k"), -1);
    assert!(storage.expire(&"k".into(), minute()).await.unwrap());
    assert!((1..=60_000).contains(&pttl(&server, "k")));
}

#[tokio::test]
async fn a_counter_starts_over_a_stale_entry() {
    let server = server();
    let storage = storage(&server);
    let key = CacheKey::from("k");
    let entry = NewEntry::new("7", minute())
        .with_stale_for(mins(5))
        .unwrap();
    storage.set(&key, entry, Condition::Always).await.unwrap();
    let error = storage.increment(&key, 1, minute()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotACounter,
        "fresh with a stale budget"
    );
    assert!(storage.expire_now(&key).await.unwrap());
    assert_eq!(storage.increment(&key, 1, minute()).await.unwrap().value, 1);
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "1");
}

#[tokio::test]
async fn entries_of_a_newer_format_and_damaged_ones_are_left_alone() {
    let server = server();
    let storage = Arc::new(storage(&server));
    let key = CacheKey::from("k");
    let newer: &[u8] = b"\xFF\xCA\x02\x08from the future";
    let damaged: &[u8] = b"\xFF\xCA\x01\x1E\x09";
    for stored in [newer, damaged] {
        // Written raw, below the storage.
        raw_set(&server, "k", stored);
        let read = storage.get(&key).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Serialization);
        let many = storage.get_many(&[key.clone(), "other".into()]).await;
        assert!(
            many[0].is_err() && many[1].is_ok(),
            "one key's failure is not another's"
        );
        assert!(storage.has(&key).await.is_err());
        assert!(storage.get_ttl(&key).await.is_err());
        assert!(storage.expire(&key, minute()).await.is_err());
        assert!(storage.expire_now(&key).await.is_err());
        let entry = || NewEntry::new("v", minute());
        assert!(
            !storage
                .set(&key, entry(), Condition::IfAbsent)
                .await
                .unwrap()
        );
        let counted = storage.increment(&key, 1, minute()).await;
        assert_eq!(counted.unwrap_err().kind(), ErrorKind::NotACounter);
        assert_eq!(raw_get(&server, "k"), stored, "nothing has changed");
        let cache = CacheService::builder(Arc::clone(&storage))
            .on_trouble(cache_core::OnTrouble::Miss)
            .ttl(secs(60))
            .build()
            .unwrap();
        assert_eq!(cache.get::<String>("k").await.unwrap(), None);
        assert!(
            storage.delete(&key).await.unwrap(),
            "a delete is always possible"
        );
    }
}

#[tokio::test]
async fn headers_are_what_the_format_says() {
    let server = server();
    let cache = CacheService::builder(storage(&server))
        .codec(Codec::Postcard)
        .ttl(mins(1));
    cache.build().unwrap().set("k", "alice").await.unwrap();
    let stored = raw_get(&server, "k");
    assert_eq!(&stored[..6], b"\xFF\xCA\x01\x1E\x02\x00");
    assert_eq!(&stored[wire::HEADER_BYTES..], b"\x05alice");
    let entry = wire::decode(Bytes::from(stored)).unwrap();
    assert!(matches!(entry.expires_at, Expiry::At(_)));
}

#[tokio::test]
async fn clear_escapes_what_the_server_would_match() {
    let server = server();
    let storage = storage(&server);
    for key in [
        "u*r:1", "user:1", "u[s]r:1", "u?er:1", r"u\*r:1", "u^r:1", "u-r:1",
    ] {
        put(&storage, key, "v").await.unwrap();
    }
    let scope = cache_core::ClearScope::prefix("u*r").unwrap();
    let cleared = storage.clear(&scope).await.unwrap();
    assert_eq!((cleared.deleted, cleared.complete), (1, true));
    assert_eq!(
        fetch(&storage, "user:1").await.unwrap().as_deref(),
        Some("v")
    );
    for prefix in ["u[s]r", "u?er", r"u\*r", "u^r", "u-r"] {
        let scope = cache_core::ClearScope::prefix(prefix).unwrap();
        assert_eq!(storage.clear(&scope).await.unwrap().deleted, 1, "{prefix}");
    }
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), "1");
}

/// Bytes that are no UTF-8, below the storage: the testkit's console speaks text only.
fn raw_set(server: &RedisServer, key: &str, value: &[u8]) {
    let request = format!(
        "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
        key.len(),
        value.len()
    );
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    assert_eq!(exchange(server, &bytes), b"+OK\r\n");
}

fn raw_get(server: &RedisServer, key: &str) -> Vec<u8> {
    let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    let reply = exchange(server, request.as_bytes());
    let head = reply.windows(2).position(|pair| pair == b"\r\n");
    let head = head.expect("a bulk reply has a first line") + 2;
    reply[head..reply.len() - 2].to_vec()
}

/// One small request on a connection of its own, and everything the server says to it.
fn exchange(server: &RedisServer, request: &[u8]) -> Vec<u8> {
    let exchanged = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server.address())?;
        stream.write_all(request)?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    };
    exchanged().expect("the server answers")
}
