//! The breaker for any operation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use cache_breaker::{BreakerOptions, CallError, CircuitBreaker, Outcome, Reason, State};
use cache_core::{CacheError, ErrorKind, Event, ManualClock, Observer, Observers};
use futures_util::FutureExt;

const SECOND: Duration = Duration::from_secs(1);

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let options = BreakerOptions::default().with_jitter(0.0);
    let breaker = CircuitBreaker::new("geo", options).expect("the options make sense");
    breaker.with_clock(clock.clone())
}

fn fail(breaker: &CircuitBreaker, outcome: Outcome) {
    breaker.admit().expect("it is closed").fail(outcome);
}

fn opened(clock: &ManualClock) -> CircuitBreaker {
    let breaker = breaker(clock);
    fail(&breaker, Outcome::Timeout);
    fail(&breaker, Outcome::Timeout);
    assert_eq!(breaker.state(), State::Open);
    breaker
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let options = BreakerOptions::default().with_failure_rate(f64::NAN);
    let error = CircuitBreaker::new("geo", options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn an_open_breaker_does_not_poll_the_operation() {
    let clock = ManualClock::new();
    let breaker = opened(&clock);
    let polled = AtomicU32::new(0);
    let operation = async {
        polled.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(1)
    };
    let Err(CallError::Rejected(rejected)) = breaker.call(operation).await else {
        panic!("it was let through");
    };
    assert_eq!(polled.load(Ordering::Relaxed), 0);
    assert_eq!(rejected.retry_after, Some(SECOND));
    assert_eq!(rejected.reason, Reason::Timeout);
    let error = CacheError::from(rejected);
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Rejected, "breaker_open")
    );
    assert_eq!(error.retry_after(), Some(SECOND));
    assert_eq!(
        error.message(),
        "the breaker \"geo\" is open (all, timeout)"
    );
}

#[tokio::test]
async fn errors_are_failures_unless_said_otherwise() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    for _ in 0..5 {
        let failed = breaker.call_with(async { Err::<(), _>("no") }, |_| Outcome::Neutral);
        assert_eq!(failed.await, Err(CallError::Failed("no")));
    }
    assert_eq!(breaker.state(), State::Closed);
    for _ in 0..3 {
        _ = breaker.call(async { Err::<(), _>("no") }).await;
    }
    assert_eq!(breaker.state(), State::Open);
    clock.advance(SECOND);
    for _ in 0..2 {
        assert_eq!(breaker.call(async { Ok::<_, ()>(1) }).await, Ok(1));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn an_open_breaker_reads_as_a_miss_and_errors_pass() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let found = breaker.execute_with_circuit_breaker(async { Ok(Some(1)) });
    assert_eq!(found.await.unwrap(), Some(1));
    let failure = || async { Err::<Option<u8>, _>(CacheError::new(ErrorKind::Timeout, "late")) };
    for _ in 0..2 {
        let error = breaker
            .execute_with_circuit_breaker(failure())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    let missed = breaker.execute_with_circuit_breaker(failure()).await;
    assert_eq!(missed.unwrap(), None);
    assert_eq!(breaker.snapshot().reason, Some(Reason::Timeout));
}

#[tokio::test]
async fn the_callers_own_mistakes_do_not_open() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    for kind in [ErrorKind::Key, ErrorKind::Serialization, ErrorKind::Closed] {
        for _ in 0..30 {
            let failure = async { Err::<Option<u8>, _>(CacheError::new(kind, "")) };
            let error = breaker.execute_with_circuit_breaker(failure).await;
            assert_eq!(error.unwrap_err().kind(), kind);
        }
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_dropped_probe_frees_its_lease() {
    let clock = ManualClock::new();
    let breaker = opened(&clock);
    clock.advance(SECOND);
    for _ in 0..3 {
        let probe = breaker.admit().unwrap();
        assert!(probe.is_probe());
        assert!(breaker.admit().is_err());
        drop(probe);
    }
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test]
async fn a_panicking_operation_frees_its_lease() {
    let clock = ManualClock::new();
    let breaker = opened(&clock);
    clock.advance(SECOND);
    let operation = breaker.call(async {
        if breaker.state() == State::HalfOpen {
            panic!("on purpose");
        }
        Ok::<(), ()>(())
    });
    let panicked = std::panic::AssertUnwindSafe(operation).catch_unwind().await;
    assert!(panicked.is_err());
    assert!(breaker.admit().unwrap().is_probe());
}

#[test]
fn one_probe_goes_where_ten_thousand_callers_want_to() {
    const THREADS: usize = 8;
    const CALLS: usize = 1250;

    let clock = ManualClock::new();
    let breaker = opened(&clock);
    clock.advance(SECOND);
    let start = Arc::new(Barrier::new(THREADS));
    let callers = (0..THREADS).map(|_| {
        let (breaker, start) = (breaker.clone(), Arc::clone(&start));
        std::thread::spawn(move || {
            start.wait();
            let admitted = (0..CALLS).filter_map(|_| breaker.admit().ok());
            admitted.collect::<Vec<_>>()
        })
    });
    let callers: Vec<_> = callers.collect();
    let permits = callers
        .into_iter()
        .flat_map(|caller| caller.join().unwrap());
    let permits: Vec<_> = permits.collect();
    assert_eq!(permits.len(), 1);
    assert!(permits[0].is_probe());
}

#[test]
fn a_breaker_is_set_by_hand_and_shows_how_it_stands() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    assert_eq!(breaker.snapshot().reason, None);
    clock.advance(SECOND);
    breaker.force_open();
    clock.advance(3 * SECOND);
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::ForcedOpen);
    assert_eq!(snapshot.since, 3 * SECOND);
    assert_eq!(snapshot.reason, Some(Reason::Manual));
    assert_eq!((snapshot.retry_after, snapshot.lane), (None, "all"));
    assert_eq!(breaker.admit().unwrap_err().retry_after, None);
    breaker.disable();
    fail(&breaker, Outcome::Configuration);
    breaker.force_closed();
    fail(&breaker, Outcome::Configuration);
    fail(&breaker, Outcome::Failure);
    assert_eq!(breaker.snapshot().counts.failures, 1);
    assert_eq!(breaker.state(), State::ForcedClosed);
    breaker.automatic();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().counts.failures, 0);
    let shown = format!("{breaker:?}");
    assert_eq!(shown, "CircuitBreaker { name: \"geo\", state: Closed, .. }");
}

