//! One caller of a load: what it reads, joins, begins, waits for and takes instead.

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::body::{Job, LoadBody};
use super::flight::{Crew, Done, Failed, Flight, Kind, Loading, Phase, Seat};
use super::held::{AnyValue, Held};
use super::loaded::{LoadStatus, Loaded};
use super::nested::is_within;
use super::options::LoadOptions;
use super::outcome::{IntoLoaderOutcome, LoadContext, LoadReason};
use super::throttle::{Instead, Throttled};
use crate::clock::Timestamp;
use crate::entry::{CodecId, Entry};
use crate::error::{CacheError, ErrorKind, Operation, Result};
use crate::fills::Fill;
use crate::key::CacheKey;
use crate::observer::Event;
use crate::service::{CacheService, is_trouble};

/// What a value has to be that is loaded and shared.
///
/// A value may be dropped under a lock of the cache, so its `Drop` must not call the cache.
pub trait Loadable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Loadable for T {}

pub(super) const STORAGE_IS_SLOW: &str = "the storage did not answer in time";
const LOADER_IS_SLOW: &str = "the loader did not come back in time";

/// One call, for one key.
pub(super) struct Call<'a> {
    service: &'a CacheService,
    key: &'a CacheKey,
    options: &'a LoadOptions,
    kind: Kind,
    /// When the call has to be over.
    until: Option<Instant>,
    /// When it began to wait for a load.
    waiting_since: OnceLock<Instant>,
}

/// A read from before its flight.
pub(super) struct ReadBefore {
    /// The epoch of the fills when it began.
    pub(super) epoch: u64,
    pub(super) read: Result<Option<Entry>>,
}

/// What the first caller of a flight does after reading.
pub(super) enum Found {
    /// It is over for everybody.
    Over(Done),
    /// Something has to be loaded.
    Load {
        existing: Option<Held>,
        reason: LoadReason,
        trouble: Option<CacheError>,
    },
}

impl<'a> Call<'a> {
    pub(super) fn new<T: Loadable>(
        service: &'a CacheService,
        key: &'a CacheKey,
        options: &'a LoadOptions,
    ) -> Self {
        Self {
            service,
            key,
            options,
            kind: Kind::of::<T>(service.view()),
            until: options.deadline.map(|span| Instant::now() + span),
            waiting_since: OnceLock::new(),
        }
    }

    /// The value, or what there is instead of it. What was `read` before counts unless a write or
    /// another flight has ended since.
    pub(super) async fn run<T, L, F, O>(
        &self,
        loader: L,
        mut read: Option<ReadBefore>,
    ) -> Result<Loaded<T>>
    where
        T: Loadable,
        L: FnOnce(LoadContext<T>) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
        O: IntoLoaderOutcome<Value = T> + Send + 'static,
    {
        if let Some(loaded) = self.decoded_now() {
            return Ok(loaded);
        }
        let (mut loader, mut has_joined) = (Some(loader), false);
        loop {
            let (seat, is_new) = self.enter();
            let fill = &seat.0;
            if is_new {
                let found = match self.decoded::<T>() {
                    Some(hit) => self.fresh(hit, false),
                    None => match self.read(fill, read.take()).await {
                        Some(read) => self.judge::<T>(fill, read),
                        None => return self.give_up(None, STORAGE_IS_SLOW),
                    },
                };
                let (existing, reason, trouble) = match found {
                    Found::Load {
                        existing,
                        reason,
                        trouble,
                    } => (existing, reason, trouble),
                    Found::Over(done) => {
                        self.finish(fill, &done);
                        if let Some(loaded) = self.conclude(done)? {
                            return Ok(loaded);
                        }
                        continue;
                    }
                };
                let Some(loader) = loader.take() else {
                    self.abandon(fill);
                    return Err(self.was_given_up());
                };
                let at_once = self.at_once(existing.as_ref(), reason);
                let is_background = at_once.is_some();
                self.begin(fill, existing, (reason, is_background), trouble, loader)?;
                if let Some(loaded) = at_once {
                    return Ok(loaded);
                }
            } else if !has_joined {
                has_joined = true;
                self.has_joined();
            }
            if let Some(loaded) = self.wait(seat.flight()).await? {
                return Ok(Loaded {
                    joined: !is_new,
                    ..loaded
                });
            }
        }
    }

    /// A seat in a flight that is under way, or in a new one of which this call is the first.
    fn enter(&self) -> (Seat, bool) {
        self.enter_with(|| Flight::new(self.kind))
    }

