//! Loading many keys at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slots;
use std::error::Error as StdError;
use std::sync::Arc;

use super::body::{Job, LoadBody};
use super::call::{Call, Found, Loadable, STORAGE_IS_SLOW};
use super::flight::{Crew, Host, Phase, Seat};
use super::held::Held;
use super::loaded::Loaded;
use super::options::LoadOptions;
use super::outcome::{LoadReason, LoaderOutcome, failure};
use crate::entry::Entry;
use crate::error::{CacheError, Result};
use crate::key::CacheKey;
use crate::service::CacheService;

impl CacheService {
    /// The fresh values under `keys`, in their order; what is missing is loaded by one call of
    /// `loader` and stored.
    ///
    /// The loader gets the missing keys, each once, and returns pairs of key and value in any
    /// order. A key that it does not return has nothing, which is remembered
    /// ([`absent_for`](super::LoadOptionsBuilder::absent_for)). Keys that others are loading at
    /// the time are waited for and not asked again. Everything else is as with
    /// [`get_or_load`](Self::get_or_load): a failed load is answered with stale values where there
    /// are any.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cache_core::CacheError> {
    /// use cache_core::{CacheService, mins};
    /// use cache_memory::MemoryCacheStorage;
    ///
    /// let squares = CacheService::builder(MemoryCacheStorage::new()).ttl(mins(1)).build()?;
    /// squares.set(2u64, &4u64).await?;
    /// let values = squares
    ///     .get_many_or_load([2u64, 3], |missing: Vec<u64>| async move {
    ///         Ok::<_, std::io::Error>(missing.into_iter().map(|n| (n, n * n)).collect::<Vec<_>>())
    ///     })
    ///     .await?;
    /// assert_eq!(values[1].as_deref(), Some(&9));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load); the first key in trouble fails the call. That there
    /// is nothing is no error here.
    pub async fn get_many_or_load<T, K, I, L, F, P, E>(
        &self,
        keys: I,
        loader: L,
    ) -> Result<Vec<Option<Arc<T>>>>
    where
        T: Loadable,
        K: Into<CacheKey> + Clone + Send + 'static,
        I: IntoIterator<Item = K> + Send,
        L: FnOnce(Vec<K>) -> F + Send + 'static,
        F: Future<Output = Result<P, E>> + Send + 'static,
        P: IntoIterator<Item = (K, T)> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let options = self.load_options().clone();
        self.get_many_or_load_with(keys, &options, loader).await
    }

    /// As [`get_many_or_load`](Self::get_many_or_load), with options of this call's own.
    ///
    /// # Errors
    ///
    /// As [`get_many_or_load`](Self::get_many_or_load).
    pub async fn get_many_or_load_with<T, K, I, L, F, P, E>(
        &self,
        keys: I,
        options: &LoadOptions,
        loader: L,
    ) -> Result<Vec<Option<Arc<T>>>>
    where
        T: Loadable,
        K: Into<CacheKey> + Clone + Send + 'static,
        I: IntoIterator<Item = K> + Send,
        L: FnOnce(Vec<K>) -> F + Send + 'static,
        F: Future<Output = Result<P, E>> + Send + 'static,
        P: IntoIterator<Item = (K, T)> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let asked: Vec<K> = keys.into_iter().collect();
        let keys: Vec<CacheKey> = asked.iter().map(|key| self.key(key.clone())).collect();
        for key in &keys {
            self.check_load::<T>(key, options)?;
        }
        let (mut names, mut distinct) = (HashMap::new(), Vec::new());
        for (key, name) in keys.iter().zip(asked) {
            if let Slots::Vacant(slot) = names.entry(key.clone()) {
                slot.insert(name);
                distinct.push(key.clone());
            }
        }
        let mut batch = Batch::<T>::new(self, &distinct, options);
        let mut loader = Some(loader);
        loop {
            batch.read().await?;
            batch.load(&mut names, &mut loader)?;
            if batch.wait().await? {
                break;
            }
            // What others have given up is ours to load, or to wait for once more.
        }
        let found = batch.found();
        let value = |key| found.get(key).cloned().flatten();
        Ok(keys.iter().map(value).collect())
    }
}

