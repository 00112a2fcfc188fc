//! The one place that speaks Redis: which commands are sent. `client/call.rs` decides on which
//! connection, for how long, and whether again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheError, Clock, ErrorKind, Operation, Result, Timestamp};
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::time::Instant;

use crate::error::{BACKEND, from_server};
use crate::options::RedisOptions;

mod call;
mod dial;
mod lane;
mod link;
mod reply;
mod scripts;
mod silence;

use call::{Budget, Call, Repeat};
use lane::Lane;
use link::Payload;
use reply::{all, array, bytes, done, each, head_bytes, integer, moved, unexpected};
use scripts::{Lua, Scripts};

/// How many keys or entries go into one command or pipeline.
const BATCH: usize = 500;

/// How many bytes of values go into one pipeline, unless a single value is longer.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a header that tell whether an entry is fresh.
const HEADER: usize = cache_core::wire::HEADER_BYTES;

/// The error code of a server that does not know a script.
const NO_SCRIPT: &str = "NOSCRIPT";

/// A server, as the storage sees it.
#[derive(Debug)]
pub(crate) struct Client {
    options: Arc<RedisOptions>,
    address: String,
    lanes: Box<[Lane]>,
    next_lane: AtomicUsize,
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
        let lanes = (0..options.connections)
            .map(|_| Lane::new(Arc::clone(&options)))
            .collect();
        Ok(Self {
            address: options.address_text(),
            options,
            lanes,
            next_lane: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(CacheError::closed(BACKEND, operation));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for lane in &self.lanes {
            lane.close();
        }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let reply = self.read(&cmd("PING").into(), self.single()).await?;
        match reply {
            Value::SimpleString(_) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Dials every connection that is not there yet.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        for _ in &self.lanes {
            self.ping().await?;
        }
        Ok(())
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let mut command = command("GET", 1, key.len());
        command.arg(key);
        bytes(self.read(&command.into(), self.single()).await?)
    }

    /// The entry and its server-side time left in milliseconds, as PTTL gives it.
    pub(crate) async fn get_with_ttl(&self, key: &str) -> Result<Option<(Bytes, i64)>> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let reply = self
            .read(&Payload::Pipeline(pipeline), self.single())
            .await?;
        let [value, ttl] = array(reply)?;
        let Some(value) = bytes(value)? else {
            return Ok(None);
        };
        Ok(Some((value, integer(ttl)?)))
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        let budget = self.bulk();
        let mut entries = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut command = command("MGET", batch.len(), lengths(batch));
            for key in batch {
                command.arg(*key);
            }
            let reply = self
                .read(&command.into(), budget.anew())
                .await
                .and_then(all);
            each(&mut entries, batch.len(), reply, bytes);
        }
        entries
    }

