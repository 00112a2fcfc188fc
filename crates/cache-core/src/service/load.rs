//! Loading what is missing: the calls, and what they ask of their service.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::CacheService;
use super::writes::no_ttl;
use crate::entry::{CodecId, Entry};
use crate::error::{CacheError, ConfigurationError, Operation, Result};
use crate::fills::{Clearing, Fill, Fills, Writing};
use crate::key::CacheKey;
use crate::lookup::Lookup;
use crate::observer::{Event, Observers};
use crate::ttl::Ttl;

mod batch;
mod body;
mod call;
#[cfg(feature = "decoded")]
mod decoded;
mod failure;
mod flight;
mod held;
mod loaded;
mod nested;
mod options;
mod outcome;
mod throttle;

pub use call::Loadable;
#[cfg(feature = "decoded")]
pub(crate) use decoded::Decoded;
#[cfg(feature = "decoded")]
pub use decoded::DecodedOptions;
pub(crate) use failure::FailureHook;
pub use failure::LoadFailure;
pub(crate) use flight::Flight;
pub use loaded::{LoadStatus, Loaded};
pub use options::{LoadOptions, LoadOptionsBuilder};
pub use outcome::{IntoLoaderOutcome, LoadContext, LoadReason, LoaderOutcome};
pub(crate) use throttle::Throttles;

use call::{Call, ReadBefore};
use held::Held;
use throttle::{Instead, Throttled};

impl CacheService {
    /// The fresh value under `key`, or the one that `loader` brings, which is then stored.
    ///
    /// * **One load**: of all callers in this process who miss the same key at the same time, one
    ///   loads, and the others wait for it and share the value or the error. Callers who come
    ///   after the end of a failed load run their own.
    /// * The load runs in a task of its own. It is cancelled when all its callers were dropped,
    ///   unless [`complete_in_background`](LoadOptionsBuilder::complete_in_background) is on.
    /// * **Trouble of the storage is no error**: the value is then loaded, whatever the policy.
    /// * **Failures** of the loader are answered with a stale value where the service or the call
    ///   keeps them, and with an error of kind `Loader` otherwise.
    /// * **No resurrection**: what a loader brings is not stored if the key was set, deleted or
    ///   expired through this service (clones included) since the load began. Its callers get it
    ///   all the same; callers who come after the write do not.
    ///
    /// The loader is told what is stored ([`LoadContext`]) and returns a `Result`, or a
    /// [`LoaderOutcome`] to decide more. A panic in it is an error of kind `Loader` for all who
    /// wait, in builds that unwind.
    ///
    /// A loader may use the cache. One that asks for the key it loads, directly or through the
    /// loaders of other keys, gets an error of kind `Loader` where it would wait for itself; tasks
    /// that it spawns are not looked into, and neither are two loads that wait for each other: a
    /// hard timeout ends those.
    ///
    /// The options are the service's ([`load_options`](crate::CacheServiceBuilder::load_options));
    /// [`get_or_load_with`](Self::get_or_load_with) takes others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cache_core::CacheError> {
    /// use std::sync::Arc;
    ///
    /// use cache_core::{CacheService, days};
    /// use cache_memory::MemoryCacheStorage;
    ///
    /// async fn locate(ip: &str) -> Result<String, std::io::Error> {
    ///     Ok(format!("the place of {ip}"))
    /// }
    ///
    /// let geo = CacheService::builder(MemoryCacheStorage::new())
    ///     .prefix("geo")
    ///     .ttl(days(1))
    ///     .build()?;
    /// let place: Arc<String> = geo
    ///     .get_or_load("10.0.0.7", |_| async { locate("10.0.0.7").await })
    ///     .await?;
    /// assert_eq!(*place, "the place of 10.0.0.7");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Key` and `Closed` always; `Configuration` where neither service nor options have a time to
    /// live, or outside of a tokio runtime; `Loader` if the loader failed; `Timeout` if it did not
    /// come back in time; `Absent` if it said that there is nothing.
    pub async fn get_or_load<T, L, F, O>(
        &self,
        key: impl Into<CacheKey> + Send,
        loader: L,
    ) -> Result<Arc<T>>
    where
        T: Loadable,
        L: FnOnce(LoadContext<T>) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
        O: IntoLoaderOutcome<Value = T> + Send + 'static,
    {
        self.get_or_load_with(key, &self.shared.load_options, loader)
            .await
    }

