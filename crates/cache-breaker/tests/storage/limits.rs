//! How many calls are under way, and what becomes of those that are given up.

use std::sync::Arc;
use std::time::Duration;

use cache_breaker::BreakerOptions;
use cache_core::{CacheKey, CacheStorage, ErrorKind};
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::scripted::{Stage, Step};

const SECOND: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn key() -> CacheKey {
    CacheKey::from("k")
}

/// Sends so many reads at once, and returns the codes of those that fail.
async fn reads(stage: &Stage, calls: usize) -> Vec<&'static str> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let storage = Arc::clone(&stage.storage);
        tasks.spawn(async move { storage.get(&key()).await });
    }
    let results = tasks.join_all().await.into_iter();
    results
        .filter_map(|result| Some(result.err()?.code()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_of_a_half_open_breaker_send_one_probe() {
    let stage = Stage::new(BreakerOptions::default());
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    stage.script.always(Step::Take(ms(10)));
    let failed = reads(&stage, 10_000).await;
    assert_eq!(failed, ["breaker_open"; 9999]);
    assert_eq!(stage.script.sent(), ["get k"]);
    assert_eq!(stage.script.most_under_way(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_wait_and_are_then_turned_away_without_a_verdict() {
    let options = BreakerOptions::default().with_max_in_flight(8, ms(20));
    let stage = Stage::new(options);
    stage.script.always(Step::Take(ms(50)));
    let start = Instant::now();
    let failed = reads(&stage, 1000).await;
    assert_eq!(failed, ["saturated"; 992]);
    assert_eq!(start.elapsed(), ms(50));
    assert_eq!(stage.script.most_under_way(), 8);
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
    assert_eq!(stage.told(), ["memory: saturated"; 992]);
}

#[tokio::test(start_paused = true)]
async fn calls_get_their_turn_in_the_order_they_came() {
    let options = BreakerOptions::default().with_max_in_flight(1, ms(20));
    let stage = Stage::new(options);
    stage.script.always(Step::Take(ms(6)));
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let storage = Arc::clone(&stage.storage);
        tasks.spawn(async move { storage.get(&CacheKey::from(format!("{number}"))).await });
    }
    let failed = tasks
        .join_all()
        .await
        .iter()
        .filter(|result| result.is_err())
        .count();
    assert_eq!(failed, 4);
    assert_eq!(stage.script.sent(), ["get 0", "get 1", "get 2", "get 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_saturated_call_says_that_nothing_was_sent() {
    let options = BreakerOptions::default().with_max_in_flight(1, Duration::ZERO);
    let stage = Stage::new(options);
    stage.script.always(Step::Hang);
    let key = key();
    let mut hung = stage.storage.delete(&key);
    assert!((&mut hung).now_or_never().is_none());
    let error = stage.storage.delete(&key).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Overloaded, "saturated")
    );
    assert!(!error.may_have_happened());
    let errors = stage.storage.delete_many(std::slice::from_ref(&key)).await;
    assert_eq!(errors[0].as_ref().unwrap_err().code(), "saturated");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_does_not_keep_calls_that_are_turned_away_anyway() {
    let options = BreakerOptions::default().with_max_in_flight(1, SECOND);
    let stage = Stage::new(options);
    stage.open_reads("k").await;
    stage.script.always(Step::Hang);
    let storage = Arc::clone(&stage.storage);
    let hung = tokio::spawn(async move { storage.delete(&key()).await });
    while stage.script.under_way() == 0 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let error = stage.storage.get(&key()).await.unwrap_err();
    assert_eq!(
        (error.code(), start.elapsed()),
        ("breaker_open", Duration::ZERO)
    );
    hung.abort();
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_give_their_turn_back_and_say_nothing() {
    let options = BreakerOptions::default().with_max_in_flight(2, ms(20));
    let stage = Stage::new(options);
    stage.script.always(Step::Hang);
    for _ in 0..100 {
        assert!(stage.storage.get(&key()).now_or_never().is_none());
        let given_up = tokio::time::timeout(ms(1), stage.storage.get(&key())).await;
        assert!(given_up.is_err());
        let given_up = tokio::time::timeout(ms(30), stage.storage.get_many(&[key()])).await;
        assert!(given_up.is_err());
    }
    assert_eq!(stage.script.under_way(), 0);
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
    assert_eq!(stage.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_that_had_taken_long_are_slow() {
    let stage = Stage::new(BreakerOptions::default());
    stage.script.always(Step::Hang);
    for _ in 0..20 {
        let key = key();
        let mut call = stage.storage.get(&key);
        assert!((&mut call).now_or_never().is_none());
        stage.clock.advance(ms(60));
    }
    assert_eq!(stage.told(), ["memory read: closed open slow"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_lets_the_next_one_go() {
    let stage = Stage::new(BreakerOptions::default());
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    stage.script.always(Step::Hang);
    for _ in 0..3 {
        assert!(stage.storage.get(&key()).now_or_never().is_none());
        assert!(stage.storage.get_many(&[key()]).now_or_never().is_none());
    }
    assert_eq!(stage.lanes(), ["read half_open", "write closed"]);
}

#[tokio::test]
async fn a_storage_that_panics_keeps_neither_turn_nor_lease() {
    let options = BreakerOptions::default().with_max_in_flight(1, Duration::ZERO);
    let stage = Stage::new(options);
    stage.open_reads("k").await;
    stage.clock.advance(SECOND);
    stage.script.say(|_, key| match key {
        "k" => panic!("on purpose"),
        _ => Step::Pass,
    });
    let storage = Arc::clone(&stage.storage);
    let panicked = tokio::spawn(async move { storage.get(&key()).await }).await;
    assert!(panicked.unwrap_err().is_panic());
    for _ in 0..2 {
        assert!(stage.storage.get(&CacheKey::from("l")).await.is_ok());
    }
    assert_eq!(stage.lanes(), ["read closed", "write closed"]);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_dropped_nothing_is_lost() {
    const CALLS: usize = 20_000;

    let options = BreakerOptions::default().with_max_in_flight(4, ms(20));
    let stage = Stage::new(options);
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(7));
    stage.script.say(move |_, _| {
        let mut random = random.lock().expect("nobody panics");
        match random.u8(0..8) {
            0 => Step::Hang,
            1 => Step::Fail(ErrorKind::Timeout, "timeout"),
            2 => Step::Fail(ErrorKind::Configuration, "auth"),
            3..=5 => Step::Take(ms(random.u64(0..160))),
            _ => Step::Pass,
        }
    });
    let mut random = fastrand::Rng::with_seed(8);
    let mut tasks = JoinSet::new();
    for _ in 0..CALLS {
        let storage = Arc::clone(&stage.storage);
        let patience = ms(random.u64(0..150));
        let server = random.u8(b'a'..=b'c');
        let keys = ["1", "2"].map(|key| CacheKey::from(format!("{}:{key}", char::from(server))));
        let is_batch = random.bool();
        tasks.spawn(tokio::time::timeout(patience, async move {
            if is_batch {
                storage.get_many(&keys).await.remove(0).err()
            } else {
                storage.get(&keys[0]).await.err()
            }
        }));
        stage.clock.advance(ms(random.u64(0..200)));
        if tasks.len() > 16 {
            tasks
                .join_next()
                .await
                .expect("there are some")
                .expect("none panics")
                .ok();
        }
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(stage.script.under_way(), 0);
    assert!(stage.script.most_under_way() <= 4);

    stage.script.always(Step::Pass);
    stage.clock.advance(60 * SECOND);
    for server in ["a:1", "b:1", "c:1"] {
        for _ in 0..2 {
            assert!(stage.storage.get(&CacheKey::from(server)).await.is_ok());
        }
    }
    assert!(stage.lanes().iter().all(|lane| lane.ends_with("closed")));
    stage.script.always(Step::Take(ms(50)));
    assert_eq!(reads(&stage, 4).await, [""; 0]);
}
