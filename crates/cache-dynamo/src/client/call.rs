//! One call of the server: how many attempts, how long, and whether again.
//!
//! The SDK could repeat by itself. It does not tell whether an earlier attempt may have been
//! executed, and on that depend what a caller may conclude from an error, whether a conditional
//! write has met its own bytes, and whether a counter may be asked again.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use cache_aws::AwsClient;
use cache_core::{ErrorKind, Event, Moment, Result, Timestamp, millis};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Client;
use crate::error::{Again, BACKEND, Context, Failure, error};
use crate::item::Item;

/// How often a call is attempted at most.
const ATTEMPTS: u32 = 3;

/// The longest the first pause may be, and the longest any may be.
const FIRST_PAUSE: Duration = millis(20);
const LONGEST_PAUSE: Duration = millis(200);

/// An attempt that has less time than this is not begun: it would only turn what is known about the
/// server into one more timeout.
const LEAST: Duration = millis(20);

/// What may be done after an attempt that may have been executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Send the same again: the operation may run twice.
    Same,
    /// Nothing: the operation may run once at most.
    Never,
}

/// One call of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// The permission that it needs, such as `dynamodb:GetItem`.
    action: &'static str,
    is_write: bool,
    repeat: Repeat,
    budget: Budget,
}

/// The time limits of an operation, for one of its calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// When this call began.
    started: Instant,
    /// How long one attempt may take.
    patience: Duration,
    pub(super) deadline: Instant,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) reply: T,
    /// Whether an earlier attempt at the same may have been executed.
    pub(super) after_unknown: bool,
}

/// When the server last answered. A process that was frozen since finds connections that the server
/// has closed long ago and that look new by the clock that stood still; what may not be sent twice
/// would be lost on them.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Milliseconds on the wall clock and on the monotonic one.
    wall: AtomicU64,
    monotonic: AtomicU64,
}

/// Pauses that grow while nothing gets better.
#[derive(Debug)]
pub(super) struct Pauses {
    longest: Duration,
}

impl Client {
    /// Sends what `send` makes, and again where that is safe and time is left.
    ///
    /// What the caller drops half-way has happened or not.
    pub(super) async fn call<T, E, F>(
        &self,
        call: Call,
        send: impl Fn() -> F + Send,
    ) -> Result<Answer<T>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + StdError + Send + 'static,
    {
        let Budget {
            started,
            patience,
            deadline,
        } = call.budget;
        if started >= deadline {
            let failure = Failure::no_time();
            failure.tell(&self.options.observers);
            return Err(failure.into_error(&self.address, 1, Duration::ZERO));
        }
        if self.idle.has_ended(self.options.clock.now()) {
            self.aws.renew_connections();
        }
        if !self.aws.has_credentials() {
            self.load_credentials(call.budget).await?;
        }
        let mut after_unknown = false;
        let mut pauses = Pauses::new();
        let mut attempt = 1;
        loop {
            let until = deadline.min(Instant::now() + patience);
            let failure = match timeout_at(until, send()).await {
                Ok(Ok(reply)) => {
                    self.idle.begin(self.options.clock.now());
                    return Ok(Answer {
                        reply,
                        after_unknown,
                    });
                }
                Ok(Err(error)) => Failure::of(&error, self.context(call.action)),
                Err(_) => Failure::no_answer(started.elapsed()),
            };
            failure.tell(&self.options.observers);
            if failure.wants_credentials {
                self.aws.forget_credentials();
            }
            after_unknown |= call.is_write && failure.may_have_run;
            let may_repeat = call.repeat == Repeat::Same || !after_unknown;
            let go_on = match failure.again {
                Again::Never => false,
                Again::AtOnce if attempt == 1 => Instant::now() < deadline,
                _ => attempt < ATTEMPTS && may_repeat && pauses.wait(deadline).await,
            };
            if !(go_on && may_repeat) {
                let error = failure.into_error(&self.address, attempt, started.elapsed());
                return Err(error.with_may_have_happened(after_unknown));
            }
            self.tell(&Event::Retry { backend: BACKEND });
            attempt += 1;
        }
    }

