//! The one place that speaks Redis: which commands are sent. `client/servers.rs` decides to which
//! server, `client/call.rs` on which connection, for how long, and whether again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    CacheError, CacheKey, Clock, ErrorKind, Event, Operation, Result, Shard, Timestamp,
};
use futures_util::future::try_join_all;
use redis::{Cmd, Pipeline, Value, cmd};

use crate::error::{BACKEND, from_server};
use crate::options::RedisOptions;

mod batch;
mod call;
mod clear;
#[cfg(feature = "cluster")]
mod cluster;
mod dial;
mod dials;
mod lane;
mod link;
mod node;
mod pause;
mod reach;
mod reply;
mod scripts;
mod servers;
mod shape;
mod silence;
#[cfg(feature = "cluster")]
mod slots;
mod tell;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tls")]
pub(crate) use tls::connector;

#[cfg(feature = "cluster")]
use batch::{Gets, Unlinks};
use batch::{Lookups, PerKey, Sets};
use call::{Budget, Call, Repeat};
use link::Payload;
use node::Node;
pub(crate) use reach::Names;
use reply::{all, array, bytes, done, each, head_bytes, integer, moved, unexpected};
use scripts::{Lua, Scripts};
use servers::Servers;
use shape::{Expects, Shape};

/// How many keys or entries go into one command or pipeline.
const BATCH: usize = 500;

/// How many bytes of values go into one pipeline, unless a single value is longer.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a header that tell whether an entry is fresh.
const HEADER: usize = cache_core::wire::HEADER_BYTES;

/// The error code of a server that does not know a script.
const NO_SCRIPT: &str = "NOSCRIPT";

/// What the commands here are answered with.
const ONE_ENTRY: Expects = Expects::One(Shape::Bytes);
const ENTRY_AND_NUMBER: Expects = Expects::Each(2, &[Shape::Bytes, Shape::Integer]);
const NUMBER: Expects = Expects::One(Shape::Integer);
const DONE: Expects = Expects::One(Shape::Done);
const COUNTED: Expects = Expects::Each(3, &[Shape::DoneOrNot, Shape::Integer, Shape::Integer]);

/// A server or a cluster, as the storage sees it.
#[derive(Debug)]
pub(crate) struct Client {
    options: Arc<RedisOptions>,
    address: String,
    servers: Servers,
    is_closed: AtomicBool,
}

/// The head of a stored entry and whether a key exists, for those who need no more.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) bytes: Bytes,
    pub(crate) exists: bool,
}

/// The conditions under which [`Client::set_if`] writes.
#[derive(Debug, Clone)]
pub(crate) enum SetIf {
    Absent,
    Present,
    Equals(Bytes),
}

/// An entry on its way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a str,
    pub(crate) stored: Bytes,
    /// Where in `stored` the value begins.
    pub(crate) value_offset: usize,
    pub(crate) keep_for: Option<Duration>,
}