    /// As [`get_or_load`](Self::get_or_load), with options of this call's own.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_with<T, L, F, O>(
        &self,
        key: impl Into<CacheKey> + Send,
        options: &LoadOptions,
        loader: L,
    ) -> Result<Arc<T>>
    where
        T: Loadable,
        L: FnOnce(LoadContext<T>) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
        O: IntoLoaderOutcome<Value = T> + Send + 'static,
    {
        let key = key.into();
        if let Some(value) = self.decoded_value(&key, options) {
            return Ok(value);
        }
        let key = self.key(key);
        self.check_load::<T>(&key, options)?;
        let mut read_before = None;
        if self.has_at_hand(options) {
            let epoch = self.fills().epoch();
            match self.at_hand(&key).await {
                Ok(value) => return Ok(value),
                Err(read) => read_before = Some(ReadBefore { epoch, read }),
            }
        }
        let call = Call::new::<T>(self, &key, options);
        let loaded = call.run(loader, read_before).await?;
        loaded.into_value()
    }

    /// As [`get_or_load_with`](Self::get_or_load_with), and says where the value comes from. That
    /// there is nothing is an answer here.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load), but for `Absent`.
    pub async fn load<T, L, F, O>(
        &self,
        key: impl Into<CacheKey> + Send,
        options: &LoadOptions,
        loader: L,
    ) -> Result<Loaded<T>>
    where
        T: Loadable,
        L: FnOnce(LoadContext<T>) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
        O: IntoLoaderOutcome<Value = T> + Send + 'static,
    {
        let key = self.key(key);
        self.check_load::<T>(&key, options)?;
        Call::new::<T>(self, &key, options).run(loader, None).await
    }

    /// The fresh value under `key`, shared: one that is kept decoded is not decoded again
    /// (feature `decoded`).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_arc<T: Loadable>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Option<Arc<T>>> {
        let key = key.into();
        if let Some(value) = self.decoded_value(&key, &self.shared.load_options) {
            return Ok(Some(value));
        }
        let key = self.key(key);
        self.check(&key)?;
        let reading = self
            .keeps_decoded()
            .then(|| AloneReading::begin(self, &key));
        let read = self.read_for_load(&key, &self.shared.load_options).await;
        let entry = read.as_ref().ok().and_then(Option::as_ref).cloned();
        let lookup: Lookup<T> = self.judge(&key, read, Operation::Get, || self.now())?;
        let value = lookup.into_fresh().map(Arc::new);
        if let (Some(reading), Some(value), Some(entry)) = (reading, &value, entry) {
            let shared = Arc::<T>::clone(value);
            let held = Held::read(shared, &entry, self.inner().info().backend);
            self.keep_decoded(&key, &reading.fill, &held, entry.value.len());
        }
        Ok(value)
    }

    /// The options of loads that bring none of their own.
    #[must_use]
    pub fn load_options(&self) -> &LoadOptions {
        &self.shared.load_options
    }

    /// Refuses what cannot be loaded, before any I/O.
    fn check_load<T: 'static>(&self, key: &CacheKey, options: &LoadOptions) -> Result<()> {
        self.check(key)?;
        let refused = |error: CacheError| error.with_operation(Operation::GetOrLoad);
        let ttl = options.ttl.or(self.shared.ttl);
        let ttl = ttl.ok_or_else(|| refused(no_ttl(key)))?;
        let stale_for = options.stale_for.or(self.shared.stale_for);
        if let (Some(fresh), Some(stale_for)) = (ttl.as_duration(), stale_for) {
            let kept = Ttl::new(fresh.saturating_add(stale_for));
            kept.map_err(|error| refused(CacheError::from(error)))?;
        }
        // Waiting for so long is the runtime's business, even for what is then found.
        if options.limits_time() && Handle::try_current().is_err() {
            return Err(body::no_runtime());
        }
        if let Some(default) = &options.default
            && (*default.0).type_id() != TypeId::of::<T>()
        {
            let problem = "or_default: the value is of another type than the call returns";
            let error = ConfigurationError::new("or_default", problem);
            return Err(refused(error.into()));
        }
        Ok(())
    }
}

/// What loads ask of their service.
impl CacheService {
    fn fills(&self) -> &Fills<Flight> {
        &self.shared.fills
    }

