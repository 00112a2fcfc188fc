//! One exchange with a server: on which connection, for how long, and whether again.

use std::time::Duration;

use cache_core::{ErrorKind, Observers, Result};
use redis::{RedisError, Value, cmd};
use tokio::time::Instant;

use super::NO_SCRIPT;
use super::lane::Lane;
use super::link::{Exchange, Link, Payload};
use super::node::Node;
use super::reply::unexpected;
use super::shape::Expects;
use super::silence::{DOUBT_AFTER, DOUBTFUL_PATIENCE};
use super::tell;
use crate::error::{Failure, from_server, is_demoted};

/// What may be done when an attempt fails in a way that leaves its outcome open.
#[derive(Debug, Clone, Copy)]
pub(super) enum Repeat<'a> {
    /// Send the same again: the operation may run twice.
    Same,
    /// Send this instead.
    With(&'a Payload),
    /// Nothing: the operation may run once at most.
    Never,
}

/// One exchange with the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) payload: &'a Payload,
    pub(super) expects: Expects,
    pub(super) repeat: Repeat<'a>,
    pub(super) is_write: bool,
    pub(super) budget: Budget,
}

/// The time limits of an operation, for one of its exchanges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// When this exchange began.
    started: Instant,
    /// How long one attempt may take.
    patience: Duration,
    pub(super) deadline: Instant,
}

/// A connection for one attempt.
struct Ready {
    link: Link,
    /// Whether the server has been silent for so long that the connection is doubtful.
    is_doubtful: bool,
    /// When it was ready, or a moment before.
    since: Instant,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The reply, which may be an error reply.
    pub(super) reply: Value,
    /// Whether an earlier attempt of the same write may have been executed.
    pub(super) may_have_run: bool,
}

impl Answer {
    /// The reply, unless it is a refusal of something that may have been executed before.
    pub(super) fn settle(self) -> Result<Value> {
        match self.reply {
            // A script that the server does not know is sent once more by whoever runs it.
            Value::ServerError(error) if self.may_have_run && error.code() != NO_SCRIPT => {
                Err(from_server(&error).with_may_have_happened(true))
            }
            reply => Ok(reply),
        }
    }
}

