//! The application: three uses of the cache in each request.

use cache_core::{CacheService, Result, hours, mins};
use cache_factory::Caches;
use cache_tests::Request;

use crate::origin;
use crate::tally::{Tally, timed};

/// The services of a shop.
pub(crate) struct Shop {
    sessions: CacheService,
    limits: CacheService,
    responses: CacheService,
    lets_uncounted_pass: bool,
}

impl Shop {
    /// Sessions and counters in `common`, responses in `bounded`.
    pub(crate) fn new(common: &Caches, bounded: &Caches) -> Result<Self> {
        Ok(Self {
            sessions: common.service("session").ttl(mins(15)).build()?,
            limits: common.service("limit").build()?,
            responses: bounded.service("response").ttl(hours(1)).build()?,
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
    /// Requests that miss the same entry at the same time all ask the origin.
    pub(crate) async fn serve(&self, request: Request, tally: &mut Tally) -> Result<()> {
        self.session(request, tally).await?;
        self.count(request, tally).await?;
        self.response(request, tally).await
    }

    async fn session(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let tally = &mut tally.sessions;
        let found = timed(&mut tally.calls, self.sessions.get(request.session)).await?;
        let found: Option<origin::Session> = found;
        tally.read(found.is_some());
        if found.is_some() {
            return Ok(());
        }
        let session = origin::session(request).await;
        let write = self.sessions.set(request.session, &session);
        timed(&mut tally.calls, write).await
    }

    async fn count(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let key = (request.client.to_string(), request.endpoint.as_str());
        let increment = self.limits.increment(key, 1, mins(1));
        match timed(&mut tally.limits.calls, increment).await {
            Ok(counter) => tally.busiest = tally.busiest.max(counter.value),
            Err(_) if self.lets_uncounted_pass => tally.uncounted += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn response(&self, request: Request, tally: &mut Tally) -> Result<()> {
        let tally = &mut tally.responses;
        let key = (request.endpoint.as_str(), request.object);
        let found = timed(&mut tally.calls, self.responses.get(key)).await?;
        let found: Option<origin::Response> = found;
        tally.read(found.is_some());
        if found.is_some() {
            return Ok(());
        }
        let response = origin::response(request).await;
        timed(&mut tally.calls, self.responses.set(key, &response)).await
    }
}
