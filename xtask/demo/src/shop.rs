//! The application: four uses of the cache in each request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cache_core::{
    CacheKey, CacheService, CacheServiceBuilder, IntoLoaderOutcome, LoadOptions, Loadable, Result,
    days, hours, mins, secs,
};
use cache_factory::Caches;
use cache_tests::Request;

use crate::origin;
use crate::tally::{Tally, UseCase};

/// How long a response is fresh: a minute of a shop, in a replay that takes seconds.
const FRESH: Duration = secs(1);

/// The services of a shop.
pub(crate) struct Shop {
    sessions: Loading,
    places: Loading,
    limits: CacheService,
    responses: Loading,
    lets_uncounted_pass: bool,
}

/// The caches of a shop, which may be all the same.
pub(crate) struct ShopCaches {
    /// For sessions and counters.
    pub(crate) common: Caches,
    /// For where visitors come from.
    pub(crate) places: Caches,
    /// For responses.
    pub(crate) responses: Caches,
}

/// A service whose missing values are loaded.
struct Loading {
    service: CacheService,
    /// How often the origin was asked.
    asked: Arc<AtomicUsize>,
}

impl Shop {
    pub(crate) fn new(caches: &ShopCaches) -> Result<Self> {
        let sessions = caches.common.service("session").ttl(mins(15));
        let places = caches.places.service("place").ttl(days(1));
        let revalidating = LoadOptions::builder()
            .stale_for(hours(1))
            .stale_while_revalidate(true)
            .build()?;
        let responses = caches.responses.service("response").ttl(FRESH);
        Ok(Self {
            sessions: Loading::new(sessions)?,
            places: Loading::new(places)?,
            limits: caches.common.service("limit").build()?,
            responses: Loading::new(responses.load_options(revalidating))?,
            lets_uncounted_pass: false,
        })
    }

    /// Serves a request whose limit cannot be counted, as a shop would: counters never fall back,
    /// since two of them would be none.
    #[cfg(feature = "outage")]
    pub(crate) fn letting_uncounted_pass(mut self) -> Self {
        self.lets_uncounted_pass = true;
        self
    }

    /// Serves one request and notes what its caches did.
    ///
    /// Of the requests that miss the same entry at the same time, one asks the origin.
    pub(crate) async fn serve(&self, request: Request, tally: &mut Tally) -> Result<()> {
        self.session(request, tally).await?;
        self.place(request, tally).await?;
        self.count(request, tally).await?;
        self.response(request, tally).await
    }

    /// Adds how often the origin was asked, which only the whole shop knows: what is loaded in the
    /// background belongs to no request.
    pub(crate) fn note_origin(&self, tally: &mut Tally) {
        tally.sessions.asked += self.sessions.asked();
        tally.places.asked += self.places.asked();
        tally.responses.asked += self.responses.asked();
    }

    async fn session(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let origin = origin::session(request);
        let tally = &mut tally.sessions;
        self.sessions.load(request.session, tally, origin).await
    }

    async fn place(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let origin = origin::place(request);
        let key = request.client.to_string();
        self.places.load(key, &mut tally.places, origin).await
    }

    async fn count(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let key = (request.client.to_string(), request.endpoint.as_str());
        let increment = self.limits.increment(key, 1, mins(1));
        match tally.limits.call(increment).await {
            Ok(counter) => tally.busiest = tally.busiest.max(counter.value),
            Err(_) if self.lets_uncounted_pass => tally.uncounted += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn response(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let origin = origin::response(request);
        let key = (request.endpoint.as_str(), request.object);
        self.responses.load(key, &mut tally.responses, origin).await
    }
}

impl ShopCaches {
    pub(crate) async fn warm_up(&self) -> Result<()> {
        for caches in [&self.common, &self.places, &self.responses] {
            caches.warm_up().await?;
        }
        Ok(())
    }

    /// Ends them, each within `budget`.
    pub(crate) async fn shutdown(&self, budget: Duration) -> Result<()> {
        for caches in [&self.common, &self.places, &self.responses] {
            caches.shutdown(budget).await.into_result()?;
        }
        Ok(())
    }

    /// The same caches for everything.
    #[cfg(feature = "outage")]
    pub(crate) fn all(caches: &Caches) -> Self {
        Self {
            common: caches.clone(),
            places: caches.clone(),
            responses: caches.clone(),
        }
    }
}

impl Loading {
    fn new(service: CacheServiceBuilder) -> Result<Self> {
        Ok(Self {
            service: service.build()?,
            asked: Arc::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Takes the value under `key`, or that of `origin`, and notes where it came from.
    async fn load<O>(
        &self,
        key: impl Into<CacheKey> + Send,
        tally: &mut UseCase,
        origin: impl Future<Output = O> + Send + 'static,
    ) -> Result<()>
    where
        O: IntoLoaderOutcome<Value: Loadable> + Send + 'static,
    {
        let origin_took = Arc::new(OnceLock::new());
        let (asked, took) = (Arc::clone(&self.asked), Arc::clone(&origin_took));
        let loader = async move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            let start = Instant::now();
            let outcome = origin.await;
            took.get_or_init(|| start.elapsed());
            outcome
        };
        let start = Instant::now();
        let options = self.service.load_options();
        let loaded = self.service.load(key, options, loader).await?;
        tally.load(&loaded, start.elapsed(), origin_took.get().copied());
        Ok(())
    }
}
