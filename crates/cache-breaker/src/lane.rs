//! One machine with its lock, its clock, and those who watch it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{CacheError, Clock, ErrorKind, Event, Observers, Shard};
use tokio::sync::watch;

use crate::options::BreakerOptions;
use crate::permit::{Permit, Rejected};
use crate::snapshot::Snapshot;
use crate::state::{Admission, Machine, Outcome, Reason, State, Ticket, Transition};
use crate::verdict::OUT_OF_MEMORY;

/// What the lanes of one breaker share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observers: Observers,
}

/// What somebody tells a breaker to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    ForceOpen,
    ForceClosed,
    Disable,
    Automatic,
}

/// One machine, and what goes with it. Observers are told after its lock is released.
#[derive(Debug)]
pub(crate) struct Lane {
    name: &'static str,
    shard: Option<Shard>,
    context: Context,
    machine: Mutex<Machine>,
    /// Whether it is open or half-open for want of memory in the server. Follows the machine.
    full: AtomicBool,
    /// The generation that began with the latest opening.
    opened: watch::Sender<u64>,
}

impl Lane {
    /// A lane called `name`, which obeys `command` from the start.
    pub(crate) fn new(
        name: &'static str,
        shard: Option<Shard>,
        context: Context,
        options: &BreakerOptions,
        command: Option<Command>,
    ) -> Self {
        let mut machine = Machine::new(options, fastrand::u64(..));
        if let Some(command) = command {
            command.give(&mut machine, context.clock.monotonic());
        }
        Self {
            name,
            shard,
            context,
            machine: Mutex::new(machine),
            full: AtomicBool::new(false),
            opened: watch::Sender::new(0),
        }
    }

    /// Whether a call may go now.
    pub(crate) fn admit(self: Arc<Self>) -> Result<Permit, Rejected> {
        let now = self.now();
        let admission = self.machine().admit(now);
        match admission {
            Admission::Admitted(ticket) => {
                if let Some(change) = ticket.transition() {
                    self.tell(change, None);
                }
                Ok(Permit::new(self, ticket))
            }
            Admission::Rejected {
                retry_after,
                reason,
            } => Err(self.reject(retry_after, reason)),
        }
    }

    /// Turns a call away that would be turned away anyway; says nothing about one that may go.
    pub(crate) fn turn_away(&self) -> Result<(), Rejected> {
        let now = self.now();
        let machine = self.machine();
        if !machine.is_rejecting(now) {
            return Ok(());
        }
        let retry_after = machine.retry_after(now);
        let reason = machine.reason().unwrap_or(Reason::Manual);
        drop(machine);
        Err(self.reject(retry_after, reason))
    }

    /// Takes the verdict on a call, and the error behind it.
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome, error: Option<&CacheError>) {
        let is_probe = ticket.is_probe();
        let change = self.change(error, |machine, now| machine.settle(now, ticket, outcome));
        if is_probe {
            self.tell_probe(result_of(outcome));
        }
        if let Some(change) = change {
            self.tell(change, error.map(CacheError::message));
        }
    }

    /// Takes back a call that was dropped without a verdict.
    pub(crate) fn abandon(&self, ticket: Ticket) {
        let is_probe = ticket.is_probe();
        let change = self.change(None, |machine, now| machine.abandon(now, ticket));
        if is_probe {
            self.tell_probe("none");
        }
        if let Some(change) = change {
            self.tell(change, None);
        }
    }

    /// Does what somebody says.
    pub(crate) fn obey(&self, command: Command) {
        if let Some(change) = self.change(None, |machine, now| command.give(machine, now)) {
            self.tell(change, None);
        }
    }

    /// Returns once the lane has opened after a call of `generation` began.
    pub(crate) async fn opened_after(&self, generation: u64) {
        let mut opened = self.opened.subscribe();
        // The sender lives as long as the lane, so it cannot have ended.
        _ = opened.wait_for(|opened| *opened > generation).await;
    }

    /// Whether it is open or half-open for want of memory in the server.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// How long calls are turned away at most from now on; none where nobody knows.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let now = self.now();
        self.machine().retry_after(now)
    }

    pub(crate) fn state(&self) -> State {
        self.machine().state()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.now();
        let mut machine = self.machine();
        Snapshot {
            breaker: Arc::clone(&self.context.name),
            lane: self.name,
            shard: self.shard.clone(),
            state: machine.state(),
            since: now.saturating_sub(machine.since()),
            reason: machine.reason(),
            retry_after: machine.retry_after(now),
            counts: machine.counts(now),
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Works on the machine, and lets those know who wait for it to open. The observers are for the
    /// caller to tell.
    fn change(
        &self,
        error: Option<&CacheError>,
        work: impl FnOnce(&mut Machine, Duration) -> Option<Transition>,
    ) -> Option<Transition> {
        let now = self.now();
        let mut machine = self.machine();
        let mut change = work(&mut machine, now)?;
        self.explain(&mut change, &mut machine, error);
        let generation = machine.generation();
        drop(machine);
        if matches!(change.to, State::Open | State::ForcedOpen) {
            // Two openings may get here in either order.
            self.opened.send_if_modified(|opened| {
                let is_later = generation > *opened;
                *opened = generation.max(*opened);
                is_later
            });
        }
        Some(change)
    }

    /// What is known at this level only: whether want of memory opened the lane.
    fn explain(&self, change: &mut Transition, machine: &mut Machine, error: Option<&CacheError>) {
        let overload = error.filter(|error| error.kind() == ErrorKind::Overloaded);
        if overload.is_some() && matches!(change.reason, Reason::Failure | Reason::Rate) {
            change.reason = Reason::Overloaded;
            machine.blame(Reason::Overloaded);
        }
        // An error changes nothing but to open.
        let is_full = overload.is_some_and(|error| error.code() == OUT_OF_MEMORY);
        self.full.store(is_full, Ordering::Release);
    }

    fn reject(&self, retry_after: Option<Duration>, reason: Reason) -> Rejected {
        self.context.observers.tell(&Event::BreakerRejected {
            breaker: &self.context.name,
            lane: self.name,
        });
        Rejected {
            breaker: Arc::clone(&self.context.name),
            lane: self.name,
            retry_after,
            reason,
        }
    }

    fn tell(&self, change: Transition, message: Option<&str>) {
        self.context.observers.tell(&Event::BreakerTransition {
            breaker: &self.context.name,
            lane: self.name,
            shard: self.shard.as_ref().map(Shard::as_str),
            from: change.from.as_str(),
            to: change.to.as_str(),
            reason: change.reason.as_str(),
            message,
            open_for: change.open_for,
        });
    }

    fn tell_probe(&self, result: &'static str) {
        self.context.observers.tell(&Event::BreakerProbe {
            breaker: &self.context.name,
            lane: self.name,
            result,
        });
    }

    fn now(&self) -> Duration {
        self.context.clock.monotonic()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Command {
    fn give(self, machine: &mut Machine, now: Duration) -> Option<Transition> {
        match self {
            Self::ForceOpen => machine.force_open(now),
            Self::ForceClosed => machine.force_closed(now),
            Self::Disable => machine.disable(now),
            Self::Automatic => machine.automatic(now),
        }
    }
}

/// A probe's result as observers are told it.
fn result_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Timeout | Outcome::Failure | Outcome::Configuration => "failure",
        Outcome::Throttled | Outcome::Neutral => "none",
    }
}
