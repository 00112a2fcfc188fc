//! One caller of a load: what it reads, joins, begins, waits for and takes instead.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::body::{Job, LoadBody};
use super::flight::{Crew, Done, Flight, Kind, Phase, Seat};
use super::held::Held;
use super::loaded::{LoadStatus, Loaded};
use super::options::LoadOptions;
use super::outcome::{IntoLoaderOutcome, LoadContext, LoadReason};
use super::throttle::{Instead, Throttled};
use crate::clock::Timestamp;
use crate::entry::{CodecId, Entry};
use crate::error::{CacheError, Result};
use crate::fills::Fill;
use crate::key::CacheKey;
use crate::observer::Event;
use crate::service::{CacheService, is_trouble};

mod waiting;

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
            return Found::load(held, LoadReason::Refresh);
        }
        if self.is_due(&held) {
            return Found::load(held, LoadReason::Eager);
        }
        Found::Over(Done::Read(held, None))
    }

    fn stale(&self, held: Held, wants_load: bool) -> Found {
        self.service.count(|counters| &counters.stale);
        if wants_load {
            return Found::load(held, LoadReason::Refresh);
        }
        match self.service.throttled(self.key) {
            Some(throttled) if self.options.allow_stale => {
                Found::Over(Done::Read(held, Some(throttled.error)))
            }
            _ => Found::load(held, LoadReason::Expired),
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
}

impl Found {
    fn load(existing: Held, reason: LoadReason) -> Self {
        Self::Load {
            existing: Some(existing),
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
