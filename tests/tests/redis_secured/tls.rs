//! Encrypted connections.

use std::net::TcpListener;
use std::sync::Arc;

use cache_core::{CacheKey, CacheStorage, ErrorKind, ManualClock, NewEntry, millis, secs};
use cache_redis::{RedisOptions, TlsOptions};
use cache_testkit::servers::RedisServer;
use cache_tests::entries::{fetch, minute, put};
use tokio::task::JoinSet;

use crate::support::{certificates, connections, hang_up, patient, refusal, tls_options, trusting};

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_refused() {
    let (own, foreign) = (certificates(), certificates());
    let server = RedisServer::builder().tls(&own).start().unwrap();
    for tls in [
        trusting(&foreign),
        TlsOptions::new(),
        TlsOptions::new().with_system_roots(),
    ] {
        let options = tls_options(&server).with_tls(tls);
        let options = options
            .with_connect_timeout(millis(800))
            .with_timeout(millis(850));
        let error = refusal(options, ErrorKind::Configuration).await;
        assert!(
            error.to_string().contains("authority that is not trusted"),
            "{error}"
        );
    }
    let seen = server.command(&["INFO", "commandstats"]).unwrap();
    assert!(
        !seen.contains("cmdstat_get:"),
        "nothing was sent in plain text"
    );
}