impl Client {
    /// A client without a connection. No I/O.
    pub(crate) fn new(options: RedisOptions) -> Result<Self> {
        options.check()?;
        let options = Arc::new(options);
        Ok(Self {
            address: options.address_text(),
            servers: Servers::new(&options),
            options,
            is_closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Which server of a cluster `key` belongs to; none for one server, or while none is known.
    pub(crate) fn shard(&self, key: &CacheKey) -> Option<Shard> {
        self.servers.shard(key.as_str().as_bytes())
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.is_closed() {
            return Err(CacheError::closed(BACKEND, operation));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.servers.close();
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let budget = self.single();
        let node = self.servers.any(budget.deadline).await?;
        ping(&node, budget.anew()).await
    }

    /// Dials every connection that is not there yet.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        let nodes = self.servers.primaries(self.single().deadline).await?;
        let pings = nodes.iter().map(async |node| {
            for _ in 0..node.width() {
                ping(node, self.single()).await?;
            }
            Result::<()>::Ok(())
        });
        try_join_all(pings).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let mut command = command("GET", 1, key.len());
        command.arg(key);
        let payload = command.into();
        bytes(self.read(key, &payload, ONE_ENTRY, self.single()).await?)
    }

    /// The entry and its server-side time left in milliseconds, as PTTL gives it.
    pub(crate) async fn get_with_ttl(&self, key: &str) -> Result<Option<(Bytes, i64)>> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let reply = self
            .read(
                key,
                &Payload::Pipeline(pipeline),
                ENTRY_AND_NUMBER,
                self.single(),
            )
            .await?;
        let [value, ttl] = array(reply)?;
        let Some(value) = bytes(value)? else {
            return Ok(None);
        };
        Ok(Some((value, integer(ttl)?)))
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        match &self.servers {
            Servers::Standalone(node) => self.get_many_at(node, keys).await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => self.each_key(&Gets(keys), |[value]| bytes(value)).await,
        }
    }

    async fn get_many_at(&self, node: &Node, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        let budget = self.bulk();
        let mut entries = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut command = command("MGET", batch.len(), lengths(batch));
            for key in batch {
                command.arg(*key);
            }
            let expects = Expects::Each(batch.len(), &[Shape::Bytes]);
            let call = reading(&command.into(), expects, budget.anew(), node).await;
            each(&mut entries, batch.len(), call.and_then(all), bytes);
        }
        entries
    }

    /// Entries with their server-side times left in milliseconds.
    pub(crate) async fn get_many_with_ttl(
        &self,
        keys: &[&str],
    ) -> Vec<Result<Option<(Bytes, i64)>>> {
        let entry = |[value, ttl]: [Value; 2]| match bytes(value)? {
            Some(value) => Ok(Some((value, integer(ttl)?))),
            None => Ok(None),
        };
        self.each_key(&Lookups(keys), entry).await
    }

    pub(crate) async fn set(&self, write: &Write<'_>) -> Result<()> {
        let command = set_command(write).into();
        let reply = self.write(write.key, &command, DONE, self.single(), Repeat::Same);
        done(reply.await?)
    }

    pub(crate) async fn set_many(&self, writes: &[Write<'_>]) -> Vec<Result<()>> {
        self.each_key(&Sets(writes), |[reply]| done(reply)).await
    }

    /// Writes if `condition` holds. Repeated after an unknown outcome, it also succeeds where it
    /// finds its own value.
    pub(crate) async fn set_if(&self, write: &Write<'_>, condition: &SetIf) -> Result<bool> {
        let now = self.now_text();
        let keep_for = write.keep_for.map(millis_text).unwrap_or_default();
        let offset = (write.value_offset + 1).to_string();
        let (name, expected) = match condition {
            SetIf::Absent => ("absent", &[][..]),
            SetIf::Present => ("present", &[][..]),
            SetIf::Equals(expected) => ("equals", &expected[..]),
        };
        let args = |own_counts: &'static str| {
            [
                now.as_bytes(),
                name.as_bytes(),
                &write.stored,
                keep_for.as_bytes(),
                expected,
                own_counts.as_bytes(),
                offset.as_bytes(),
            ]
        };
        let script = &Scripts::get().set_if;
        let again = Payload::Command(script.by_text(write.key, &args("1")));
        let repeat = Repeat::With(&again);
        let reply = self
            .script(script, write.key, &args("0"), repeat, self.single())
            .await?;
        Ok(integer(reply)? == 1)
    }

    /// Deletes the key and returns the head of what was there.
    ///
    /// No transaction: a server that is out of memory refuses to queue one, and deletes are what
    /// would help it. Somebody may write between the two commands; the key is gone all the same.
    pub(crate) async fn delete(&self, key: &str) -> Result<Head> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GETRANGE").arg(key).arg(0).arg(HEADER - 1);
        pipeline.cmd("UNLINK").arg(key);
        let payload = Payload::Pipeline(pipeline);
        let reply = self
            .write(key, &payload, ENTRY_AND_NUMBER, self.single(), Repeat::Same)
            .await?;
        let [head, deleted] = array(reply)?;
        Ok(Head {
            exists: integer(deleted)? > 0,
            // What was deleted was deleted, even if this user may not read it.
            bytes: head_bytes(head).unwrap_or_default(),
        })
    }

    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Vec<Result<()>> {
        let budget = self.bulk();
        match &self.servers {
            Servers::Standalone(node) => {
                let mut outcomes = Vec::with_capacity(keys.len());
                for batch in keys.chunks(BATCH) {
                    let outcome = unlink(node, batch, budget.anew()).await.map(drop);
                    outcomes.resize(outcomes.len() + batch.len(), outcome);
                }
                outcomes
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => {
                let deleted = |[reply]: [Value; 1]| integer(reply).map(drop);
                self.each_key(&Unlinks(keys), deleted).await
            }
        }
    }

    pub(crate) async fn compare_and_delete(&self, key: &str, expected: &[u8]) -> Result<bool> {
        let args = [self.now_text().into_bytes()];
        let args = [&args[0][..], expected];
        let script = &Scripts::get().delete_if;
        let reply = self
            .script(script, key, &args, Repeat::Never, self.single())
            .await?;
        Ok(integer(reply)? == 1)
    }

    /// The head of an entry and whether the key exists.
    pub(crate) async fn head(&self, key: &str) -> Result<Head> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GETRANGE").arg(key).arg(0).arg(HEADER - 1);
        pipeline.cmd("EXISTS").arg(key);
        let reply = self
            .read(
                key,
                &Payload::Pipeline(pipeline),
                ENTRY_AND_NUMBER,
                self.single(),
            )
            .await?;
        let [head, exists] = array(reply)?;
        Ok(Head {
            bytes: head_bytes(head)?,
            exists: integer(exists)? > 0,
        })
    }

