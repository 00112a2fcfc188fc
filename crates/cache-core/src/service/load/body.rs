//! The load itself: a task of its own, which stores what its loader brings and tells the callers.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, join_all, select};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::call::Loadable;
use super::failure::LoadFailure;
use super::flight::{Crew, Done, Failed, Flight, Phase};
use super::held::{AnyValue, Held};
use super::nested::Within;
use super::options::LoadOptions;
use super::outcome::{LoaderOutcome, failure};
use super::throttle::Instead;
use crate::entry::{CodecId, Condition, NewEntry};
use crate::error::{CacheError, ErrorKind, Operation, Result};
use crate::fills::Fill;
use crate::key::CacheKey;
use crate::observer::Event;
use crate::service::{CacheService, SetOptions};
use crate::ttl::Ttl;

/// One key that is loaded.
pub(super) struct Job {
    pub(super) key: CacheKey,
    pub(super) fill: Arc<Fill<Flight>>,
    /// What is stored, fresh or stale.
    pub(super) existing: Option<Held>,
}

/// A load of one key, or of many at once.
pub(super) struct LoadBody {
    service: CacheService,
    options: LoadOptions,
    jobs: Vec<Job>,
    /// What went wrong before.
    trouble: Option<CacheError>,
}

/// How a loader ended, but for coming back.
enum Unfinished {
    /// Nobody waits any more.
    Cancelled,
    TookTooLong,
    Panicked,
}

/// What is to be stored for one key, and what its callers are told.
struct Settled {
    store: Store,
    done: Done,
}

enum Store {
    Nothing,
    Put { entry: NewEntry, held: Option<Held> },
    Delete,
}

impl LoadBody {
    pub(super) fn new(
        service: CacheService,
        options: LoadOptions,
        jobs: Vec<Job>,
        trouble: Option<CacheError>,
    ) -> Self {
        Self {
            service,
            options,
            jobs,
            trouble,
        }
    }

    /// Who waits for it: of a batch all flights have the same.
    fn crew(&self) -> &Crew {
        self.jobs[0].fill.payload.crew()
    }

    /// Starts the load, which `produce` brings the outcomes of, one a job. Nobody waits for one in
    /// the background.
    ///
    /// # Errors
    ///
    /// `Configuration` outside of a tokio runtime; the flights are given up.
    pub(super) fn spawn<T: Loadable>(
        self,
        is_background: bool,
        produce: impl Future<Output = Vec<Result<LoaderOutcome<T>>>> + Send + 'static,
    ) -> Result<()> {
        if is_background || self.options.complete_in_background {
            self.crew().go_on();
        }
        for job in &self.jobs {
            job.fill.payload.enter(Phase::loading(job.existing.clone()));
        }
        let body = Ended(self);
        let Ok(runtime) = Handle::try_current() else {
            return Err(no_runtime());
        };
        // A background load is nobody's to wait for.
        let within = Within::new(&body.0.jobs[0].fill, !is_background);
        drop(runtime.spawn(within.run(async move { body.0.run(produce).await })));
        Ok(())
    }

    async fn run<T: Loadable>(
        &self,
        produce: impl Future<Output = Vec<Result<LoaderOutcome<T>>>> + Send,
    ) {
        let produced = self.produced(produce).await;
        if !self.crew().comes_back() {
            // What comes back in the moment in which the last caller leaves is older than what
            // the next one loads.
            return;
        }
        let outcomes = match produced {
            Err(Unfinished::Cancelled) => return,
            Ok(outcomes) => outcomes,
            Err(unfinished) => {
                let error = self.unfinished(&unfinished);
                let failed = || Err(error.clone());
                self.jobs.iter().map(|_| failed()).collect()
            }
        };
        self.settle(outcomes).await;
    }

