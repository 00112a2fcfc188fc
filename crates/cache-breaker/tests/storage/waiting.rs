//! How long callers wait.

use std::sync::Arc;
use std::time::Duration;

use cache_breaker::BreakerOptions;
use cache_core::{CacheKey, CacheStorage, Condition, ErrorKind, NewEntry, Operation, Ttl};
use tokio::time::Instant;

use crate::scripted::{Stage, Step};

const SECOND: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn stage() -> Stage {
    Stage::new(BreakerOptions::default())
}

fn key(key: &str) -> CacheKey {
    CacheKey::from(key)
}

fn set(stage: &Stage) -> impl Future<Output = cache_core::Result<bool>> + use<> {
    let storage = Arc::clone(&stage.storage);
    let entry = NewEntry::new("value", Ttl::FOREVER);
    async move { storage.set(&key("k"), entry, Condition::Always).await }
}

/// Lets other tasks run until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_little_more_than_an_attempt() {
    let stage = stage();
    stage.script.always(Step::Hang);
    let start = Instant::now();
    let error = stage.storage.get(&key("k")).await.unwrap_err();
    assert_eq!(start.elapsed(), ms(120));
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Timeout, "patience")
    );
    assert!(!error.may_have_happened());
    assert_eq!(
        error.to_string(),
        "memory get \"k\": no answer within 120ms"
    );
    assert_eq!(stage.script.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_waited_for_in_vain_may_have_happened() {
    let stage = stage();
    stage.script.always(Step::Hang);
    let error = set(&stage).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Timeout, "patience")
    );
    assert!(error.may_have_happened());
    assert_eq!(error.operation(), Some(Operation::Set));
}

#[tokio::test(start_paused = true)]
async fn patience_is_an_option_and_an_answer_in_time_is_none_too_late() {
    let stage = Stage::new(BreakerOptions::default().with_patience(ms(10)));
    stage.script.always(Step::Take(ms(9)));
    assert!(stage.storage.get(&key("k")).await.is_ok());
    stage.script.always(Step::Take(ms(11)));
    let start = Instant::now();
    assert!(stage.storage.get(&key("k")).await.is_err());
    assert_eq!(start.elapsed(), ms(10));
}

#[tokio::test(start_paused = true)]
async fn waiting_in_vain_twice_opens() {
    let stage = stage();
    stage.script.always(Step::Hang);
    for _ in 0..2 {
        assert!(stage.storage.get(&key("k")).await.is_err());
    }
    assert_eq!(stage.lanes(), ["read open", "write closed"]);
}

