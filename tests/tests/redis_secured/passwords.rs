//! Users and passwords that change.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, NewEntry, PrefixStorage,
    Ttl, secs,
};
use cache_redis::{Credentials, CredentialsProvider, PasswordFile, RedisOptions};
use cache_testkit::servers::RedisServer;
use cache_tests::entries::{fetch, minute, put};
use tokio::task::JoinSet;

use crate::support::{app, hang_up, patient, refusal, server_with_app, set_password, storage};

/// Keeps a password until the server refuses it, as Secrets Manager's provider does.
#[derive(Debug)]
struct Rotating {
    passwords: Vec<&'static str>,
    at: AtomicU32,
    calls: Arc<AtomicU32>,
}

impl Rotating {
    fn new(passwords: &[&'static str]) -> (Self, Arc<AtomicU32>) {
        let calls = Arc::new(AtomicU32::new(0));
        let rotating = Self {
            passwords: passwords.to_vec(),
            at: AtomicU32::new(0),
            calls: Arc::clone(&calls),
        };
        (rotating, calls)
    }
}

#[async_trait]
impl CredentialsProvider for Rotating {
    async fn credentials(&self, refused: Option<&Credentials>) -> Result<Credentials, CacheError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if refused.is_some() {
            self.at.fetch_add(1, Ordering::Relaxed);
        }
        let at = self.at.load(Ordering::Relaxed) as usize;
        Ok(Credentials::new(
            self.passwords[at.min(self.passwords.len() - 1)],
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_password_was_rotated() {
    let server = server_with_app("hunter1");
    let (rotating, calls) = Rotating::new(&["hunter1", "hunter2", "hunter3"]);
    let storage = Arc::new(patient(app(&server).with_credentials(rotating)));
    put(&*storage, "k", "v").await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    for password in ["hunter2", "hunter3"] {
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let storage = Arc::clone(&storage);
            callers.spawn(async move {
                for _ in 0..200 {
                    let read = fetch(&*storage, "k").await.expect("nobody notices");
                    assert_eq!(read.as_deref(), Some("v"));
                }
            });
        }
        set_password(&server, password);
        hang_up(&server);
        callers.join_all().await;
        // Whatever the callers were doing, the next connection needs the new password.
        hang_up(&server);
        assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn live_connections_outlive_their_password() {
    let server = server_with_app("hunter1");
    let (rotating, calls) = Rotating::new(&["hunter1"]);
    let storage = patient(app(&server).with_credentials(rotating));
    put(&storage, "k", "v").await.unwrap();
    set_password(&server, "hunter2");
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refused_password_is_asked_for_once_more_and_then_reported() {
    let server = server_with_app("hunter1");
    let (rotating, calls) = Rotating::new(&["hunter7", "hunter8", "hunter9"]);
    let error = refusal(
        app(&server).with_credentials(rotating),
        ErrorKind::Configuration,
    )
    .await;
    assert!(
        error
            .to_string()
            .contains("refuses the user or the password"),
        "{error}"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_password_file_is_read_by_each_connection() {
    let server = server_with_app("hunter1");
    let file = server.directory().join("password");
    write(&file, "hunter1\n");
    let storage = patient(app(&server).with_credentials(PasswordFile::new(&file)));
    put(&storage, "k", "v").await.unwrap();
    set_password(&server, "hunter2");
    write(&file, "hunter2\n");
    hang_up(&server);
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));

    std::fs::remove_file(&file).unwrap();
    hang_up(&server);
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    write(&file, "hunter2");
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the directory is the test's own");
}

#[tokio::test]
async fn a_deleted_user_is_a_configuration_error() {
    let server = server_with_app("hunter1");
    let storage = storage(app(&server).with_password("hunter1"));
    put(&storage, "k", "v").await.unwrap();
    server.command(&["ACL", "DELUSER", "app"]).unwrap();
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    set_password(&server, "hunter1");
    assert_eq!(fetch(&storage, "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_wrong_user_or_none_is_a_configuration_error() {
    let server = server_with_app("hunter1");
    let nobody = RedisOptions::new("127.0.0.1", server.port()).with_username("nobody");
    refusal(nobody.with_password("hunter1"), ErrorKind::Configuration).await;
    server
        .command(&["CONFIG", "SET", "requirepass", "hunter0"])
        .unwrap();
    let without = RedisOptions::new("127.0.0.1", server.port());
    let error = refusal(without, ErrorKind::Configuration).await;
    assert!(error.to_string().contains("requires a password"), "{error}");
}

#[tokio::test]
async fn the_user_may_come_with_the_password() {
    let server = server_with_app("hunter1");
    #[derive(Debug)]
    struct Both;
    #[async_trait]
    impl CredentialsProvider for Both {
        async fn credentials(&self, _: Option<&Credentials>) -> Result<Credentials, CacheError> {
            Ok(Credentials::new("hunter1").with_username("app"))
        }
    }
    let options = RedisOptions::new("127.0.0.1", server.port()).with_credentials(Both);
    let storage = patient(options);
    put(&storage, "k", "v").await.unwrap();
    let users = server.command(&["CLIENT", "LIST"]).unwrap();
    assert!(users.contains("user=app"), "{users}");
}

#[tokio::test]
async fn a_provider_that_fails_or_hangs_is_trouble_of_its_kind_in_time() {
    let server = server_with_app("hunter1");
    #[derive(Debug)]
    struct Failing;
    #[async_trait]
    impl CredentialsProvider for Failing {
        async fn credentials(&self, _: Option<&Credentials>) -> Result<Credentials, CacheError> {
            Err(CacheError::new(ErrorKind::Throttled, "asked to slow down"))
        }
    }
    #[derive(Debug)]
    struct Hanging;
    #[async_trait]
    impl CredentialsProvider for Hanging {
        async fn credentials(&self, _: Option<&Credentials>) -> Result<Credentials, CacheError> {
            std::future::pending().await
        }
    }
    let error = refusal(app(&server).with_credentials(Failing), ErrorKind::Throttled).await;
    assert!(error.to_string().contains("slow down"), "{error}");
    refusal(app(&server).with_credentials(Hanging), ErrorKind::Timeout).await;
    let patient = app(&server)
        .with_credentials(Hanging)
        .with_timeout(secs(5))
        .with_attempt_timeout(secs(5));
    let error = fetch(&storage(patient), "k").await.unwrap_err();
    assert!(
        error.to_string().contains("provider of the credentials"),
        "{error}"
    );
}

/// What `docs/elasticache.md` says a user needs.
const DOCUMENTED: &str = "+get +mget +set +unlink +del +exists +getrange +setrange +pttl +pexpire \
                          +persist +incrby +multi +exec +eval +evalsha +scan +ping";

#[tokio::test]
async fn a_user_needs_the_documented_commands_and_no_others() {
    let page = include_str!("../../../docs/elasticache.md");
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(DOCUMENTED), "the page says something else");
    let server = RedisServer::start().unwrap();
    let mut user = vec![
        "ACL", "SETUSER", "app", "reset", "on", ">hunter1", "~app:*", "-@all",
    ];
    user.extend(DOCUMENTED.split_whitespace());
    assert_eq!(server.command(&user).unwrap(), "OK");

    let storage = patient(app(&server).with_password("hunter1"));
    let storage = PrefixStorage::new("app", storage).unwrap();
    let stale = |text: &'static str| {
        let entry = NewEntry::new(text, minute());
        entry.with_stale_for(secs(9)).unwrap()
    };
    let key = CacheKey::from("k");
    storage.ping().await.unwrap();
    assert!(
        storage
            .set(&key, stale("v"), Condition::IfAbsent)
            .await
            .unwrap()
    );
    assert!(
        storage
            .set(&key, stale("w"), Condition::Always)
            .await
            .unwrap()
    );
    assert!(storage.lookup(&key).await.unwrap().is_some());
    assert!(storage.has(&key).await.unwrap());
    assert!(storage.expire(&key, minute()).await.unwrap());
    assert!(storage.expire(&key, Ttl::FOREVER).await.unwrap());
    assert!(storage.get_ttl(&key).await.is_ok());
    assert!(storage.compare_and_delete(&key, b"w").await.unwrap());
    put(&storage, "k", "7").await.unwrap();
    assert_eq!(storage.increment(&key, 1, minute()).await.unwrap().value, 8);
    assert!(storage.expire_now(&key).await.unwrap());
    let many = vec![(key.clone(), stale("v")), (CacheKey::from("l"), stale("v"))];
    assert!(storage.set_many(many).await.iter().all(Result::is_ok));
    let keys = [key.clone(), CacheKey::from("l")];
    assert!(storage.get_many(&keys).await.iter().all(Result::is_ok));
    assert!(storage.lookup_many(&keys).await.iter().all(Result::is_ok));
    assert!(storage.expire_now(&key).await.unwrap());
    assert_eq!(storage.increment(&key, 1, minute()).await.unwrap().value, 1);
    assert!(storage.delete(&key).await.unwrap());
    assert!(storage.delete_many(&keys).await.iter().all(Result::is_ok));
    let all = ClearScope::everything();
    assert!(storage.clear(&all).await.unwrap().complete);
}