    /// Waits for credentials, apart from the attempts: a source may be slower than one.
    async fn load_credentials(&self, budget: Budget) -> Result<()> {
        match timeout_at(budget.deadline, self.aws.load_credentials()).await {
            Ok(loaded) => loaded.map_err(|error| error.with_code("auth").with_backend(BACKEND)),
            Err(_) => {
                self.tell(&Event::Timeout {
                    backend: BACKEND,
                    phase: "operation",
                });
                let waited = budget.started.elapsed().as_millis();
                let message = format!("no AWS credentials: their source took over {waited}ms");
                let late = error(ErrorKind::Configuration, &message).with_code("auth");
                Err(late.with_transient(true))
            }
        }
    }

    fn context(&self, action: &'static str) -> Context<'_> {
        Context {
            table: &self.options.table,
            region: self.aws.region(),
            action,
        }
    }
}

impl Call {
    pub(super) fn read(action: &'static str, budget: Budget) -> Self {
        Self {
            action,
            is_write: false,
            repeat: Repeat::Same,
            budget,
        }
    }

    pub(super) fn write(action: &'static str, repeat: Repeat, budget: Budget) -> Self {
        Self {
            action,
            is_write: true,
            repeat,
            budget,
        }
    }
}

impl Budget {
    pub(super) fn new(patience: Duration, whole: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            patience,
            deadline: started + whole,
        }
    }

    /// The same deadline for another call, which begins now.
    pub(super) fn anew(self) -> Self {
        Self {
            started: Instant::now(),
            ..self
        }
    }

    /// These limits for another call, which begins now, and `deadline` if that is earlier.
    pub(super) fn until(self, deadline: Instant) -> Self {
        Self {
            deadline: self.deadline.min(deadline),
            ..self.anew()
        }
    }
}

impl Idle {
    fn begin(&self, now: Moment) {
        self.wall.store(now.wall.as_millis(), Ordering::Relaxed);
        let monotonic = crate::item::millis(now.monotonic);
        self.monotonic.store(monotonic, Ordering::Relaxed);
    }

    /// Whether the connections have been idle for longer than they are kept, by either clock. Only
    /// one of several callers is told: the others are to use the connections that it makes.
    fn has_ended(&self, now: Moment) -> bool {
        let since = Moment {
            wall: Timestamp::from_millis(self.wall.load(Ordering::Relaxed)),
            monotonic: Duration::from_millis(self.monotonic.load(Ordering::Relaxed)),
        };
        let has_ended = now.since(since) >= AwsClient::IDLE;
        if has_ended {
            self.begin(now);
        }
        has_ended
    }
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            longest: FIRST_PAUSE,
        }
    }

    /// Lets a random part of the pause pass; false at once if too little time would be left until
    /// `deadline`.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        let resume = Instant::now() + self.longest.mul_f64(fastrand::f64());
        self.longest = LONGEST_PAUSE.min(self.longest * 2);
        if resume + LEAST > deadline {
            return false;
        }
        sleep_until(resume).await;
        true
    }

    /// Begins with short pauses again, since something got better.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }
}

/// What became of a conditional write: done, or refused by its condition, with the item that stood
/// in its way where the server told it.
pub(super) type Settled<T> = Result<T, Option<Item>>;

/// Takes a condition that did not hold for the answer that it is.
#[expect(
    clippy::result_large_err,
    reason = "the error is the SDK's and goes straight into `Client::call`"
)]
pub(super) fn settled<T, E: Conditional>(
    outcome: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Settled<T>, SdkError<E, HttpResponse>> {
    match outcome {
        Ok(reply) => Ok(Ok(reply)),
        Err(SdkError::ServiceError(failure)) if failure.err().is_refusal() => {
            Ok(Err(failure.into_err().into_old_item()))
        }
        Err(error) => Err(error),
    }
}

/// An error of a write that may have a condition.
pub(super) trait Conditional {
    /// Whether the condition did not hold.
    fn is_refusal(&self) -> bool;

    /// The item for which it did not hold.
    fn into_old_item(self) -> Option<Item>;
}

macro_rules! conditional {
    ($($error:ident),*) => {$(
        impl Conditional for $error {
            fn is_refusal(&self) -> bool {
                matches!(self, Self::ConditionalCheckFailedException(_))
            }

            fn into_old_item(self) -> Option<Item> {
                match self {
                    Self::ConditionalCheckFailedException(refusal) => refusal.item,
                    _ => None,
                }
            }
        }
    )*};
}

conditional!(DeleteItemError, PutItemError, UpdateItemError);
