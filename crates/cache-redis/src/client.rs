//! The one place that speaks Redis: which commands are sent, on which connection, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{CacheError, Clock, ErrorKind, Operation, Result, Timestamp};
use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::time::Instant;

use crate::error::{BACKEND, Failure, from_server, is_demoted};
use crate::options::RedisOptions;

mod dial;
mod lane;
mod link;
mod scripts;
mod silence;

use lane::Lane;
use link::{Exchange, Link, Payload};
use scripts::{Lua, Scripts};
use silence::{DOUBT_AFTER, DOUBTFUL_PATIENCE};

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

/// What may be done when an attempt fails in a way that leaves its outcome open.
#[derive(Debug, Clone, Copy)]
enum Repeat<'a> {
    /// Send the same again: the operation may run twice.
    Same,
    /// Send this instead.
    With(&'a Payload),
    /// Nothing: the operation may run once at most.
    Never,
}

/// One exchange with the server.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    payload: &'a Payload,
    repeat: Repeat<'a>,
    is_write: bool,
    budget: Budget,
}

/// The time limits of an operation, for one of its exchanges.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// When this exchange began.
    started: Instant,
    /// How long one attempt may take.
    patience: Duration,
    deadline: Instant,
}

/// A connection for one attempt.
struct Ready {
    link: Link,
    /// Whether the server has been silent for so long that the connection is doubtful.
    is_doubtful: bool,
    /// When it was ready, or a moment before.
    since: Instant,
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

    /// Sends a call, on a connection that is fit for it, and once more where that is safe.
    ///
    /// Error replies are values here. What the caller drops half-way has happened or not.
    async fn call(&self, call: Call<'_>) -> Result<Value> {
        if call.budget.started >= call.budget.deadline {
            // Sent all the same, it would be one more timeout on a connection that may be fine.
            let failure = Failure::new(ErrorKind::Timeout, "no time was left to begin");
            return Err(failure.into_error(&self.address, 1, Duration::ZERO));
        }
        let lane = self.lane();
        let first = match ready_at_hand(lane, &call) {
            Some(mut ready) => match ready.exchange(&call, 1).await {
                Exchange::Reply(reply) if !is_demotion(&reply) => return Ok(reply),
                outcome => Some((ready, outcome)),
            },
            None => None,
        };
        // Boxed, since the way here is rare and its future large.
        Box::pin(self.settle(lane, call, first)).await
    }

    /// Brings a call to its end, from its first attempt if that was made already.
    async fn settle(
        &self,
        lane: &Lane,
        mut call: Call<'_>,
        mut first: Option<(Ready, Exchange)>,
    ) -> Result<Value> {
        let started = call.budget.started;
        let mut attempt = 1;
        let mut was_sent = false;
        loop {
            let failed = |mut failure: Failure| {
                failure.sent |= was_sent;
                failure.into_error(&self.address, attempt, started.elapsed())
            };
            let (ready, outcome) = match first.take() {
                Some(first) => first,
                None => {
                    let fit = fit_connection(lane, &call).await;
                    let mut ready = fit.map_err(failed)?;
                    let outcome = ready.exchange(&call, attempt).await;
                    (ready, outcome)
                }
            };
            let pulse = ready.link.pulse();
            let answered = |reply: Value| {
                if is_demotion(&reply) {
                    pulse.give_up();
                }
                match reply {
                    // Refused now, but an earlier attempt may have been executed. A script that
                    // the server does not know is sent once more by whoever runs it.
                    Value::ServerError(error) if was_sent && error.code() != NO_SCRIPT => {
                        Err(from_server(&error).with_may_have_happened(true))
                    }
                    reply => Ok(reply),
                }
            };
            let mut failure = match outcome {
                Exchange::Reply(reply) => return answered(reply),
                Exchange::Failed(error) => match refusal(error) {
                    Ok(reply) => return answered(reply),
                    Err(failure) => {
                        pulse.give_up();
                        failure
                    }
                },
                Exchange::Ended => Failure::hang_up(),
                Exchange::TooLate if ready.is_doubtful => {
                    pulse.give_up();
                    Failure::no_answer(started.elapsed())
                }
                Exchange::TooLate => {
                    call.repeat = Repeat::Never;
                    Failure::no_answer(started.elapsed())
                }
            };
            failure.sent = call.is_write;
            match std::mem::replace(&mut call.repeat, Repeat::Never) {
                Repeat::Never => return Err(failed(failure)),
                Repeat::Same => {}
                Repeat::With(payload) => call.payload = payload,
            }
            was_sent = call.is_write;
            attempt += 1;
        }
    }

    fn lane(&self) -> &Lane {
        if let [only] = &*self.lanes {
            return only;
        }
        let next = self.next_lane.fetch_add(1, Ordering::Relaxed);
        &self.lanes[next % self.lanes.len()]
    }
}

impl Budget {
    fn new(patience: Duration, whole: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            patience,
            deadline: started + whole,
        }
    }

    /// The same deadline for another exchange, which begins now.
    fn anew(self) -> Self {
        Self {
            started: Instant::now(),
            ..self
        }
    }
}

