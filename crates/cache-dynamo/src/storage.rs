//! The storage contract over a table.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Cleared, Condition, Counter, Entry, ErrorKind,
    Event, Expiry, NewEntry, Operation, Result, Shard, StorageCounters, StorageInfo, StorageStats,
    TierAccess, TimeLeft, Timestamp, Ttl,
};

use crate::client::Client;
use crate::error::{BACKEND, error};
use crate::item::{Head, Layout};
use crate::options::DynamoDbOptions;

/// Entries in a DynamoDB table.
///
/// Made without network I/O; the first call connects and asks for credentials. Every call ends
/// within the budgets of [`DynamoDbOptions`]. Calls need a Tokio runtime with I/O and time; a
/// storage outlives its runtime and goes on in the next one.
///
/// # Items
///
/// | attribute | type | content |
/// |---|---|---|
/// | `PK` | S | the key, its prefix included; see [`KeySchema`](crate::KeySchema) |
/// | `value` | S, N, B | text if it is UTF-8 written by no recorded codec or by JSON; a number if it is a counter; else bytes |
/// | `ttl` | N | when DynamoDB may collect the item: the end of the stale budget in seconds, rounded up; none for ever |
/// | `cache_v` | N | 1, the version of this layout, which marks the item as the cache's |
/// | `cache_expires` | N | when the entry stops being fresh, in milliseconds since 1970; none for ever |
/// | `cache_stale` | N | the length of the stale budget in milliseconds; none without one |
/// | `cache_created` | N | when the value was made, in milliseconds since 1970, if recorded |
/// | `cache_codec` | S | the codec that wrote the value, if recorded |
///
/// Only `cache_expires` decides what is fresh. DynamoDB deletes what has expired days later; until
/// then the item counts as absent everywhere, and no read deletes it.
///
/// An item without `cache_v` is somebody else's: single-key operations refuse it (kind
/// `Serialization`) and leave it alone, and a clear passes it by. So a cache can live in a table
/// with other items, as long as their keys differ. **Batches cannot be conditional**: a
/// [`set_many`](CacheStorage::set_many) or [`delete_many`](CacheStorage::delete_many) overwrites or
/// deletes whatever is under its keys. An item of a newer layout version is an error to read, and
/// only an unconditional write or a delete changes it.
///
/// # What costs what
///
/// | operation | requests |
/// |---|---|
/// | get, lookup, has, get_ttl, ping | one `GetItem` |
/// | set, delete, compare_and_delete | one conditional write |
/// | increment | one `UpdateItem`; a `PutItem` after it where the counter starts |
/// | expire, expire_now | one write; a second one where there is a stale budget |
/// | get_many, lookup_many | a `BatchGetItem` for 100 keys, four at a time |
/// | set_many, delete_many | a `BatchWriteItem` for 25 keys, four at a time |
/// | clear | a `Scan` of the **whole table** in four parts, and a `BatchWriteItem` for 25 keys found; a `Query` of the entries below the prefix with [`KeySchema::ConstantPartition`](crate::KeySchema::ConstantPartition) |
///
/// A condition that does not hold costs a `GetItem` more on a server that does not return the item
/// in its way; AWS does.
///
/// Reads are billed by the size of the item, value included, also those that only ask whether it is
/// there. A write whose condition does not hold is billed too.
///
/// # Consistency
///
/// A read may miss a write of the last second, unless
/// [`consistent_reads`](DynamoDbOptions::consistent_reads) is set. Conditions and counters are
/// always exact.
///
/// Expiry is judged by the clock of this machine; keep the clocks of machines that share entries
/// within what the application can bear.
///
/// # Repetition
///
/// An attempt that failed is repeated within the operation's time, at most twice: after a throttle,
/// a failure of the server, a lost connection or a timeout, with a random pause of up to 20 ms that
/// doubles; at once where the connection had died. [`increment`](CacheStorage::increment) and
/// [`compare_and_delete`](CacheStorage::compare_and_delete) are only repeated where the attempt is
/// known not to have been executed.
///
/// # Permissions
///
/// `dynamodb:GetItem`, `PutItem`, `UpdateItem`, `DeleteItem`; `BatchGetItem` and `BatchWriteItem`
/// for batches; `Scan` or `Query`, and `BatchWriteItem`, for a clear; `DescribeTable` and
/// `DescribeTimeToLive` for [`check_table`](Self::check_table), and with `CreateTable` and
/// `UpdateTimeToLive` for [`create_table`](Self::create_table).
///
/// ```no_run
/// # async fn example() -> Result<(), cache_core::CacheError> {
/// use cache_core::{CacheService, mins};
/// use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions};
///
/// let storage = DynamoDbCacheStorage::new(DynamoDbOptions::new("cache"))?;
/// let sessions = CacheService::builder(storage).prefix("session").ttl(mins(15)).build()?;
/// sessions.set("42", "alice").await?;
/// # Ok(())
/// # }
/// ```
pub struct DynamoDbCacheStorage {
    client: Client,
    info: StorageInfo,
    counters: StorageCounters,
}

