//! A storage with plans does to its calls what they say, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, DisabledStorage, ErrorKind,
    NewEntry, Operation, Result, Ttl,
};
use cache_testkit::chaos::{ChaosStorage, Plan};

/// A storage with plans around one without, which counts what arrives.
fn nested() -> (ChaosStorage, ChaosStorage) {
    let inside = ChaosStorage::new(DisabledStorage::new());
    (ChaosStorage::new(inside.clone()), inside)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system has a runtime left")
        .block_on(test)
}

fn trouble() -> CacheError {
    CacheError::new(ErrorKind::Connection, "connection refused").with_code("refused")
}

fn ttl() -> Ttl {
    Ttl::new(Duration::from_secs(60)).expect("a minute is a time to live")
}

async fn put(storage: &dyn CacheStorage, key: &str) -> Result<bool> {
    let entry = NewEntry::new("v", ttl());
    storage.set(&key.into(), entry, Condition::Always).await
}

fn keys(names: &[&str]) -> Vec<CacheKey> {
    names.iter().map(|name| CacheKey::from(*name)).collect()
}

/// The numbers of those of ten reads that fail, from 1.
async fn failed_reads(chaos: &ChaosStorage) -> Vec<u64> {
    let mut failed = Vec::new();
    for number in 1..=10 {
        if chaos.get(&"k".into()).await.is_err() {
            failed.push(number);
        }
    }
    failed
}

#[test]
fn without_a_plan_it_only_counts() {
    run(async {
        let (chaos, inside) = nested();
        put(&chaos, "k").await.unwrap();
        chaos.get(&"k".into()).await.unwrap();
        chaos.get_many(&keys(&["a", "b"])).await;
        chaos.ping().await.unwrap();
        assert_eq!((chaos.calls(), inside.calls()), (4, 4));
        assert_eq!(chaos.calls_of(Operation::GetMany), 1);
        assert_eq!(chaos.calls_of(Operation::Delete), 0);
        assert_eq!((chaos.struck(), chaos.hung()), (0, 0));
        assert_eq!(format!("{chaos:?}"), format!("Chaos({inside:?})"));
    });
}

#[test]
fn the_nth_every_nth_or_the_first_calls_fail() {
    run(async {
        for (plan, expected) in [
            (Plan::fail(trouble()), (1..=10).collect()),
            (Plan::fail(trouble()).nth(3), vec![3]),
            (Plan::fail(trouble()).every(4), vec![4, 8]),
            (Plan::fail(trouble()).first(2), vec![1, 2]),
            (Plan::fail(trouble()).on(Operation::Set), vec![]),
            (
                Plan::fail(trouble())
                    .on(Operation::Set)
                    .on(Operation::Get)
                    .nth(2),
                vec![2],
            ),
            (Plan::fail(trouble()).key("other"), vec![]),
            (Plan::fail(trouble()).key("other").key("k").nth(1), vec![1]),
            (
                Plan::fail(trouble()).when(|call| call.number > 8),
                vec![9, 10],
            ),
        ] {
            let (chaos, inside) = nested();
            let shown = format!("{plan:?}");
            chaos.add(plan);
            assert_eq!(failed_reads(&chaos).await, expected, "{shown}");
            let failed = expected.len() as u64;
            assert_eq!(chaos.struck(), failed, "{shown}");
            assert_eq!(inside.calls(), 10 - failed, "{shown}");
        }
    });
}

#[test]
fn the_first_plan_that_strikes_decides() {
    run(async {
        let (chaos, _) = nested();
        chaos.add(Plan::fail(trouble()).nth(2));
        chaos.add(Plan::fail(CacheError::new(ErrorKind::Timeout, "late")).nth(2));
        let mut kinds = Vec::new();
        for _ in 0..4 {
            let read = chaos.get(&"k".into()).await;
            kinds.push(read.err().map(|error| error.kind()));
        }
        let expected = [
            None,
            Some(ErrorKind::Connection),
            Some(ErrorKind::Timeout),
            None,
        ];
        assert_eq!(
            kinds, expected,
            "the second plan did not see the second call"
        );
        chaos.add(Plan::fail(trouble()));
        chaos.forget_plans();
        assert!(failed_reads(&chaos).await.is_empty());
    });
}

#[test]
fn an_error_names_what_was_called() {
    run(async {
        let (chaos, _) = nested();
        chaos.add(Plan::fail(trouble()));
        let error = put(&chaos, "user:42").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "none set \"user:42\": connection refused"
        );
        assert_eq!(error.code(), "refused");
        assert!(!error.may_have_happened());
        let error = chaos.clear(&ClearScope::everything()).await.unwrap_err();
        assert_eq!(error.operation(), Some(Operation::Clear));
    });
}

