//! One read or load of one key, and everybody who waits for it.

use std::any::TypeId;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::held::{AnyValue, Held};
use super::options::LoadOptions;
use crate::error::CacheError;
use crate::fills::Fill;

/// Whose callers these are. A flight of its own needs no memory for them beside its own.
enum CrewOf {
    Flight(Crew),
    Batch(Arc<Crew>),
}

/// What callers have to have in common to share a flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Of the value.
    type_id: TypeId,
    /// Which view of the storage they use, by its place in memory.
    view: usize,
}

impl Kind {
    pub(super) fn of<T: 'static>(view: usize) -> Self {
        Self {
            type_id: TypeId::of::<T>(),
            view,
        }
    }

    pub(super) fn is_of(self, value: &AnyValue) -> bool {
        (**value).type_id() == self.type_id
    }
}

/// What is under way for one key.
pub(crate) struct Flight {
    kind: Kind,
    phase: Mutex<Phase>,
    changed: Notify,
    crew: CrewOf,
    /// Somebody wants a new value, whatever the read finds.
    wants_load: AtomicBool,
    /// Somebody who joined has a default.
    has_default: AtomicBool,
}

/// Where a flight stands.
#[derive(Clone)]
pub(super) enum Phase {
    /// Its first caller reads the storage.
    Reading,
    /// That caller was dropped, or the runtime of the load has ended. Whoever still waits begins
    /// again.
    Abandoned,
    /// A load is under way.
    Loading(Loading),
    /// It is over.
    Done(Done),
}

/// A load under way.
#[derive(Clone)]
pub(super) struct Loading {
    /// When it began, on the clock of timeouts.
    pub(super) since: Instant,
    /// What is stored now, fresh or stale.
    pub(super) existing: Option<Held>,
    /// The value, once the loader has come back and it is being stored.
    pub(super) loaded: Option<Held>,
}

/// How a flight ended.
#[derive(Clone)]
pub(super) enum Done {
    /// With a value in storage: fresh, or stale while loads are throttled for this failure.
    Read(Held, Option<CacheError>),
    /// With a value that was loaded, and the trouble on the way.
    Loaded(Held, Option<CacheError>),
    /// With nothing: a loader said so.
    Absent {
        /// A while ago, which is stored.
        is_remembered: bool,
    },
    /// The storage refuses every call.
    Refused(CacheError),
    /// With a load that failed.
    Failed(Failed),
    /// With nothing, and a load that failed a while ago and is not tried again: with the loader's
    /// own value, or each caller's default.
    Throttled(CacheError, Option<AnyValue>),
}

/// A load that failed, and what can be served instead.
#[derive(Clone)]
pub(super) struct Failed {
    pub(super) error: CacheError,
    pub(super) existing: Option<Held>,
    /// The loader's own.
    pub(super) fallback: Option<AnyValue>,
}

impl Phase {
    /// The beginning of a load, with what is stored now.
    pub(super) fn loading(existing: Option<Held>) -> Self {
        Self::Loading(Loading {
            since: Instant::now(),
            existing,
            loaded: None,
        })
    }
}

impl Flight {
    /// A flight with one caller.
    pub(super) fn new(kind: Kind) -> Self {
        Self::with(kind, CrewOf::Flight(Crew::of_one()))
    }

    /// One of the flights of a batch, whose crew has a seat for it.
    pub(super) fn of_batch(kind: Kind, crew: &Arc<Crew>) -> Self {
        Self::with(kind, CrewOf::Batch(Arc::clone(crew)))
    }

    /// A flight that nobody joins.
    pub(super) fn alone() -> Self {
        Self::with(Kind::of::<()>(0), CrewOf::Flight(Crew::default()))
    }

    fn with(kind: Kind, crew: CrewOf) -> Self {
        Self {
            kind,
            phase: Mutex::new(Phase::Reading),
            changed: Notify::new(),
            crew,
            wants_load: AtomicBool::new(false),
            has_default: AtomicBool::new(false),
        }
    }

    /// Takes a seat for a caller that wants the same, if it can still be had.
    pub(super) fn try_join(&self, kind: Kind, options: &LoadOptions) -> bool {
        if self.kind != kind || !self.crew().try_join() {
            return false;
        }
        if options.refresh {
            self.wants_load.store(true, Ordering::Release);
        }
        if options.default.is_some() {
            self.has_default.store(true, Ordering::Release);
        }
        if options.complete_in_background {
            self.crew().go_on();
        }
        true
    }

    pub(super) fn has_default(&self) -> bool {
        self.has_default.load(Ordering::Acquire)
    }