impl DynamoDbCacheStorage {
    /// A storage over the table that `options` name. Reads the file of roots, if one is named, and
    /// does no other I/O.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything in the options that cannot be, a missing region included.
    pub fn new(options: DynamoDbOptions) -> Result<Self> {
        let client = Client::new(options)?;
        let info = StorageInfo::new(BACKEND)
            .with_address(client.address())
            .with_max_value_bytes(client.max_value_bytes())
            .with_patience(client.timeout())
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
        let warmed = self.client.ping().await;
        warmed.map_err(|error| error.with_operation(Operation::Ping))
    }

    /// Creates the table with on-demand billing, waits until it is active, and switches DynamoDB's
    /// collection of expired items on. A table that is there already will do if it has the same
    /// keys. Takes a minute at most.
    ///
    /// # Errors
    ///
    /// `Configuration` where a table of the name has other keys or collects by another attribute,
    /// or the credentials may not create one; what any call may meet.
    pub async fn create_table(&self) -> Result<()> {
        self.client.check_open(Operation::Ping)?;
        self.client.create_table().await
    }

    /// Checks that the table is there, has the keys that the options name, and collects expired
    /// items.
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem at once, each with what to do; what any call may meet.
    pub async fn check_table(&self) -> Result<()> {
        self.client.check_open(Operation::Ping)?;
        self.client.check_table().await
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
    /// Takes the future by reference: it is large.
    async fn guard<T>(
        &self,
        operation: Operation,
        key: &CacheKey,
        exchange: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    ) -> Result<T> {
        self.check(operation, key)?;
        let outcome = exchange.await;
        outcome.map_err(|error| self.about(error, operation, key))
    }

    /// An error with what it is about; an item that cannot be read is told to whoever measures it.
    fn about(&self, error: CacheError, operation: Operation, key: &CacheKey) -> CacheError {
        if error.kind() == ErrorKind::Serialization {
            let reason = "header";
            self.client.tell(&Event::DecodeError { reason });
        }
        error.with_operation(operation).with_key(key)
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
                outcome.map_err(|error| self.about(error, operation, key))
            })
            .collect()
    }

    async fn read(&self, operation: Operation, key: &CacheKey) -> Result<Option<Entry>> {
        let exchange = pin!(async {
            let entry = self.client.get(key.as_str()).await?;
            Ok(entry.filter(|entry| self.is_there(entry.stale_until, self.now())))
        });
        let entry = self.guard(operation, key, exchange).await;
        self.counters.read(&entry);
        entry
    }

    async fn read_many(
        &self,
        operation: Operation,
        keys: &[CacheKey],
    ) -> Vec<Result<Option<Entry>>> {
        let run = async |keys: &[&str]| {
            let read = self.client.get_many(keys).await;
            let now = self.now();
            let is_there = |entry: &Entry| self.is_there(entry.stale_until, now);
            let live = |entry: Option<Entry>| entry.filter(is_there);
            read.into_iter().map(|read| read.map(live)).collect()
        };
        let entries = self.batch(operation, keys, run).await;
        entries.iter().for_each(|entry| self.counters.read(entry));
        entries
    }

    /// The deadline of a fresh entry; none where there is no such entry.
    async fn deadline(&self, key: &CacheKey) -> Result<Option<Expiry>> {
        let head = self.client.head(key.as_str()).await?;
        let now = self.now();
        let stored = head.filter(|head| self.is_there(head.stale_until(), now));
        let fresh = stored.filter(|head| head.is_fresh(now));
        Ok(fresh.map(|head: Head| head.expires_at))
    }

    /// Whether an entry that is stored is there for readers: DynamoDB keeps it for days after its
    /// stale budget. One that is not is told to whoever measures it.
    fn is_there(&self, stale_until: Expiry, now: Timestamp) -> bool {
        let is_over = matches!(stale_until, Expiry::At(_)) && stale_until.is_past(now);
        if is_over {
            self.client
                .tell(&Event::ExpiredFiltered { backend: BACKEND });
        }
        !is_over
    }
}

