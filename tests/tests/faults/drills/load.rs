//! Callers who go on calling whatever happens, and what they see.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_core::{CacheError, CacheService, millis};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::value_of;

/// How many call at the same time.
pub(super) const TASKS: usize = 64;

/// How often each calls: all of them 500 times a second.
const EVERY: Duration = millis(128);

/// How many keys they share.
const KEYS: usize = 1000;

/// One call as its caller saw it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) began: Instant,
    pub(super) took: Duration,
    /// How long the machine let it wait before it began.
    pub(super) late: Duration,
    pub(super) is_write: bool,
    pub(super) error: Option<CacheError>,
}

/// A load of 500 calls a second from 64 tasks: three reads of text to one write, each value a
/// function of its key.
#[derive(Debug)]
pub(super) struct Load {
    tasks: JoinSet<()>,
    calls: Arc<Mutex<Vec<Call>>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    /// Begins, and returns once calls have been answered.
    pub(super) async fn on(service: &CacheService) -> Self {
        let mut load = Self {
            tasks: JoinSet::new(),
            calls: Arc::default(),
            is_over: Arc::default(),
        };
        for task in 0..TASKS {
            let (service, calls) = (service.clone(), Arc::clone(&load.calls));
            let is_over = Arc::clone(&load.is_over);
            load.tasks.spawn(async move {
                let mut pace = interval(EVERY);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                // Not all at the same moment.
                pace.reset_after(EVERY.mul_f64(task as f64 / TASKS as f64));
                for step in task.. {
                    // The call before may have taken longer than the pause after it.
                    let ready = Instant::now();
                    let due = pace.tick().await.into_std().max(ready);
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let call = call(&service, step, due).await;
                    calls
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(call);
                }
            });
        }
        super::until(|| load.calls().len() > 4 * TASKS).await;
        load
    }

    /// What was seen so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.clone()
    }

    /// Ends, and says what was seen from beginning to end.
    pub(super) async fn end(mut self) -> Vec<Call> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("no caller sees a wrong value");
        }
        self.calls()
    }
}

async fn call(service: &CacheService, step: usize, due: Instant) -> Call {
    // Far apart, so that what is written is read by others, and now and then.
    let key = (step * 7919 % KEYS).to_string();
    let is_write = step.is_multiple_of(4);
    let began = Instant::now();
    let error = if is_write {
        service.set(key.as_str(), &value_of(&key)).await.err()
    } else {
        let read = service.get::<String>(key.as_str()).await;
        if let Ok(Some(value)) = &read {
            assert_eq!(*value, value_of(&key), "somebody else's value");
        }
        read.err()
    };
    Call {
        began,
        took: began.elapsed(),
        late: began.saturating_duration_since(due),
        is_write,
        error,
    }
}

/// How long all but the slowest hundredth of these took at most.
pub(super) fn p99<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Duration {
    let mut took: Vec<_> = calls.into_iter().map(|call| call.took).collect();
    took.sort();
    took[took.len() * 99 / 100]
}

/// How long the machine let a call wait at most that was due within this time, or was kept waiting
/// in it: what it may have added to anything else.
pub(super) fn lateness(calls: &[Call], time: RangeInclusive<Instant>) -> Duration {
    let was_kept =
        |call: &&Call| call.began >= *time.start() && call.began - call.late <= *time.end();
    let late = calls.iter().filter(was_kept).map(|call| call.late);
    late.max().unwrap_or_default()
}