#[tokio::test]
async fn another_hosts_certificate_is_refused() {
    let authority = certificates();
    let other = authority.issue(&["other.example"]).unwrap();
    let server = RedisServer::builder()
        .tls_as(&authority, &other)
        .start()
        .unwrap();
    let options = tls_options(&server).with_tls(trusting(&authority));
    let error = refusal(options, ErrorKind::Configuration).await;
    assert!(error.to_string().contains("another host name"), "{error}");

    let named = trusting(&authority).with_server_name("other.example");
    let storage = patient(tls_options(&server).with_tls(named));
    put(&storage, "k", "v").await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = certificates();
    let expired = authority.issue_expired(&["127.0.0.1"]).unwrap();
    let server = RedisServer::builder()
        .tls_as(&authority, &expired)
        .start()
        .unwrap();
    let options = tls_options(&server).with_tls(trusting(&authority));
    let error = refusal(options, ErrorKind::Configuration).await;
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_named() {
    let server = RedisServer::start().unwrap();
    let options = RedisOptions::new("127.0.0.1", server.port()).with_tls(TlsOptions::new());
    // It takes the handshake for the beginning of a command and waits for the rest.
    let error = refusal(options, ErrorKind::Connection).await;
    assert!(
        error.to_string().contains("expect TLS on this port?"),
        "{error}"
    );
}

#[tokio::test]
async fn plain_text_to_a_tls_port_is_named() {
    let server = RedisServer::builder().tls(&certificates()).start().unwrap();
    let error = refusal(tls_options(&server), ErrorKind::Connection).await;
    assert!(error.to_string().contains("rediss://"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_required() {
    let authority = certificates();
    let server = RedisServer::builder()
        .tls(&authority)
        .require_client_certificates()
        .start()
        .unwrap();
    let without = tls_options(&server).with_tls(trusting(&authority));
    let error = refusal(without, ErrorKind::Configuration).await;
    assert!(error.to_string().contains("client certificate"), "{error}");

    let foreign = certificates();
    let own = authority.issue(&["client"]).unwrap();
    let other = foreign.issue(&["client"]).unwrap();
    let showing = |certificate: &cache_testkit::servers::Certificate| {
        trusting(&authority)
            .with_client_certificate_pem(certificate.certificate_pem(), certificate.key_pem())
    };
    let refused = tls_options(&server).with_tls(showing(&other));
    let error = refusal(refused, ErrorKind::Configuration).await;
    assert!(error.to_string().contains("client certificate"), "{error}");

    let storage = patient(tls_options(&server).with_tls(showing(&own)));
    put(&storage, "k", "v").await.unwrap();

    let directory = server.directory();
    let files = own.write_to(directory, "shown").unwrap();
    let roots = authority.write_authority_to(directory).unwrap();
    let from_files = TlsOptions::new()
        .with_roots_file(roots)
        .with_client_certificate_files(&files.certificate, &files.key);
    let storage = patient(tls_options(&server).with_tls(from_files));
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn missing_and_broken_files_are_named() {
    let server = RedisServer::start().unwrap();
    let directory = server.directory().to_owned();
    let broken = directory.join("broken.pem");
    std::fs::write(&broken, "hunter2").unwrap();
    for (tls, named) in [
        (
            TlsOptions::new().with_roots_file("/nowhere/roots.pem"),
            "/nowhere/roots.pem",
        ),
        (TlsOptions::new().with_roots_file(&broken), "broken.pem"),
        (
            TlsOptions::new().with_client_certificate_files(&broken, &broken),
            "broken.pem",
        ),
    ] {
        let options = RedisOptions::new("127.0.0.1", server.port()).with_tls(tls);
        let error = refusal(options, ErrorKind::Configuration).await;
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_in_time() {
    // The kernel takes the connection; nobody ever answers on it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = RedisOptions::new("127.0.0.1", port).with_tls(TlsOptions::new());
    let error = refusal(options, ErrorKind::Connection).await;
    assert!(
        error.to_string().contains("TLS handshake within 300ms"),
        "{error}"
    );
}

#[tokio::test]
async fn connections_that_the_server_ends_are_replaced() {
    let authority = certificates();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let storage = patient(tls_options(&server).with_tls(trusting(&authority)));
    put(&storage, "k", "v").await.unwrap();
    for _ in 0..20 {
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal"])
            .unwrap();
        assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn a_goodbye_that_came_during_a_freeze_is_seen() {
    let authority = certificates();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let clock = ManualClock::new();
    let options = tls_options(&server)
        .with_tls(trusting(&authority))
        .with_clock(clock.clone())
        .with_connect_timeout(secs(3))
        .with_timeout(secs(8));
    let storage = patient(options);
    let counter = CacheKey::from("c");
    for round in 1..=10 {
        // Not repeatable: it must find a connection that works at the first attempt.
        let counted = storage.increment(&counter, 1, minute()).await.unwrap();
        assert_eq!(counted.value, round);
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal"])
            .unwrap();
        clock.freeze(secs(20));
    }
}

#[tokio::test]
async fn large_values_and_batches_fit_through() {
    let authority = certificates();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let storage = patient(tls_options(&server).with_tls(trusting(&authority)));
    let value = vec![7_u8; 900_000];
    let keys: Vec<_> = (0..20)
        .map(|number| CacheKey::from(number.to_string()))
        .collect();
    let entry = |key: &CacheKey| (key.clone(), NewEntry::new(value.clone(), minute()));
    let written = storage.set_many(keys.iter().map(entry).collect()).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    for entry in storage.get_many(&keys).await {
        assert_eq!(entry.unwrap().unwrap().value, value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_to_others_are_not_taken_for_the_servers_goodbye() {
    let authority = certificates();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let storage = Arc::new(patient(tls_options(&server).with_tls(trusting(&authority))));
    storage.warm_up().await.unwrap();
    let before = connections(&server);
    let mut tasks = JoinSet::new();
    for task in 0..32 {
        let storage = Arc::clone(&storage);
        tasks.spawn(async move {
            let key = CacheKey::from(format!("c{task}"));
            for count in 1..=100 {
                let counted = storage.increment(&key, 1, minute()).await.unwrap();
                assert_eq!(counted.value, count);
            }
        });
    }
    tasks.join_all().await;
    // One of them is that which asks.
    assert_eq!(connections(&server) - before, 1, "no other was made");
}

#[tokio::test]
async fn a_goodbye_that_nobody_has_read_costs_no_count() {
    let authority = certificates();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let storage = patient(tls_options(&server).with_tls(trusting(&authority)));
    let key = CacheKey::from("c");
    for count in 1..=20 {
        let counted = storage.increment(&key, 1, minute()).await.unwrap();
        assert_eq!(counted.value, count);
        // Meanwhile nothing else runs on this thread.
        hang_up(&server);
    }
}
