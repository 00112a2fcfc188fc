//! What the rows about data and keys leave in the metrics.

use cache_core::{CacheKey, Condition, ErrorKind, NewEntry, OnTrouble, mins};
use cache_monitor::names;
use cache_testkit::servers::RedisServer;

use crate::metrics_b::Measured;
use crate::support::{fetch, minute, put};

/// Bytes that are no entry are counted by what is wrong with them, and the misses that they are
/// read as by their reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_62_somebody_elses_bytes_are_measured() {
    let server = RedisServer::start().unwrap();
    let measured = Measured::redis(server.port());
    let service = |on_trouble| {
        let builder = measured.stack.service("geo").ttl(mins(1));
        builder.on_trouble(on_trouble).build().unwrap()
    };
    let (strict, lenient) = (service(OnTrouble::Error), service(OnTrouble::Miss));
    server.command(&["SET", "geo:k", "not json"]).unwrap();
    let error = strict.get::<String>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
    assert_eq!(lenient.get::<String>("k").await.unwrap(), None);
    let undecodable = [("reason", "codec")];
    assert_eq!(measured.count(names::DECODE_ERRORS_TOTAL, &undecodable), 2);
    let degraded = [("reason", "serialization")];
    assert_eq!(measured.count(names::DEGRADED_TOTAL, &degraded), 1);
}

/// A list where an entry should be has an outcome of its own, for reads and for counters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_63_a_list_where_an_entry_should_be_is_measured() {
    let server = RedisServer::start().unwrap();
    let measured = Measured::redis(server.port());
    server.command(&["RPUSH", "k", "a"]).unwrap();
    let error = fetch(measured.storage(), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
    let key = CacheKey::from("k");
    let counting = measured.storage().increment(&key, 1, minute());
    let error = counting.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotACounter, "{error}");
    for (operation, outcome) in [("get", "wrongtype"), ("increment", "not_a_counter")] {
        let labels = [("op", operation), ("outcome", outcome)];
        assert_eq!(measured.count(names::OPS_TOTAL, &labels), 1, "{operation}");
    }
    let foreign = [("reason", "type")];
    assert_eq!(measured.count(names::DECODE_ERRORS_TOTAL, &foreign), 1);
    assert!(put(measured.storage(), "k", "v").await.unwrap());
    let written = [("op", "set"), ("outcome", "ok")];
    assert_eq!(measured.count(names::OPS_TOTAL, &written), 1);
}

/// An empty key is refused alike by a storage and by a service, and each refusal counts once.
#[tokio::test]
async fn row_65_an_empty_key_is_measured() {
    let measured = Measured::memory();
    put(measured.storage(), "k", "").await.unwrap();
    let error = put(measured.storage(), "", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    assert_eq!(measured.count(names::INVALID_KEY_TOTAL, &[]), 1);
    let service = measured.stack.service("geo").ttl(mins(1)).build().unwrap();
    let error = service.set("", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    assert_eq!(measured.count(names::INVALID_KEY_TOTAL, &[]), 2);
}

/// Keys that no storage takes are refused before any I/O, and each of a batch counts.
#[tokio::test]
async fn row_66_keys_that_a_server_could_misread_are_measured() {
    // Nobody listens there, so that a key which was sent would be another error.
    let measured = Measured::redis(1);
    let bad = ["a\nb", "a\0b", "a\r\nb", &"k".repeat(1025)];
    for key in bad {
        let entry = NewEntry::new("v", minute());
        let key = CacheKey::from(key);
        let setting = measured.storage().set(&key, entry, Condition::Always);
        assert_eq!(setting.await.unwrap_err().kind(), ErrorKind::Key);
    }
    assert_eq!(measured.count(names::INVALID_KEY_TOTAL, &[]), 4);
    let refused = [("op", "set"), ("outcome", "key")];
    assert_eq!(measured.count(names::OPS_TOTAL, &refused), 4);
    let keys = bad.map(CacheKey::from);
    for read in measured.storage().get_many(&keys).await {
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Key);
    }
    assert_eq!(measured.count(names::INVALID_KEY_TOTAL, &[]), 8);
}