/// One key of a call for many.
struct Member<'a, T> {
    call: Call<'a>,
    flight: Option<Seat>,
    /// Whether others would wait for ever if this call did not end the flight.
    is_own: bool,
    /// Whether another call was reading or loading this key.
    has_joined: bool,
    /// What has to be loaded, and what is stored instead.
    missing: Option<Missing>,
    answer: Option<Loaded<T>>,
}

struct Missing {
    existing: Option<Held>,
    is_eager: bool,
}

/// One call for many keys.
struct Batch<'a, T> {
    service: &'a CacheService,
    options: &'a LoadOptions,
    host: Host,
    members: Vec<Member<'a, T>>,
    trouble: Option<CacheError>,
}

impl<'a, T: Loadable> Batch<'a, T> {
    fn new(service: &'a CacheService, keys: &'a [CacheKey], options: &'a LoadOptions) -> Self {
        let member = |key| Member {
            call: Call::new::<T>(service, key, options),
            flight: None,
            is_own: false,
            has_joined: false,
            missing: None,
            answer: None,
        };
        Self {
            service,
            options,
            host: Host::new(),
            members: keys.iter().map(member).collect(),
            trouble: None,
        }
    }

    /// Reads what nobody else is reading, until it is known of every key whether it is there, has
    /// to be loaded, or is being loaded.
    async fn read(&mut self) -> Result<()> {
        while self.members.iter().any(Member::is_new) {
            let own: Vec<usize> = (0..self.members.len())
                .filter(|&position| self.members[position].board(self.host.crew()))
                .collect();
            self.read_own(&own).await?;
            // What others have given up is ours to read.
            for member in &mut self.members {
                member.wait_for_read().await?;
            }
        }
        Ok(())
    }

    async fn read_own(&mut self, own: &[usize]) -> Result<()> {
        let Some(first) = own.first() else {
            return Ok(());
        };
        let keys: Vec<CacheKey> = own
            .iter()
            .map(|&position| self.members[position].call.key().clone())
            .collect();
        let read = self.service.read_many_for_load(&keys, self.options);
        let Ok(read) = self.members[*first].call.in_time(read).await else {
            let mut own = own.iter();
            return own.try_for_each(|&position| self.members[position].too_late());
        };
        for (&position, read) in own.iter().zip(read) {
            let trouble = self.members[position].judge(read)?;
            self.trouble = self.trouble.take().or(trouble);
        }
        Ok(())
    }

