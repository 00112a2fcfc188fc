//! The storage contract over a server.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::wire::{self, Header, WireError};
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, ErrorKind,
    Event, Expiry, NewEntry, Operation, Result, Shard, StorageCounters, StorageInfo, StorageStats,
    TierAccess, TimeLeft, Timestamp, Ttl,
};

use crate::client::{Client, SetIf, Write};
use crate::error::BACKEND;
use crate::options::RedisOptions;

/// Entries in a Redis or Valkey server, or in a cluster of them.
///
/// Made without I/O; the first call, or [`warm_up`](Self::warm_up), connects. Every call ends
/// within the budgets of [`RedisOptions`]. Connections that have died are replaced without anybody
/// rebuilding anything. A server that cannot be reached is dialed again after a pause that grows to
/// 2 s, in which calls fail at once; one that comes back is used again when that is over.
///
/// Calls need a Tokio runtime with I/O and time. A storage outlives its runtime and goes on in the
/// next one. Its connection is driven by the runtime that dialed it: where several live at the same
/// time and one of them may stand still, such as a `current_thread` runtime in each thread, give
/// each a storage of its own.
///
/// An idempotent operation is repeated once when its connection closed under it, or when the
/// connection had been silent for 30 seconds; never after a timeout on a connection that was
/// talking. [`increment`](CacheStorage::increment) and
/// [`compare_and_delete`](CacheStorage::compare_and_delete) are never repeated.
///
/// In a cluster each key's server is asked, batches take one pipeline a server, and a call that a
/// server redirects goes on to where it is sent. The map of slots is read by the first call, and
/// again, at most once a second, when something happened that it does not explain; so a replica
/// that was promoted is used without anybody doing anything.
///
/// A server that is out of memory still reads and deletes, but refuses to move the deadline of an
/// entry with metadata. A shutdown has nothing to wait for and does not use its budget.
///
/// Deadlines in metadata (stale budgets) are judged by the clock of this machine; keep the clocks
/// of machines that share entries within what the application can bear.
///
/// ```no_run
/// # async fn example() -> Result<(), cache_core::CacheError> {
/// use cache_core::{CacheService, mins};
/// use cache_redis::{RedisCacheStorage, RedisOptions};
///
/// let storage = RedisCacheStorage::new(RedisOptions::from_url("redis://127.0.0.1:6379")?)?;
/// let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
/// sessions.set("42", "alice").await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisCacheStorage {
    client: Client,
    info: StorageInfo,
    counters: StorageCounters,
}

impl RedisCacheStorage {
    /// A storage over the server that `options` name. No I/O.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything in the options that cannot be.
    pub fn new(options: RedisOptions) -> Result<Self> {
        let max_value_bytes = options.max_value_bytes;
        let client = Client::new(options)?;
        let info = StorageInfo::new(BACKEND)
            .with_address(client.address())
            .with_patience(client.options().attempt_timeout)
            .with_max_value_bytes(max_value_bytes)
            .with_clock(std::sync::Arc::clone(client.clock()));
        Ok(Self {
            client,
            info,
            counters: StorageCounters::default(),
        })
    }

    /// Connects, so that the first call need not.
    ///
    /// # Errors
    ///
    /// What any call would meet: `Connection`, `Timeout`, `Configuration`.
    pub async fn warm_up(&self) -> Result<()> {
        self.client.check_open(Operation::Ping)?;
        let warmed = self.client.warm_up().await;
        warmed.map_err(|error| error.with_operation(Operation::Ping))
    }

    fn now(&self) -> Timestamp {
        self.client.clock().wall()
    }

    fn check(&self, operation: Operation, key: &CacheKey) -> Result<()> {
        self.client.check_open(operation)?;
        self.info
            .check_key(key)
            .map_err(|error| error.with_operation(operation))
    }