    /// What the loader comes back with, if it does.
    async fn produced<T>(
        &self,
        produce: impl Future<Output = Vec<Result<LoaderOutcome<T>>>> + Send,
    ) -> Result<Vec<Result<LoaderOutcome<T>>>, Unfinished> {
        // What the loader has changed before its panic is the application's.
        let produce = pin!(AssertUnwindSafe(produce).catch_unwind());
        let limit = pin!(async {
            self.crew().in_background().await;
            sleep(self.options.background_limit).await;
        });
        let cancelled = pin!(self.crew().cancelled());
        match select(produce, select(limit, cancelled)).await {
            Either::Left((Ok(outcomes), _)) => Ok(outcomes),
            Either::Left((Err(_), _)) => {
                let event = Event::Panicked { place: "loader" };
                self.service.observers().tell(&event);
                Err(Unfinished::Panicked)
            }
            Either::Right((Either::Left(_), _)) => Err(Unfinished::TookTooLong),
            Either::Right((Either::Right(_), _)) => Err(Unfinished::Cancelled),
        }
    }

    fn unfinished(&self, how: &Unfinished) -> CacheError {
        let limit = self.options.background_limit;
        match how {
            Unfinished::TookTooLong => CacheError::new(
                ErrorKind::Timeout,
                format!("the loader did not come back within {limit:?} in the background"),
            ),
            Unfinished::Panicked | Unfinished::Cancelled => {
                CacheError::new(ErrorKind::Loader, "the loader panicked").with_code("panic")
            }
        }
    }

    /// Stores what is to be stored, and then tells the callers.
    async fn settle<T: Loadable>(&self, outcomes: Vec<Result<LoaderOutcome<T>>>) {
        let settled: Vec<_> = self
            .jobs
            .iter()
            .zip(outcomes)
            .map(|(job, outcome)| {
                let settled = self.settled(job, outcome);
                if let Done::Loaded(held, _) = &settled.done {
                    job.fill.payload.has_loaded(held);
                }
                (job, settled)
            })
            .collect();
        join_all(settled.into_iter().map(|(job, settled)| async move {
            let trouble = self.store(job, settled.store).await;
            let done = match settled.done {
                Done::Loaded(held, before) => Done::Loaded(held, trouble.or(before)),
                done => done,
            };
            self.service.fills().end(&job.key, &job.fill);
            job.fill.payload.enter(Phase::Done(done));
        }))
        .await;
    }

