//! A server that takes every request and never answers.

use std::time::Duration;

use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, Ttl, millis,
};
use cache_dynamo::{DynamoDbCacheStorage, KeySchema};
use cache_testkit::servers::Answer;

use super::speed::quiet;
use super::stub::Stub;
use crate::support::{SLACK, entry, minute, storage, timed};

type Result<T> = std::result::Result<T, CacheError>;

const TIMEOUT: Duration = millis(500);
const BULK_TIMEOUT: Duration = millis(700);
const CLEAR_TIMEOUT: Duration = millis(600);

/// How long after its deadline an operation may end.
const GRACE: Duration = millis(50);

/// How often each operation is measured: a busy machine may be late now and then.
const RUNS: usize = 3;

/// Servers that say nothing, and that stop in the middle.
fn silences() -> [Stub; 2] {
    let half = Answer::json(200, r#"{"Item":{"PK":{"S":"k"}}}"#).silence_after(90);
    [Stub::saying(Answer::silence()), Stub::saying(half)]
}

fn storage_over(stub: &Stub) -> DynamoDbCacheStorage {
    let options = stub.default_options().with_bulk_timeout(BULK_TIMEOUT);
    storage(options.with_clear_timeout(CLEAR_TIMEOUT))
}

/// Asserts that an operation times out at its deadline.
async fn ends(name: &str, deadline: Duration, operation: impl AsyncFn() -> Result<()>) {
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        let (outcome, took) = timed(operation()).await;
        let error = outcome.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
        assert!(error.is_transient(), "{name}: {error}");
        assert!(took <= deadline + SLACK, "{name} took {took:?}");
        shortest = shortest.min(took);
    }
    assert!(shortest <= deadline + GRACE, "{name} took {shortest:?}");
}

#[tokio::test]
async fn every_operation_on_one_key_ends_at_its_deadline() {
    let _alone = quiet().write().await;
    for stub in silences() {
        let storage = storage_over(&stub);
        let (storage, key) = (&storage, &CacheKey::from("k"));
        let set = async |condition| storage.set(key, entry("v"), condition).await.map(drop);
        let expire = async |ttl| storage.expire(key, ttl).await.map(drop);
        let equal = || Condition::IfEquals("v".into());
        tokio::join!(
            ends("get", TIMEOUT, async || storage.get(key).await.map(drop)),
            ends("lookup", TIMEOUT, async || storage
                .lookup(key)
                .await
                .map(drop)),
            ends("set", TIMEOUT, async || set(Condition::Always).await),
            ends("set if absent", TIMEOUT, async || set(Condition::IfAbsent)
                .await),
            ends("set if present", TIMEOUT, async || set(
                Condition::IfPresent
            )
            .await),
            ends("set if equal", TIMEOUT, async || set(equal()).await),
            ends("delete", TIMEOUT, async || storage
                .delete(key)
                .await
                .map(drop)),
            ends("has", TIMEOUT, async || storage.has(key).await.map(drop)),
            ends("expire", TIMEOUT, async || expire(minute()).await),
            ends("expire for ever", TIMEOUT, async || expire(Ttl::FOREVER)
                .await),
            ends("expire_now", TIMEOUT, async || storage
                .expire_now(key)
                .await
                .map(drop)),
            ends("get_ttl", TIMEOUT, async || storage
                .get_ttl(key)
                .await
                .map(drop)),
            ends("ping", TIMEOUT, async || storage.ping().await),
            ends("warm_up", TIMEOUT, async || storage.warm_up().await),
        );
    }
}

/// What is sent once has one attempt's time, not the operation's.
#[tokio::test]
async fn what_may_not_be_repeated_ends_with_its_attempt() {
    let _alone = quiet().write().await;
    let attempt = millis(250);
    for stub in silences() {
        let storage = storage_over(&stub);
        let key = CacheKey::from("k");
        ends("increment", attempt, async || {
            storage.increment(&key, 1, minute()).await.map(drop)
        })
        .await;
        ends("compare_and_delete", attempt, async || {
            storage.compare_and_delete(&key, b"v").await.map(drop)
        })
        .await;
    }
}

#[tokio::test]
async fn every_batch_ends_at_its_deadline() {
    let _alone = quiet().write().await;
    let keys: Vec<_> = (0..300).map(|n| CacheKey::from(format!("k:{n}"))).collect();
    for stub in silences() {
        let storage = storage_over(&stub);
        ends("get_many", BULK_TIMEOUT, async || {
            all(storage.get_many(&keys).await)
        })
        .await;
        ends("set_many", BULK_TIMEOUT, async || {
            let entries = keys.iter().map(|key| (key.clone(), entry("v")));
            all(storage.set_many(entries.collect()).await)
        })
        .await;
        ends("delete_many", BULK_TIMEOUT, async || {
            all(storage.delete_many(&keys).await)
        })
        .await;
    }
}

/// The error of the first key if every key has one.
fn all<T>(outcomes: Vec<Result<T>>) -> Result<()> {
    let mut first = Ok(());
    for outcome in outcomes.into_iter().rev() {
        match outcome {
            Ok(_) => return Ok(()),
            Err(error) => first = Err(error),
        }
    }
    first
}

#[tokio::test]
async fn a_clear_reports_at_its_deadline_that_it_is_not_complete() {
    let _alone = quiet().write().await;
    for schema in [
        KeySchema::default(),
        KeySchema::constant_partition("PK", "cache", "SK"),
    ] {
        let stub = Stub::saying(Answer::silence());
        let options = stub.default_options().with_clear_timeout(CLEAR_TIMEOUT);
        let storage = storage(options.with_key_schema(schema));
        let mut shortest = Duration::MAX;
        for _ in 0..RUNS {
            let scope = ClearScope::prefix("k").expect("it is a prefix");
            let (cleared, took) = timed(storage.clear(&scope)).await;
            let cleared = cleared.expect("it reports");
            assert_eq!((cleared.deleted, cleared.complete), (0, false));
            assert!(took <= CLEAR_TIMEOUT + SLACK, "{took:?}");
            shortest = shortest.min(took);
        }
        assert!(shortest <= CLEAR_TIMEOUT + GRACE, "{shortest:?}");
    }
}