    /// Names the view of the storage that this handle uses.
    fn view(&self) -> usize {
        Arc::as_ptr(&self.storage).cast::<()>().addr()
    }

    fn observers(&self) -> &Observers {
        &self.shared.observers
    }

    /// Begins a write of `key`: no load that began before it stores its value after it.
    pub(super) async fn writing(&self, key: &CacheKey) -> Writing<'_, Flight> {
        let writing = self.shared.fills.write(key).await;
        self.forget(key);
        writing
    }

    /// Begins a write of many keys.
    pub(super) async fn writing_many(&self, keys: &[CacheKey]) -> Vec<Writing<'_, Flight>> {
        let writing = self.shared.fills.write_many(keys).await;
        for key in keys {
            self.forget(key);
        }
        writing
    }

    /// Begins a clear.
    pub(super) async fn clearing(&self, scope: &crate::ClearScope) -> Clearing<'_, Flight> {
        let clearing = self.shared.fills.clear(scope).await;
        self.shared.throttles.forget_within(scope);
        #[cfg(feature = "decoded")]
        if let Some(decoded) = &self.shared.decoded {
            decoded.forget_within(scope);
        }
        clearing
    }

    fn forget(&self, key: &CacheKey) {
        self.shared.throttles.forget(key);
        self.forget_decoded(key);
    }

    async fn read_for_load(&self, key: &CacheKey, options: &LoadOptions) -> Result<Option<Entry>> {
        if self.needs_end(options) {
            self.inner().lookup(key).await
        } else {
            self.inner().get(key).await
        }
    }

    async fn read_many_for_load(
        &self,
        keys: &[CacheKey],
        options: &LoadOptions,
    ) -> Vec<Result<Option<Entry>>> {
        if self.needs_end(options) {
            self.inner().lookup_many(keys).await
        } else {
            self.inner().get_many(keys).await
        }
    }

    /// Whether a fresh value outlives its read, and its end has to be known. Only a lookup tells
    /// that of an entry without metadata.
    fn needs_end(&self, options: &LoadOptions) -> bool {
        options.eager.is_some() || options.refresh || self.keeps_decoded()
    }

    /// The fresh value under `key` of a storage in this process, whose reads need nobody to join
    /// them; what was read otherwise.
    async fn at_hand<T: Loadable>(&self, key: &CacheKey) -> Result<Arc<T>, Result<Option<Entry>>> {
        let read = self.inner().get(key).await;
        let is_hit = |entry: &Entry| {
            entry.codec != Some(CodecId::Absent) && !entry.expires_at.has_passed(|| self.now())
        };
        let hit = read.as_ref().ok().and_then(Option::as_ref);
        let Some(value) = hit
            .filter(|entry| is_hit(entry))
            .map(|entry| self.decoded_as(entry))
        else {
            return Err(read);
        };
        let value = value.map_err(|_| read)?;
        self.count(|counters| &counters.hits);
        Ok(Arc::new(value))
    }

    /// Whether hits need no flight.
    fn has_at_hand(&self, options: &LoadOptions) -> bool {
        !(options.refresh || options.eager.is_some() || self.keeps_decoded())
            && self.inner().info().in_process
    }

    fn held<T: Loadable>(&self, key: &CacheKey, entry: &Entry) -> Result<Held> {
        let value: T = self.decode(key, entry, Operation::GetOrLoad)?;
        let backend = self.inner().info().backend;
        Ok(Held::read(Arc::new(value), entry, backend))
    }

    /// Counts and tells trouble of the storage that callers do not see.
    pub(super) fn is_degraded(&self, error: &CacheError) {
        self.count(|counters| &counters.degraded);
        let reason = error.code();
        self.observers().tell(&Event::Degraded { reason });
    }

    fn throttled(&self, key: &CacheKey) -> Option<Throttled> {
        let now = || self.inner().info().clock.now();
        self.shared.throttles.get(key, now)
    }

    /// Remembers a failure, unless the key was written since `fill` began: what was written is not
    /// to be hidden by what failed before.
    fn throttle(
        &self,
        (key, fill): (&CacheKey, &Fill<Flight>),
        error: &CacheError,
        instead: Instead,
        span: Duration,
    ) {
        let now = self.inner().info().clock.now();
        let throttles = &self.shared.throttles;
        self.fills().store_at_once(key, fill, || {
            throttles.remember(key, (error.clone(), instead), now, span);
        });
    }

    /// Forgets the failure of a key that was loaded, unless it was written since `fill` began: the
    /// failure may be of a load after that.
    fn forget_failure(&self, key: &CacheKey, fill: &Fill<Flight>) {
        let throttles = &self.shared.throttles;
        self.fills()
            .store_at_once(key, fill, || throttles.forget(key));
    }

    fn load_failed(&self, failure: &LoadFailure<'_>) {
        self.count(|counters| &counters.load_errors);
        if let Some(hook) = &self.shared.on_load_error
            && !hook.call(failure)
        {
            self.observers().tell(&Event::Panicked { place: "hook" });
        }
    }

    #[cfg(feature = "decoded")]
    fn keeps_decoded(&self) -> bool {
        self.shared.decoded.is_some()
    }

    #[cfg(feature = "decoded")]
    fn decoded(&self, key: &CacheKey) -> Option<Held> {
        let decoded = self.handed_out()?;
        decoded.get(key, self.inner().info().clock.now())
    }

    /// The decoded values, where this handle may hand them out.
    #[cfg(feature = "decoded")]
    fn handed_out(&self) -> Option<&Decoded> {
        let decoded = self.shared.decoded.as_ref().filter(|_| !self.skips_reads);
        decoded.filter(|_| !self.inner().is_closed())
    }

    /// The value that is kept decoded under `key`, which is not yet below the prefix, if it is to
    /// be handed out as it is. The shortest way there is.
    #[cfg(feature = "decoded")]
    fn decoded_value<T: Loadable>(&self, key: &CacheKey, options: &LoadOptions) -> Option<Arc<T>> {
        let decoded = self.handed_out().filter(|_| !options.refresh)?;
        let now = self.inner().info().clock.now();
        let value = decoded.value(key.as_str(), options.eager, now)?;
        self.count(|counters| &counters.hits);
        Some(value)
    }

    #[cfg(feature = "decoded")]
    fn keep_decoded(&self, key: &CacheKey, fill: &Fill<Flight>, held: &Held, bytes: usize) {
        if let Some(decoded) = &self.shared.decoded {
            let now = self.inner().info().clock.now();
            self.fills()
                .store_at_once(key, fill, || decoded.keep(key, held, bytes, now));
        }
    }

    /// Keeps a value decoded that was just stored. Without one, what was kept is not right any
    /// more.
    #[cfg(feature = "decoded")]
    fn has_stored(&self, key: &CacheKey, fill: &Fill<Flight>, held: Option<(Held, usize)>) {
        let Some(decoded) = &self.shared.decoded else {
            return;
        };
        let now = self.inner().info().clock.now();
        self.fills().overtake(key, fill, || {
            decoded.forget(key);
            if let Some((held, bytes)) = held {
                decoded.keep(key, &held, bytes, now);
            }
        });
    }

    #[cfg(feature = "decoded")]
    fn forget_decoded(&self, key: &CacheKey) {
        if let Some(decoded) = &self.shared.decoded {
            decoded.forget(key);
        }
    }
}

