//! Credentials that expire while they are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache_core::{CacheStorage, ErrorKind};
use cache_dynamo::{AwsCredentials, CredentialsSource};
use cache_testkit::servers::{Answer, Request};

use super::stub::{Stub, whole_text};
use crate::support::{fetch, minute, put, storage};

/// Credentials of which each set has a number, and how many sets were asked for.
fn numbered() -> (CredentialsSource, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = CredentialsSource::from_fn(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(AwsCredentials::new(format!("AKIA{number}"), "hunter2")) }
    });
    (source, asked)
}

fn is_signed_by(request: &Request, key: &str) -> bool {
    let signature = request.header("authorization").unwrap_or_default();
    signature.contains(&format!("Credential={key}/"))
}

#[tokio::test]
async fn expired_credentials_are_asked_for_again_by_the_next_call() {
    for (status, code) in [
        (400, "ExpiredTokenException"),
        (403, "ExpiredToken"),
        (400, "UnrecognizedClientException"),
        (403, "InvalidClientTokenId"),
    ] {
        let stub = Stub::start(move |request, model| match is_signed_by(request, "AKIA0") {
            true if request.number > 0 => Answer::error(status, code),
            _ => model.answer(request),
        });
        let (source, asked) = numbered();
        let storage = storage(stub.options().with_credentials(source));
        assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody has called yet");
        put(&storage, "k", "v").await.unwrap();
        let (read, requests) = stub.counting(fetch(&storage, "k")).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(!whole_text(&error).contains("hunter"), "{error}");
        assert_eq!((requests, asked.load(Ordering::SeqCst)), (1, 1), "{code}");
        for _ in 0..3 {
            let read = fetch(&storage, "k").await.unwrap();
            assert_eq!(read.as_deref(), Some("v"), "{code}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{code}");
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_no_reason_for_other_credentials() {
    let stub = Stub::saying(Answer::error(400, "AccessDeniedException"));
    let (source, asked) = numbered();
    let storage = storage(stub.options().with_credentials(source));
    for _ in 0..3 {
        let error = storage
            .increment(&"n".into(), 1, minute())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
