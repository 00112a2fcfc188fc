//! What a caller waits for, and what it takes instead.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::super::flight::{Done, Failed, Flight, Loading, Phase};
use super::super::held::{AnyValue, Held};
use super::super::loaded::{LoadStatus, Loaded};
use super::super::nested::is_within;
use super::super::outcome::LoadReason;
use super::{Call, LOADER_IS_SLOW, Loadable, STORAGE_IS_SLOW};
use crate::error::{CacheError, ErrorKind, Operation, Result};

impl Call<'_> {
    /// Waits for the flight; none where it came to nothing and has to be begun again.
    pub(in crate::service::load) async fn wait<T: Loadable>(
        &self,
        flight: &Flight,
    ) -> Result<Option<Loaded<T>>> {
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
    pub(super) fn at_once<T: Loadable>(
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
    pub(in crate::service::load) fn begins_to_wait(&self) -> Instant {
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
    pub(in crate::service::load) fn give_up<T: Loadable>(
        &self,
        existing: Option<&Held>,
        why: &'static str,
    ) -> Result<Loaded<T>> {
        self.without_load(existing, None, self.too_late(why))
    }

    pub(super) fn too_late(&self, why: &'static str) -> CacheError {
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
    pub(in crate::service::load) fn conclude<T: Loadable>(
        &self,
        done: Done,
    ) -> Result<Option<Loaded<T>>> {
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

    fn waits_for_itself(&self) -> CacheError {
        let message = "a loader waits for the load that it is a part of";
        CacheError::new(ErrorKind::Loader, message)
            .with_operation(Operation::GetOrLoad)
            .with_key(self.key)
    }

    pub(in crate::service::load) fn was_given_up(&self) -> CacheError {
        let message =
            "the load that this call waited for was given up, and its own loader is spent";
        CacheError::new(ErrorKind::Loader, message)
            .with_operation(Operation::GetOrLoad)
            .with_key(self.key)
    }
}