    /// Loads what is missing, in one load.
    fn load<K, L, F, P, E>(
        &mut self,
        names: &mut HashMap<CacheKey, K>,
        loader: &mut Option<L>,
    ) -> Result<()>
    where
        K: Into<CacheKey> + Send + 'static,
        L: FnOnce(Vec<K>) -> F + Send + 'static,
        F: Future<Output = Result<P, E>> + Send + 'static,
        P: IntoIterator<Item = (K, T)> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let missing = |member: &&Member<'_, T>| member.missing.is_some();
        let Some(first) = self.members.iter().find(missing) else {
            return Ok(());
        };
        let loader = loader.take().ok_or_else(|| first.call.was_given_up())?;
        let (mut jobs, mut asked, mut is_eager) = (Vec::new(), Vec::new(), true);
        for member in &mut self.members {
            if let Some((job, eager)) = member.job()
                && let Some(name) = names.remove(&job.key)
            {
                asked.push(name);
                jobs.push(job);
                is_eager &= eager;
            }
        }
        let service = self.service.clone();
        let order: Vec<CacheKey> = jobs.iter().map(|job| job.key.clone()).collect();
        let produce = async move {
            let pairs = match loader(asked).await {
                Ok(pairs) => pairs,
                Err(error) => {
                    let error = failure(error.into());
                    return order.iter().map(|_| Err(error.clone())).collect();
                }
            };
            let mut found: HashMap<CacheKey, T> = pairs
                .into_iter()
                .map(|(name, value)| (service.key(name), value))
                .collect();
            let outcome = |key| {
                found
                    .remove(key)
                    .map_or(LoaderOutcome::Absent, LoaderOutcome::value)
            };
            order.iter().map(outcome).map(Ok).collect()
        };
        let (service, options) = (self.service.clone(), self.options.clone());
        LoadBody::new(service, options, jobs, self.trouble.take()).spawn(is_eager, produce)
    }

    /// Waits for every key; false where one has come to nothing and has to be begun again.
    async fn wait(&mut self) -> Result<bool> {
        for member in self.members.iter().filter(|member| member.flight.is_some()) {
            member.call.begins_to_wait();
        }
        for member in &mut self.members {
            if !member.wait().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn found(self) -> HashMap<CacheKey, Option<Arc<T>>> {
        let found = self.members.into_iter().map(|mut member| {
            let value = member.answer.take().and_then(|loaded| loaded.value);
            (member.call.key().clone(), value)
        });
        found.collect()
    }
}

impl<T: Loadable> Member<'_, T> {
    fn is_new(&self) -> bool {
        self.answer.is_none() && self.flight.is_none()
    }

    /// Takes what is kept decoded, or a seat in a flight; whether it is a new flight.
    fn board(&mut self, crew: &Arc<Crew>) -> bool {
        if !self.is_new() {
            return false;
        }
        self.answer = self.call.decoded_now();
        if self.answer.is_some() {
            return false;
        }
        let (seat, is_new) = self.call.enter_with_batch(crew);
        self.flight = Some(seat);
        self.is_own = is_new;
        if !is_new && !self.has_joined {
            self.has_joined = true;
            self.call.has_joined();
        }
        is_new
    }

    /// What the read of this key comes to; the trouble, if there was any.
    fn judge(&mut self, read: Result<Option<Entry>>) -> Result<Option<CacheError>> {
        let Some(Seat(fill)) = &self.flight else {
            return Ok(None);
        };
        match self.call.judge::<T>(fill, read) {
            Found::Over(done) => {
                self.call.finish(fill, &done);
                self.is_own = false;
                self.answer = self.call.conclude(done)?;
                self.flight = None;
                Ok(None)
            }
            Found::Load {
                existing,
                reason,
                trouble,
            } => {
                // Others see that the read is over, and need not wait for the loader's beginning.
                fill.payload.enter(Phase::loading(existing.clone()));
                self.missing = Some(Missing {
                    existing,
                    is_eager: reason == LoadReason::Eager,
                });
                Ok(trouble)
            }
        }
    }

    /// Waits until another call has read this key.
    async fn wait_for_read(&mut self) -> Result<()> {
        let Some(seat) = self.flight.as_ref().filter(|_| !self.is_own) else {
            return Ok(());
        };
        let read = seat.flight().has_been_read();
        if self.call.in_time(read).await.is_err() {
            return self.too_late();
        }
        match seat.flight().phase() {
            Phase::Abandoned => self.flight = None,
            Phase::Done(done) => {
                self.answer = self.call.conclude(done)?;
                self.flight = None;
            }
            Phase::Reading | Phase::Loading(_) => {}
        }
        Ok(())
    }

    /// The call's time is over before this key was read.
    fn too_late(&mut self) -> Result<()> {
        let taken = self.call.give_up(None, STORAGE_IS_SLOW);
        self.give_up();
        self.flight = None;
        self.answer = Some(taken?);
        Ok(())
    }

    /// This key as a part of a load, if it has to be loaded, and whether nobody waits for it.
    fn job(&mut self) -> Option<(Job, bool)> {
        let missing = self.missing.take()?;
        let Seat(fill) = self.flight.as_ref()?;
        self.is_own = false;
        Some((self.call.job(fill, missing.existing), missing.is_eager))
    }

    async fn wait(&mut self) -> Result<bool> {
        if let Some(seat) = &self.flight {
            self.answer = self.call.wait(seat.flight()).await?;
            self.flight = None;
        }
        Ok(self.answer.is_some())
    }
}

impl<T> Member<'_, T> {
    fn give_up(&mut self) {
        if let Some(Seat(fill)) = self.flight.as_ref().filter(|_| self.is_own) {
            self.call.abandon(fill);
            self.is_own = false;
            self.flight = None;
        }
    }
}

/// A call that ends early leaves what it has begun to others.
impl<T> Drop for Member<'_, T> {
    fn drop(&mut self) {
        self.give_up();
    }
}
