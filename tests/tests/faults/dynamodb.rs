//! Row 62 and rows 68 to 76: what DynamoDB does to a storage, by script and in an emulator.

use std::time::Duration;

use cache_core::{
    CacheKey, CacheStorage, Condition, ErrorKind, ManualClock, NewEntry, hours, millis,
};
use cache_dynamo::{CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_testkit::servers::{Answer, DynamoDb, Request};

use crate::support::{Recorded, count, error_within, fetch, minute, put, timed};

mod measured;
mod scripted;

use scripted::{Scripted, failed, options, patient, refused_as};

/// What a single-key operation may take.
const OPERATION: Duration = millis(500);

/// How often a request is sent at most.
const ATTEMPTS: usize = 3;

/// An entry for ever under `k`.
const ITEM: &str = r#"{"PK":{"S":"k"},"value":{"S":"v"},"cache_v":{"N":"1"}}"#;

#[tokio::test]
async fn row_62_an_item_of_somebody_else() {
    let foreign = r#"{"PK":{"S":"k"},"value":{"S":"hunter2"}}"#;
    let scripted = Scripted::patient(move |request| match request.operation() {
        "GetItem" => Answer::json(200, format!(r#"{{"Item":{foreign}}}"#)),
        _ => Answer::json(200, format!(r#"{{"Responses":{{"cache":[{foreign}]}}}}"#)),
    });
    let header = ["DecodeError { reason: \"header\" }", ""];
    let reading = fetch(&scripted.storage, "k");
    let (read, _, told) = scripted.during(header, reading).await;
    let error = failed(read, ErrorKind::Serialization, "serialization");
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    assert_eq!(told, [1, 1]);
    let keys = [CacheKey::from("k"), CacheKey::from("l")];
    let reading = scripted.storage.get_many(&keys);
    let (read, _, told) = scripted.during(header, reading).await;
    assert!(matches!(&*read, [Err(_), Ok(None)]), "{read:?}");
    assert_eq!(told, [1, 1]);
}

#[tokio::test]
async fn row_68_an_expired_item_that_was_not_deleted_yet() {
    let server = DynamoDb::start().unwrap();
    let (told, clock) = (Recorded::default(), ManualClock::new());
    let options = patient(options(server.endpoint()))
        .with_clock(clock.clone())
        .with_observers(told.observers());
    let storage = DynamoDbCacheStorage::new(options).unwrap();
    storage.create_table().await.unwrap();
    put(&storage, "k", "old").await.unwrap();
    assert_eq!(fetch(&storage, "k").await.unwrap().unwrap(), "old");
    assert_eq!(told.count_of(|_| true), 0, "nothing went wrong");

    clock.advance(hours(1));
    let key = CacheKey::from("k");
    let filtered = || told.count_of(|event| event.starts_with("ExpiredFiltered"));
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
    assert_eq!(filtered(), 1);
    assert!(!storage.has(&key).await.unwrap());
    assert_eq!(filtered(), 2);
    let read = storage.get_many(std::slice::from_ref(&key)).await;
    assert!(matches!(&*read, [Ok(None)]), "{read:?}");
    assert_eq!(filtered(), 3);

    let entry = NewEntry::new("new", minute());
    let created = storage.set(&key, entry, Condition::IfAbsent).await;
    assert!(created.unwrap(), "what has expired is in nobody's way");
    assert_eq!(fetch(&storage, "k").await.unwrap().unwrap(), "new");
    assert_eq!(told.count_of(|_| true), 3, "{told:?}");
}

#[tokio::test]
async fn row_69_throttled() {
    for code in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
    ] {
        let words = ["Throttled", "Retry"];
        let scripted = Scripted::patient(move |request| match request.number {
            0 | 1 => Answer::error(400, code),
            _ => Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#)),
        });
        let (read, _, told) = scripted.during(words, fetch(&scripted.storage, "k")).await;
        assert_eq!(read.unwrap().unwrap(), "v", "{code}");
        assert_eq!(told, [2, 2], "{code}");

        let scripted = Scripted::patient(move |_| Answer::error(400, code));
        let reading = error_within(
            ErrorKind::Throttled,
            OPERATION,
            fetch(&scripted.storage, "k"),
        );
        let (error, requests, told) = scripted.during(words, reading).await;
        assert_eq!(error.code(), "throttled");
        assert!(error.is_transient());
        assert_eq!(told, [requests, requests - 1], "{code}");
        // Nothing was executed, so it is safe to count again.
        let counting = count(&scripted.storage);
        let (counted, requests, told) = scripted.during(words, counting).await;
        let error = failed(counted, ErrorKind::Throttled, "throttled");
        assert!(!error.may_have_happened());
        assert_eq!(told, [requests, requests - 1], "{code}");
    }
}

#[tokio::test]
async fn row_69_a_batch_of_which_a_part_was_left_undone() {
    let scripted = Scripted::patient(|request| {
        let left = r#"{"UnprocessedKeys":{"cache":{"Keys":[{"PK":{"S":"k"}}]}}}"#;
        match request.number {
            0 => Answer::json(200, left),
            _ => Answer::json(200, format!(r#"{{"Responses":{{"cache":[{ITEM}]}}}}"#)),
        }
    });
    let keys = [CacheKey::from("k"), CacheKey::from("l")];
    let reading = scripted.storage.get_many(&keys);
    let (read, requests, told) = scripted
        .during(
            ["Unprocessed { backend: \"dynamodb\", keys: 1 }", ""],
            reading,
        )
        .await;
    assert!(matches!(&*read, [Ok(Some(_)), Ok(None)]), "{read:?}");
    assert_eq!((requests, told), (2, [1, 1]));
}

#[tokio::test]
async fn row_70_failures_of_the_server() {
    for (status, code, kind) in [
        (500, "InternalServerError", ErrorKind::Backend),
        (500, "", ErrorKind::Backend),
        (503, "ServiceUnavailable", ErrorKind::Overloaded),
    ] {
        let scripted = Scripted::patient(move |request| match request.number {
            0 => Answer::error(status, code),
            _ => Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#)),
        });
        let reading = fetch(&scripted.storage, "k");
        let (read, requests, told) = scripted.during(["Retry"], reading).await;
        assert_eq!(read.unwrap().unwrap(), "v", "{status} {code}");
        assert_eq!((requests, told), (2, [1]), "{status} {code}");

        let scripted = Scripted::patient(move |_| Answer::error(status, code));
        let reading = fetch(&scripted.storage, "k");
        let (read, requests, told) = scripted.during(["Retry"], reading).await;
        let error = failed(read, kind, "5xx");
        assert!(error.is_transient() && !error.may_have_happened());
        assert_eq!((requests, told), (ATTEMPTS, [ATTEMPTS - 1]));
        // It may have been counted, so it is not counted again.
        let counting = count(&scripted.storage);
        let (counted, requests, told) = scripted.during(["Retry"], counting).await;
        assert!(failed(counted, kind, "5xx").may_have_happened());
        assert_eq!((requests, told), (1, [0]));
    }
}

#[tokio::test]
async fn row_71_an_item_that_is_too_large_for_the_server() {
    let scripted = Scripted::patient(|_| refused_as("Item size has exceeded the maximum"));
    let writing = put(&scripted.storage, "k", "v");
    let (written, requests, told) = scripted.during([""], writing).await;
    let error = failed(written, ErrorKind::TooLarge, "too_large");
    assert!(!error.is_transient() && !error.may_have_happened());
    assert_eq!((requests, told), (1, [0]));
}

#[tokio::test]
async fn row_72_no_table_or_another_one() {
    let answers = [
        Answer::error(400, "ResourceNotFoundException"),
        Answer::error(400, "ResourceInUseException"),
        refused_as("The provided key element does not match the schema"),
    ];
    for answer in answers {
        let scripted = Scripted::patient(move |_| answer.clone());
        let calls = async {
            let read = fetch(&scripted.storage, "k").await.map(drop);
            let written = put(&scripted.storage, "k", "v").await.map(drop);
            [read, written, count(&scripted.storage).await.map(drop)]
        };
        let (outcomes, requests, told) = scripted.during([""], calls).await;
        for outcome in outcomes {
            let error = failed(outcome, ErrorKind::Configuration, "config");
            assert!(!error.is_transient() && !error.may_have_happened());
        }
        assert_eq!((requests, told), (3, [0]), "each call is sent once");
    }
}

#[tokio::test]
async fn row_73_credentials_that_are_refused() {
    for (code, word) in [
        ("ExpiredTokenException", "auth"),
        ("UnrecognizedClientException", "auth"),
        ("InvalidSignatureException", "auth"),
        ("MissingAuthenticationTokenException", "auth"),
        ("AccessDeniedException", "noperm"),
    ] {
        let scripted = Scripted::patient(move |_| Answer::error(400, code));
        let reading = fetch(&scripted.storage, "k");
        let (read, requests, told) = scripted.during(["Retry"], reading).await;
        let error = failed(read, ErrorKind::Configuration, word);
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        assert_eq!((requests, told), (1, [0]), "{code}");
    }
}

#[tokio::test]
async fn row_73_credentials_that_do_not_come() {
    let never = CredentialsSource::from_fn(std::future::pending);
    let scripted = Scripted::with(
        |_| Answer::json(200, "{}"),
        |options| options.with_credentials(never),
    );
    let reading = error_within(
        ErrorKind::Configuration,
        OPERATION,
        fetch(&scripted.storage, "k"),
    );
    let (error, requests, told) = scripted.during(["phase: \"operation\""], reading).await;
    assert_eq!(error.code(), "auth");
    assert!(error.is_transient(), "they may come later");
    assert_eq!((requests, told), (0, [1]), "nothing was sent");
}

#[tokio::test]
async fn row_74_an_answer_that_does_not_come_or_not_to_its_end() {
    let found = || Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#));
    for answer in [
        Answer::silence(),
        found().drip(1, millis(100)),
        found().silence_after(20),
    ] {
        let case = format!("{answer:?}");
        let scripted = Scripted::new(move |_| answer.clone());
        let storage = &scripted.storage;
        let timeout = ["Timeout { backend: \"dynamodb\", phase: \"read\" }"];
        let reading = error_within(ErrorKind::Timeout, OPERATION, fetch(storage, "k"));
        let (error, _, told) = scripted.during(timeout, reading).await;
        assert_eq!(error.code(), "read", "{case}");
        assert!(!error.may_have_happened() && told[0] >= 1, "{case}");
        let counting = error_within(ErrorKind::Timeout, OPERATION, count(storage));
        let (error, requests, told) = scripted.during(timeout, counting).await;
        assert!(error.may_have_happened(), "{case}");
        assert_eq!((requests, told), (1, [1]), "{case}");
    }
}

#[tokio::test]
async fn row_74_an_answer_that_is_none() {
    let found = || Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#));
    for answer in [
        Answer::json(200, "no JSON"),
        Answer::json(200, r#"{"Item":["#),
        Answer::json(200, ""),
        found().header("x-amz-crc32", "1"),
        Answer::garbage("+PONG\r\n"),
    ] {
        let case = format!("{answer:?}");
        let scripted = Scripted::patient(move |_| answer.clone());
        let storage = &scripted.storage;
        let error = error_within(ErrorKind::Connection, OPERATION, fetch(storage, "k")).await;
        assert_eq!(error.code(), "garbled", "{case}");
        let counting = error_within(ErrorKind::Connection, OPERATION, count(storage));
        let (error, requests, told) = scripted.during(["Retry"], counting).await;
        assert!(error.may_have_happened(), "{case}");
        assert_eq!((requests, told), (1, [0]), "{case}");
    }
}

#[tokio::test]
async fn row_74_a_connection_that_ends_or_never_begins() {
    let scripted = Scripted::patient(|_| Answer::reset());
    let closed = ["event: \"close\", reason: \"closed\""];
    let reading = error_within(
        ErrorKind::Connection,
        OPERATION,
        fetch(&scripted.storage, "k"),
    );
    let (error, requests, told) = scripted.during(closed, reading).await;
    assert_eq!((error.code(), told), ("closed", [requests]), "{error}");

    let told = Recorded::default();
    let mut server = DynamoDb::start().unwrap();
    let options = patient(options(server.endpoint())).with_observers(told.observers());
    server.stop();
    let storage = DynamoDbCacheStorage::new(options).unwrap();
    let reading = error_within(ErrorKind::Connection, OPERATION, fetch(&storage, "k"));
    assert_eq!(reading.await.code(), "refused");
    let refused = "event: \"dial_fail\", reason: \"refused\"";
    assert!(told.count_of(|event| event.contains(refused)) >= 1);
}

#[tokio::test]
async fn row_75_a_condition_that_does_not_hold() {
    let scripted = Scripted::patient(|_| {
        let refusal = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        let body = format!(r#"{{"__type":"{refusal}","message":"no","Item":{ITEM}}}"#);
        Answer::json(400, body)
    });
    let key = CacheKey::from("k");
    let calls = async {
        let entry = NewEntry::new("new", minute());
        let created = scripted.storage.set(&key, entry, Condition::IfAbsent);
        let created = created.await.unwrap();
        let deleted = scripted.storage.compare_and_delete(&key, b"other").await;
        (created, deleted.unwrap())
    };
    let (outcomes, requests, told) = scripted.during([""], calls).await;
    assert_eq!(outcomes, (false, false), "an answer, and no error");
    assert_eq!((requests, told), (2, [0]));
}

#[tokio::test]
async fn row_76_a_read_after_ones_own_write() {
    for is_consistent in [false, true] {
        let old_once = |request: &Request| {
            let is_read = request.operation() == "GetItem";
            let is_old = is_read && !request.text().contains(r#""ConsistentRead":true"#);
            match is_read && !is_old {
                true => Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#)),
                false => Answer::json(200, "{}"),
            }
        };
        let change = |options: DynamoDbOptions| options.with_consistent_reads(is_consistent);
        let scripted = Scripted::with(old_once, |options| change(patient(options)));
        put(&scripted.storage, "k", "v").await.unwrap();
        let read = fetch(&scripted.storage, "k").await.unwrap();
        assert_eq!(read.is_some(), is_consistent, "{read:?}");
        assert_eq!(scripted.told_of(""), 0);
    }
}

#[tokio::test]
async fn the_patience_of_the_storage_is_what_an_operation_takes() {
    let scripted = Scripted::new(|_| Answer::silence());
    assert_eq!(scripted.storage.info().patience, Some(OPERATION));
    let (read, took) = timed(fetch(&scripted.storage, "k")).await;
    failed(read, ErrorKind::Timeout, "read");
    assert!(took >= OPERATION / 2, "{took:?}");
}
