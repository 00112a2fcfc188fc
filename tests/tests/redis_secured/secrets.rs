//! Passwords in Secrets Manager.

use std::error::Error as _;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cache_aws::{AwsCredentials, AwsOptions, CredentialsSource};
use cache_core::settings::Settings;
use cache_core::{CacheError, ErrorKind, millis, secs};
use cache_redis::{PasswordSecret, RedisOptions};
use cache_testkit::servers::{Answer, RedisServer, Request, ScriptedHttp};
use cache_tests::entries::{fetch, put, timed};
use tokio::task::JoinSet;

use crate::support::{DEADLINE, app, hang_up, patient, server_with_app, set_password, storage};

const SECRET: &str = "prod/redis";

/// A Secrets Manager that follows a script.
fn vault(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ScriptedHttp {
    ScriptedHttp::start(script).expect("a port is free")
}

/// A Secrets Manager whose secret is `text`, whatever that is at the time.
fn holding(text: &str) -> (ScriptedHttp, Arc<Mutex<String>>) {
    let text = Arc::new(Mutex::new(text.to_owned()));
    let current = Arc::clone(&text);
    let vault = vault(move |_| secret(&current.lock().unwrap_or_else(PoisonError::into_inner)));
    (vault, text)
}

fn replace(text: &Mutex<String>, new: &str) {
    new.clone_into(&mut text.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The answer that holds a secret.
fn secret(text: &str) -> Answer {
    let reply = serde_json::json!({ "Name": SECRET, "SecretString": text });
    Answer::json(200, reply.to_string())
}

/// An error answer, with a text that may be repeated nowhere.
fn refused(status: u16, code: &str) -> Answer {
    let reply = serde_json::json!({ "__type": code, "message": "hunter8", "Message": "hunter9" });
    Answer::json(status, reply.to_string())
}

fn from(vault: &ScriptedHttp) -> PasswordSecret {
    let credentials = AwsCredentials::new("AKIA", "hunter7");
    signed_by(CredentialsSource::fixed(credentials), vault)
}

fn signed_by(credentials: CredentialsSource, vault: &ScriptedHttp) -> PasswordSecret {
    let mut aws = AwsOptions::new();
    aws.region = Some("eu-west-1".to_owned());
    aws.endpoint = Some(vault.url());
    aws.credentials = credentials;
    PasswordSecret::new(SECRET, aws).expect("the options are sound")
}

/// The server as `app`, with the password that `vault` gives.
fn options(server: &RedisServer, vault: &ScriptedHttp) -> RedisOptions {
    app(server).with_credentials(from(vault))
}

/// Everything an error says, its sources included.
fn whole_text(error: &CacheError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

/// Asserts that a read fails with `kind`, in time, and gives no secret away.
async fn fails(server: &RedisServer, vault: &ScriptedHttp, kind: ErrorKind) -> CacheError {
    let (read, took) = timed(fetch(&storage(options(server, vault)), "k")).await;
    let error = read.expect_err("the read fails");
    let text = whole_text(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert_eq!(
        error.is_transient(),
        kind != ErrorKind::Configuration,
        "{text}"
    );
    assert!(took < DEADLINE, "{took:?}");
    assert!(!text.contains("hunter"), "{text}");
    error
}

#[tokio::test]
async fn a_secret_is_a_password_or_json_or_bytes() {
    let server = server_with_app("hunter1");
    let json = r#"{"engine":"redis","username":"app","password":"hunter1"}"#;
    // "hunter1" in base64.
    let bytes = Answer::json(200, r#"{"SecretBinary":"aHVudGVyMQ=="}"#);
    let nobody = RedisOptions::new("127.0.0.1", server.port());
    for (options, answer) in [
        (app(&server), secret("hunter1")),
        (app(&server), secret("hunter1\n")),
        (app(&server), bytes),
        (app(&server), secret(json)),
        (nobody, secret(json)),
    ] {
        let vault = vault(move |_| answer.clone());
        let storage = patient(options.with_credentials(from(&vault)));
        put(&storage, "k", "v").await.unwrap();
        let users = server.command(&["CLIENT", "LIST"]).unwrap();
        assert!(users.contains("user=app"), "{users}");
        let request = vault.requests().remove(0);
        assert_eq!(request.target(), "secretsmanager.GetSecretValue");
        assert!(request.text().contains(SECRET), "{request:?}");
    }
}

#[tokio::test]
async fn it_is_fetched_by_the_first_call_and_once_for_all_connections() {
    let server = server_with_app("hunter1");
    let (vault, _) = holding("hunter1");
    let options = options(&server, &vault)
        .with_connect_timeout(secs(3))
        .with_timeout(secs(8));
    let storages: Vec<_> = (0..4).map(|_| Arc::new(patient(options.clone()))).collect();
    assert!(vault.requests().is_empty(), "nobody has called yet");
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let storage = Arc::clone(&storages[caller % storages.len()]);
        callers.spawn(async move { put(&*storage, "k", "v").await });
    }
    for written in callers.join_all().await {
        assert!(written.unwrap());
    }
    assert_eq!(vault.requests().len(), 1);
    for _ in 0..5 {
        hang_up(&server);
        for storage in &storages {
            assert_eq!(fetch(&**storage, "k").await.unwrap().as_deref(), Some("v"));
        }
    }
    assert_eq!(vault.requests().len(), 1, "reconnecting needs no other");
    let shown = format!("{options:?} {:?}", storages[0]);
    assert!(!shown.contains("hunter"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_the_secret_was_rotated() {
    let server = server_with_app("hunter1");
    let (vault, text) = holding("hunter1");
    let storage = Arc::new(patient(options(&server, &vault)));
    put(&*storage, "k", "v").await.unwrap();
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
    replace(&text, r#"{"username":"app","password":"hunter2"}"#);
    set_password(&server, "hunter2");
    hang_up(&server);
    callers.join_all().await;
    // Whatever the callers were doing, the next connection needs the new password.
    hang_up(&server);
    assert_eq!(fetch(&*storage, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(vault.requests().len(), 2);
}

#[tokio::test]
async fn a_secret_that_stays_wrong_is_a_configuration_error_and_fetched_once_a_second() {
    let server = server_with_app("hunter1");
    let (vault, text) = holding("hunter5");
    let storage = storage(options(&server, &vault));
    let started = Instant::now();
    let mut calls = 0;
    while started.elapsed() < millis(1_300) {
        let error = fetch(&storage, "k").await.unwrap_err();
        // A busy machine may also be late.
        if error.kind() != ErrorKind::Timeout {
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            assert!(
                error.message().contains("refuses the user or the password"),
                "{error}"
            );
        }
        assert!(!whole_text(&error).contains("hunter"), "{error:?}");
        calls += 1;
    }
    // The first one, one after the refusal, and one a second.
    let most = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    let requests = vault.requests().len();
    assert!((2..=most).contains(&requests), "{requests} requests");
    assert!(calls > requests, "{calls} calls, {requests} requests");

    replace(&text, "hunter1");
    let corrected = Instant::now();
    while fetch(&storage, "k").await.is_err() {
        assert!(corrected.elapsed() < secs(10), "it is never fetched again");
    }
}

#[tokio::test]
async fn what_has_to_be_corrected_is_named_with_the_secret() {
    let server = server_with_app("hunter1");
    for (answer, says) in [
        (
            refused(400, "ResourceNotFoundException"),
            "does not exist in eu-west-1",
        ),
        (
            refused(400, "AccessDeniedException"),
            "secretsmanager:GetSecretValue",
        ),
        (refused(400, "DecryptionFailure"), "kms:Decrypt"),
        (refused(400, "ExpiredTokenException"), "have expired"),
        (
            refused(400, "UnrecognizedClientException"),
            "refuses the credentials",
        ),
        (
            refused(400, "InvalidSignatureException"),
            "refuses the credentials",
        ),
        (secret(""), "neither a password nor JSON"),
        (
            secret(r#"{"user":"hunter3"}"#),
            "neither a password nor JSON",
        ),
        (Answer::json(200, "{}"), "neither a password nor JSON"),
    ] {
        let vault = vault(move |_| answer.clone());
        let error = fails(&server, &vault, ErrorKind::Configuration).await;
        let message = error.message();
        assert!(
            message.contains(SECRET) && message.contains(says),
            "{message}"
        );
        assert_eq!(vault.requests().len(), 1, "{message}");
    }
}

#[tokio::test]
async fn trouble_of_secrets_manager_is_trouble_of_its_kind_in_time() {
    let server = server_with_app("hunter1");
    for (answer, kind) in [
        (refused(400, "ThrottlingException"), ErrorKind::Throttled),
        (refused(500, "InternalServiceError"), ErrorKind::Connection),
        (
            Answer::json(502, "<html>hunter6</html>"),
            ErrorKind::Connection,
        ),
        (Answer::json(200, "hunter6"), ErrorKind::Connection),
        (Answer::reset(), ErrorKind::Connection),
        (Answer::silence(), ErrorKind::Timeout),
        (secret("hunter1").silence_after(100), ErrorKind::Timeout),
        (secret("hunter1").drip(1, millis(50)), ErrorKind::Timeout),
    ] {
        let vault = vault(move |_| answer.clone());
        fails(&server, &vault, kind).await;
    }
    // Nobody listens.
    let gone = vault(|_| Answer::reset());
    let options = options(&server, &gone);
    drop(gone);
    let error = fetch(&storage(options), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.message().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn one_failure_of_secrets_manager_is_made_good() {
    let server = server_with_app("hunter1");
    for failure in [
        refused(400, "ThrottlingException"),
        refused(500, "InternalServiceError"),
        refused(503, "ServiceUnavailable"),
        Answer::reset(),
    ] {
        let vault = vault(move |request| match request.number {
            0 => failure.clone(),
            _ => secret("hunter1"),
        });
        let storage = patient(options(&server, &vault));
        put(&storage, "k", "v").await.unwrap();
        assert_eq!(vault.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_patient_caller_is_told_who_was_silent() {
    let server = server_with_app("hunter1");
    let vault = vault(|_| Answer::silence());
    let (read, took) = timed(fetch(&patient(options(&server, &vault)), "k")).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(
        error.message().contains("Secrets Manager in eu-west-1"),
        "{error}"
    );
    assert!(took < secs(2) + millis(400), "{took:?}");
}

#[tokio::test]
async fn a_secret_slower_than_one_call_serves_a_later_one() {
    let server = server_with_app("hunter1");
    let vault = vault(|_| secret("hunter1").after(millis(400)));
    let options = options(&server, &vault)
        .with_connect_timeout(secs(2))
        .with_timeout(millis(150));
    let storage = storage(options);
    let error = fetch(&storage, "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let started = Instant::now();
    while fetch(&storage, "k").await.is_err() {
        assert!(started.elapsed() < secs(10), "it never comes");
    }
    assert_eq!(vault.requests().len(), 1);
}

#[tokio::test]
async fn refused_aws_credentials_are_asked_for_again_by_the_next_call() {
    let server = server_with_app("hunter1");
    for code in [
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    ] {
        let vault = vault(move |request| match request.header("authorization") {
            Some(signature) if signature.contains("Credential=AKIA0/") => refused(400, code),
            _ => secret("hunter1"),
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let source = CredentialsSource::from_fn(move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(AwsCredentials::new(format!("AKIA{number}"), "hunter7")) }
        });
        let storage = patient(app(&server).with_credentials(signed_by(source, &vault)));
        let error = fetch(&storage, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{code}: {error}");
        assert!(!whole_text(&error).contains("hunter"), "{error:?}");
        put(&storage, "k", "v").await.expect(code);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{code}");
    }
}

/// Counts to three in a process of its own, whose environment names the server and the secret.
fn count_by_environment(server: &RedisServer, vault: &ScriptedHttp) -> Output {
    Command::new(env!("CARGO_BIN_EXE_increment"))
        .args(["env", "n", "3"])
        .env_clear()
        .envs(variables(server, vault))
        .output()
        .expect("the program runs")
}

fn variables(server: &RedisServer, vault: &ScriptedHttp) -> [(&'static str, String); 8] {
    [
        ("CACHE_REDIS_HOST", "127.0.0.1".to_owned()),
        ("CACHE_REDIS_PORT", server.port().to_string()),
        ("CACHE_REDIS_TIMEOUT", "8s".to_owned()),
        ("CACHE_REDIS_PASSWORD_SECRET", SECRET.to_owned()),
        ("CACHE_REDIS_PASSWORD_SECRET_ENDPOINT", vault.url()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "AKIAENV".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hunter7".to_owned()),
    ]
}

#[test]
fn the_environment_names_secret_and_endpoint() {
    let server = server_with_app("hunter1");
    let (vault, text) = holding(r#"{"username":"app","password":"hunter1"}"#);
    let settings = Settings::from_pairs(variables(&server, &vault));
    let mut problems = Vec::new();
    let options = RedisOptions::from_settings(&settings, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    let shown = format!("{options:?}");
    assert!(
        shown.contains(SECRET) && !shown.contains("hunter"),
        "{shown}"
    );
    assert!(vault.requests().is_empty(), "reading settings is no I/O");

    let output = count_by_environment(&server, &vault);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.command(&["GET", "n"]).unwrap(), "3");
    let requests = vault.requests();
    assert_eq!(requests.len(), 1);
    let signature = requests[0].header("authorization").unwrap_or_default();
    assert!(signature.contains("Credential=AKIAENV/"), "{signature}");
    assert!(
        signature.contains("/eu-central-1/secretsmanager/"),
        "{signature}"
    );

    replace(&text, r#"{"username":"app","password":"hunter5"}"#);
    let output = count_by_environment(&server, &vault);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("refuses"),
        "{text}"
    );
    assert!(!text.contains("hunter"), "{text}");
}

#[tokio::test]
async fn while_the_new_password_cannot_be_fetched_that_is_the_reason() {
    let server = server_with_app("hunter1");
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let vault = vault(move |_| match down.load(Ordering::Relaxed) {
        false => secret("hunter1"),
        true => refused(400, "ThrottlingException"),
    });
    let storage = patient(options(&server, &vault));
    put(&storage, "k", "v").await.unwrap();
    is_down.store(true, Ordering::Relaxed);
    set_password(&server, "hunter2");
    hang_up(&server);
    for _ in 0..3 {
        let error = fetch(&storage, "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
        assert!(error.is_transient(), "{error}");
    }
}
