//! How tiers are put together.

use std::error::Error as _;
use std::time::Duration;

use cache_core::{ConfigurationErrors, DisabledStorage, StorageInfo, TieredStorage};

use super::*;

fn problems(builder: TieredBuilder) -> Vec<String> {
    let error = builder.build().expect_err("something is wrong");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let source = error.source().expect("it has a source");
    let all: &ConfigurationErrors = source.downcast_ref().expect("it is a list");
    all.0.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let builder = TieredStorage::builder()
        .tier(MemoryCacheStorage::new())
        .tier_with(
            MemoryCacheStorage::new(),
            TierOptions::default().with_ttl_cap(Duration::ZERO),
        )
        .counters_in("redis")
        .journal_capacity(0);
    let problems = problems(builder);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(
        problems[0],
        "name: two tiers are called \"memory\"; give one another name"
    );
    assert_eq!(
        problems[1],
        "counters_in: \"redis\" is not a tier; expected memory, memory"
    );
}

#[test]
fn one_tier_is_none() {
    let one = TieredStorage::builder().tier(MemoryCacheStorage::new());
    assert_eq!(problems(one), ["tier: a stack of tiers needs two of them"]);
    assert_eq!(problems(TieredStorage::builder()).len(), 1);
}

#[test]
fn tiers_are_called_as_their_backends() {
    let stack = TieredStorage::new(MemoryCacheStorage::new(), DisabledStorage::new());
    let stack = stack.expect("the names differ");
    let names: Vec<_> = stack.tiers().iter().map(|tier| tier.name).collect();
    assert_eq!(names, ["memory", "none"]);
    assert!(TieredStorage::new(MemoryCacheStorage::new(), MemoryCacheStorage::new()).is_err());
}

#[test]
fn debug_shows_the_tiers_fastest_first() {
    let stack = TieredStorage::new(DisabledStorage::new(), MemoryCacheStorage::new());
    let shown = format!("{:?}", stack.expect("the names differ"));
    assert!(shown.starts_with("Tiered(Disabled, Memory"), "{shown}");
}

#[test]
fn it_says_of_itself_what_the_last_tier_says() {
    let t = pair();
    let info = t.stack.info();
    assert_eq!(info.backend, "memory");
    assert_eq!(info.max_value_bytes, StorageInfo::MAX_VALUE_BYTES);
}

#[tokio::test]
async fn the_last_tier_is_what_a_ping_is_about_and_all_are_asked() {
    let t = pair();
    t.fast.start_outage(refused());
    t.stack.ping().await.unwrap();
    t.fast.end_outage();
    t.slow.start_outage(refused());
    assert!(t.stack.ping().await.is_err());
    assert_eq!(t.fast.calls_of(cache_core::Operation::Ping), 2);
}

#[tokio::test]
async fn a_shutdown_ends_every_tier() {
    let t = pair();
    t.stack.shutdown(secs(1)).await.unwrap();
    for error in [
        t.fast.get(&key("k")).await.unwrap_err(),
        t.slow.get(&key("k")).await.unwrap_err(),
        t.stack.get(&key("k")).await.unwrap_err(),
        t.stack.delete_report(&key("k")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}
