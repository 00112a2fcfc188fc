//! What the rows about DynamoDB leave in the metrics, and in the breaker around it.

use std::sync::Arc;

use cache_breaker::BreakerOptions;
use cache_core::{CacheKey, CacheStorage, ErrorKind, FallbackStorage, ManualClock, hours, millis};
use cache_dynamo::{CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_memory::MemoryCacheStorage;
use cache_monitor::names;
use cache_testkit::servers::{Answer, DynamoDb, ScriptedHttp};

use super::scripted::{options, patient, refused_as};
use super::{ATTEMPTS, ITEM, OPERATION};
use crate::metrics_b::Meter;
use crate::support::{error_within, fetch, put};

/// A server that always answers alike, a metered stack on it, and what that measures.
struct Always {
    server: ScriptedHttp,
    meter: Meter,
    storage: Arc<dyn CacheStorage>,
}

impl Always {
    fn new(answer: Answer) -> Self {
        Self::with(answer, patient)
    }

    fn with(answer: Answer, change: impl FnOnce(DynamoDbOptions) -> DynamoDbOptions) -> Self {
        let server = ScriptedHttp::start(move |_| answer.clone()).expect("a port is free");
        let meter = Meter::new();
        let options = change(options(server.url()).with_observers(meter.observers()));
        let table = DynamoDbCacheStorage::new(options).expect("the options are sound");
        Self {
            server,
            storage: Arc::new(meter.stack(table)),
            meter,
        }
    }

    /// The kind of the error of a read.
    async fn refusal(&self) -> ErrorKind {
        let read = fetch(&*self.storage, "k").await;
        read.expect_err("it cannot succeed").kind()
    }

    /// How many reads have reached the backend and ended so.
    fn outcomes(&self, outcome: &str) -> u64 {
        let labels = [("backend", "dynamodb"), ("op", "get"), ("outcome", outcome)];
        self.meter.count(names::OPS_TOTAL, &labels)
    }

    /// How often the breaker has opened for this reason.
    fn opened_for(&self, reason: &str) -> u64 {
        let labels = [("to", "open"), ("reason", reason)];
        self.meter.count(names::BREAKER_TRANSITIONS_TOTAL, &labels)
    }

    /// How often the breaker has opened at all.
    fn opened(&self) -> u64 {
        let labels = [("to", "open")];
        self.meter.count(names::BREAKER_TRANSITIONS_TOTAL, &labels)
    }
}

/// An item that is none of this library's is counted by what is wrong with it.
#[tokio::test]
async fn row_62_an_item_of_somebody_else_is_measured() {
    let foreign = r#"{"Item":{"PK":{"S":"k"},"value":{"S":"hunter2"}}}"#;
    let always = Always::new(Answer::json(200, foreign));
    assert_eq!(always.refusal().await, ErrorKind::Serialization);
    assert_eq!(always.outcomes("serialization"), 1);
    let header = [("reason", "header")];
    assert_eq!(always.meter.count(names::DECODE_ERRORS_TOTAL, &header), 1);
    assert_eq!(always.opened(), 0, "the server does what it should");
}

/// An entry past its end that the server still holds is read as absent, and counted.
#[tokio::test]
async fn row_68_an_expired_item_that_was_not_deleted_yet_is_measured() {
    let server = DynamoDb::start().unwrap();
    let (meter, clock) = (Meter::new(), ManualClock::new());
    let options = patient(options(server.endpoint()))
        .with_clock(clock.clone())
        .with_observers(meter.observers());
    let table = DynamoDbCacheStorage::new(options).unwrap();
    table.create_table().await.unwrap();
    let storage = meter.stack(table);
    put(&storage, "k", "old").await.unwrap();
    assert!(fetch(&storage, "k").await.unwrap().is_some());
    assert_eq!(meter.count(names::DDB_EXPIRED_FILTERED_TOTAL, &[]), 0);
    clock.advance(hours(1));
    assert_eq!(fetch(&storage, "k").await.unwrap(), None);
    assert_eq!(meter.count(names::DDB_EXPIRED_FILTERED_TOTAL, &[]), 1);
    let missed = [("backend", "dynamodb"), ("op", "get"), ("outcome", "miss")];
    assert_eq!(meter.count(names::OPS_TOTAL, &missed), 1);
}

/// Every refusal for going too fast counts, and a few in a row do not open the breaker.
#[tokio::test]
async fn row_69_throttled_is_measured() {
    for code in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
    ] {
        let always = Always::new(Answer::error(400, code));
        for _ in 0..2 {
            assert_eq!(always.refusal().await, ErrorKind::Throttled, "{code}");
        }
        let requests = always.server.requests().len() as u64;
        let throttled = always.meter.count(names::DDB_THROTTLED_TOTAL, &[]);
        assert_eq!(throttled, requests, "{code}");
        let retries = [("backend", "dynamodb")];
        let retries = always.meter.count(names::RETRIES_TOTAL, &retries);
        assert_eq!(retries, requests - 2, "{code}");
        assert_eq!((always.outcomes("throttled"), always.opened()), (2, 0));
    }
}

