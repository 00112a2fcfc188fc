//! Which calls a lane judges and turns away.

use std::time::Duration;

use cache_breaker::{BreakerOptions, BreakerStorage, State};
use cache_core::{
    CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, NewEntry, Operation, Ttl,
};
use cache_memory::MemoryCacheStorage;
use futures_util::FutureExt;

use crate::scripted::{Stage, Step};

const SECOND: Duration = Duration::from_secs(1);

fn stage() -> Stage {
    Stage::new(BreakerOptions::default())
}

fn entry() -> NewEntry {
    NewEntry::new("value", Ttl::FOREVER)
}

fn key(key: &str) -> CacheKey {
    CacheKey::from(key)
}

async fn set(stage: &Stage) -> cache_core::Result<bool> {
    stage
        .storage
        .set(&key("k"), entry(), Condition::Always)
        .await
}

#[tokio::test]
async fn reads_and_writes_open_apart() {
    let stage = stage();
    stage.open_reads("k").await;
    let error = stage.storage.get(&key("k")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Rejected, "breaker_open")
    );
    assert_eq!(error.retry_after(), Some(SECOND));
    assert_eq!(
        error.to_string(),
        "memory get \"k\": the breaker \"memory\" is open (read, timeout)"
    );
    assert_eq!(stage.script.sent(), [""; 0]);
    assert!(set(&stage).await.unwrap());
    assert_eq!(stage.lanes(), ["read open", "write closed"]);
}

#[tokio::test]
async fn each_operation_belongs_to_its_lane() {
    let stage = stage();
    let storage = &stage.storage;
    let one = key("k");
    stage.open_reads("k").await;
    assert!(storage.lookup(&one).await.is_err());
    assert!(storage.has(&one).await.is_err());
    assert!(storage.get_ttl(&one).await.is_err());
    assert!(storage.ping().await.is_err());
    assert!(storage.get_many(std::slice::from_ref(&one)).await[0].is_err());
    assert!(storage.lookup_many(std::slice::from_ref(&one)).await[0].is_err());
    assert_eq!(stage.script.sent(), [""; 0]);
    assert!(set(&stage).await.is_ok());
    assert!(storage.set_many(vec![(one.clone(), entry())]).await[0].is_ok());
    assert!(storage.increment(&key("n"), 1, Ttl::FOREVER).await.is_ok());
    assert!(storage.delete(&one).await.is_ok());
    assert!(storage.delete_many(std::slice::from_ref(&one)).await[0].is_ok());
    assert!(storage.compare_and_delete(&one, b"value").await.is_ok());
    assert!(storage.expire(&one, Ttl::FOREVER).await.is_ok());
    assert!(storage.expire_now(&one).await.is_ok());
    assert!(storage.clear(&ClearScope::everything()).await.is_ok());
}

#[tokio::test]
async fn it_closes_again_by_itself() {
    let stage = stage();
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    for _ in 0..2 {
        assert!(stage.storage.get(&key("k")).await.unwrap().is_none());
    }
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
    let expected = [
        "memory read: closed open timeout",
        "memory read: open half_open elapsed",
        "read: probe success",
        "read: probe success",
        "memory read: half_open closed probe",
    ];
    assert_eq!(stage.told(), expected);
}

#[tokio::test]
async fn misses_and_conditions_that_do_not_hold_are_successes() {
    let stage = stage();
    let late = Step::Fail(ErrorKind::Timeout, "timeout");
    for _ in 0..5 {
        stage.script.always(late);
        assert!(stage.storage.get(&key("k")).await.is_err());
        assert!(set(&stage).await.is_err());
        stage.script.always(Step::Pass);
        assert_eq!(stage.storage.get(&key("k")).await.unwrap(), None);
        let condition = Condition::IfPresent;
        let held = stage.storage.set(&key("k"), entry(), condition).await;
        assert!(!held.unwrap());
    }
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
}

#[tokio::test]
async fn wrong_configuration_opens_at_once_and_a_missing_permission_does_not() {
    let stage = stage();
    stage
        .script
        .always(Step::Fail(ErrorKind::Configuration, "noperm"));
    for _ in 0..30 {
        assert!(stage.storage.get(&key("k")).await.is_err());
    }
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
    stage
        .script
        .always(Step::Fail(ErrorKind::Configuration, "auth"));
    assert!(stage.storage.get(&key("k")).await.is_err());
    let error = stage.storage.get(&key("k")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(5 * SECOND));
    assert_eq!(stage.told()[0], "memory read: closed open config");
}

/// Opens the write lane for want of memory; what frees memory still works.
async fn full() -> Stage {
    let stage = stage();
    stage.script.say(|operation, _| match operation {
        Operation::Set | Operation::SetMany => Step::Fail(ErrorKind::Overloaded, "oom"),
        _ => Step::Pass,
    });
    for _ in 0..3 {
        assert!(set(&stage).await.is_err());
    }
    assert_eq!(stage.lanes(), ["read closed", "write open"]);
    assert_eq!(stage.told(), ["memory write: closed open overloaded"]);
    stage.script.sent();
    stage
}