    /// Entries with their server-side times left in milliseconds.
    pub(crate) async fn get_many_with_ttl(
        &self,
        keys: &[&str],
    ) -> Vec<Result<Option<(Bytes, i64)>>> {
        let budget = self.bulk();
        let mut entries = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(2 * batch.len());
            for key in batch {
                pipeline.cmd("GET").arg(*key).cmd("PTTL").arg(*key);
            }
            let reply = self.read(&Payload::Pipeline(pipeline), budget.anew()).await;
            let pairs = reply.and_then(all).map(|replies| {
                let mut replies = replies.into_iter();
                std::iter::from_fn(move || Some((replies.next()?, replies.next()?))).collect()
            });
            each(&mut entries, batch.len(), pairs, |(value, ttl)| {
                let Some(value) = bytes(value)? else {
                    return Ok(None);
                };
                Ok(Some((value, integer(ttl)?)))
            });
        }
        entries
    }

    pub(crate) async fn set(&self, write: &Write<'_>) -> Result<()> {
        let command = set_command(write);
        done(
            self.write(&command.into(), self.single(), Repeat::Same)
                .await?,
        )
    }

    pub(crate) async fn set_many(&self, writes: &[Write<'_>]) -> Vec<Result<()>> {
        let budget = self.bulk();
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut rest = writes;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            rest = later;
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for write in batch {
                pipeline.add_command(set_command(write));
            }
            let payload = Payload::Pipeline(pipeline);
            let reply = self
                .write(&payload, budget.anew(), Repeat::Same)
                .await
                .and_then(all);
            each(&mut outcomes, batch.len(), reply, done);
        }
        outcomes
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
        let reply = self.write(&payload, self.single(), Repeat::Same).await?;
        let [head, deleted] = array(reply)?;
        Ok(Head {
            exists: integer(deleted)? > 0,
            // What was deleted was deleted, even if this user may not read it.
            bytes: head_bytes(head).unwrap_or_default(),
        })
    }

    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Vec<Result<()>> {
        let budget = self.bulk();
        let mut outcomes = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let outcome = self.unlink(batch, budget).await.map(drop);
            outcomes.resize(outcomes.len() + batch.len(), outcome);
        }
        outcomes
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
            .read(&Payload::Pipeline(pipeline), self.single())
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
            .read(&Payload::Pipeline(pipeline), self.single())
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
        let reply = self.write(&payload, budget, Repeat::Never).await?;
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

    /// Deletes every key that begins with `prefix` and says how many, and whether time sufficed.
    pub(crate) async fn clear(&self, prefix: Option<&str>) -> Result<(u64, bool)> {
        let deadline = Instant::now() + self.options.clear_timeout;
        let pattern = prefix.map(|prefix| format!("{}*", escape_glob(prefix)));
        let mut cursor = "0".to_owned();
        let mut deleted = 0;
        loop {
            let mut budget = self.bulk();
            budget.deadline = budget.deadline.min(deadline);
            let mut command = cmd("SCAN");
            command.arg(&cursor);
            if let Some(pattern) = &pattern {
                command.arg("MATCH").arg(pattern);
            }
            command.arg("COUNT").arg(BATCH);
            let page = self.read(&command.into(), budget).await;
            if page.is_err() && Instant::now() >= deadline {
                return Ok((deleted, false));
            }
            let [next, keys] = array(page?)?;
            let keys = all(keys)?
                .into_iter()
                .filter_map(|key| bytes(key).ok().flatten())
                .filter(|key| prefix.is_none_or(|prefix| key.starts_with(prefix.as_bytes())))
                .collect::<Vec<_>>();
            for batch in keys.chunks(BATCH) {
                let gone = self.unlink(batch, budget).await;
                if gone.is_err() && Instant::now() >= deadline {
                    return Ok((deleted, false));
                }
                deleted += gone?;
            }
            let next = bytes(next)?.unwrap_or_default();
            if next == "0" {
                return Ok((deleted, true));
            }
            cursor = String::from_utf8_lossy(&next).into_owned();
            if Instant::now() >= deadline {
                return Ok((deleted, false));
            }
        }
    }

    async fn unlink<K: AsRef<[u8]> + Sync>(&self, keys: &[K], budget: Budget) -> Result<u64> {
        let mut command = cmd("UNLINK");
        for key in keys {
            command.arg(key.as_ref());
        }
        let deleted = integer(
            self.write(&command.into(), budget.anew(), Repeat::Same)
                .await?,
        )?;
        Ok(u64::try_from(deleted).unwrap_or_default())
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

    fn read<'a>(
        &'a self,
        payload: &'a Payload,
        budget: Budget,
    ) -> impl Future<Output = Result<Value>> + Send + 'a {
        self.call(Call {
            payload,
            repeat: Repeat::Same,
            is_write: false,
            budget,
        })
    }

    fn write<'a>(
        &'a self,
        payload: &'a Payload,
        budget: Budget,
        repeat: Repeat<'a>,
    ) -> impl Future<Output = Result<Value>> + Send + 'a {
        self.call(Call {
            payload,
            repeat,
            is_write: true,
            budget,
        })
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
        let reply = self.write(&known, budget, repeat).await?;
        let Value::ServerError(error) = &reply else {
            return Ok(reply);
        };
        if error.code() != NO_SCRIPT {
            return Err(from_server(error));
        }
        let taught = Payload::Command(script.by_text(key, args));
        self.write(&taught, budget.anew(), repeat).await
    }
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

fn batch_length(writes: &[Write<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = writes.iter().take(BATCH).take_while(|write| {
        bytes += write.stored.len();
        bytes <= BATCH_BYTES
    });
    fitting.count().max(1)
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

/// Takes the special meaning from the characters that `SCAN MATCH` knows.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_lose_their_meaning() {
        assert_eq!(escape_glob(r"a*b?[c]\d^-"), r"a\*b\?\[c\]\\d\^\-");
        assert_eq!(escape_glob("ü {tag}"), "ü {tag}");
    }

    #[test]
    fn batches_are_bounded_in_bytes_and_length() {
        let write = |bytes: usize| Write {
            key: "k",
            stored: vec![0; bytes].into(),
            value_offset: 0,
            keep_for: None,
        };
        assert_eq!(batch_length(&vec![write(1); BATCH + 1]), BATCH);
        assert_eq!(batch_length(&vec![write(1024 * 1024); 9]), 4);
        assert_eq!(batch_length(&[write(BATCH_BYTES + 1), write(1)]), 1);
    }
}