/// Refusals for going too fast open the breaker by their rate only, however many come in a row.
#[tokio::test]
async fn row_69_throttling_opens_the_breaker_by_its_rate() {
    let always = Always::new(Answer::error(400, "ThrottlingException"));
    let mut calls = 0;
    while always.opened() == 0 {
        assert_eq!(always.refusal().await, ErrorKind::Throttled);
        calls += 1;
        assert!(calls <= 100, "it opens at last");
    }
    let minimum = u64::from(BreakerOptions::default().minimum_calls);
    assert_eq!(always.opened_for("rate"), 1);
    assert!(calls >= minimum, "it opened after {calls}");
    assert_eq!(always.refusal().await, ErrorKind::Rejected);
    assert_eq!(always.outcomes("throttled"), calls);
}

/// Failures of the server are repeated, are one outcome a call, and open the breaker in a row.
#[tokio::test]
async fn row_70_failures_of_the_server_are_measured() {
    let always = Always::new(Answer::error(500, "InternalServerError"));
    let mut calls = 0;
    while always.opened() == 0 {
        assert_eq!(always.refusal().await, ErrorKind::Backend);
        calls += 1;
        assert!(calls <= 20, "it opens at last");
    }
    assert_eq!(always.outcomes("5xx"), calls);
    let retries = [("backend", "dynamodb")];
    let retries = always.meter.count(names::RETRIES_TOTAL, &retries);
    assert_eq!(retries, calls * (ATTEMPTS as u64 - 1));
    assert_eq!(always.refusal().await, ErrorKind::Rejected);
    assert_eq!(always.outcomes("5xx"), calls, "it was turned away before");
    assert_eq!(always.meter.count(names::BREAKER_REJECTED_TOTAL, &[]), 1);
}

