//! Batches of which the server leaves a part, or answers more than it was asked.

use cache_core::{CacheKey, CacheStorage, ClearScope, ErrorKind, millis};
use cache_testkit::servers::Answer;
use serde_json::json;

use super::model::keys;
use super::speed::quiet;
use super::stub::{Stub, TABLE};
use crate::support::{SLACK, entry, storage, timed};

fn numbered(count: usize) -> Vec<CacheKey> {
    (0..count)
        .map(|n| CacheKey::from(format!("k:{n}")))
        .collect()
}

/// The server stops at 16 MB, whatever was asked for.
#[tokio::test]
async fn a_server_that_stops_early_is_asked_until_every_key_is_answered() {
    const AT_A_TIME: usize = 9;
    let stub = Stub::start(|request, model| {
        let mut room = AT_A_TIME;
        model.answer_some(request, |_| {
            room = room.saturating_sub(1);
            room > 0
        })
    });
    let keys = numbered(300);
    for key in keys.iter().step_by(2) {
        stub.model()
            .insert(key.as_str(), &format!("value of {key}"));
    }
    let storage = stub.storage();
    let (read, requests) = stub.counting(storage.get_many(&keys)).await;
    for (at, (key, read)) in keys.iter().zip(read).enumerate() {
        let value = read.unwrap().map(|entry| entry.value);
        let expected = (at % 2 == 0).then(|| format!("value of {key}"));
        assert_eq!(value.as_deref(), expected.as_ref().map(String::as_bytes));
    }
    assert_eq!(requests, 3 * 100_usize.div_ceil(AT_A_TIME - 1));
    let entries = keys.iter().map(|key| (key.clone(), entry("v")));
    let (written, requests) = stub.counting(storage.set_many(entries.collect())).await;
    assert!(written.iter().all(Result::is_ok));
    assert_eq!(requests, 12 * 25_usize.div_ceil(AT_A_TIME - 1));
    assert!(
        keys.iter()
            .all(|key| stub.model().writes(key.as_str()) == 1)
    );
}

#[tokio::test]
async fn a_server_that_gets_to_nothing_is_asked_until_the_time_is_over() {
    let _alone = quiet().write().await;
    let stub = Stub::start(|request, model| model.answer_some(request, |key| key != "k:7"));
    let whole = millis(300);
    let storage = storage(stub.options().with_bulk_timeout(whole));
    let keys = numbered(30);
    let (read, took) = timed(storage.get_many(&keys)).await;
    assert!(took < whole + SLACK, "{took:?}");
    let entries = keys.iter().map(|key| (key.clone(), entry("v")));
    let (written, took) = timed(storage.set_many(entries.collect())).await;
    assert!(took < whole + SLACK, "{took:?}");
    let (deleted, took) = timed(storage.delete_many(&keys)).await;
    assert!(took < whole + SLACK, "{took:?}");
    let read = read.into_iter().map(|read| read.map(drop)).collect();
    for outcomes in [read, written, deleted] {
        for (key, outcome) in keys.iter().zip::<Vec<_>>(outcomes) {
            match outcome {
                Ok(()) => assert_ne!(key.as_str(), "k:7"),
                Err(error) => {
                    assert_eq!(key.as_str(), "k:7");
                    // The last request of all may have been cut short.
                    let kinds = [ErrorKind::Throttled, ErrorKind::Timeout];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    assert!(error.is_transient(), "{error}");
                    assert_eq!(error.key(), Some("k:7"));
                }
            }
        }
    }
    assert_eq!(stub.model().writes("k:7"), 0);
}