    fn check_write(&self, operation: Operation, key: &CacheKey, value: &[u8]) -> Result<()> {
        self.check(operation, key)?;
        self.info
            .check_value(value)
            .map_err(|error| error.with_operation(operation).with_key(key))
    }

    /// Runs `exchange` if the key is sound, and says in an error what it was about.
    ///
    /// Takes the future by reference: moving one this large costs more than all else here.
    async fn guard<T>(
        &self,
        operation: Operation,
        key: &CacheKey,
        exchange: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        self.check(operation, key)?;
        exchange
            .await
            .map_err(|error| self.failed(error, operation, key))
    }

    /// Says in an error what it was about, and tells of entries that cannot be read.
    fn failed(&self, error: CacheError, operation: Operation, key: &CacheKey) -> CacheError {
        if error.kind() == ErrorKind::Serialization {
            let reason = match error.code() {
                "wrongtype" => "type",
                _ => "header",
            };
            let observers = &self.client.options().observers;
            observers.tell(&Event::DecodeError { reason });
        }
        error.with_operation(operation).with_key(key)
    }

    /// The entry in `stored` unless it is past its stale budget. `ttl` is the server's own, as PTTL
    /// gives it, where it was asked for.
    fn entry(&self, stored: Bytes, ttl: Option<i64>) -> Result<Option<Entry>> {
        let mut entry = wire::decode(stored).map_err(unreadable)?;
        if entry.expires_at == Expiry::AtServer
            && let Some(ttl) = ttl
        {
            entry.expires_at = server_expiry(ttl, self.now());
            entry.stale_until = entry.expires_at;
        }
        let is_over =
            matches!(entry.stale_until, Expiry::At(_)) && entry.stale_until.is_past(self.now());
        Ok(Some(entry).filter(|_| !is_over))
    }

    /// Runs a batch over the keys that keep the rules and puts the outcomes in order.
    async fn batch<T, F>(&self, operation: Operation, keys: &[CacheKey], run: F) -> Vec<Result<T>>
    where
        F: AsyncFnOnce(&[&str]) -> Vec<Result<T>>,
    {
        let checks: Vec<_> = keys.iter().map(|key| self.check(operation, key)).collect();
        let sound: Vec<_> = keys
            .iter()
            .zip(&checks)
            .filter(|(_, check)| check.is_ok())
            .map(|(key, _)| key.as_str())
            .collect();
        let mut outcomes = run(&sound).await.into_iter();
        keys.iter()
            .zip(checks)
            .map(|(key, check)| {
                check?;
                let outcome = outcomes.next().unwrap_or_else(|| Err(missing()));
                outcome.map_err(|error| self.failed(error, operation, key))
            })
            .collect()
    }

    fn write<'a>(&self, key: &'a CacheKey, entry: NewEntry) -> Write<'a> {
        let (value_bytes, keep_for) = (entry.value.len(), entry.kept_for());
        let stored = wire::encode(entry, || self.now());
        Write {
            key: key.as_str(),
            value_offset: stored.len() - value_bytes,
            stored,
            keep_for,
        }
    }

    async fn set_where(
        &self,
        key: &CacheKey,
        entry: NewEntry,
        condition: Condition,
    ) -> Result<bool> {
        let write = self.write(key, entry);
        let condition = match condition {
            Condition::Always => {
                self.client.set(&write).await?;
                return Ok(true);
            }
            Condition::IfAbsent => SetIf::Absent,
            Condition::IfPresent => SetIf::Present,
            Condition::IfEquals(expected) => SetIf::Equals(expected),
            _ => {
                let message = "the condition is not known to this version";
                return Err(CacheError::new(ErrorKind::Unsupported, message).with_backend(BACKEND));
            }
        };
        self.client.set_if(&write, &condition).await
    }

    /// Whether an entry with this head is fresh, given that its key exists.
    fn is_fresh(&self, head: &[u8]) -> Result<bool> {
        let header = Header::read(head).map_err(unreadable)?;
        Ok(header.is_none_or(|header| !header.expires_at.is_past(self.now())))
    }

    async fn time_left(&self, key: &CacheKey) -> Result<TimeLeft> {
        let (head, ttl) = self.client.head_with_ttl(key.as_str()).await?;
        if ttl == NO_KEY {
            return Ok(TimeLeft::Missing);
        }
        let now = self.now();
        let header = Header::read(&head).map_err(unreadable)?;
        let expiry = header.map_or_else(|| server_expiry(ttl, now), |header| header.expires_at);
        Ok(match expiry {
            Expiry::At(end) if end <= now => TimeLeft::Missing,
            Expiry::At(end) => TimeLeft::Remaining(end.since(now)),
            Expiry::Never | Expiry::AtServer => TimeLeft::Forever,
        })
    }
}