/// An item that is too large is the caller's trouble: however many there are, nothing opens.
#[tokio::test]
async fn row_71_an_item_that_is_too_large_for_the_server_is_measured() {
    let always = Always::new(refused_as("Item size has exceeded the maximum"));
    for _ in 0..20 {
        let error = put(&*always.storage, "k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
    let refused = [("op", "set"), ("outcome", "too_large")];
    assert_eq!(always.meter.count(names::OPS_TOTAL, &refused), 20);
    assert_eq!(always.opened(), 0);
}

/// One answer that the table is not what it should be opens the breaker, so that a chain goes on
/// without it.
#[tokio::test]
async fn row_72_no_table_or_another_one_is_measured() {
    for answer in [
        Answer::error(400, "ResourceNotFoundException"),
        refused_as("The provided key element does not match the schema"),
    ] {
        let always = Always::new(answer);
        assert_eq!(always.refusal().await, ErrorKind::Configuration);
        assert_eq!(
            (always.outcomes("config"), always.opened_for("config")),
            (1, 1)
        );
        assert_eq!(always.refusal().await, ErrorKind::Rejected);
        assert_eq!(always.server.requests().len(), 1, "nothing more was sent");
    }
}

/// Behind a table that is none and one whose credentials are refused, a chain goes on without it;
/// callers notice nothing, and what the next layer answered is counted.
#[tokio::test]
async fn row_72_and_row_73_a_chain_goes_on_without_the_table() {
    for code in ["ResourceNotFoundException", "ExpiredTokenException"] {
        let always = Always::new(Answer::error(400, code));
        let chain = FallbackStorage::builder(always.storage)
            .then(MemoryCacheStorage::new())
            .observers(always.meter.observers())
            .build()
            .unwrap();
        for _ in 0..3 {
            assert!(put(&chain, "k", "v").await.unwrap(), "{code}");
            assert_eq!(fetch(&chain, "k").await.unwrap().unwrap(), "v", "{code}");
        }
        let answered = [("from", "dynamodb"), ("to", "memory")];
        let answered = always.meter.count(names::FALLBACK_TOTAL, &answered);
        assert_eq!(answered, 6, "{code}");
        let requests = always.server.requests().len();
        assert!(requests <= 2, "each lane opens at its first: {requests}");
    }
}

/// Credentials that are refused or do not come have an outcome of their own and open the breaker.
#[tokio::test]
async fn row_73_credentials_that_are_refused_or_do_not_come_are_measured() {
    let always = Always::new(Answer::error(400, "ExpiredTokenException"));
    assert_eq!(always.refusal().await, ErrorKind::Configuration);
    assert_eq!(
        (always.outcomes("auth"), always.opened_for("config")),
        (1, 1)
    );

    let never = CredentialsSource::from_fn(std::future::pending);
    let always = Always::with(Answer::json(200, "{}"), |options| {
        options.with_credentials(never)
    });
    let reading = fetch(&*always.storage, "k");
    error_within(ErrorKind::Configuration, OPERATION, reading).await;
    assert_eq!(
        (always.outcomes("auth"), always.opened_for("config")),
        (1, 1)
    );
    let late = [("backend", "dynamodb"), ("phase", "operation")];
    assert_eq!(always.meter.count(names::TIMEOUTS_TOTAL, &late), 1);
}

/// An answer that hangs or drips ends within the time of an operation, and each wait counts.
#[tokio::test]
async fn row_74_an_answer_that_does_not_come_is_measured() {
    let found = || Answer::json(200, format!(r#"{{"Item":{ITEM}}}"#));
    for answer in [Answer::silence(), found().drip(1, millis(100))] {
        let always = Always::with(answer, |options| options);
        let reading = fetch(&*always.storage, "k");
        error_within(ErrorKind::Timeout, OPERATION, reading).await;
        let late = [("backend", "dynamodb"), ("phase", "read")];
        assert!(always.meter.count(names::TIMEOUTS_TOTAL, &late) >= 1);
        assert_eq!(always.outcomes("read"), 1);
    }
}

/// A condition that does not hold is an answer: it has an outcome, and the breaker thinks well of
/// it.
#[tokio::test]
async fn row_75_a_condition_that_does_not_hold_is_measured() {
    let refusal = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
    let body = format!(r#"{{"__type":"{refusal}","message":"no","Item":{ITEM}}}"#);
    let always = Always::new(Answer::json(400, body));
    let key = CacheKey::from("k");
    for _ in 0..20 {
        let deleting = always.storage.compare_and_delete(&key, b"other");
        assert!(!deleting.await.unwrap());
    }
    let not_met = [("op", "compare_and_delete"), ("outcome", "not_met")];
    assert_eq!(always.meter.count(names::OPS_TOTAL, &not_met), 20);
    assert_eq!(always.opened(), 0);
}