    pub(super) fn wants_load(&self) -> bool {
        self.wants_load.load(Ordering::Acquire)
    }

    pub(super) fn crew(&self) -> &Crew {
        match &self.crew {
            CrewOf::Flight(crew) => crew,
            CrewOf::Batch(crew) => crew,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().clone()
    }

    /// Goes on to `phase` and tells everybody.
    pub(super) fn enter(&self, phase: Phase) {
        // Values are dropped outside of the lock.
        let before = std::mem::replace(&mut *self.lock(), phase);
        self.changed.notify_waiters();
        drop(before);
    }

    /// Gives up, unless it is over already. A value that is there is given to all who wait, even
    /// where the storage, or the runtime, ended in the middle of storing it.
    pub(super) fn abandon(&self) {
        let mut phase = self.lock();
        let after = match &*phase {
            Phase::Done(_) => return,
            Phase::Loading(Loading {
                loaded: Some(held), ..
            }) => Phase::Done(Done::Loaded(held.clone(), None)),
            Phase::Loading(_) | Phase::Reading | Phase::Abandoned => Phase::Abandoned,
        };
        let before = std::mem::replace(&mut *phase, after);
        drop(phase);
        self.changed.notify_waiters();
        drop(before);
    }

    /// The value is there, and being stored.
    pub(super) fn has_loaded(&self, held: &Held) {
        if let Phase::Loading(loading) = &mut *self.lock() {
            loading.loaded = Some(held.clone());
        }
    }

    /// Resolves at the next change of the phase. Enable it before looking at the phase.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Resolves once the read is over.
    pub(super) async fn has_been_read(&self) {
        loop {
            let mut changed = pin!(self.changed());
            changed.as_mut().enable();
            if !matches!(self.phase(), Phase::Reading) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers of one flight, or of the flights of one batch.
#[derive(Default)]
pub(crate) struct Crew {
    callers: AtomicUsize,
    /// Whether the load goes on without callers.
    goes_on: AtomicBool,
    /// Told once when the last caller has left a load that does not go on.
    cancelled: Notify,
    /// Told when a caller has stopped waiting for a load that goes on.
    in_background: Notify,
}

impl Crew {
    fn of_one() -> Self {
        Self {
            callers: AtomicUsize::new(1),
            ..Self::default()
        }
    }

    /// One more caller, unless the last has left a load that does not go on.
    fn try_join(&self) -> bool {
        let join = |callers| (callers > 0 || self.goes_on()).then_some(callers + 1);
        self.callers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, join)
            .is_ok()
    }

    /// One caller more for a further flight of the same call.
    pub(super) fn join(&self) {
        self.callers.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn leave(&self) {
        if self.callers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let told = if self.goes_on() {
            &self.in_background
        } else {
            &self.cancelled
        };
        told.notify_one();
    }

    /// From now on the load goes on without callers.
    pub(super) fn go_on(&self) {
        self.goes_on.store(true, Ordering::Release);
    }

    fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Acquire)
    }

    /// Whether there is one caller, which is then the one that asks.
    pub(super) fn is_one(&self) -> bool {
        self.callers.load(Ordering::Acquire) == 1
    }

    /// The loader has come back: from now on the load goes on, and can be joined, until its value
    /// is stored. False where its callers had left, so that another load may have begun.
    pub(super) fn comes_back(&self) -> bool {
        if !self.try_join() {
            return false;
        }
        self.go_on();
        self.leave();
        true
    }

    /// Whether nobody waits for the load.
    pub(super) fn is_empty(&self) -> bool {
        self.callers.load(Ordering::Acquire) == 0
    }

    /// Resolves when the last caller has left a load that does not go on.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// A caller stops waiting for the load, which goes on.
    pub(super) fn goes_to_background(&self) {
        self.go_on();
        self.in_background.notify_one();
    }

    /// Resolves when the first caller has stopped waiting for a load that goes on.
    pub(super) async fn in_background(&self) {
        self.in_background.notified().await;
    }
}

/// One caller's seat in a flight; given up when dropped.
pub(super) struct Seat(pub(super) Arc<Fill<Flight>>);

impl Seat {
    pub(super) fn flight(&self) -> &Flight {
        &self.0.payload
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight().crew().leave();
    }
}

/// The call that has begun a batch, with a seat in its crew whatever becomes of the flights: a crew
/// that is empty for a moment is cancelled.
pub(super) struct Host(Arc<Crew>);

impl Host {
    pub(super) fn new() -> Self {
        Self(Arc::new(Crew::of_one()))
    }

    pub(super) fn crew(&self) -> &Arc<Crew> {
        &self.0
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.0.leave();
    }
}