#[tokio::test]
async fn what_frees_memory_is_sent_to_a_full_server_without_a_verdict() {
    let stage = full().await;
    let storage = &stage.storage;
    for after in [Duration::ZERO, SECOND] {
        stage.clock.advance(after);
        let one = key("k");
        assert!(storage.delete(&one).await.is_ok());
        assert!(storage.delete_many(std::slice::from_ref(&one)).await[0].is_ok());
        assert!(storage.compare_and_delete(&one, b"x").await.is_ok());
        assert!(storage.expire(&one, Ttl::FOREVER).await.is_ok());
        assert!(storage.expire_now(&one).await.is_ok());
        let expected = [
            "delete k",
            "delete_many k",
            "compare_and_delete k",
            "expire k",
            "expire_now k",
        ];
        assert_eq!(stage.script.sent(), expected);
        assert_eq!(stage.lanes(), ["read closed", "write open"]);
    }
    assert_eq!(stage.told(), [""; 0]);
}

#[tokio::test]
async fn a_full_server_is_probed_by_what_needs_memory() {
    let stage = full().await;
    assert_eq!(set(&stage).await.unwrap_err().kind(), ErrorKind::Rejected);
    stage.clock.advance(SECOND);
    assert_eq!(set(&stage).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert!(stage.storage.delete(&key("k")).await.is_ok());
    assert_eq!(stage.lanes(), ["read closed", "write open"]);
    stage.script.always(Step::Pass);
    stage.clock.advance(2 * SECOND);
    assert!(set(&stage).await.is_ok());
    assert_eq!(stage.lanes(), ["read closed", "write half_open"]);
    assert!(stage.storage.delete(&key("k")).await.is_ok());
    assert_eq!(stage.lanes(), ["read closed", "write half_open"]);
    assert!(set(&stage).await.is_ok());
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
}

#[tokio::test]
async fn a_server_that_is_gone_is_sent_no_deletes_although_it_was_full() {
    let stage = full().await;
    stage.clock.advance(SECOND);
    stage
        .script
        .always(Step::Fail(ErrorKind::Timeout, "timeout"));
    assert!(set(&stage).await.is_err());
    let error = stage.storage.delete(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
}

#[tokio::test]
async fn servers_open_apart() {
    let stage = stage();
    stage.open_reads("a:1").await;
    assert!(stage.storage.get(&key("a:2")).await.is_err());
    assert!(stage.storage.get(&key("b:1")).await.is_ok());
    assert!(stage.storage.ping().await.is_ok());
    let expected = [
        "read closed",
        "write closed",
        "a read open",
        "a write closed",
        "b read closed",
        "b write closed",
    ];
    assert_eq!(stage.lanes(), expected);
    assert_eq!(stage.told()[0], "memory a read: closed open timeout");
}

#[tokio::test]
async fn a_handle_sets_all_lanes() {
    let stage = stage();
    let handle = stage.storage.handle();
    assert!(stage.storage.get(&key("a:1")).await.is_ok());
    handle.force_open();
    assert!(stage.storage.get(&key("a:1")).await.is_err());
    assert!(stage.storage.get(&key("b:1")).await.is_err());
    assert!(set(&stage).await.is_err());
    handle.force_closed();
    stage
        .script
        .always(Step::Fail(ErrorKind::Timeout, "timeout"));
    for _ in 0..30 {
        let error = stage.storage.get(&key("c:1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    handle.automatic();
    let states = handle.breakers().into_iter().map(|lane| lane.state);
    assert!(states.eq([State::Closed; 8]));
    stage.open_reads("c:1").await;
    handle.disable();
    assert!(stage.storage.get(&key("c:1")).await.is_ok());
}

#[tokio::test]
async fn after_a_shutdown_every_call_is_closed_whatever_the_breaker_says() {
    let stage = stage();
    stage.open_reads("k").await;
    stage.storage.shutdown(SECOND).await.unwrap();
    stage.storage.shutdown(SECOND).await.unwrap();
    let error = stage.storage.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let errors = stage.storage.get_many(&[key("k")]).await;
    assert_eq!(errors[0].as_ref().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_storage_in_memory_needs_no_runtime() {
    let options = BreakerOptions::default();
    let storage = BreakerStorage::new(MemoryCacheStorage::new(), options).unwrap();
    let missed = storage.get(&key("k")).now_or_never().unwrap();
    assert_eq!(missed.unwrap(), None);
    assert!(format!("{storage:?}").starts_with("Breaker(Memory"));
}

#[test]
fn a_name_is_shown_in_place_of_the_backends() {
    let options = BreakerOptions::default();
    let storage = BreakerStorage::new(MemoryCacheStorage::new(), options).unwrap();
    let storage = storage.with_name("sessions");
    storage.handle().force_open();
    let error = storage.get(&key("k")).now_or_never().unwrap().unwrap_err();
    assert_eq!(
        error.message(),
        "the breaker \"sessions\" is open (read, manual)"
    );
    assert_eq!(error.backend(), Some("memory"));
    assert!(
        storage
            .breakers()
            .iter()
            .all(|lane| &*lane.breaker == "sessions")
    );
}