#[tokio::test(start_paused = true)]
async fn batches_keep_the_deadline_of_the_storage_inside_and_probes_do_not() {
    let stage = stage();
    stage.script.always(Step::Take(SECOND));
    let keys = [key("k"), key("l")];
    let results = stage.storage.get_many(&keys).await;
    assert!(results.iter().all(Result::is_ok));
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    stage.script.always(Step::Take(SECOND));
    let start = Instant::now();
    let results = stage.storage.get_many(&keys).await;
    assert_eq!(start.elapsed(), ms(120));
    for (result, key) in results.into_iter().zip(&keys) {
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.key()),
            ("patience", Some(key.as_str()))
        );
    }
    assert_eq!(stage.lanes(), ["read open", "write closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_clear_may_take_its_time_unless_it_is_a_probe() {
    let stage = stage();
    stage.script.always(Step::Take(SECOND));
    let everything = cache_core::ClearScope::everything();
    assert!(stage.storage.clear(&everything).await.is_ok());
    stage
        .script
        .always(Step::Fail(ErrorKind::Connection, "refused"));
    for _ in 0..3 {
        assert!(stage.storage.clear(&everything).await.is_err());
    }
    stage.clock.advance(SECOND);
    stage.script.always(Step::Take(SECOND));
    let error = stage.storage.clear(&everything).await.unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_happened()),
        ("patience", true)
    );
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_stop_waiting_when_the_breaker_opens() {
    let stage = stage();
    stage.script.always(Step::Hang);
    let storage = Arc::clone(&stage.storage);
    let read = tokio::spawn(async move { storage.get(&key("k")).await });
    let storage = Arc::clone(&stage.storage);
    let batch = tokio::spawn(async move { storage.get_many(&[key("k"), key("l")]).await });
    let write = tokio::spawn(set(&stage));
    until(|| stage.script.under_way() == 3).await;
    tokio::time::advance(ms(20)).await;
    let start = Instant::now();
    stage.storage.handle().force_open();

    let error = read.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Rejected, "breaker_opened")
    );
    assert!(!error.may_have_happened());
    for (result, key) in batch.await.unwrap().into_iter().zip(["k", "l"]) {
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.key()), ("breaker_opened", Some(key)));
    }
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Timeout, "breaker_opened")
    );
    assert!(error.may_have_happened());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(stage.script.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_are_freed_by_the_failure_of_others() {
    let stage = stage();
    stage.script.always(Step::Hang);
    let storage = Arc::clone(&stage.storage);
    let hung = tokio::spawn(async move { storage.get(&key("k")).await });
    let storage = Arc::clone(&stage.storage);
    let other_lane = tokio::spawn(async move { storage.delete(&key("k")).await });
    until(|| stage.script.under_way() == 2).await;
    tokio::time::advance(ms(20)).await;
    stage.open_reads("k").await;
    assert_eq!(hung.await.unwrap().unwrap_err().code(), "breaker_opened");
    assert_eq!(other_lane.await.unwrap().unwrap_err().code(), "patience");
}

/// A batch under way over `a` and `b`, neither of which answers.
async fn hung_batch(stage: &Stage) -> tokio::task::JoinHandle<Vec<cache_core::Result<()>>> {
    stage.script.always(Step::Hang);
    let storage = Arc::clone(&stage.storage);
    let keys = [key("a:1"), key("b:1")];
    let batch = tokio::spawn(async move { storage.delete_many(&keys).await });
    until(|| stage.script.under_way() == 1).await;
    tokio::time::advance(ms(20)).await;
    batch
}

/// Opens the write lane of the server of `key`.
async fn open_writes(stage: &Stage, key: &str, code: &'static str) {
    let kind = match code {
        "oom" => ErrorKind::Overloaded,
        _ => ErrorKind::Configuration,
    };
    stage.script.always(Step::Fail(kind, code));
    for _ in 0..3 {
        let entry = NewEntry::new("value", Ttl::FOREVER);
        let key = CacheKey::from(key);
        let set = stage.storage.set(&key, entry, Condition::Always);
        assert!(set.await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_stops_waiting_when_all_its_servers_have_opened() {
    let stage = stage();
    let batch = hung_batch(&stage).await;
    open_writes(&stage, "b:1", "auth").await;
    tokio::time::advance(SECOND).await;
    assert!(!batch.is_finished());
    open_writes(&stage, "a:1", "auth").await;
    for result in batch.await.unwrap() {
        assert_eq!(result.unwrap_err().code(), "breaker_opened");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_whatever_the_breaker_says_is_not_stopped_by_it() {
    let stage = stage();
    open_writes(&stage, "a:1", "oom").await;
    let batch = hung_batch(&stage).await;
    open_writes(&stage, "b:1", "auth").await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!batch.is_finished());
    batch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_within_its_first_moments_is_told_later() {
    let stage = stage();
    stage.script.always(Step::Hang);
    let storage = Arc::clone(&stage.storage);
    let read = tokio::spawn(async move { storage.get(&key("k")).await });
    until(|| stage.script.under_way() == 1).await;
    stage.storage.handle().force_open();
    let start = Instant::now();
    assert_eq!(read.await.unwrap().unwrap_err().code(), "breaker_opened");
    assert!(start.elapsed() <= ms(16));
}

#[tokio::test(start_paused = true)]
async fn an_opening_before_a_call_does_not_stop_it() {
    let stage = stage();
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    stage.script.always(Step::Take(ms(50)));
    for _ in 0..3 {
        assert!(stage.storage.get(&key("k")).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn half_the_patience_is_slow() {
    let stage = stage();
    stage.script.always(Step::Pass);
    let clock = stage.clock.clone();
    stage.script.say(move |_, _| {
        clock.advance(ms(60));
        Step::Pass
    });
    for _ in 0..20 {
        assert!(stage.storage.get(&key("k")).await.is_ok());
    }
    assert_eq!(stage.told(), ["memory read: closed open slow"]);
}