/// The attempt without an answer has written what the next one leaves.
#[tokio::test]
async fn what_was_written_without_an_answer_may_have_happened_whatever_follows() {
    for last in [
        None,
        Some("ThrottlingException"),
        Some("AccessDeniedException"),
    ] {
        let stub = Stub::start(move |request, model| match (request.number, last) {
            (0, _) => {
                model.execute(request);
                Answer::error(500, "InternalServerError")
            }
            (2.., Some(code)) => Answer::error(400, code),
            _ => model.answer_some(request, |_| false),
        });
        let storage = storage(stub.options().with_bulk_timeout(millis(300)));
        let written = storage.set_many(vec![("k".into(), entry("v"))]).await;
        let error = written.into_iter().next().unwrap().unwrap_err();
        assert!(error.may_have_happened(), "{last:?}: {error}");
        assert_eq!(stub.model().writes("k"), 1);
    }
}

#[tokio::test]
async fn keys_that_nobody_asked_for_are_ignored() {
    let item = |key: &str, value: &str| json!({ "PK": { "S": key }, "value": { "S": value }, "cache_v": { "N": "1" } });
    let reply = json!({
        "Responses": {
            TABLE: [
                item("c", "of c"), item("x", "of x"), item("a", "of a"),
                { "SK": { "S": "without a key" } },
            ],
            "other": [item("y", "of y")],
        },
        "UnprocessedKeys": { TABLE: { "Keys": [{ "PK": { "S": "z" } }] } },
        "UnprocessedItems": { TABLE: [{ "DeleteRequest": { "Key": { "PK": { "S": "z" } } } }] },
    });
    let stub = Stub::saying(Answer::json(200, reply.to_string()));
    let storage = stub.storage();
    let keys = ["a", "b", "c", "a"].map(CacheKey::from);
    let (read, requests) = stub.counting(storage.get_many(&keys)).await;
    let read: Vec<_> = read
        .into_iter()
        .map(|read| {
            read.unwrap()
                .map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
        })
        .collect();
    let expected = [Some("of a"), None, Some("of c"), Some("of a")];
    assert_eq!(read, expected.map(|value| value.map(str::to_owned)));
    assert_eq!(requests, 1);
    let entries = keys.map(|key| (key, entry("v"))).to_vec();
    let (written, requests) = stub.counting(storage.set_many(entries)).await;
    assert!(written.iter().all(Result::is_ok));
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_request_that_fails_concerns_its_own_keys_alone() {
    let stub = Stub::start(
        |request, model| match keys(request).iter().any(|key| key == "k:150") {
            true => Answer::error(400, "AccessDeniedException"),
            false => model.answer(request),
        },
    );
    let storage = stub.storage();
    let keys = numbered(300);
    let read = storage.get_many(&keys).await;
    let failed: Vec<_> = (0..300).filter(|at| read[*at].is_err()).collect();
    assert_eq!(failed, (100..200).collect::<Vec<_>>());
    let entries = keys.iter().map(|key| (key.clone(), entry("v")));
    let written = storage.set_many(entries.collect()).await;
    let failed: Vec<_> = (0..300).filter(|at| written[*at].is_err()).collect();
    assert_eq!(failed, (150..175).collect::<Vec<_>>());
}

/// A page of a scan holds up to a megabyte, and so thousands of small entries.
#[tokio::test]
async fn a_clear_takes_the_time_that_a_full_page_needs() {
    let items: Vec<_> = (0..4_000)
        .map(|n| json!({ "PK": { "S": format!("k:{n}") }, "cache_v": { "N": "1" } }))
        .collect();
    let page = json!({ "Items": items }).to_string();
    let stub = Stub::start(move |request, model| match request.operation() {
        "Scan" if request.text().contains(r#""Segment":0"#) => Answer::json(200, page.clone()),
        "Scan" => Answer::json(200, r#"{"Items":[]}"#),
        _ => model.answer(request).after(millis(20)),
    });
    // 160 requests of which four are under way at a time.
    let storage = storage(stub.options().with_bulk_timeout(millis(700)));
    let cleared = storage.clear(&ClearScope::everything()).await.unwrap();
    assert_eq!((cleared.deleted, cleared.complete), (4_000, true));
}
