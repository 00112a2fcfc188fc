//! How long it takes to get over one failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{CacheStorage, millis};
use cache_testkit::servers::Answer;
use tokio::sync::RwLock;

use super::stub::Stub;
use crate::support::{fetch, minute, put, storage, timed};

/// What getting over one failure may cost, half of the time. The time that the same operation takes
/// without it is the machine's and does not count.
const MEDIAN: Duration = millis(25);

/// How many operations a median is taken of.
const REPETITIONS: usize = 41;

/// How often the machine may be too busy to tell.
const TRIES: usize = 5;

/// Held by those tests that keep the machine busy for long, and alone by those that measure.
pub(super) fn quiet() -> &'static RwLock<()> {
    static QUIET: RwLock<()> = RwLock::const_new(());
    &QUIET
}

/// What the next request meets.
type Ahead = Arc<Mutex<Option<Answer>>>;

/// A server that is sound but for one request now and then.
fn stumbling() -> (Stub, Ahead) {
    let ahead = Ahead::default();
    let next = Arc::clone(&ahead);
    let stub = Stub::start(move |request, model| {
        let failure = next.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or_else(|| model.answer(request))
    });
    (stub, ahead)
}

/// Asserts that `operation` succeeds over `failure`, and that half of the time that costs no more
/// than the bound.
async fn gets_over(failure: Answer, operation: impl AsyncFn(&dyn CacheStorage)) {
    let (stub, ahead) = stumbling();
    let storage = storage(stub.default_options());
    let mut medians = Vec::new();
    for _ in 0..TRIES {
        let mut costs = Vec::with_capacity(REPETITIONS);
        for _ in 0..REPETITIONS {
            let ((), usual) = timed(operation(&storage)).await;
            *ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
            let ((), took) = timed(operation(&storage)).await;
            costs.push(took.saturating_sub(usual));
            let is_left = ahead
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some();
            assert!(!is_left, "the operation met the failure");
        }
        costs.sort_unstable();
        medians.push(costs[REPETITIONS / 2]);
        if costs[REPETITIONS / 2] <= MEDIAN {
            return;
        }
    }
    assert!(medians.is_empty(), "the medians are {medians:?}");
}

async fn read(storage: &dyn CacheStorage) {
    assert_eq!(fetch(storage, "k").await.expect("it is read"), None);
}

async fn write(storage: &dyn CacheStorage) {
    assert!(put(storage, "w", "v").await.expect("it is written"));
}

async fn count(storage: &dyn CacheStorage) {
    let counted = storage.increment(&"n".into(), 1, minute()).await;
    assert!(counted.expect("it counts").value > 0);
}

#[tokio::test]
async fn one_throttle_costs_little() {
    let _alone = quiet().write().await;
    let throttle = || Answer::error(400, "ProvisionedThroughputExceededException");
    gets_over(throttle(), read).await;
    gets_over(throttle(), write).await;
    gets_over(throttle(), count).await;
}

#[tokio::test]
async fn one_failure_of_the_server_costs_little() {
    let _alone = quiet().write().await;
    let failure = || Answer::error(500, "InternalServerError");
    gets_over(failure(), read).await;
    gets_over(failure(), write).await;
}

#[tokio::test]
async fn one_dead_connection_costs_little() {
    let _alone = quiet().write().await;
    gets_over(Answer::reset(), read).await;
    gets_over(Answer::reset(), write).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_after_each_answer_costs_little() {
    let _alone = quiet().write().await;
    for is_announced in [true, false] {
        let stub = Stub::start(move |request, model| match is_announced {
            true => model.answer(request).then_close(),
            false => model.answer(request).then_hang_up(),
        });
        let storage = storage(stub.default_options());
        let mut medians = Vec::new();
        while medians.last().is_none_or(|median| *median > MEDIAN) {
            assert!(medians.len() < TRIES, "the medians are {medians:?}");
            let mut took = Vec::with_capacity(REPETITIONS);
            for _ in 0..REPETITIONS {
                took.push(timed(read(&storage)).await.1);
            }
            took.sort_unstable();
            medians.push(took[REPETITIONS / 2]);
        }
    }
}