#[test]
fn a_lost_reply_is_that_of_a_call_that_happened() {
    run(async {
        let (chaos, inside) = nested();
        chaos.add(Plan::fail_after(trouble()));
        let error = put(&chaos, "k").await.unwrap_err();
        assert!(error.may_have_happened());
        assert_eq!(inside.calls_of(Operation::Set), 1);
        let error = chaos.increment(&"n".into(), 1, ttl()).await.unwrap_err();
        assert!(error.may_have_happened());
        let error = chaos.get(&"k".into()).await.unwrap_err();
        assert!(!error.may_have_happened(), "a read changes nothing");
        let written = chaos
            .set_many(vec![("k".into(), NewEntry::new("v", ttl()))])
            .await;
        assert!(written[0].as_ref().unwrap_err().may_have_happened());
        assert_eq!(inside.calls(), 4);
    });
}

#[test]
fn of_a_batch_only_the_keys_concerned_fail() {
    run(async {
        let (chaos, inside) = nested();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&arrived);
        inside.add(Plan::hang().when(move |call| {
            heard.lock().unwrap().push(call.keys.clone());
            false
        }));
        chaos.add(Plan::fail(trouble()).key("b").on(Operation::GetMany));
        chaos.add(
            Plan::fail_after(trouble())
                .key("b")
                .on(Operation::DeleteMany),
        );
        let wanted = keys(&["a", "b", "c", "b"]);
        let failed = |failures: Vec<bool>| assert_eq!(failures, [false, true, false, true]);
        let read = chaos.get_many(&wanted).await;
        failed(read.iter().map(Result::is_err).collect());
        assert_eq!(read[1].as_ref().unwrap_err().key(), Some("b"));
        let deleted = chaos.delete_many(&wanted).await;
        failed(deleted.iter().map(Result::is_err).collect());
        assert_eq!(*arrived.lock().unwrap(), [keys(&["a", "c"]), wanted]);
        chaos.add(Plan::fail(trouble()));
        let read = chaos.lookup_many(&keys(&["a", "c"])).await;
        assert!(read.iter().all(Result::is_err));
        assert_eq!(inside.calls(), 2, "nothing was left to ask");
    });
}

#[test]
fn what_hangs_goes_on_when_it_is_released() {
    run(async {
        for (plan, asked) in [(Plan::hang(), 0), (Plan::hang_after(), 1)] {
            let (chaos, inside) = nested();
            chaos.add(plan.on(Operation::Set));
            let hung = tokio::spawn({
                let chaos = chaos.clone();
                async move { put(&chaos, "k").await }
            });
            chaos.wait_until_hung(1).await;
            assert_eq!(inside.calls(), asked);
            chaos.get(&"k".into()).await.unwrap();
            assert!(!hung.is_finished());
            chaos.release();
            assert!(hung.await.unwrap().unwrap());
            assert_eq!(inside.calls_of(Operation::Set), 1);
            assert_eq!(chaos.hung(), 0);
        }
    });
}

#[test]
fn what_hangs_may_be_dropped() {
    run(async {
        let (chaos, inside) = nested();
        chaos.add(Plan::hang());
        let hung = tokio::spawn({
            let chaos = chaos.clone();
            async move { chaos.get_many(&keys(&["a"])).await }
        });
        chaos.wait_until_hung(1).await;
        hung.abort();
        chaos.wait_until_hung(0).await;
        assert_eq!(inside.calls(), 0);
    });
}

#[test]
fn a_delay_comes_before_the_call() {
    run(async {
        let (chaos, inside) = nested();
        chaos.add(Plan::delay(Duration::from_millis(30)).first(1));
        let started = Instant::now();
        let hurried = tokio::time::timeout(Duration::from_millis(1), put(&chaos, "k")).await;
        assert!(hurried.is_err());
        assert_eq!(inside.calls(), 0);
        chaos.forget_plans();
        chaos.add(Plan::delay(Duration::from_millis(30)));
        put(&chaos, "k").await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(30));
    });
}

#[test]
fn a_panic_is_the_callers_and_breaks_nothing() {
    let (chaos, inside) = nested();
    chaos.add(Plan::panic().nth(1));
    let call = AssertUnwindSafe(|| run(async { chaos.ping().await }));
    assert!(catch_unwind(call).is_err());
    run(async { chaos.ping().await }).unwrap();
    assert_eq!((chaos.calls(), inside.calls()), (2, 1));
}

#[test]
fn an_outage_goes_before_all_plans_until_it_ends() {
    run(async {
        let (chaos, _) = nested();
        chaos.add(Plan::fail(CacheError::new(ErrorKind::Timeout, "late")));
        chaos.start_outage(Plan::fail(trouble()));
        let error = chaos.get(&"k".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection);
        chaos.forget_plans();
        assert!(chaos.get(&"k".into()).await.is_err());
        assert!(chaos.shutdown(Duration::ZERO).await.is_err());
        chaos.end_outage();
        assert!(chaos.get(&"k".into()).await.is_ok());
    });
}

#[test]
fn a_condition_may_ask_the_storage_itself() {
    run(async {
        let (chaos, _) = nested();
        let itself = chaos.clone();
        chaos.add(Plan::fail(trouble()).when(move |_| {
            itself.end_outage();
            itself.calls() == 2
        }));
        assert_eq!(failed_reads(&chaos).await, [2]);
        // The plan and the storage own each other.
        chaos.forget_plans();
    });
}
