//! A breaker for any async operation.

use std::fmt;
use std::sync::Arc;

use cache_core::{CacheError, Clock, Observers, Result, SystemClock};

use crate::lane::{Command, Context, Lane};
use crate::options::BreakerOptions;
use crate::permit::{Permit, Rejected};
use crate::snapshot::Snapshot;
use crate::state::{Outcome, State};
use crate::verdict::outcome_of_result;

/// A circuit breaker for any async operation. Cheap to clone; clones are one breaker.
///
/// It limits nothing but who may go: give the operation a time limit of its own, and call it a
/// [`Timeout`](Outcome::Timeout) where that is reached. A storage gets a
/// [`BreakerStorage`](crate::BreakerStorage) instead, which knows what a storage's errors mean.
///
/// Dropping a future that came from here takes the call back; see [`Permit`].
#[derive(Clone)]
pub struct CircuitBreaker {
    lane: Arc<Lane>,
    options: BreakerOptions,
}

/// Why a call through a breaker failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The breaker is open; the operation was not polled.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The operation failed.
    #[error("{0}")]
    Failed(#[source] E),
}

impl CircuitBreaker {
    /// A closed breaker called `name`.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything in `options` that makes no sense.
    pub fn new(name: impl Into<String>, options: BreakerOptions) -> Result<Self> {
        let options = options.checked()?;
        let context = Context {
            name: name.into().into(),
            clock: Arc::new(SystemClock::new()),
            observers: Observers::none(),
        };
        Ok(Self::build(context, options))
    }

    /// The same, by another clock. Begins anew, so call it before the first use.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        let context = Context {
            clock: Arc::new(clock),
            ..self.lane.context().clone()
        };
        Self::build(context, self.options)
    }

    /// The same, with somebody to be told. Begins anew, so call it before the first use.
    #[must_use]
    pub fn with_observers(self, observers: Observers) -> Self {
        let context = Context {
            observers,
            ..self.lane.context().clone()
        };
        Self::build(context, self.options)
    }

    /// Asks for the right to make one call.
    ///
    /// # Errors
    ///
    /// The breaker is open.
    pub fn admit(&self) -> Result<Permit, Rejected> {
        Arc::clone(&self.lane).admit()
    }

    /// Runs `operation` if the breaker lets it; every error of it is a failure.
    ///
    /// # Errors
    ///
    /// The breaker is open, or the operation failed.
    pub async fn call<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        self.call_with(operation, |_| Outcome::Failure).await
    }

    /// Runs `operation` if the breaker lets it; `classify` says what its errors mean.
    ///
    /// # Errors
    ///
    /// The breaker is open, or the operation failed.
    pub async fn call_with<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
        classify: impl Fn(&E) -> Outcome,
    ) -> Result<T, CallError<E>> {
        let permit = self.admit()?;
        match operation.await {
            Ok(value) => {
                permit.succeed();
                Ok(value)
            }
            Err(error) => {
                permit.fail(classify(&error));
                Err(CallError::Failed(error))
            }
        }
    }

    /// Runs a read of a cache if the breaker lets it; an open breaker reads as a miss.
    ///
    /// For operations that are not behind a breaker already. What an error means is said by
    /// [`outcome_of`](crate::outcome_of).
    ///
    /// # Errors
    ///
    /// The operation's own.
    pub async fn execute_with_circuit_breaker<T>(
        &self,
        operation: impl Future<Output = Result<Option<T>, CacheError>>,
    ) -> Result<Option<T>, CacheError> {
        let Ok(permit) = self.admit() else {
            return Ok(None);
        };
        let result = operation.await;
        permit.settle(outcome_of_result(&result), result.as_ref().err());
        result
    }

    /// What it does with calls at present.
    #[must_use]
    pub fn state(&self) -> State {
        self.lane.state()
    }

    /// How it stands at present.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lane.snapshot()
    }

    /// Turns every call away until told otherwise.
    pub fn force_open(&self) {
        self.lane.obey(Command::ForceOpen);
    }

    /// Lets every call through and goes on counting, until told otherwise.
    pub fn force_closed(&self) {
        self.lane.obey(Command::ForceClosed);
    }

    /// Lets every call through and counts nothing, until told otherwise.
    pub fn disable(&self) {
        self.lane.obey(Command::Disable);
    }

    /// Lets it decide by itself again, beginning closed.
    pub fn automatic(&self) {
        self.lane.obey(Command::Automatic);
    }

    fn build(context: Context, options: BreakerOptions) -> Self {
        let lane = Lane::new("all", None, context, &options, None);
        Self {
            lane: Arc::new(lane),
            options,
        }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.lane.context().name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
