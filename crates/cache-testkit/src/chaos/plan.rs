//! What is to go wrong, and with which calls.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{CacheError, CacheKey, Operation};

/// One call of a [`ChaosStorage`](super::ChaosStorage), as plans see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Which call this is, from 1, counted over all operations in the order in which they began.
    pub number: u64,
    /// The method that was called.
    pub operation: Operation,
    /// The keys it names, in order; none for `clear`, `ping` and `shutdown`.
    pub keys: Vec<CacheKey>,
}

/// Something that goes wrong with some calls: with all, unless narrowed down.
///
/// A plan says first what happens and then to which calls. Conditions of different methods must all
/// hold; of several operations or several keys one suffices. [`nth`](Self::nth),
/// [`every`](Self::every) and [`first`](Self::first) choose among the calls for which the
/// conditions hold; the last one given counts.
///
/// ```
/// use cache_core::{CacheError, ErrorKind, Operation};
/// use cache_testkit::chaos::Plan;
///
/// let timeout = CacheError::new(ErrorKind::Timeout, "no answer");
/// let plan = Plan::fail_after(timeout).on(Operation::Set).key("user:42").nth(2);
/// ```
#[must_use]
pub struct Plan {
    pub(super) effect: Effect,
    operations: Vec<Operation>,
    keys: Vec<CacheKey>,
    condition: Option<Box<Condition>>,
    choice: Choice,
    /// How many calls fulfilled the conditions so far.
    fulfilled: AtomicU64,
}

type Condition = dyn Fn(&Call) -> bool + Send + Sync;

#[derive(Debug, Clone)]
pub(super) enum Effect {
    Delay(Duration),
    Fail(CacheError),
    FailAfter(CacheError),
    Hang,
    HangAfter,
    Panic,
}

#[derive(Debug)]
enum Choice {
    All,
    Nth(u64),
    Every(u64),
    First(u64),
}

impl Plan {
    /// The call begins this much later, in the time of tokio.
    pub fn delay(by: Duration) -> Self {
        Self::new(Effect::Delay(by))
    }

    /// The call fails, and the storage inside is not asked. The error names backend, operation and
    /// key unless it does already. Of a batch that a key was named for, only that key fails.
    pub fn fail(error: CacheError) -> Self {
        Self::new(Effect::Fail(error))
    }

    /// The storage inside is asked, its answer is lost, and the call fails, as
    /// [`fail`](Self::fail) does. The error of an operation that writes says that it
    /// [may have happened](CacheError::may_have_happened).
    pub fn fail_after(error: CacheError) -> Self {
        Self::new(Effect::FailAfter(error))
    }

    /// The call hangs until it is [released](super::ChaosStorage::release), and then goes on. The
    /// storage inside is not asked before.
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// The storage inside is asked, and the call hangs with its answer until it is
    /// [released](super::ChaosStorage::release).
    pub fn hang_after() -> Self {
        Self::new(Effect::HangAfter)
    }

    /// The call panics in the task of the caller.
    pub fn panic() -> Self {
        Self::new(Effect::Panic)
    }

    fn new(effect: Effect) -> Self {
        Self {
            effect,
            operations: Vec::new(),
            keys: Vec::new(),
            condition: None,
            choice: Choice::All,
            fulfilled: AtomicU64::new(0),
        }
    }

    /// Only calls of this operation.
    pub fn on(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Only calls that name this key.
    pub fn key(mut self, key: impl Into<CacheKey>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Only calls for which `condition` holds, in place of an earlier condition. It is asked once a
    /// call, in the task of the caller and without a lock.
    pub fn when(mut self, condition: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// Only the nth call, from 1.
    pub fn nth(mut self, nth: u64) -> Self {
        self.choice = Choice::Nth(nth);
        self
    }

    /// Only every nth call, the nth first.
    pub fn every(mut self, nth: u64) -> Self {
        self.choice = Choice::Every(nth);
        self
    }

    /// Only so many calls, the first ones.
    pub fn first(mut self, calls: u64) -> Self {
        self.choice = Choice::First(calls);
        self
    }

    /// Whether the call is one of those concerned.
    pub(super) fn strikes(&self, call: &Call) -> bool {
        if !self.is_about(call) {
            return false;
        }
        let count = self.fulfilled.fetch_add(1, Ordering::AcqRel) + 1;
        match self.choice {
            Choice::All => true,
            Choice::Nth(nth) => count == nth,
            Choice::Every(nth) => count.is_multiple_of(nth),
            Choice::First(calls) => count <= calls,
        }
    }

    /// Whether this key of a call is concerned, the call being so.
    pub(super) fn concerns(&self, key: &CacheKey) -> bool {
        self.keys.is_empty() || self.keys.contains(key)
    }

    fn is_about(&self, call: &Call) -> bool {
        let is_operation = self.operations.is_empty() || self.operations.contains(&call.operation);
        let is_key = self.keys.is_empty() || call.keys.iter().any(|key| self.concerns(key));
        let condition = |condition: &Condition| condition(call);
        is_operation && is_key && self.condition.as_deref().is_none_or(condition)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("effect", &self.effect)
            .field("operations", &self.operations)
            .field("keys", &self.keys)
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}