    /// As [`enter`](Self::enter), as a part of a batch.
    pub(super) fn enter_with_batch(&self, crew: &Arc<Crew>) -> (Seat, bool) {
        self.enter_with(|| {
            crew.join();
            Flight::of_batch(self.kind, crew)
        })
    }

    fn enter_with(&self, flight: impl FnOnce() -> Flight) -> (Seat, bool) {
        let suits = |flight: &Flight| flight.try_join(self.kind, self.options);
        let (fill, is_new) = self.service.fills().join_or_begin(self.key, suits, flight);
        (Seat(fill), is_new)
    }

    /// Reads the storage, for everybody in this flight; none where the call's time is over. Too
    /// late or dropped, it leaves the flight to others.
    async fn read(
        &self,
        fill: &Arc<Fill<Flight>>,
        before: Option<ReadBefore>,
    ) -> Option<Result<Option<Entry>>> {
        if let Some(before) = before
            && before.epoch == self.service.fills().epoch()
        {
            return Some(before.read);
        }
        let reading = Reading {
            call: self,
            fill,
            is_over: false,
        };
        let read = self.service.read_for_load(self.key, self.options);
        let read = self.in_time(read).await.ok()?;
        reading.over();
        Some(read)
    }

    /// What `waiting` comes to.
    ///
    /// # Errors
    ///
    /// `Timeout` where the call's time is over first.
    pub(super) async fn in_time<R>(&self, waiting: impl Future<Output = R>) -> Result<R> {
        let Some(until) = self.until else {
            return Ok(waiting.await);
        };
        let in_time = timeout_at(until, waiting).await;
        in_time.map_err(|_| self.too_late(STORAGE_IS_SLOW))
    }

    /// What a read comes to.
    pub(super) fn judge<T: Loadable>(
        &self,
        fill: &Arc<Fill<Flight>>,
        read: Result<Option<Entry>>,
    ) -> Found {
        let service = self.service;
        let wants_load = self.options.refresh || fill.payload.wants_load();
        let decoded = read.and_then(|found| match found {
            None => Ok(None),
            Some(entry) if entry.codec == Some(CodecId::Absent) => Ok(Some(None)),
            Some(entry) => service
                .held::<T>(self.key, &entry)
                .map(|held| Some(Some((held, entry)))),
        });
        match decoded {
            Err(error) if !is_trouble(error.kind()) => Found::Over(Done::Refused(error)),
            Err(error) => {
                service.is_degraded(&error);
                self.missing(Some(error), wants_load)
            }
            Ok(Some(None)) if !wants_load => {
                service.count(|counters| &counters.misses);
                Found::Over(Done::Absent {
                    is_remembered: true,
                })
            }
            Ok(None | Some(None)) => {
                service.count(|counters| &counters.misses);
                self.missing(None, wants_load)
            }
            Ok(Some(Some((held, entry)))) if held.is_fresh(|| self.now()) => {
                service.keep_decoded(self.key, fill, &held, entry.value.len());
                self.fresh(held, wants_load)
            }
            Ok(Some(Some((held, _)))) if held.is_servable(|| self.now()) => {
                self.stale(held, wants_load)
            }
            // It has ended on its way here.
            Ok(Some(Some(_))) => {
                service.count(|counters| &counters.misses);
                self.missing(None, wants_load)
            }
        }
    }

    fn fresh(&self, held: Held, wants_load: bool) -> Found {
        self.service.count(|counters| &counters.hits);
        if wants_load {
            return Found::load(Some(held), LoadReason::Refresh);
        }
        if self.is_due(&held) {
            return Found::load(Some(held), LoadReason::Eager);
        }
        Found::Over(Done::Read(held, None))
    }

    fn stale(&self, held: Held, wants_load: bool) -> Found {
        self.service.count(|counters| &counters.stale);
        if wants_load {
            return Found::load(Some(held), LoadReason::Refresh);
        }
        match self.service.throttled(self.key) {
            Some(throttled) if self.options.allow_stale => {
                Found::Over(Done::Read(held, Some(throttled.error)))
            }
            _ => Found::load(Some(held), LoadReason::Expired),
        }
    }

