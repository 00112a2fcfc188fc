//! Answers that are none, or not whole.

use std::time::Duration;

use cache_core::{CacheKey, CacheStorage, ErrorKind, millis};
use cache_testkit::servers::Answer;

use super::speed::quiet;
use super::stub::{Stub, whole_text};
use crate::support::{SLACK, fetch, minute, put, storage, timed};

/// The default budget of a single-key operation.
const TIMEOUT: Duration = millis(500);

const FOUND: &str = r#"{"Item":{"PK":{"S":"k"},"value":{"S":"hunter2"},"cache_v":{"N":"1"}}}"#;

/// The checksum of [`FOUND`] as the server announces it.
const CHECKSUM: &str = "2609338701";

/// Asserts that an answer is an error of `kind` that passes, in time; that a write may have
/// happened, and that an increment is not repeated.
async fn is_trouble(answer: Answer, kind: ErrorKind) {
    let case = format!("{answer:?}");
    let stub = Stub::saying(answer);
    let storage = storage(stub.default_options());
    let (read, took) = timed(fetch(&storage, "k")).await;
    let read = read.expect_err(&case);
    let (written, took_to_write) = timed(put(&storage, "k", "hunter3")).await;
    let written = written.expect_err(&case);
    let key = CacheKey::from("k");
    let counted = storage.increment(&key, 1, minute());
    let (counted, requests) = stub.counting(counted).await;
    let counted = counted.expect_err(&case);
    let many = storage.get_many(&[key, "l".into()]).await;
    let many: Vec<_> = many
        .into_iter()
        .map(|read| read.expect_err(&case))
        .collect();
    for error in many.iter().chain([&read, &written, &counted]) {
        assert_eq!(error.kind(), kind, "{case}: {error}");
        assert!(error.is_transient(), "{case}: {error}");
        assert!(!whole_text(error).contains("hunter"), "{error:?}");
    }
    assert!(!read.may_have_happened(), "{case}");
    assert!(
        written.may_have_happened() && counted.may_have_happened(),
        "{case}"
    );
    assert_eq!(requests, 1, "{case}");
    assert!(
        took.max(took_to_write) < TIMEOUT + SLACK,
        "{case}: {took:?}, {took_to_write:?}"
    );
}

#[tokio::test]
async fn what_is_no_json_is_trouble_with_the_connection() {
    let _alone = quiet().write().await;
    for body in [
        "hunter2",
        "{\"Item\":",
        "{\"Item\":{\"PK\":{\"S\":\"hunter2\"}}",
        "{\"Item\":[\"hunter2\"],\"Attributes\":[],\"Responses\":[]}",
        "{\"Item\":{\"value\":{\"S\":7}},\"Attributes\":{\"value\":{\"S\":7}},\"Responses\":7}",
        "[]",
        "\u{0}",
    ] {
        is_trouble(Answer::json(200, body), ErrorKind::Connection).await;
    }
    is_trouble(Answer::json(200, [0xFF, 0xFE]), ErrorKind::Connection).await;
}

#[tokio::test]
async fn a_body_that_is_missing_is_trouble_with_the_connection() {
    let _alone = quiet().write().await;
    is_trouble(Answer::json(200, ""), ErrorKind::Connection).await;
}

#[tokio::test]
async fn pages_of_others_are_trouble() {
    let _alone = quiet().write().await;
    let page = "<html><body>hunter2</body></html>";
    is_trouble(Answer::json(200, page), ErrorKind::Connection).await;
    is_trouble(Answer::json(502, page), ErrorKind::Backend).await;
    is_trouble(Answer::json(504, ""), ErrorKind::Backend).await;
    is_trouble(Answer::json(503, page), ErrorKind::Overloaded).await;
}

#[tokio::test]
async fn half_an_answer_is_trouble_with_the_connection() {
    let _alone = quiet().write().await;
    for bytes in [1, 20, 60, 100, 130] {
        is_trouble(
            Answer::json(200, FOUND).hang_up_after(bytes),
            ErrorKind::Connection,
        )
        .await;
        is_trouble(
            Answer::json(200, FOUND).reset_after(bytes),
            ErrorKind::Connection,
        )
        .await;
    }
    is_trouble(Answer::garbage("+PONG\r\n"), ErrorKind::Connection).await;
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_a_timeout() {
    let _alone = quiet().write().await;
    let drip = Answer::json(200, FOUND).drip(1, millis(30));
    let stub = Stub::saying(drip);
    let storage = storage(stub.default_options());
    let (read, took) = timed(fetch(&storage, "k")).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(took < TIMEOUT + SLACK, "{took:?}");
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_not_asked_for_again_by_an_increment() {
    let _alone = quiet().write().await;
    let stub = Stub::saying(Answer::json(200, FOUND).silence_after(100));
    let storage = storage(stub.default_options());
    let (counted, took) = timed(storage.increment(&"k".into(), 1, minute())).await;
    let error = counted.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.may_have_happened());
    assert!(took < TIMEOUT + SLACK, "{took:?}");
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_does_not_match_its_checksum_is_trouble_with_the_connection() {
    let _alone = quiet().write().await;
    for wrong in ["0", "2609338700"] {
        let answer = Answer::json(200, FOUND).header("x-amz-crc32", wrong);
        is_trouble(answer, ErrorKind::Connection).await;
    }
    // Also where it would have been an answer that needs no second request.
    let stub = Stub::start(|request, _| match request.number {
        0 => Answer::error(400, "AccessDeniedException").header("x-amz-crc32", "1"),
        _ => Answer::json(200, FOUND).header("x-amz-crc32", CHECKSUM),
    });
    let read = fetch(&stub.storage(), "k").await.unwrap();
    assert_eq!(read.as_deref(), Some("hunter2"));
    assert_eq!(stub.requests().len(), 2);
}
