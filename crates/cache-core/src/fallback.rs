//! A storage that asks the next one when the first is in trouble.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CacheError, ConfigurationError, ConfigurationErrors, Result};
use crate::key::CacheKey;
use crate::layer::{FirstError, Front, Layer, LayerStatus, is_trouble};
use crate::observer::{Event, Observers};
use crate::storage::CacheStorage;
use crate::ttl::Ttl;

mod batches;
mod deletes;
mod reads;
mod storage;
mod writes;

/// Several storages of which the first healthy one answers: Redis, else DynamoDB.
///
/// * **Reads** go to the first layer, and on trouble to the next. A layer that answers "absent" has
///   answered. When all are in trouble, the error is the first layer's.
/// * **Writes** go to the first healthy layer. In a layer other than the first they live for at most
///   the fallback time to live (60 s) and without a stale budget; an entry that
///   is never fresh keeps as much of its stale budget.
///   [`write_all`](FallbackBuilder::write_all) sends them to every layer instead.
/// * **Deletes**, [`expire_now`](CacheStorage::expire_now) among them, go to every layer, and
///   succeed when one has acknowledged them.
/// * **Counters, conditional writes and compare-and-delete** never fall back, since two counters or
///   two locks would be none: they return the error of their one layer, the first unless
///   [`counters_in`](FallbackBuilder::counters_in) names another.
/// * **Clear** goes to every layer, and is complete where all are. It is not remembered.
///
/// Trouble is what says something about a backend: connections, timeouts, throttling, overload,
/// configuration, an open breaker. Mistakes of the caller and entries that are not what was expected
/// are returned as they are.
///
/// # Nothing is resurrected
///
/// The keys of deletes and overwrites that a layer did not see stand in its *journal*. A layer with a
/// journal is neither read nor written until those keys were deleted there, which whoever wants the
/// layer next does first; behind a breaker these deletes are the probes. Of a layer with several
/// servers, a cluster, this holds key by key: one server that is away keeps nobody from the others.
/// So within this process, what was deleted or overwritten is never read again once that was
/// acknowledged. Across processes a read may see the old value in a layer that came back, for the
/// rest of its time to live.
///
/// The journal holds keys, never values, and is lost with the process. When it is full it is given
/// up: from then on, entries of that layer count as misses unless they say that they were made later,
/// or this process wrote them since. Counters are judged alike as long as it is remembered which of
/// them this process has renewed.
///
/// # Where it belongs
///
/// Around breakers, one a backend, and inside of a prefix. Right:
/// `Prefix("app", Fallback(Breaker(Redis), Breaker(DynamoDb)))`. Wrong:
/// `Breaker(Fallback(Redis, DynamoDb))`, which stops asking both for the trouble of one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cache_core::CacheError> {
/// use cache_core::{CacheService, FallbackStorage, mins};
/// use cache_memory::MemoryCacheStorage;
///
/// let stack = FallbackStorage::new(MemoryCacheStorage::new(), MemoryCacheStorage::new());
/// let places = CacheService::builder(stack).prefix("geo").ttl(mins(5)).build()?;
/// places.set("10.0.0.7", "Vienna").await?;
/// # Ok(())
/// # }
/// ```
pub struct FallbackStorage {
    layers: Vec<Layer>,
    front: Front,
    write_all: bool,
    fallback_ttl: Ttl,
    counters_in: usize,
    observers: Observers,
}

/// A fallback in the making; see [`FallbackStorage::builder`].
#[derive(Debug)]
#[must_use]
pub struct FallbackBuilder {
    layers: Vec<Arc<dyn CacheStorage>>,
    write_all: bool,
    fallback_ttl: Duration,
    journal_capacity: usize,
    counters_in: usize,
    observers: Observers,
}

/// How a delete went, layer by layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteReport {
    /// Whether a fresh entry went anywhere.
    pub existed: bool,
    /// The backends of the layers, or the names of the tiers, that missed it, and whose journals hold
    /// the key now.
    pub missed: Vec<&'static str>,
}

impl FallbackStorage {
    /// The longest life of what is written into a layer other than the first, by default.
    pub const FALLBACK_TTL: Duration = Duration::from_secs(60);

    /// How many keys a layer's journal holds, by default.
    pub const JOURNAL_CAPACITY: usize = 50_000;

    /// `first`, else `second`, with the defaults.
    #[must_use]
    pub fn new(first: impl CacheStorage, second: impl CacheStorage) -> Self {
        let builder = Self::builder(first).then(second);
        let ttl = Ttl::new(Self::FALLBACK_TTL).unwrap_or(Ttl::FOREVER);
        builder.finish(ttl)
    }

    /// Starts a fallback whose first layer is `first`.
    pub fn builder(first: impl CacheStorage) -> FallbackBuilder {
        FallbackBuilder {
            layers: vec![Arc::new(first)],
            write_all: false,
            fallback_ttl: Self::FALLBACK_TTL,
            journal_capacity: Self::JOURNAL_CAPACITY,
            counters_in: 0,
            observers: Observers::none(),
        }
    }