    fn missing(&self, trouble: Option<CacheError>, wants_load: bool) -> Found {
        if wants_load {
            return Found::Load {
                existing: None,
                reason: LoadReason::Refresh,
                trouble,
            };
        }
        if let Some(throttled) = self.service.throttled(self.key) {
            let Throttled { error, instead, .. } = throttled;
            match instead {
                Instead::Fallback(value) if self.kind.is_of(&value) => {
                    return Found::Over(Done::Throttled(error, Some(value)));
                }
                Instead::Default if self.options.default.is_some() => {
                    return Found::Over(Done::Throttled(error, None));
                }
                Instead::Fallback(_) | Instead::Default | Instead::Stale => {}
            }
        }
        Found::Load {
            existing: None,
            reason: LoadReason::Missing,
            trouble,
        }
    }

    /// Begins the load in a task of its own, for all who wait.
    fn begin<T, L, F, O>(
        &self,
        fill: &Arc<Fill<Flight>>,
        existing: Option<Held>,
        (reason, is_background): (LoadReason, bool),
        trouble: Option<CacheError>,
        loader: L,
    ) -> Result<()>
    where
        T: Loadable,
        L: FnOnce(LoadContext<T>) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
        O: IntoLoaderOutcome<Value = T> + Send + 'static,
    {
        let context = LoadContext {
            reason,
            age: existing.as_ref().and_then(|held| held.age(|| self.now())),
            stored: existing.as_ref().and_then(Held::value),
        };
        let body = LoadBody::new(
            self.service.clone(),
            self.options.clone(),
            vec![self.job(fill, existing)],
            trouble,
        );
        let produce = async move { vec![Ok(loader(context).await.into_outcome())] };
        body.spawn(is_background, produce)
    }

    pub(super) fn job(&self, fill: &Arc<Fill<Flight>>, existing: Option<Held>) -> Job {
        Job {
            key: self.key.clone(),
            fill: Arc::clone(fill),
            existing,
        }
    }

    /// Waits for the flight; none where it came to nothing and has to be begun again.
    pub(super) async fn wait<T: Loadable>(&self, flight: &Flight) -> Result<Option<Loaded<T>>> {
        loop {
            let mut changed = pin!(flight.changed());
            // Before the look at the phase: no change after it is missed.
            changed.as_mut().enable();
            let alarm = match flight.phase() {
                Phase::Abandoned => return Ok(None),
                Phase::Done(done) => return self.conclude(done),
                Phase::Reading => self.until,
                Phase::Loading(loading) => {
                    if let Some(loaded) = self.take_at_once(flight, &loading) {
                        return Ok(Some(loaded));
                    }
                    if is_within(flight.crew()) {
                        let existing = loading.existing.as_ref();
                        return self
                            .without_load(existing, None, self.waits_for_itself())
                            .map(Some);
                    }
                    self.alarm(&loading)
                }
            };
            let Some(alarm) = alarm else {
                changed.await;
                continue;
            };
            if timeout_at(alarm, changed).await.is_err()
                && let Some(loaded) = self.take_late(flight)?
            {
                return Ok(Some(loaded));
            }
        }
    }

    /// What is stored, if the first caller takes it and leaves the load to the background.
    fn at_once<T: Loadable>(
        &self,
        existing: Option<&Held>,
        reason: LoadReason,
    ) -> Option<Loaded<T>> {
        let existing = existing?;
        match reason {
            LoadReason::Eager => self.show(existing, LoadStatus::Fresh),
            LoadReason::Expired if self.options.revalidate && self.takes_stored(existing) => {
                self.show(existing, LoadStatus::Stale)
            }
            _ => None,
        }
    }

    /// What is stored, if this caller takes it without waiting. Where the new value is there
    /// already and only being stored, it is that.
    fn take_at_once<T: Loadable>(&self, flight: &Flight, loading: &Loading) -> Option<Loaded<T>> {
        let existing = loading.existing.as_ref()?;
        let options = self.options;
        let show = |status| match &loading.loaded {
            Some(loaded) => self.show(loaded, LoadStatus::Loaded),
            None => self.show(existing, status),
        };
        if existing.is_fresh(|| self.now()) {
            let takes = !options.refresh;
            return takes.then(|| show(LoadStatus::Fresh))?;
        }
        let soft_is_over = options
            .soft_timeout
            .is_some_and(|soft| loading.since + soft <= Instant::now());
        let revalidates = options.revalidate && !options.refresh;
        if !self.takes_stored(existing) || !(revalidates || soft_is_over) {
            return None;
        }
        if revalidates || !options.cancel_on_timeout {
            flight.crew().goes_to_background();
        }
        show(LoadStatus::Stale)
    }

