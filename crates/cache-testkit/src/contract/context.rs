//! What the cases have in common.

use std::ops::Deref;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, Entry, ErrorKind, Expiry, NewEntry, Result,
    TimeLeft, Timestamp, Ttl, secs,
};

use super::harness::{Subject, Time};

/// A time to live that no case outlives.
pub(super) const LONG: Duration = secs(60);

/// How far a measured time may be off in real time, on a machine that is busy with other tests.
const REAL_TIME_SLACK: Duration = secs(20);

/// A fresh storage, which the context stands for, and its time.
pub(super) struct Context {
    pub(super) storage: Arc<dyn CacheStorage>,
    time: Time,
}

impl Deref for Context {
    type Target = dyn CacheStorage;

    fn deref(&self) -> &Self::Target {
        &*self.storage
    }
}

impl Context {
    pub(super) fn new(subject: Subject) -> Self {
        let Subject { storage, time } = subject;
        Self { storage, time }
    }

    /// Whether time stands still unless a case moves it.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.time, Time::Manual(_))
    }

    /// `count` times the shortest time to live of this storage.
    pub(super) fn ticks(&self, count: u32) -> Duration {
        let tick = match self.time {
            Time::Manual(_) => secs(1),
            Time::Real { tick } => tick,
        };
        tick.max(self.info().ttl_resolution) * count
    }

    /// A time to live of `count` ticks.
    pub(super) fn ttl(&self, count: u32) -> Ttl {
        ttl(self.ticks(count))
    }

    /// Lets `count` ticks pass.
    pub(super) async fn elapse(&self, count: u32) {
        self.elapse_span(self.ticks(count)).await;
    }

    /// Lets `span` pass.
    pub(super) async fn elapse_span(&self, span: Duration) {
        match &self.time {
            Time::Manual(clock) => clock.advance(span),
            Time::Real { .. } => tokio::time::sleep(span).await,
        }
    }

    /// The present by the storage's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.info().clock.wall()
    }

    /// Writes a value that is fresh for long.
    pub(super) async fn put(&self, name: &str, value: impl Into<Bytes>) {
        self.put_entry(name, fresh(value)).await;
    }

    /// Writes an entry.
    pub(super) async fn put_entry(&self, name: &str, entry: NewEntry) {
        let written = self.set(&key(name), entry, Condition::Always).await;
        assert!(written.expect("the storage writes"), "always means always");
    }

    /// Writes a value and lets its time to live pass.
    pub(super) async fn put_expired(&self, name: &str, value: &'static str) {
        self.put_entry(name, NewEntry::new(value, self.ttl(1)))
            .await;
        self.elapse(2).await;
    }

    /// Writes a value with a long stale budget and lets its time to live pass.
    pub(super) async fn put_stale(&self, name: &str, value: &'static str) {
        let entry = NewEntry::new(value, self.ttl(1));
        self.put_entry(name, stale_for(entry, LONG)).await;
        self.elapse(2).await;
    }

    /// The value under a key, fresh or stale.
    pub(super) async fn value(&self, name: &str) -> Option<Bytes> {
        let entry = self.get(&key(name)).await.expect("the storage reads");
        entry.map(|entry| entry.value)
    }

    /// The entry under a key with its deadlines.
    pub(super) async fn entry(&self, name: &str) -> Entry {
        let entry = self.lookup(&key(name)).await.expect("the storage reads");
        entry.expect("there is an entry")
    }

    /// Whether there is nothing under a key, neither fresh nor stale.
    pub(super) async fn is_absent(&self, name: &str) -> bool {
        self.value(name).await.is_none()
    }

    /// What is left of the time to live under a key.
    pub(super) async fn time_left(&self, name: &str) -> TimeLeft {
        self.get_ttl(&key(name)).await.expect("the storage answers")
    }

    /// Whether there is a fresh entry under a key.
    pub(super) async fn is_fresh(&self, name: &str) -> bool {
        self.has(&key(name)).await.expect("the storage answers")
    }

    /// Asserts that there is a stale entry with `value` under a key.
    pub(super) async fn assert_stale(&self, name: &str, value: &str) {
        let entry = self.entry(name).await;
        assert_eq!(entry.value, value);
        assert!(entry.expires_at.is_past(self.now()), "{entry:?}");
        assert!(!entry.stale_until.is_past(self.now()), "{entry:?}");
    }

    /// Asserts that `span` was measured rightly: exactly on a manual clock, roughly in real time.
    #[track_caller]
    pub(super) fn assert_about(&self, span: Duration, expected: Duration) {
        let slack = if self.is_exact() {
            Duration::ZERO
        } else {
            REAL_TIME_SLACK
        };
        let slack = slack.max(self.info().ttl_resolution);
        assert!(
            span + slack >= expected && span <= expected + slack,
            "{span:?} is not about {expected:?}"
        );
    }

    /// Asserts that `expiry` is about `span` from now.
    #[track_caller]
    pub(super) fn assert_ends_in(&self, expiry: Expiry, span: Duration) {
        assert!(matches!(expiry, Expiry::At(_)), "{expiry:?}");
        if let Expiry::At(end) = expiry {
            self.assert_about(end.since(self.now()), span);
        }
    }

    /// Asserts that `left` is about `span`.
    #[track_caller]
    pub(super) fn assert_left(&self, left: TimeLeft, span: Duration) {
        assert!(matches!(left, TimeLeft::Remaining(_)), "{left:?}");
        if let TimeLeft::Remaining(left) = left {
            self.assert_about(left, span);
        }
    }

    /// What every method that takes a key answers about `key`, by the name of the method.
    pub(super) async fn refusals(&self, key: &CacheKey) -> Vec<(&'static str, CacheError)> {
        let keys = std::slice::from_ref(key);
        let entries = vec![(key.clone(), fresh("new"))];
        vec![
            ("get", refusal(self.get(key).await)),
            ("get_many", only(self.get_many(keys).await)),
            ("lookup", refusal(self.lookup(key).await)),
            ("lookup_many", only(self.lookup_many(keys).await)),
            ("set", self.set_refusal(key, Condition::Always).await),
            (
                "set absent",
                self.set_refusal(key, Condition::IfAbsent).await,
            ),
            (
                "set present",
                self.set_refusal(key, Condition::IfPresent).await,
            ),
            (
                "set equals",
                self.set_refusal(key, Condition::IfEquals("old".into()))
                    .await,
            ),
            ("set_many", only(self.set_many(entries).await)),
            ("delete", refusal(self.delete(key).await)),
            ("delete_many", only(self.delete_many(keys).await)),
            (
                "compare_and_delete",
                refusal(self.compare_and_delete(key, b"old").await),
            ),
            ("has", refusal(self.has(key).await)),
            ("expire", refusal(self.expire(key, ttl(LONG)).await)),
            ("expire_now", refusal(self.expire_now(key).await)),
            ("get_ttl", refusal(self.get_ttl(key).await)),
            (
                "increment",
                refusal(self.increment(key, 1, ttl(LONG)).await),
            ),
        ]
    }

    async fn set_refusal(&self, key: &CacheKey, condition: Condition) -> CacheError {
        refusal(self.set(key, fresh("new"), condition).await)
    }

    /// Asserts that every method refuses `key`.
    pub(super) async fn assert_every_method_refuses(&self, key: &CacheKey) {
        for (method, error) in self.refusals(key).await {
            assert_eq!(error.kind(), ErrorKind::Key, "{method} {key:?}: {error}");
            assert!(!error.may_have_happened(), "{method} {key:?}");
        }
    }
}

