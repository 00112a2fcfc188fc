//! Conditional writes whose answers get lost.

use std::time::Duration;

use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, ErrorKind, TimeLeft, Ttl, hours, millis,
};
use cache_testkit::servers::Answer;

use super::stub::Stub;
use crate::support::{entry, fetch, storage};

/// How long an answer is waited for, so that waiting for one that never comes is short.
const ATTEMPT: Duration = millis(300);

/// A server that does not answer the first write, before or after it has executed it, but does
/// `instead`.
fn losing_first(was_executed: bool, instead: Answer) -> Stub {
    Stub::start(move |request, model| match request.number {
        0 => {
            if was_executed {
                model.execute(request);
            }
            instead.clone()
        }
        _ => model.answer(request),
    })
}

fn losses() -> [Answer; 3] {
    let failure = Answer::error(500, "InternalServerError");
    [Answer::reset(), failure, Answer::silence()]
}

/// Writes under `k`; with how many requests that took.
async fn set(
    stub: &Stub,
    storage: &dyn CacheStorage,
    value: &str,
    condition: Condition,
) -> (Result<bool, CacheError>, usize) {
    let key = CacheKey::from("k");
    stub.counting(storage.set(&key, entry(value), condition))
        .await
}

#[tokio::test]
async fn a_conditional_write_that_finds_its_own_entry_was_done() {
    let equal = || Condition::IfEquals("old".into());
    for instead in losses() {
        for (condition, before) in [
            (Condition::Always, None),
            (Condition::Always, Some("old")),
            (Condition::IfAbsent, None),
            (Condition::IfPresent, Some("old")),
            (equal(), Some("old")),
        ] {
            for was_executed in [true, false] {
                let stub = losing_first(was_executed, instead.clone());
                if let Some(before) = before {
                    stub.model().insert("k", before);
                }
                let storage = storage(stub.options().with_attempt_timeout(ATTEMPT));
                let (written, requests) = set(&stub, &storage, "token", condition.clone()).await;
                let case = format!("{condition:?}, {instead:?}, {was_executed}");
                assert!(written.expect(&case), "{case}");
                assert_eq!(requests, 2, "{case}");
                let value = fetch(&storage, "k").await.unwrap();
                assert_eq!(value.as_deref(), Some("token"), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn somebody_elses_entry_is_not_taken_for_ones_own() {
    for instead in losses() {
        for (standing, condition) in [
            ("token", Condition::IfAbsent),
            ("other", Condition::IfAbsent),
            ("other", Condition::IfEquals("old".into())),
        ] {
            for was_executed in [true, false] {
                let stub = losing_first(was_executed, instead.clone());
                stub.model().insert("k", standing);
                let storage = storage(stub.options().with_attempt_timeout(ATTEMPT));
                let (written, _) = set(&stub, &storage, "token", condition.clone()).await;
                let case = format!("{standing}, {condition:?}, {instead:?}, {was_executed}");
                assert!(!written.expect(&case), "{case}");
                assert_eq!(stub.model().writes("k"), 0, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_not_lost_needs_no_second_request() {
    let stub = Stub::start(|request, model| model.answer(request));
    stub.model().insert("k", "token");
    let storage = stub.storage();
    let (written, requests) = set(&stub, &storage, "token", Condition::IfAbsent).await;
    assert!(!written.unwrap());
    assert_eq!(requests, 1);
    // After a throttle nothing is unknown either.
    let stub = losing_first(false, Answer::error(400, "ThrottlingException"));
    stub.model().insert("k", "token");
    let storage = stub.storage();
    let (written, requests) = set(&stub, &storage, "token", Condition::IfAbsent).await;
    assert!(!written.unwrap());
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn a_write_that_stays_without_an_answer_may_have_happened() {
    for instead in [Answer::reset(), Answer::error(500, "InternalServerError")] {
        let stub = Stub::saying(instead);
        for condition in [Condition::Always, Condition::IfAbsent, Condition::IfPresent] {
            let storage = stub.storage();
            let (written, requests) = set(&stub, &storage, "v", condition).await;
            let error = written.unwrap_err();
            assert!(error.is_transient() && error.may_have_happened(), "{error}");
            assert_eq!(requests, 3);
        }
    }
}

#[tokio::test]
async fn a_compare_and_delete_is_sent_once() {
    for instead in losses() {
        for was_executed in [true, false] {
            let stub = losing_first(was_executed, instead.clone());
            stub.model().insert("k", "token");
            let storage = storage(stub.options().with_attempt_timeout(ATTEMPT));
            let key = CacheKey::from("k");
            let deleted = storage.compare_and_delete(&key, b"token");
            let (deleted, requests) = stub.counting(deleted).await;
            let error = deleted.unwrap_err();
            assert!(error.may_have_happened(), "{instead:?}: {error}");
            assert_eq!(requests, 1, "{instead:?}");
            let value = fetch(&storage, "k").await.unwrap();
            assert_eq!(value.is_none(), was_executed);
        }
    }
    let stub = losing_first(false, Answer::error(400, "ThrottlingException"));
    stub.model().insert("k", "token");
    let storage = stub.storage();
    let deleted = storage.compare_and_delete(&"k".into(), b"token").await;
    assert!(deleted.unwrap(), "a throttled one was not executed");
}

#[tokio::test]
async fn deletes_and_moved_deadlines_are_repeated() {
    for instead in losses() {
        for was_executed in [true, false] {
            let lost = || {
                let stub = losing_first(was_executed, instead.clone());
                stub.model().insert("k", "v");
                let storage = storage(stub.options().with_attempt_timeout(ATTEMPT));
                (stub, storage)
            };
            let (key, hour) = (CacheKey::from("k"), Ttl::new(hours(1)).unwrap());
            let (stub, storage) = lost();
            // The documented exception: it cannot tell whose delete it was.
            assert_eq!(storage.delete(&key).await.unwrap(), !was_executed);
            assert_eq!(stub.model().value("k"), None);
            let (_stub, storage) = lost();
            assert!(storage.expire(&key, hour).await.unwrap());
            let left = storage.get_ttl(&key).await.unwrap();
            assert!(matches!(left, TimeLeft::Remaining(_)), "{left:?}");
            let (stub, storage) = lost();
            assert_eq!(storage.expire_now(&key).await.unwrap(), !was_executed);
            assert_eq!(stub.model().value("k"), None);
        }
    }
}

/// The write is repeated and refused, and then nobody tells what stands in its way.
#[tokio::test]
async fn what_is_not_found_out_after_a_lost_answer_may_have_happened() {
    for was_lost in [true, false] {
        for operation in 0..4 {
            let stub = Stub::start(move |request, _| match request.operation() {
                "GetItem" => Answer::error(400, "AccessDeniedException"),
                _ if request.number == 0 && was_lost => Answer::reset(),
                _ => Answer::error(400, "ConditionalCheckFailedException"),
            });
            let (storage, key) = (stub.storage(), CacheKey::from("k"));
            let hour = Ttl::new(hours(1)).unwrap();
            let outcome = match operation {
                0 => set(&stub, &storage, "v", Condition::IfPresent).await.0,
                1 => storage.expire(&key, hour).await,
                2 => storage.expire(&key, Ttl::FOREVER).await,
                _ => storage.expire_now(&key).await,
            };
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            assert_eq!(error.may_have_happened(), was_lost, "{error}");
        }
    }
}

#[tokio::test]
async fn an_item_that_is_not_ours_is_told_even_after_a_lost_answer() {
    let foreign = r#"{"__type":"ConditionalCheckFailedException","Item":{"PK":{"S":"k"}}}"#;
    let stub = Stub::start(move |request, _| match request.number {
        0 => Answer::reset(),
        _ => Answer::json(400, foreign),
    });
    let storage = stub.storage();
    let written = storage
        .set(&"k".into(), entry("v"), Condition::Always)
        .await;
    let error = written.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
}

/// An item that was not ours went away just after it had kept a write from taking place.
#[tokio::test]
async fn a_write_that_was_refused_and_not_done_is_an_error() {
    let stub = Stub::start(|request, _| match request.operation() {
        "GetItem" => Answer::json(200, "{}"),
        _ => Answer::error(400, "ConditionalCheckFailedException"),
    });
    let storage = stub.storage();
    let (written, _) = set(&stub, &storage, "v", Condition::Always).await;
    let error = written.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.is_transient() && !error.may_have_happened());
    let (written, _) = set(&stub, &storage, "v", Condition::IfAbsent).await;
    assert!(!written.unwrap());
}