    /// Whether this caller may have what is stored, by its age and by its own wish.
    fn takes_stored(&self, existing: &Held) -> bool {
        self.options.allow_stale && existing.is_servable(|| self.now())
    }

    /// When this caller looks whether it has waited long enough.
    fn alarm(&self, loading: &Loading) -> Option<Instant> {
        let existing = loading.existing.as_ref();
        let has_stored = existing.is_some_and(|existing| self.takes_stored(existing));
        let soft = self.options.soft_timeout.filter(|_| has_stored);
        let soft = soft.map(|soft| loading.since + soft);
        [soft, self.last_moment()].into_iter().flatten().min()
    }

    /// The beginning of the hard timeout, at the first call of this.
    pub(super) fn begins_to_wait(&self) -> Instant {
        *self.waiting_since.get_or_init(Instant::now)
    }

    /// When this caller stops waiting, whatever it has.
    fn last_moment(&self) -> Option<Instant> {
        let since = self.begins_to_wait();
        let hard = self.options.hard_timeout.map(|hard| since + hard);
        [hard, self.until].into_iter().flatten().min()
    }

    /// What this caller gets at its alarm; none where it has to look again.
    fn take_late<T: Loadable>(&self, flight: &Flight) -> Result<Option<Loaded<T>>> {
        let loading = match flight.phase() {
            Phase::Reading => return self.give_up(None, STORAGE_IS_SLOW).map(Some),
            Phase::Loading(loading) => loading,
            // It has ended in this very moment.
            Phase::Abandoned | Phase::Done(_) => return Ok(None),
        };
        if let Some(held) = &loading.loaded
            && let Some(loaded) = self.show(held, LoadStatus::Loaded)
        {
            return Ok(Some(loaded));
        }
        let existing = loading.existing.as_ref();
        let has_stored = existing.is_some_and(|existing| self.takes_stored(existing));
        let is_over = self.last_moment().is_some_and(|end| end <= Instant::now());
        if !has_stored && !is_over {
            // The stale value that the soft timeout was for has ended meanwhile.
            return Ok(None);
        }
        if !self.options.cancel_on_timeout {
            flight.crew().goes_to_background();
        }
        self.give_up(existing, LOADER_IS_SLOW).map(Some)
    }

    /// The end of a call whose time is over.
    pub(super) fn give_up<T: Loadable>(
        &self,
        existing: Option<&Held>,
        why: &'static str,
    ) -> Result<Loaded<T>> {
        self.without_load(existing, None, self.too_late(why))
    }

    fn too_late(&self, why: &'static str) -> CacheError {
        CacheError::new(ErrorKind::Timeout, why)
            .with_operation(Operation::GetOrLoad)
            .with_key(self.key)
    }

    /// What a caller gets that cannot have the loaded value, in this order: what is stored, the
    /// loader's own substitute, the caller's default, the error.
    fn without_load<T: Loadable>(
        &self,
        existing: Option<&Held>,
        fallback: Option<&AnyValue>,
        error: CacheError,
    ) -> Result<Loaded<T>> {
        if let Some(existing) = existing
            && self.takes_stored(existing)
        {
            let is_fresh = existing.is_fresh(|| self.now());
            let status = if is_fresh {
                LoadStatus::Fresh
            } else {
                LoadStatus::Stale
            };
            if let Some(loaded) = self.show(existing, status) {
                return Ok(Loaded {
                    trouble: Some(error),
                    ..loaded
                });
            }
        }
        let default = self.options.default.as_ref().map(|default| &default.0);
        match fallback.or(default) {
            Some(value) => self.instead(value, error),
            None => Err(error),
        }
    }

    /// A value that is not the cache's.
    fn instead<T: Loadable>(&self, value: &AnyValue, error: CacheError) -> Result<Loaded<T>> {
        let Ok(value) = Arc::clone(value).downcast() else {
            return Err(error);
        };
        Ok(Loaded {
            value: Some(value),
            status: LoadStatus::Default,
            tier: None,
            age: None,
            joined: false,
            trouble: Some(error),
        })
    }