/// A read that nobody joins.
struct AloneReading<'a> {
    service: &'a CacheService,
    key: &'a CacheKey,
    fill: Arc<Fill<Flight>>,
}

impl<'a> AloneReading<'a> {
    fn begin(service: &'a CacheService, key: &'a CacheKey) -> Self {
        let fill = service.fills().begin(key, Flight::alone());
        Self { service, key, fill }
    }
}

impl Drop for AloneReading<'_> {
    fn drop(&mut self) {
        self.service.fills().end(self.key, &self.fill);
    }
}

/// Without the feature nothing is kept decoded.
#[cfg(not(feature = "decoded"))]
#[expect(clippy::unused_self, reason = "the same calls as with the feature")]
impl CacheService {
    fn keeps_decoded(&self) -> bool {
        false
    }

    fn decoded(&self, _: &CacheKey) -> Option<Held> {
        None
    }

    fn decoded_value<T: Loadable>(&self, _: &CacheKey, _: &LoadOptions) -> Option<Arc<T>> {
        None
    }

    fn keep_decoded(&self, _: &CacheKey, _: &Fill<Flight>, _: &Held, _: usize) {}

    fn has_stored(&self, _: &CacheKey, _: &Fill<Flight>, _: Option<(Held, usize)>) {}

    fn forget_decoded(&self, _: &CacheKey) {}
}