/// A key, taken as it is written.
pub(super) fn key(name: &str) -> CacheKey {
    CacheKey::from(name)
}

/// The keys `{name}:0` to `{name}:{count - 1}`.
pub(super) fn numbered(name: &str, count: usize) -> Vec<CacheKey> {
    (0..count)
        .map(|number| CacheKey::from(format!("{name}:{number}")))
        .collect()
}

/// A time to live of `span`.
pub(super) fn ttl(span: Duration) -> Ttl {
    Ttl::new(span).expect("cases use possible times to live")
}

/// An entry that is fresh for long.
pub(super) fn fresh(value: impl Into<Bytes>) -> NewEntry {
    NewEntry::new(value, ttl(LONG))
}

/// `entry` with a stale budget.
pub(super) fn stale_for(entry: NewEntry, span: Duration) -> NewEntry {
    entry
        .with_stale_for(span)
        .expect("cases use possible stale budgets")
}

/// The error of a call that must fail.
#[track_caller]
pub(super) fn refusal<T>(outcome: Result<T>) -> CacheError {
    outcome.err().expect("the call is refused")
}

/// The error of a batch of one that must fail.
#[track_caller]
fn only<T>(mut outcomes: Vec<Result<T>>) -> CacheError {
    assert_eq!(outcomes.len(), 1, "one outcome a key");
    refusal(outcomes.remove(0))
}

/// The values of a read batch, none of which may have failed.
#[track_caller]
pub(super) fn values(outcomes: Vec<Result<Option<Entry>>>) -> Vec<Option<Bytes>> {
    let value = |outcome: Result<Option<Entry>>| {
        let entry = outcome.expect("the storage reads");
        entry.map(|entry| entry.value)
    };
    outcomes.into_iter().map(value).collect()
}

/// Asserts that every entry of a batch is done, and that there are `count`.
#[track_caller]
pub(super) fn assert_done(outcomes: &[Result<()>], count: usize) {
    assert_eq!(outcomes.len(), count, "one outcome a key");
    for (position, outcome) in outcomes.iter().enumerate() {
        assert!(outcome.is_ok(), "number {position}: {outcome:?}");
    }
}

/// The kind of each outcome of a batch; none where it went well.
pub(super) fn kinds<T>(outcomes: &[Result<T>]) -> Vec<Option<ErrorKind>> {
    let kind = |outcome: &Result<T>| outcome.as_ref().err().map(CacheError::kind);
    outcomes.iter().map(kind).collect()
}

/// Runs `call` with the numbers below `contenders` at the same time, each on a thread of its own.
pub(super) async fn race<T, F>(contenders: usize, call: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let start = |number| {
        let (runtime, call) = (runtime.clone(), call(number));
        tokio::task::spawn_blocking(move || runtime.block_on(call))
    };
    let racing: Vec<_> = (0..contenders).map(start).collect();
    let mut outcomes = Vec::with_capacity(contenders);
    for contender in racing {
        outcomes.push(contender.await.expect("no contender panics"));
    }
    outcomes
}

/// Polls `call` at most `count` times and drops it then.
pub(super) async fn poll_at_most<T>(count: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = std::pin::pin!(call);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        polled += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if polled >= count => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