impl Node {
    /// Sends a call, on a connection that is fit for it, and once more where that is safe.
    ///
    /// Error replies are values here. What the caller drops half-way has happened or not.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer> {
        if call.budget.started >= call.budget.deadline {
            // Sent all the same, it would be one more timeout on a connection that may be fine.
            let failure = Failure::new(ErrorKind::Timeout, "no time was left to begin")
                .with_code("operation");
            return Err(failure.into_error(self.place(), 1, Duration::ZERO));
        }
        let lane = self.lane();
        let first = match ready_at_hand(lane, &call) {
            Some(mut ready) => match ready.exchange(&call, 1).await {
                Exchange::Reply(reply) if !is_demotion(&reply) && call.expects.allows(&reply) => {
                    let may_have_run = false;
                    return Ok(Answer {
                        reply,
                        may_have_run,
                    });
                }
                outcome => Some((ready, outcome)),
            },
            None => None,
        };
        // Boxed, since the way here is rare and its future large.
        Box::pin(self.settle(lane, call, first)).await
    }

    /// Brings a call to its end, from its first attempt if that was made already.
    async fn settle(
        &self,
        lane: &Lane,
        mut call: Call<'_>,
        mut first: Option<(Ready, Exchange)>,
    ) -> Result<Answer> {
        let started = call.budget.started;
        let mut attempt = 1;
        let mut was_sent = false;
        loop {
            let failed = |mut failure: Failure| {
                failure.sent |= was_sent;
                failure.into_error(self.place(), attempt, started.elapsed())
            };
            let (ready, outcome) = match first.take() {
                Some(first) => first,
                None => {
                    let fit = fit_connection(lane, &call, &self.observers).await;
                    let mut ready = fit.map_err(failed)?;
                    let outcome = ready.exchange(&call, attempt).await;
                    (ready, outcome)
                }
            };
            let pulse = ready.link.pulse();
            let answered = |reply: Value| {
                if !call.expects.allows(&reply) {
                    pulse.give_up("resp");
                    tell::disorder(&self.observers);
                    let may_have_happened = call.is_write || was_sent;
                    return Err(unexpected(reply).with_may_have_happened(may_have_happened));
                }
                if is_demotion(&reply) {
                    pulse.give_up("demoted");
                }
                let may_have_run = was_sent;
                Ok(Answer {
                    reply,
                    may_have_run,
                })
            };
            let mut failure = match outcome {
                Exchange::Reply(reply) => return answered(reply),
                Exchange::Failed(error) => match refusal(error) {
                    Ok(reply) => return answered(reply),
                    Err(failure) => {
                        let failure = failure.ended_by(pulse.ending());
                        pulse.give_up(failure.code);
                        tell::garbage(&self.observers, &failure);
                        failure
                    }
                },
                Exchange::Ended => Failure::hang_up().ended_by(pulse.ending()),
                Exchange::TooLate => {
                    tell::timeout(&self.observers, "read");
                    if ready.is_doubtful {
                        ready.link.give_up_silent();
                    } else {
                        call.repeat = Repeat::Never;
                    }
                    Failure::no_answer("read", started.elapsed())
                }
            };
            failure.sent = call.is_write;
            match std::mem::replace(&mut call.repeat, Repeat::Never) {
                Repeat::Never => return Err(failed(failure)),
                Repeat::Same => {}
                Repeat::With(payload) => call.payload = payload,
            }
            tell::retry(&self.observers);
            was_sent = call.is_write;
            attempt += 1;
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

    /// The same deadline for another exchange, which begins now.
    pub(super) fn anew(self) -> Self {
        Self {
            started: Instant::now(),
            ..self
        }
    }
}

impl From<redis::Cmd> for Payload {
    fn from(command: redis::Cmd) -> Self {
        Self::Command(command)
    }
}

/// The connection at hand, where that will do for a first attempt.
fn ready_at_hand(lane: &Lane, call: &Call<'_>) -> Option<Ready> {
    if matches!(call.repeat, Repeat::Never) {
        return None;
    }
    let since = call.budget.started;
    Some(Ready {
        link: lane.at_hand(since)?,
        is_doubtful: false,
        since,
    })
}

impl Ready {
    /// Makes one attempt.
    async fn exchange(&mut self, call: &Call<'_>, attempt: u32) -> Exchange {
        let Budget {
            patience, deadline, ..
        } = call.budget;
        let may_repeat = attempt == 1 && !matches!(call.repeat, Repeat::Never);
        let patience = if self.is_doubtful && may_repeat {
            patience.min(DOUBTFUL_PATIENCE)
        } else {
            patience
        };
        let until = deadline.min(self.since + patience);
        let reads_before = self.link.pulse().reads();
        let outcome = self.link.exchange(call.payload, self.since, until).await;
        if matches!(outcome, Exchange::TooLate) {
            self.link.note_timeout(reads_before);
        }
        outcome
    }
}

/// Whether the server says that it takes no writes any more.
fn is_demotion(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => is_demoted(error),
        Value::Array(replies) => replies.iter().any(is_demotion),
        _ => false,
    }
}

/// A connection that was looked at as closely as `call` requires, dialed if need be.
async fn fit_connection(
    lane: &Lane,
    call: &Call<'_>,
    observers: &Observers,
) -> Result<Ready, Failure> {
    let deadline = call.budget.deadline;
    loop {
        let mut link = match lane.at_hand(Instant::now()) {
            Some(link) => link,
            None => lane.connection(deadline).await?,
        };
        let mut is_doubtful = link.pulse().silence(Instant::now()) >= DOUBT_AFTER;
        if is_doubtful {
            tell::thaw(observers, "doubt");
        }
        if matches!(call.repeat, Repeat::Never) {
            // What cannot be repeated is not sent to where nobody listens.
            if link.is_at_its_end().await {
                link.pulse().give_up("closed");
                continue;
            }
            if is_doubtful && !answers(&mut link, deadline).await {
                link.give_up_silent();
                continue;
            }
            is_doubtful = false;
        }
        return Ok(Ready {
            link,
            is_doubtful,
            since: Instant::now(),
        });
    }
}

async fn answers(link: &mut Link, deadline: Instant) -> bool {
    let now = Instant::now();
    let ping = Payload::Command(cmd("PING"));
    let exchange = link.exchange(&ping, now, deadline.min(now + DOUBTFUL_PATIENCE));
    matches!(exchange.await, Exchange::Reply(_))
}

/// What the client reports as an error: the server's refusal of a whole transaction, which is a
/// reply, or trouble with the connection.
fn refusal(error: RedisError) -> Result<Value, Failure> {
    let failure = Failure::from_client(&error);
    let Some(errors) = error.into_server_errors() else {
        return Err(failure);
    };
    match errors.first() {
        Some((_, error)) => Ok(Value::ServerError(error.clone())),
        None => Err(failure),
    }
}