/// What PTTL answers where there is no such key, and where a key does not expire.
const NO_KEY: i64 = -2;
const NO_EXPIRY: i64 = -1;

fn server_expiry(ttl: i64, now: Timestamp) -> Expiry {
    if ttl == NO_EXPIRY {
        return Expiry::Never;
    }
    // A key may go between the value and its time left: it then ends now.
    let left = u64::try_from(ttl).unwrap_or_default();
    Expiry::At(now.after(Duration::from_millis(left)))
}

fn unreadable(error: WireError) -> CacheError {
    CacheError::from_source(ErrorKind::Serialization, error).with_backend(BACKEND)
}

fn missing() -> CacheError {
    CacheError::new(
        ErrorKind::Backend,
        "the server answered fewer keys than asked for",
    )
    .with_backend(BACKEND)
}

fn newer_format(moved: Option<bool>) -> Result<bool> {
    moved.ok_or_else(|| {
        let message = "the entry has a newer or damaged format and was left alone";
        CacheError::new(ErrorKind::Serialization, message).with_backend(BACKEND)
    })
}

impl fmt::Debug for RedisCacheStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis")
            .field(&format_args!("{}", self.client.address()))
            .finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for RedisCacheStorage {
    fn info(&self) -> &StorageInfo {
        &self.info
    }

    fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.client.shard(key)
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        let exchange = pin!(async {
            match self.client.get(key.as_str()).await? {
                Some(stored) => self.entry(stored, None),
                None => Ok(None),
            }
        });
        let entry = self.guard(Operation::Get, key, exchange).await;
        self.counters.read(&entry);
        entry
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let run = async |keys: &[&str]| {
            let read = self.client.get_many(keys).await;
            let entry =
                |stored: Option<Bytes>| stored.map_or(Ok(None), |stored| self.entry(stored, None));
            read.into_iter().map(|read| read.and_then(entry)).collect()
        };
        let entries = self.batch(Operation::GetMany, keys, run).await;
        entries.iter().for_each(|entry| self.counters.read(entry));
        entries
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        let exchange = pin!(async {
            match self.client.get_with_ttl(key.as_str()).await? {
                Some((stored, ttl)) => self.entry(stored, Some(ttl)),
                None => Ok(None),
            }
        });
        let entry = self.guard(Operation::Lookup, key, exchange).await;
        self.counters.read(&entry);
        entry
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        let run = async |keys: &[&str]| {
            let read = self.client.get_many_with_ttl(keys).await;
            let entry = |found: Option<(Bytes, i64)>| {
                found.map_or(Ok(None), |(stored, ttl)| self.entry(stored, Some(ttl)))
            };
            read.into_iter().map(|read| read.and_then(entry)).collect()
        };
        let entries = self.batch(Operation::LookupMany, keys, run).await;
        entries.iter().for_each(|entry| self.counters.read(entry));
        entries
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let exchange = pin!(async {
            self.info.check_value(&entry.value)?;
            self.set_where(key, entry, condition).await
        });
        let outcome = self.guard(Operation::Set, key, exchange).await;
        self.counters.conditional_write(&outcome);
        outcome
    }

    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        let operation = Operation::SetMany;
        let mut outcomes: Vec<_> = entries
            .iter()
            .map(|(key, entry)| self.check_write(operation, key, &entry.value))
            .collect();
        let mut keys = Vec::with_capacity(entries.len());
        let mut values = Vec::with_capacity(entries.len());
        for (at, (key, entry)) in entries.into_iter().enumerate() {
            if outcomes[at].is_ok() {
                keys.push((at, key));
                values.push(entry);
            }
        }
        let writes: Vec<_> = keys
            .iter()
            .zip(values)
            .map(|((_, key), entry)| self.write(key, entry))
            .collect();
        let written = self.client.set_many(&writes).await;
        for ((at, key), outcome) in keys.iter().zip(written) {
            outcomes[*at] = outcome.map_err(|error| self.failed(error, operation, key));
        }
        outcomes
            .iter()
            .for_each(|outcome| self.counters.write(outcome));
        outcomes
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let exchange = pin!(async {
            let head = self.client.delete(key.as_str()).await?;
            // What cannot be read any more was something all the same.
            Ok(head.exists && self.is_fresh(&head.bytes).unwrap_or(true))
        });
        let outcome = self.guard(Operation::Delete, key, exchange).await;
        self.counters.delete(&outcome);
        outcome
    }

    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        let run = async |keys: &[&str]| self.client.delete_many(keys).await;
        let outcomes = self.batch(Operation::DeleteMany, keys, run).await;
        outcomes
            .iter()
            .for_each(|outcome| self.counters.delete(outcome));
        outcomes
    }

    async fn compare_and_delete(&self, key: &CacheKey, expected: &[u8]) -> Result<bool> {
        let exchange = pin!(self.client.compare_and_delete(key.as_str(), expected));
        let outcome = self.guard(Operation::CompareAndDelete, key, exchange).await;
        self.counters.conditional_delete(&outcome);
        outcome
    }

    async fn has(&self, key: &CacheKey) -> Result<bool> {
        let exchange = pin!(async {
            let head = self.client.head(key.as_str()).await?;
            Ok(head.exists && self.is_fresh(&head.bytes)?)
        });
        let outcome = self.guard(Operation::Has, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let exchange = pin!(async {
            let moved = self.client.expire(key.as_str(), ttl.as_duration()).await?;
            newer_format(moved)
        });
        let outcome = self.guard(Operation::Expire, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        let exchange = pin!(async { newer_format(self.client.expire_now(key.as_str()).await?) });
        let outcome = self.guard(Operation::ExpireNow, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        let exchange = pin!(self.time_left(key));
        let outcome = self.guard(Operation::GetTtl, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let exchange = pin!(async {
            let counted = self
                .client
                .increment(key.as_str(), delta, ttl.as_duration())
                .await?;
            let (value, left) = counted;
            let left = u64::try_from(left).ok().map(Duration::from_millis);
            Ok(Counter::new(value, left))
        });
        let outcome = self.guard(Operation::Increment, key, exchange).await;
        self.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        let cleared = match self.client.check_open(Operation::Clear) {
            Ok(()) => self.client.clear(scope.as_prefix()).await,
            Err(error) => Err(error),
        };
        let outcome = cleared.map(|(deleted, complete)| Cleared::new(deleted, complete));
        self.counters.other(&outcome);
        outcome.map_err(|error| error.with_operation(Operation::Clear))
    }

    fn get_stats(&self) -> StorageStats {
        self.counters.snapshot()
    }

    async fn ping(&self) -> Result<()> {
        let outcome = match self.client.check_open(Operation::Ping) {
            Ok(()) => self.client.ping().await,
            Err(error) => Err(error),
        };
        self.counters.other(&outcome);
        outcome.map_err(|error| error.with_operation(Operation::Ping))
    }

    async fn shutdown(&self, _budget: Duration) -> Result<()> {
        // Nothing to wait for: calls under way keep their connection until they are done.
        self.client.close();
        Ok(())
    }
}