    /// What the end of a flight is to this caller; none if it has to begin again.
    pub(super) fn conclude<T: Loadable>(&self, done: Done) -> Result<Option<Loaded<T>>> {
        let options = self.options;
        match done {
            Done::Read(held, trouble) => {
                let status = match trouble {
                    None if options.refresh => return Ok(None),
                    None => LoadStatus::Fresh,
                    Some(_) if !options.allow_stale => return Ok(None),
                    Some(_) => LoadStatus::Stale,
                };
                let shown = self.show(&held, status);
                Ok(shown.map(|loaded| Loaded { trouble, ..loaded }))
            }
            Done::Loaded(held, trouble) => {
                let shown = self.show(&held, LoadStatus::Loaded);
                Ok(shown.map(|loaded| Loaded { trouble, ..loaded }))
            }
            Done::Absent { is_remembered } if is_remembered && options.refresh => Ok(None),
            Done::Absent { .. } => Ok(Some(Loaded {
                value: None,
                status: LoadStatus::Absent,
                tier: None,
                age: None,
                joined: false,
                trouble: None,
            })),
            Done::Refused(error) => Err(error),
            Done::Throttled(..) if options.refresh => Ok(None),
            Done::Throttled(error, fallback) => {
                let default = options.default.as_ref().map(|default| &default.0);
                let instead = fallback.as_ref().or(default);
                instead.map(|value| self.instead(value, error)).transpose()
            }
            Done::Failed(failed) => {
                let Failed {
                    error,
                    existing,
                    fallback,
                } = failed;
                self.without_load(existing.as_ref(), fallback.as_ref(), error)
                    .map(Some)
            }
        }
    }

    /// Counts and tells that another call was reading or loading the key already.
    pub(super) fn has_joined(&self) {
        self.service.count(|counters| &counters.joined);
        self.service.observers().tell(&Event::Joined);
    }

    pub(super) fn key(&self) -> &'a CacheKey {
        self.key
    }

    /// The value that is kept decoded, if nothing is to be loaded.
    pub(super) fn decoded_now<T: Loadable>(&self) -> Option<Loaded<T>> {
        let hit = self.decoded::<T>()?;
        if self.is_due(&hit) {
            return None;
        }
        self.service.count(|counters| &counters.hits);
        self.show(&hit, LoadStatus::Fresh)
    }

    /// The value that is kept decoded as this type. In a flight, ask once it has begun: a write
    /// after that keeps later callers from it, and one before it has forgotten the value.
    fn decoded<T: Loadable>(&self) -> Option<Held> {
        if self.options.refresh {
            return None;
        }
        let hit = self.service.decoded(self.key)?;
        hit.value::<T>().is_some().then_some(hit)
    }

    /// Whether a fresh value is old enough to be loaded anew in the background.
    fn is_due(&self, held: &Held) -> bool {
        let due = |fraction| held.is_due(fraction, || self.now());
        self.options.eager.is_some_and(due) && self.service.throttled(self.key).is_none()
    }

    fn show<T: Loadable>(&self, held: &Held, status: LoadStatus) -> Option<Loaded<T>> {
        held.show(status, || self.now())
    }

    fn now(&self) -> Timestamp {
        self.service.now()
    }

    /// Ends the flight for everybody.
    pub(super) fn finish(&self, fill: &Arc<Fill<Flight>>, done: &Done) {
        self.service.fills().end(self.key, fill);
        // After its end nobody joins any more, so that one caller remains one.
        if !fill.payload.crew().is_one() {
            fill.payload.enter(Phase::Done(done.clone()));
        }
    }

    /// Leaves the flight to whoever else waits for it.
    pub(super) fn abandon(&self, fill: &Arc<Fill<Flight>>) {
        self.service.fills().end(self.key, fill);
        fill.payload.abandon();
    }

    fn waits_for_itself(&self) -> CacheError {
        let message = "a loader waits for the load that it is a part of";
        CacheError::new(ErrorKind::Loader, message)
            .with_operation(Operation::GetOrLoad)
            .with_key(self.key)
    }

    pub(super) fn was_given_up(&self) -> CacheError {
        let message =
            "the load that this call waited for was given up, and its own loader is spent";
        CacheError::new(ErrorKind::Loader, message)
            .with_operation(Operation::GetOrLoad)
            .with_key(self.key)
    }
}

impl Found {
    fn load(existing: Option<Held>, reason: LoadReason) -> Self {
        Self::Load {
            existing,
            reason,
            trouble: None,
        }
    }
}

/// The first caller while it reads. Dropped before it is over, others begin again.
struct Reading<'a> {
    call: &'a Call<'a>,
    fill: &'a Arc<Fill<Flight>>,
    is_over: bool,
}

impl Reading<'_> {
    fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.call.abandon(self.fill);
        }
    }
}
