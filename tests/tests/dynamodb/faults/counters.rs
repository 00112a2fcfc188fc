//! Counters, which must count once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cache_core::{CacheError, CacheKey, CacheStorage, Counter, ErrorKind, millis};
use cache_dynamo::DynamoDbCacheStorage;
use cache_testkit::servers::{Answer, Request};
use fastrand::Rng;

use super::model::{Model, keys};
use super::speed::quiet;
use super::stub::Stub;
use crate::support::{minute, storage};

/// Shorter than the slowest answers.
const ATTEMPT: Duration = millis(50);

fn throttle() -> Answer {
    Answer::error(400, "ProvisionedThroughputExceededException")
}

fn failure() -> Answer {
    Answer::error(500, "InternalServerError")
}

async fn count(storage: &DynamoDbCacheStorage) -> Result<Counter, CacheError> {
    storage.increment(&"n".into(), 1, minute()).await
}

#[tokio::test]
async fn an_increment_is_repeated_after_throttles() {
    let stub = Stub::start(|request, model| match request.number {
        0 | 1 => throttle(),
        _ => model.answer(request),
    });
    let counted = count(&stub.storage()).await.unwrap();
    assert_eq!(counted.value, 1);
    // A counter starts in three steps: there is none to add to, it is looked at, it is written.
    assert_eq!(stub.requests().len(), 2 + 3);
    assert_eq!(stub.model().writes("n"), 1);

    let stub = Stub::saying(throttle());
    let error = count(&stub.storage()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    assert!(error.is_transient() && !error.may_have_happened());
    assert_eq!(stub.requests().len(), 3);
}

#[tokio::test]
async fn an_increment_of_unknown_outcome_is_not_repeated() {
    for was_executed in [true, false] {
        for answer in [failure(), Answer::reset(), Answer::silence()] {
            for is_known in [true, false] {
                let lost = answer.clone();
                let stub = Stub::start(move |request, model| match request.operation() {
                    "PutItem" if !is_known => lose(request, model, was_executed, &lost),
                    "UpdateItem" if is_known => lose(request, model, was_executed, &lost),
                    _ => model.answer(request),
                });
                if is_known {
                    stub.model().insert_counter("n", 0);
                }
                let options = stub.options().with_attempt_timeout(millis(300));
                let (counted, requests) = stub.counting(count(&storage(options))).await;
                let error = counted.unwrap_err();
                assert!(error.may_have_happened(), "{answer:?}: {error}");
                assert!(error.is_transient(), "{answer:?}: {error}");
                let expected = if is_known { 1 } else { 3 };
                assert_eq!(requests, expected, "{answer:?}: {error}");
                assert_eq!(stub.model().writes("n"), u32::from(was_executed));
            }
        }
    }
}

fn lose(request: &Request, model: &mut Model, was_executed: bool, answer: &Answer) -> Answer {
    if was_executed {
        model.execute(request);
    }
    answer.clone()
}

/// Each counter is one task's own: whatever goes wrong, each increment is in it once, or not at
/// all, as its caller was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_an_increment_counts_as_often_as_its_caller_knows() {
    let _shared = quiet().read().await;
    let seed = fastrand::u64(..);
    let (stub, storage) = unreliable(seed);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (stub, storage) = (Arc::clone(&stub), Arc::clone(&storage));
            tokio::spawn(async move {
                let mut rng = Rng::with_seed(seed ^ task);
                let mut outcomes = [0; 3];
                for number in 0..20 {
                    let key = format!("{task}:{number}");
                    count_own(&stub, &storage, &key, &mut rng, &mut outcomes).await;
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes = [0; 3];
    for task in tasks {
        let of_task = task.await;
        assert!(of_task.is_ok(), "seed {seed}");
        let sums = outcomes.iter_mut().zip(of_task.unwrap_or_default());
        sums.for_each(|(sum, part)| *sum += part);
    }
    assert!(outcomes.iter().all(|number| *number > 5), "{outcomes:?}");
}

/// Counts until the outcome is unknown, and compares. What the outcome was is counted too: done,
/// failed, unknown.
async fn count_own(
    stub: &Stub,
    storage: &DynamoDbCacheStorage,
    key: &str,
    rng: &mut Rng,
    outcomes: &mut [u32; 3],
) {
    let mut sum = 0;
    for done in 0..20 {
        let delta = rng.i64(-5..50);
        let counted = storage
            .increment(&CacheKey::from(key), delta, minute())
            .await;
        let writes = stub.model().writes(key);
        match counted {
            Ok(counter) => {
                sum += delta;
                outcomes[0] += 1;
                assert_eq!((counter.value, writes), (sum, done + 1), "{key}");
            }
            Err(error) if error.may_have_happened() => {
                outcomes[2] += 1;
                assert!((done..=done + 1).contains(&writes), "{key}: {error:?}");
                return;
            }
            Err(error) => {
                outcomes[1] += 1;
                assert_eq!(writes, done, "{key}: {error:?}");
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_a_shared_counter_is_between_the_known_and_the_possible() {
    let _shared = quiet().read().await;
    let seed = fastrand::u64(..);
    let (stub, storage) = unreliable(seed);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let (mut known, mut unknown) = (0, 0);
                for _ in 0..50 {
                    match count(&storage).await {
                        Ok(_) => known += 1,
                        Err(error) => unknown += u32::from(error.may_have_happened()),
                    }
                }
                (known, unknown)
            })
        })
        .collect();
    let (mut known, mut unknown) = (0, 0);
    for task in tasks {
        let (known_to_task, unknown_to_task) = task.await.expect("no task panics");
        known += known_to_task;
        unknown += unknown_to_task;
    }
    let model = stub.model();
    let writes = model.writes("n");
    assert_eq!(model.value("n"), Some(&*writes.to_string()), "seed {seed}");
    assert!(known > 100 && unknown > 10, "{known} and {unknown}");
    let possible = known..=known + unknown;
    assert!(
        possible.contains(&writes),
        "{writes} of {possible:?}, seed {seed}"
    );
}

/// A server that fails every third request, before or after it has executed it, and a storage that
/// does not wait for its slowest answers.
fn unreliable(seed: u64) -> (Arc<Stub>, Arc<DynamoDbCacheStorage>) {
    let number = AtomicU32::new(0);
    let stub = Stub::start(move |request, model| {
        assert_eq!(keys(request).len(), 1);
        let number = number.fetch_add(1, Ordering::Relaxed);
        let mut rng = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let was_executed = rng.bool();
        match rng.u32(..24) {
            0..4 => throttle(),
            4 => lose(request, model, was_executed, &failure()),
            5 => lose(request, model, was_executed, &Answer::reset()),
            6 => model.answer(request).then_hang_up(),
            7 => lose(request, model, was_executed, &failure().after(2 * ATTEMPT)),
            8 => model.answer(request).reset_after(rng.usize(..200)),
            _ => model.answer(request),
        }
    });
    let options = stub.options().with_attempt_timeout(ATTEMPT);
    (Arc::new(stub), Arc::new(storage(options)))
}