    /// What is known about each layer, first to last. Costs no I/O.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerStatus> {
        self.layers.iter().map(Layer::status).collect()
    }

    /// Tells that the layer at `position` was in trouble, if there is one after it.
    fn tell_fallback(&self, position: usize, error: &CacheError) {
        if let Some(next) = self.layers.get(position + 1) {
            self.observers.tell(&Event::Fallback {
                from: self.layers[position].backend(),
                to: next.backend(),
                reason: error.code(),
            });
        }
    }

    /// Notes that the layer at `position` did not see a delete or an overwrite of `key`, or may not
    /// have, if it `was_sent`.
    fn missed(&self, position: usize, key: &CacheKey, was_sent: bool) {
        let layer = &self.layers[position];
        if layer.journal.missed(key, was_sent, layer.wall()) {
            self.tell_overflow(position);
        }
    }

    /// Notes, before it is written, that the layer at `position`, which is not the first, gets a
    /// copy that lives for `life`.
    fn lend(&self, position: usize, key: &CacheKey, life: Option<Duration>) {
        let layer = &self.layers[position];
        if layer.journal.lent(key, life, layer.now()) {
            self.tell_overflow(position);
        }
    }

    fn tell_overflow(&self, position: usize) {
        self.observers.tell(&Event::JournalOverflow {
            backend: self.layers[position].backend(),
        });
    }

    /// Notes that the layer at `position` took a write of `key`: copies further back are outdated.
    fn took(&self, position: usize, key: &CacheKey) {
        let journal = &self.layers[position].journal;
        journal.wrote(key);
        if position > 0 {
            journal.landed(key);
        }
        for later in &self.layers[position + 1..] {
            later.journal.superseded(key);
        }
    }
}

impl fmt::Debug for FallbackStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Fallback");
        for layer in &self.layers {
            tuple.field(&layer.storage);
        }
        tuple.finish()
    }
}

impl FallbackBuilder {
    /// Adds a layer after those that are there.
    pub fn then(mut self, next: impl CacheStorage) -> Self {
        self.layers.push(Arc::new(next));
        self
    }

    /// Sends every unconditional write to every layer, each for its whole time to live, rather than
    /// to the first healthy one. A write succeeds when one layer took it. Of two writes of one key at
    /// the same moment different layers may keep different ones. Defaults to off.
    pub fn write_all(mut self) -> Self {
        self.write_all = true;
        self
    }

    /// The longest life of what is written into a layer other than the first. Defaults to 60
    /// seconds.
    pub fn fallback_ttl(mut self, ttl: Duration) -> Self {
        self.fallback_ttl = ttl;
        self
    }

    /// How many keys each layer's journal holds, at least one. Defaults to 50,000 keys.
    pub fn journal_capacity(mut self, keys: usize) -> Self {
        self.journal_capacity = keys;
        self
    }

    /// Which layer, counted from 0, has the counters and conditional writes. Defaults to the first.
    ///
    /// Use such keys for nothing else then: plain reads go to the first layer.
    pub fn counters_in(mut self, position: usize) -> Self {
        self.counters_in = position;
        self
    }

    /// Who is told of calls that fell back and of journals that were given up. Defaults to nobody.
    pub fn observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// The storage.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that is wrong: fewer than two layers, an impossible time to
    /// live, a journal without room, counters in a layer that is not there.
    pub fn build(self) -> Result<FallbackStorage> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, problem: String| {
            problems.push(ConfigurationError::new(option, problem));
        };
        let layers = self.layers.len();
        if layers < 2 {
            refuse("then", "then: a fallback needs a second storage".to_owned());
        }
        let ttl = Ttl::new(self.fallback_ttl);
        if let Err(error) = &ttl {
            refuse("fallback_ttl", format!("fallback_ttl: {error}"));
        }
        if self.journal_capacity == 0 {
            let problem = "journal_capacity: 0 is not at least 1";
            refuse("journal_capacity", problem.to_owned());
        }
        if self.counters_in >= layers {
            let problem = format!(
                "counters_in: there is no layer {}, they are counted from 0 and there are {layers}",
                self.counters_in
            );
            refuse("counters_in", problem);
        }
        match ttl {
            Ok(ttl) if problems.is_empty() => Ok(self.finish(ttl)),
            _ => Err(ConfigurationErrors(problems).into()),
        }
    }

    fn finish(self, fallback_ttl: Ttl) -> FallbackStorage {
        let mut info = self.layers[0].info().clone();
        for layer in &self.layers[1..] {
            info.narrow(layer.info());
        }
        let capacity = self.journal_capacity;
        let layer = |storage| Layer::new(storage, capacity);
        FallbackStorage {
            layers: self.layers.into_iter().map(layer).collect(),
            front: Front::new(info),
            write_all: self.write_all,
            fallback_ttl,
            counters_in: self.counters_in,
            observers: self.observers,
        }
    }
}