fn missing() -> CacheError {
    error(
        ErrorKind::Backend,
        "the server answered fewer keys than asked for",
    )
}

impl fmt::Debug for DynamoDbCacheStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamoDb")
            .field(&format_args!("{}", self.client.address()))
            .finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheStorage for DynamoDbCacheStorage {
    fn info(&self) -> &StorageInfo {
        &self.info
    }

    fn shard(&self, _: &CacheKey) -> Option<Shard> {
        None
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn with_tiers(&self, _: &TierAccess) -> Result<Option<Arc<dyn CacheStorage>>> {
        Ok(None)
    }

    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.read(Operation::Get, key).await
    }

    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.read_many(Operation::GetMany, keys).await
    }

    async fn lookup(&self, key: &CacheKey) -> Result<Option<Entry>> {
        self.read(Operation::Lookup, key).await
    }

    async fn lookup_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        self.read_many(Operation::LookupMany, keys).await
    }

    async fn set(&self, key: &CacheKey, entry: NewEntry, condition: Condition) -> Result<bool> {
        let exchange = pin!(async {
            self.info.check_value(&entry.value)?;
            self.client.set(key.as_str(), &entry, &condition).await
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
        let mut places = Vec::with_capacity(entries.len());
        let mut sound = Vec::with_capacity(entries.len());
        for (at, (key, entry)) in entries.iter().enumerate() {
            if outcomes[at].is_ok() {
                places.push((at, key));
                sound.push((key.as_str(), entry));
            }
        }
        let written = self.client.set_many(&sound).await;
        for ((at, key), outcome) in places.into_iter().zip(written) {
            outcomes[at] = outcome.map_err(|error| error.with_operation(operation).with_key(key));
        }
        outcomes
            .iter()
            .for_each(|outcome| self.counters.write(outcome));
        outcomes
    }

    async fn delete(&self, key: &CacheKey) -> Result<bool> {
        let exchange = pin!(async {
            let old = self.client.delete(key.as_str()).await?;
            Ok(old.is_some_and(|old| {
                // What cannot be read any more was something all the same.
                Layout::head(&old).map_or(true, |head| head.is_fresh(self.now()))
            }))
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
        let exchange = pin!(async { Ok(self.deadline(key).await?.is_some()) });
        let outcome = self.guard(Operation::Has, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn expire(&self, key: &CacheKey, ttl: Ttl) -> Result<bool> {
        let exchange = pin!(self.client.expire(key.as_str(), ttl));
        let outcome = self.guard(Operation::Expire, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn expire_now(&self, key: &CacheKey) -> Result<bool> {
        let exchange = pin!(self.client.expire_now(key.as_str()));
        let outcome = self.guard(Operation::ExpireNow, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn get_ttl(&self, key: &CacheKey) -> Result<TimeLeft> {
        let exchange = pin!(async {
            Ok(match self.deadline(key).await? {
                None => TimeLeft::Missing,
                Some(Expiry::At(end)) => TimeLeft::Remaining(end.since(self.now())),
                Some(_) => TimeLeft::Forever,
            })
        });
        let outcome = self.guard(Operation::GetTtl, key, exchange).await;
        self.counters.other(&outcome);
        outcome
    }

    async fn increment(&self, key: &CacheKey, delta: i64, ttl: Ttl) -> Result<Counter> {
        let exchange = pin!(async {
            let (value, end) = self.client.increment(key.as_str(), delta, ttl).await?;
            let left = match end {
                Expiry::At(end) => Some(end.since(self.now())),
                Expiry::Never | Expiry::AtServer => None,
            };
            Ok(Counter::new(value, left))
        });
        let outcome = self.guard(Operation::Increment, key, exchange).await;
        self.counters.write(&outcome);
        outcome
    }

    async fn clear(&self, scope: &ClearScope) -> Result<Cleared> {
        let outcome = match self.client.check_open(Operation::Clear) {
            Ok(()) => self.client.clear(scope.as_prefix()).await,
            Err(error) => Err(error),
        };
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
        // Nothing to wait for: calls under way keep their connections until they are done, and
        // idle ones close by themselves.
        self.client.close();
        Ok(())
    }
}