    /// What an outcome means.
    fn settled<T: Loadable>(&self, job: &Job, outcome: Result<LoaderOutcome<T>>) -> Settled {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.failed(job, error, None),
        };
        match outcome {
            LoaderOutcome::Value {
                value,
                ttl,
                stale_for,
            } => self.value(job, Arc::new(value), (ttl, stale_for), "value"),
            LoaderOutcome::DoNotStore(value) => {
                self.told("do_not_store");
                self.service.forget_failure(&job.key, &job.fill);
                let held = Held::loaded(Arc::new(value), self.service.now());
                Settled {
                    store: Store::Nothing,
                    done: Done::Loaded(held, self.trouble.clone()),
                }
            }
            LoaderOutcome::Absent => self.absent(job, self.options.absent_for),
            LoaderOutcome::AbsentFor(ttl) => {
                self.absent(job, Some(ttl.as_duration().unwrap_or(Ttl::MAX)))
            }
            LoaderOutcome::NotModified => match job.existing.as_ref().and_then(Held::value::<T>) {
                Some(value) => self.value(job, value, (None, None), "not_modified"),
                None => {
                    let message = "the loader says not modified, and was shown nothing";
                    self.failed(job, CacheError::new(ErrorKind::Loader, message), None)
                }
            },
            LoaderOutcome::Failed(error) => self.failed(job, failure(error), None),
            LoaderOutcome::FailedWith { error, value } => {
                self.failed(job, failure(error), Some(Arc::new(value)))
            }
        }
    }

    fn value<T: Loadable>(
        &self,
        job: &Job,
        value: Arc<T>,
        spans: (Option<Ttl>, Option<Duration>),
        outcome: &'static str,
    ) -> Settled {
        self.told(outcome);
        self.service.forget_failure(&job.key, &job.fill);
        let now = self.service.now();
        let entry = self.entry(job, &*value, spans);
        let held = Held::loaded(value, now);
        match entry {
            Ok(entry) => {
                let kept = held.clone().until(entry.deadlines(now));
                Settled {
                    store: Store::Put {
                        entry,
                        held: Some(kept),
                    },
                    done: Done::Loaded(held, self.trouble.clone()),
                }
            }
            // Callers get what was loaded, whether or not it can be kept.
            Err(error) => Settled {
                store: Store::Nothing,
                done: Done::Loaded(held, Some(error)),
            },
        }
    }

    fn entry<T: Loadable>(
        &self,
        job: &Job,
        value: &T,
        (ttl, stale_for): (Option<Ttl>, Option<Duration>),
    ) -> Result<NewEntry> {
        let mut options = SetOptions::new();
        if let Some(ttl) = ttl.or(self.options.ttl) {
            options = options.ttl(ttl);
        }
        if let Some(stale_for) = stale_for.or(self.options.stale_for) {
            options = options.stale_for(stale_for);
        }
        if self.options.needs_creation_time() {
            options = options.keep_creation_time();
        }
        self.service.entry(&job.key, value, &options)
    }

    fn absent(&self, job: &Job, span: Option<Duration>) -> Settled {
        self.told("absent");
        self.service.forget_failure(&job.key, &job.fill);
        let marker = |span| NewEntry::stale(Bytes::new(), span).ok();
        let store = match (span.and_then(marker), &job.existing) {
            (Some(entry), _) => Store::Put {
                entry: entry.with_codec(CodecId::Absent),
                held: None,
            },
            // Not remembered; and what was there is not there any more.
            (None, Some(_)) => Store::Delete,
            (None, None) => Store::Nothing,
        };
        Settled {
            store,
            done: Done::Absent {
                is_remembered: false,
            },
        }
    }

    fn failed(&self, job: &Job, error: CacheError, fallback: Option<AnyValue>) -> Settled {
        let error = error
            .with_operation(Operation::GetOrLoad)
            .with_key(&job.key);
        self.told("failed");
        self.service.load_failed(&LoadFailure {
            key: &job.key,
            error: &error,
            background: self.crew().is_empty(),
        });
        let now = self.service.now();
        let existing = job.existing.as_ref();
        let has_stored = existing.is_some_and(|existing| existing.is_servable(|| now));
        let has_default = self.options.default.is_some() || job.fill.payload.has_default();
        let instead = match &fallback {
            _ if has_stored => Some(Instead::Stale),
            Some(value) => Some(Instead::Fallback(Arc::clone(value))),
            None if has_default => Some(Instead::Default),
            None => None,
        };
        if let Some(instead) = instead {
            let span = self.options.throttle;
            self.service
                .throttle((&job.key, &job.fill), &error, instead, span);
        }
        Settled {
            store: Store::Nothing,
            done: Done::Failed(Failed {
                error,
                existing: job.existing.clone(),
                fallback,
            }),
        }
    }

    /// Stores unless the key was written since the load began; the trouble, if there was any.
    async fn store(&self, job: &Job, store: Store) -> Option<CacheError> {
        let storage = self.service.inner();
        let (stored, held) = match store {
            Store::Nothing => return None,
            Store::Delete => {
                let deleting = async { storage.delete(&job.key).await.map(drop) };
                (job.fill.store(deleting).await, None)
            }
            Store::Put { entry, held } => {
                let length = entry.value.len();
                let storing = async {
                    let stored = storage.set(&job.key, entry, Condition::Always).await;
                    stored.map(drop)
                };
                let stored = job.fill.store(storing).await;
                (stored, held.map(|held| (held, length)))
            }
        };
        let stored = stored?;
        let held = held.filter(|_| stored.is_ok());
        self.service.has_stored(&job.key, &job.fill, held);
        let error = stored.err()?;
        self.service.is_degraded(&error);
        Some(error)
    }

    fn told(&self, outcome: &'static str) {
        self.service.count(|counters| &counters.loads);
        let background = self.crew().is_empty();
        self.service.observers().tell(&Event::Load {
            outcome,
            background,
        });
    }
}

pub(super) fn no_runtime() -> CacheError {
    let message = "get_or_load needs a tokio runtime to load in";
    CacheError::new(ErrorKind::Configuration, message).with_operation(Operation::GetOrLoad)
}

/// Ends the flights whatever happens to the task: callers never wait for a load that is gone.
struct Ended(LoadBody);

impl Drop for Ended {
    fn drop(&mut self) {
        for job in &self.0.jobs {
            self.0.service.fills().end(&job.key, &job.fill);
            job.fill.payload.abandon();
        }
    }
}