    /// The head of an entry and the key's time left in milliseconds, as PTTL gives it.
    pub(crate) async fn head_with_ttl(&self, key: &str) -> Result<(Bytes, i64)> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GETRANGE").arg(key).arg(0).arg(HEADER - 1);
        pipeline.cmd("PTTL").arg(key);
        let reply = self
            .read(
                key,
                &Payload::Pipeline(pipeline),
                ENTRY_AND_NUMBER,
                self.single(),
            )
            .await?;
        let [head, ttl] = array(reply)?;
        Ok((head_bytes(head)?, integer(ttl)?))
    }

    /// Moves the end of a fresh entry; none where its format is unknown.
    pub(crate) async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<Option<bool>> {
        let now = self.now_text();
        let ttl = ttl.map(millis_text).unwrap_or_default();
        let args = [now.as_bytes(), ttl.as_bytes()];
        let script = &Scripts::get().expire;
        moved(
            self.script(script, key, &args, Repeat::Same, self.single())
                .await?,
        )
    }

    /// Ends a fresh entry but for its stale budget; none where its format is unknown.
    pub(crate) async fn expire_now(&self, key: &str) -> Result<Option<bool>> {
        let now = self.now_text();
        let script = &Scripts::get().expire_now;
        let args = [now.as_bytes()];
        moved(
            self.script(script, key, &args, Repeat::Same, self.single())
                .await?,
        )
    }

    /// Adds to a counter in one transaction; the time left is as PTTL gives it.
    ///
    /// A Lua script could not do it: its numbers are doubles, and 9007199254740993 would come back
    /// as ...992.
    pub(crate) async fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<(i64, i64)> {
        let budget = self.single();
        let counted = self.increment_once(key, delta, ttl, budget).await;
        let is_foreign = counted
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotACounter);
        if !is_foreign {
            return counted;
        }
        // Nothing was counted. What stands there may be an entry past its time to live, kept for
        // its stale budget only: a counter may take its place.
        let now = self.now_text();
        let args = [now.as_bytes()];
        let script = &Scripts::get().drop_expired;
        integer(
            self.script(script, key, &args, Repeat::Same, budget.anew())
                .await?,
        )?;
        self.increment_once(key, delta, ttl, budget.anew()).await
    }

    async fn increment_once(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        budget: Budget,
    ) -> Result<(i64, i64)> {
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.atomic();
        let start = pipeline.cmd("SET").arg(key).arg(0);
        if let Some(ttl) = ttl {
            start.arg("PX").arg(millis_text(ttl));
        }
        start.arg("NX");
        pipeline.cmd("INCRBY").arg(key).arg(delta);
        pipeline.cmd("PTTL").arg(key);
        let payload = Payload::Transaction(pipeline);
        let counted = self.write(key, &payload, COUNTED, budget, Repeat::Never);
        let reply = counted.await?;
        let [_, sum, left] = array(reply)?;
        let sum = integer(sum).map_err(|error| {
            // Here a key of another type is not a damaged entry but no counter.
            if error.kind() == ErrorKind::Serialization {
                return CacheError::new(ErrorKind::NotACounter, "the entry is not a counter")
                    .with_backend(BACKEND);
            }
            error
        })?;
        Ok((sum, integer(left)?))
    }

    fn single(&self) -> Budget {
        Budget::new(self.options.attempt_timeout, self.options.timeout)
    }

    /// A batch is not cut into attempts: its size says how long it may take.
    fn bulk(&self) -> Budget {
        Budget::new(self.options.bulk_timeout, self.options.bulk_timeout)
    }

    fn now_text(&self) -> String {
        Timestamp::as_millis(self.options.clock.wall()).to_string()
    }

    /// Sends a batch and reads each key's replies.
    async fn each_key<B, T, const N: usize>(
        &self,
        batch: &B,
        parse: impl Fn([Value; N]) -> Result<T> + Send,
    ) -> Vec<Result<T>>
    where
        B: PerKey<N>,
    {
        let replies = self.servers.each_key(batch, self.bulk()).await;
        replies
            .into_iter()
            .map(|reply| reply.and_then(&parse))
            .collect()
    }

    fn read<'a>(
        &'a self,
        key: &'a str,
        payload: &'a Payload,
        expects: Expects,
        budget: Budget,
    ) -> impl Future<Output = Result<Value>> + Send + 'a {
        let call = Call {
            payload,
            expects,
            repeat: Repeat::Same,
            is_write: false,
            budget,
        };
        self.servers.call(key.as_bytes(), call)
    }

    fn write<'a>(
        &'a self,
        key: &'a str,
        payload: &'a Payload,
        expects: Expects,
        budget: Budget,
        repeat: Repeat<'a>,
    ) -> impl Future<Output = Result<Value>> + Send + 'a {
        let call = Call {
            payload,
            expects,
            repeat,
            is_write: true,
            budget,
        };
        self.servers.call(key.as_bytes(), call)
    }

    /// Runs a script by its hash, and by its text where the server does not know it.
    async fn script(
        &self,
        script: &Lua,
        key: &str,
        args: &[&[u8]],
        repeat: Repeat<'_>,
        budget: Budget,
    ) -> Result<Value> {
        let known = Payload::Command(script.by_hash(key, args));
        let reply = self.write(key, &known, NUMBER, budget, repeat).await?;
        let Value::ServerError(error) = &reply else {
            return Ok(reply);
        };
        if error.code() != NO_SCRIPT {
            return Err(from_server(error));
        }
        let event = Event::ScriptMissing { backend: BACKEND };
        self.options.observers.tell(&event);
        let taught = Payload::Command(script.by_text(key, args));
        self.write(key, &taught, NUMBER, budget.anew(), repeat)
            .await
    }
}