impl From<Cmd> for Payload {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

/// The connection at hand, where that will do for a first attempt.
fn ready_at_hand(lane: &Lane, call: &Call<'_>) -> Option<Ready> {
    if matches!(call.repeat, Repeat::Never) {
        return None;
    }
    let since = call.budget.started;
    Some(Ready {
        link: lane.at_hand(since)?,
        is_doubtful: false,
        since,
    })
}

impl Ready {
    /// Makes one attempt.
    async fn exchange(&mut self, call: &Call<'_>, attempt: u32) -> Exchange {
        let Budget {
            patience, deadline, ..
        } = call.budget;
        let may_repeat = attempt == 1 && !matches!(call.repeat, Repeat::Never);
        let patience = if self.is_doubtful && may_repeat {
            patience.min(DOUBTFUL_PATIENCE)
        } else {
            patience
        };
        let until = deadline.min(self.since + patience);
        let reads_before = self.link.pulse().reads();
        let outcome = self.link.exchange(call.payload, self.since, until).await;
        if matches!(outcome, Exchange::TooLate) {
            self.link.pulse().note_timeout(reads_before);
        }
        outcome
    }
}

/// Whether the server says that it takes no writes any more.
fn is_demotion(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => is_demoted(error),
        Value::Array(replies) => replies.iter().any(is_demotion),
        _ => false,
    }
}

/// A connection that was looked at as closely as `call` requires, dialed if need be.
async fn fit_connection(lane: &Lane, call: &Call<'_>) -> Result<Ready, Failure> {
    let deadline = call.budget.deadline;
    loop {
        let mut link = match lane.at_hand(Instant::now()) {
            Some(link) => link,
            None => lane.connection(deadline).await?,
        };
        let mut is_doubtful = link.pulse().silence(Instant::now()) >= DOUBT_AFTER;
        if matches!(call.repeat, Repeat::Never) {
            // What cannot be repeated is not sent to where nobody listens.
            if link.is_closed_by_server() || (is_doubtful && !answers(&mut link, deadline).await) {
                link.pulse().give_up();
                continue;
            }
            is_doubtful = false;
        }
        return Ok(Ready {
            link,
            is_doubtful,
            since: Instant::now(),
        });
    }
}

async fn answers(link: &mut Link, deadline: Instant) -> bool {
    let now = Instant::now();
    let ping = Payload::Command(cmd("PING"));
    let exchange = link.exchange(&ping, now, deadline.min(now + DOUBTFUL_PATIENCE));
    matches!(exchange.await, Exchange::Reply(_))
}

/// What the client reports as an error: the server's refusal of a whole transaction, which is a
/// reply, or trouble with the connection.
fn refusal(error: RedisError) -> Result<Value, Failure> {
    let failure = Failure::from_client(&error);
    let Some(errors) = error.into_server_errors() else {
        return Err(failure);
    };
    match errors.first() {
        Some((_, error)) => Ok(Value::ServerError(error.clone())),
        None => Err(failure),
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

/// Adds one outcome a key: each reply's, or the one failure of the whole batch.
fn each<R, T>(
    outcomes: &mut Vec<Result<T>>,
    expected: usize,
    replies: Result<Vec<R>>,
    parse: impl Fn(R) -> Result<T>,
) {
    match replies {
        Ok(replies) if replies.len() == expected => {
            outcomes.extend(replies.into_iter().map(parse));
        }
        Ok(_) => outcomes.extend((0..expected).map(|_| Err(unexpected(Value::Nil)))),
        Err(error) => outcomes.extend((0..expected).map(|_| Err(error.clone()))),
    }
}

fn bytes(reply: Value) -> Result<Option<Bytes>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(unexpected(other)),
    }
}

/// The head of an entry. A key that holds no string has none, and is nobody's entry of ours.
fn head_bytes(reply: Value) -> Result<Bytes> {
    match bytes(reply) {
        Ok(head) => Ok(head.unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::Serialization => Ok(Bytes::new()),
        Err(error) => Err(error),
    }
}

fn integer(reply: Value) -> Result<i64> {
    match reply {
        Value::Int(number) => Ok(number),
        other => Err(unexpected(other)),
    }
}

/// The answer to a write. Anything but OK and an error says nothing about whether it took place.
fn done(reply: Value) -> Result<()> {
    match reply {
        Value::Okay => Ok(()),
        Value::ServerError(error) => Err(from_server(&error)),
        other => Err(unexpected(other).with_may_have_happened(true)),
    }
}

fn all(reply: Value) -> Result<Vec<Value>> {
    match reply {
        Value::Array(replies) => Ok(replies),
        other => Err(unexpected(other)),
    }
}

fn array<const N: usize>(reply: Value) -> Result<[Value; N]> {
    all(reply)?.try_into().map_err(|_| unexpected(Value::Nil))
}

/// Whether a script moved a deadline; none where the entry's format is unknown.
fn moved(reply: Value) -> Result<Option<bool>> {
    Ok(match integer(reply)? {
        -1 => None,
        moved => Some(moved == 1),
    })
}

fn unexpected(reply: Value) -> CacheError {
    if let Value::ServerError(error) = reply {
        return from_server(&error);
    }
    let message = "the server answered something other than the command calls for";
    CacheError::new(ErrorKind::Backend, message).with_backend(BACKEND)
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