/// Writes down what it is told, and asks the breaker how it stands each time, which would never
/// return if it were told under the lock.
#[derive(Debug, Default)]
struct Curious {
    breaker: Arc<Mutex<Option<CircuitBreaker>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Observer for Curious {
    fn observe(&self, event: &Event<'_>) {
        let breaker = self.breaker.lock().expect("nobody panics");
        if let Some(breaker) = &*breaker {
            _ = breaker.snapshot();
        }
        let line = match event {
            Event::BreakerTransition {
                breaker,
                lane,
                from,
                to,
                reason,
                message,
                open_for,
                ..
            } => format!("{breaker} {lane}: {from} {to} {reason} {message:?} {open_for:?}"),
            Event::BreakerRejected { breaker, lane } => format!("{breaker} {lane}: rejected"),
            Event::BreakerProbe {
                breaker,
                lane,
                result,
            } => format!("{breaker} {lane}: probe {result}"),
            other => format!("{other:?}"),
        };
        self.told.lock().expect("nobody panics").push(line);
    }
}

#[tokio::test]
async fn observers_are_told_outside_of_the_lock() {
    let clock = ManualClock::new();
    let curious = Curious::default();
    let (told, slot) = (Arc::clone(&curious.told), Arc::clone(&curious.breaker));
    let breaker = breaker(&clock).with_observers(Observers::new(curious));
    *slot.lock().unwrap() = Some(breaker.clone());
    let late = || async { Err::<Option<u8>, _>(CacheError::new(ErrorKind::Timeout, "late")) };
    for _ in 0..3 {
        _ = breaker.execute_with_circuit_breaker(late()).await;
    }
    clock.advance(SECOND);
    drop(breaker.admit().unwrap());
    breaker.admit().unwrap().fail(Outcome::Configuration);
    clock.advance(5 * SECOND);
    breaker.admit().unwrap().succeed();
    breaker.admit().unwrap().succeed();
    breaker.disable();
    *slot.lock().unwrap() = None;
    let expected = [
        "geo all: closed open timeout Some(\"late\") Some(1s)",
        "geo all: rejected",
        "geo all: open half_open elapsed None None",
        "geo all: probe none",
        "geo all: probe failure",
        "geo all: half_open open config None Some(5s)",
        "geo all: open half_open elapsed None None",
        "geo all: probe success",
        "geo all: probe success",
        "geo all: half_open closed probe None None",
        "geo all: closed disabled manual None None",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}