/// Asks a server for a sign of life.
async fn ping(node: &Node, budget: Budget) -> Result<()> {
    match reading(&cmd("PING").into(), Expects::One(Shape::Pong), budget, node).await? {
        Value::SimpleString(_) => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Sends a read to this very server.
async fn reading(
    payload: &Payload,
    expects: Expects,
    budget: Budget,
    node: &Node,
) -> Result<Value> {
    let call = Call {
        payload,
        expects,
        repeat: Repeat::Same,
        is_write: false,
        budget,
    };
    node.call(call).await?.settle()
}

/// Deletes keys at this very server, in one command.
async fn unlink<K: AsRef<[u8]> + Sync>(node: &Node, keys: &[K], budget: Budget) -> Result<u64> {
    let mut command = cmd("UNLINK");
    for key in keys {
        command.arg(key.as_ref());
    }
    let call = Call {
        payload: &command.into(),
        expects: NUMBER,
        repeat: Repeat::Same,
        is_write: true,
        budget,
    };
    let deleted = integer(node.call(call).await?.settle()?)?;
    Ok(u64::try_from(deleted).unwrap_or_default())
}

fn command(name: &str, args: usize, bytes: usize) -> Cmd {
    let mut command = Cmd::with_capacity(args + 1, name.len() + bytes);
    command.arg(name);
    command
}

fn set_command(write: &Write<'_>) -> Cmd {
    let bytes = write.key.len() + write.stored.len() + 24;
    let mut command = command("SET", 4, bytes);
    command.arg(write.key).arg(&write.stored[..]);
    if let Some(span) = write.keep_for {
        command.arg("PX").arg(whole_millis(span));
    }
    command
}

fn lengths(keys: &[&str]) -> usize {
    keys.iter().map(|key| key.len()).sum()
}

fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn millis_text(span: Duration) -> String {
    whole_millis(span).to_string()
}
