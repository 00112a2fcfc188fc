//! One connection: its commands, its pulse, and its end.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use cache_core::{Clock, Event, Observers, Timestamp};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout_at};

use super::silence::LOOK_AFTER;
use super::tell;
#[cfg(feature = "tls")]
use crate::error::Failure;
use crate::error::{BACKEND, io_code};

/// This many timeouts in a row without a single byte from the server mean a dead connection.
const SILENT_TIMEOUTS: u32 = 2;

/// Within this time nearly every reply is there.
const USUAL: Duration = Duration::from_millis(10);

/// How often a connection is looked at while its driver has not read what came.
const MOST_LOOKS: u32 = 16;

/// What goes over a connection in one piece.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    Command(Cmd),
    /// Commands sent together, answered by an array of their replies.
    Pipeline(Pipeline),
    /// Commands run as one transaction, answered by an array of their replies.
    Transaction(Pipeline),
}

/// A connection shared by any number of callers; clones are the same connection.
///
/// The socket is closed when the last clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Dropped before the connection, so that a driver which ends by itself while this is there
    /// has been given something to object to.
    shared: Arc<Shared>,
    connection: MultiplexedConnection,
}

#[derive(Debug)]
struct Shared {
    pulse: Arc<Pulse>,
    socket: Socket,
    driver: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pulse.let_go();
        // Left alone, the driver would wait for replies that nobody wants, with the socket open.
        self.driver.abort();
    }
}

impl Link {
    pub(super) fn new(
        connection: MultiplexedConnection,
        pulse: Arc<Pulse>,
        socket: Socket,
        driver: AbortHandle,
    ) -> Self {
        let shared = Arc::new(Shared {
            pulse,
            socket,
            driver,
        });
        Self { shared, connection }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    /// Notes that a call which began after `reads_before` reads has timed out; the second one in a
    /// row without a byte is the connection's last.
    pub(super) fn note_timeout(&self, reads_before: u64) {
        if self.pulse().is_dead_after_timeout(reads_before) {
            self.give_up_silent();
        }
    }

    /// Gives a connection up that has said nothing while commands were outstanding.
    pub(super) fn give_up_silent(&self) {
        self.shared.socket.reset_when_closed();
        self.pulse().give_up("silent");
    }

    /// Whether the server has closed the connection, read from the socket itself: a process that
    /// was frozen has had no chance to notice. Only for a connection that has been silent.
    pub(super) fn is_closed_by_server(&self) -> bool {
        let socket = &self.shared.socket;
        match socket.look() {
            Look::Closed => true,
            // Nothing is outstanding, and what TLS sends unasked is most likely its goodbye.
            Look::Unread => socket.is_encrypted,
            Look::Quiet => false,
        }
    }

    /// Whether the server has closed the connection, for a call that would be lost on it.
    ///
    /// What came encrypted and was not read yet is a reply to somebody else, or a goodbye: the
    /// driver is given a moment to find out.
    pub(super) async fn is_at_its_end(&self) -> bool {
        let Shared { pulse, socket, .. } = &*self.shared;
        let reads_before = pulse.reads();
        for _ in 0..MOST_LOOKS {
            match socket.look() {
                Look::Closed => return true,
                Look::Unread if socket.is_encrypted && pulse.reads() == reads_before => {}
                Look::Quiet | Look::Unread => return false,
            }
            yield_now().await;
            if !pulse.is_alive() {
                return true;
            }
        }
        pulse.silence(Instant::now()) >= LOOK_AFTER
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.shared.socket.is_encrypted
    }

    /// Sends `payload` and waits for its reply until `until`; `now` is the present, or a moment
    /// ago.
    ///
    /// May be dropped at any time: the driver then takes the reply and throws it away.
    pub(super) async fn exchange(
        &mut self,
        payload: &Payload,
        now: Instant,
        until: Instant,
    ) -> Exchange {
        let Self { connection, shared } = self;
        let mut waiting = Waiting::new(&shared.pulse);
        let reply = send(connection, payload);
        tokio::pin!(reply);
        let soon = until.min(now + USUAL);
        if let Ok(reply) = timeout_at(soon, &mut reply).await {
            waiting.answered();
            return reply.into();
        }
        // A command can slip into the driver's queue while the driver ends, and is then neither
        // answered nor refused. Only those who wait unusually long pay for watching out for that.
        let watched = async {
            tokio::select! {
                biased;
                reply = reply => reply.into(),
                () = shared.pulse.ended() => Exchange::Ended,
            }
        };
        // Boxed, since the way here is rare and its future large.
        let exchange = Box::pin(timeout_at(until, watched)).await;
        if let Ok(Exchange::Reply(_)) = exchange {
            waiting.answered();
        }
        exchange.unwrap_or(Exchange::TooLate)
    }
}

/// The socket of a connection once more, to look at without taking anything from it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: socket2::Socket,
    pub(super) is_encrypted: bool,
}

/// What a socket has to say.
enum Look {
    Quiet,
    Unread,
    Closed,
}

impl Socket {
    /// Has the kernel throw away what was not acknowledged when the socket is closed: sent on for
    /// minutes, a command would be executed long after its caller has concluded otherwise.
    fn reset_when_closed(&self) {
        // Where it cannot be set the kernel gives up after its own time.
        _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    fn look(&self) -> Look {
        // The socket does not block: nothing to read is an error, of the harmless kind.
        match self.socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Look::Closed,
            Ok(_) => Look::Unread,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Look::Quiet,
            Err(_) => Look::Closed,
        }
    }
}

/// What came of sending something.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The server's reply, which may be an error reply.
    Reply(Value),
    /// The connection failed, or the server refused a transaction as a whole.
    Failed(RedisError),
    /// The connection's driver ended without a word.
    Ended,
    /// Time was up.
    TooLate,
}

impl From<RedisResult<Value>> for Exchange {
    fn from(reply: RedisResult<Value>) -> Self {
        match reply {
            Ok(reply) => Self::Reply(reply),
            Err(error) => Self::Failed(error),
        }
    }
}

async fn send(connection: &mut MultiplexedConnection, payload: &Payload) -> RedisResult<Value> {
    match payload {
        Payload::Command(command) => connection.send_packed_command(command).await,
        Payload::Pipeline(pipeline) => {
            let count = pipeline.len();
            let replies = connection.send_packed_commands(pipeline, 0, count).await?;
            Ok(Value::Array(replies))
        }
        Payload::Transaction(pipeline) => {
            // The answers to MULTI and to each queued command come before that to EXEC.
            let queued = pipeline.len() + 1;
            let replies = connection.send_packed_commands(pipeline, queued, 1).await?;
            Ok(replies.into_iter().next().unwrap_or(Value::Nil))
        }
    }
}

/// A call that waits for its reply.
struct Waiting<'a> {
    pulse: &'a Pulse,
    /// How many calls had given up before this one was sent.
    given_up_before: u64,
    is_answered: bool,
}

impl<'a> Waiting<'a> {
    fn new(pulse: &'a Pulse) -> Self {
        Self {
            pulse,
            given_up_before: pulse.given_up.load(Ordering::Relaxed),
            is_answered: false,
        }
    }

    /// Replies come in the order of the calls: those to calls that gave up before this one was sent
    /// have come too, and were thrown away.
    fn answered(&mut self) {
        self.is_answered = true;
        if self.given_up_before > 0 {
            self.pulse.tell_late(self.given_up_before);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.pulse.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The signs of life of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    observers: Observers,
    /// Whether the connection was told of as open, so that its end is told too.
    is_open: AtomicBool,
    /// Why the stream ended, in one word.
    ending: OnceLock<&'static str>,
    /// Calls that stopped waiting for their replies, and those of them whose replies came later.
    given_up: AtomicU64,
    late: AtomicU64,
    is_alive: AtomicBool,
    has_ended: AtomicBool,
    end: Notify,
    /// What TLS objected to, if that is why the connection ended.
    #[cfg(feature = "tls")]
    objection: OnceLock<Failure>,
    reads: AtomicU64,
    /// What the times of reads count from.
    made: Instant,
    last_read_wall: AtomicU64,
    last_read_monotonic: AtomicU64,
    silent_timeouts: AtomicU32,
}

impl Pulse {
    pub(super) fn new(clock: Arc<dyn Clock>, observers: Observers) -> Self {
        let pulse = Self {
            clock,
            observers,
            is_open: AtomicBool::new(false),
            ending: OnceLock::new(),
            given_up: AtomicU64::new(0),
            late: AtomicU64::new(0),
            is_alive: AtomicBool::new(true),
            has_ended: AtomicBool::new(false),
            end: Notify::new(),
            #[cfg(feature = "tls")]
            objection: OnceLock::new(),
            reads: AtomicU64::new(0),
            made: Instant::now(),
            last_read_wall: AtomicU64::new(0),
            last_read_monotonic: AtomicU64::new(0),
            silent_timeouts: AtomicU32::new(0),
        };
        pulse.beat();
        pulse
    }

    pub(super) fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Acquire)
    }

    /// Says that the connection has answered, so that it may be used.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        tell::connection(&self.observers, "open", "dial");
        if !self.is_alive() && self.is_open.swap(false, Ordering::AcqRel) {
            // It ended in the same moment.
            tell::connection(&self.observers, "close", self.ending());
        }
    }

    /// Gives the connection up: nobody is handed it any more, and it closes when those who use it
    /// are done. Never call it under a lock, since it is told.
    pub(super) fn give_up(&self, reason: &'static str) {
        self.end_as("close", reason);
    }

    /// Nobody uses the connection any more.
    fn let_go(&self) {
        self.end_as("removed", "unused");
    }

    fn end_as(&self, event: &'static str, reason: &'static str) {
        let was_alive = self.is_alive.swap(false, Ordering::AcqRel);
        if was_alive && self.is_open.swap(false, Ordering::AcqRel) {
            tell::connection(&self.observers, event, reason);
        }
    }

    /// Why the stream ended, in one word.
    pub(super) fn ending(&self) -> &'static str {
        self.ending.get().copied().unwrap_or("closed")
    }

    /// Tells of the replies to those of the first `given_up` calls that were not told of yet.
    fn tell_late(&self, given_up: u64) {
        let told = self.late.fetch_max(given_up, Ordering::Relaxed);
        for _ in told..given_up {
            self.observers.tell(&Event::LateReply { backend: BACKEND });
        }
    }

    /// Keeps what an error of the stream says; the client does not pass all of that on. The first
    /// one is the reason for those after it.
    fn note_error(&self, error: &std::io::Error) {
        #[cfg(feature = "tls")]
        if let Some(failure) = super::tls::tls_failure(error) {
            _ = self.ending.set(failure.code);
            _ = self.objection.set(failure);
        }
        _ = self.ending.set(io_code(error));
    }

    /// What TLS objected to, if that is why the connection ended.
    #[cfg(feature = "tls")]
    pub(super) fn objection(&self) -> Option<Failure> {
        self.objection.get().cloned()
    }

    /// Waits until the connection's driver has ended.
    async fn ended(&self) {
        let end = self.end.notified();
        tokio::pin!(end);
        end.as_mut().enable();
        if !self.has_ended.load(Ordering::Acquire) {
            end.await;
        }
    }

    fn end(&self) {
        self.give_up(self.ending());
        self.has_ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    /// How long the server has been silent at `now`, by the clock that says longer.
    ///
    /// The caller has read the monotonic clock anyway, for its deadline.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let wall = Timestamp::from_millis(self.last_read_wall.load(Ordering::Relaxed));
        let monotonic = self.last_read_monotonic.load(Ordering::Relaxed);
        let monotonic = self.made + Duration::from_micros(monotonic);
        now.saturating_duration_since(monotonic)
            .max(self.clock.wall().since(wall))
    }

    /// How often something was read so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Notes that a call which began after `reads_before` reads has timed out, and says whether the
    /// connection is dead by that.
    fn is_dead_after_timeout(&self, reads_before: u64) -> bool {
        self.reads() == reads_before
            && self.silent_timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_TIMEOUTS
    }

    /// The driver ends by itself, although the stream did not.
    pub(super) fn note_objection(&self) {
        // What came was not what Redis says.
        _ = self.ending.set("resp");
    }

    fn watch_write(&self, polled: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Err(error)) = polled {
            self.note_error(error);
        }
    }

    fn beat(&self) {
        let monotonic = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wall = self.clock.wall().as_millis();
        self.last_read_wall.store(wall, Ordering::Relaxed);
        self.last_read_monotonic.store(monotonic, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.silent_timeouts.store(0, Ordering::Relaxed);
    }
}

/// Ends the pulse when dropped: however the driver ends, with its runtime or by itself, nobody is
/// handed the connection any more and nobody waits on it.
pub(super) struct EndOnDrop(pub(super) Arc<Pulse>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A stream that notes each time something is read from it.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) pulse: Arc<Pulse>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.beat();
        }
        match &polled {
            Poll::Ready(Err(error)) => self.pulse.note_error(error),
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                _ = self.pulse.ending.set("closed");
            }
            _ => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pulse.watch_write(&polled);
        polled
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Err(error)) = &polled {
            self.pulse.note_error(error);
        }
        polled
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.pulse.watch_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use cache_core::{ManualClock, secs};

    use super::*;

    #[test]
    fn two_timeouts_without_a_byte_give_a_connection_up() {
        let pulse = Pulse::new(Arc::new(ManualClock::new()), Observers::none());
        let reads = pulse.reads();
        assert!(!pulse.is_dead_after_timeout(reads));
        pulse.beat();
        let is_dead = pulse.is_dead_after_timeout(pulse.reads());
        assert!(!is_dead, "a byte in between starts the count anew");
        let is_dead = pulse.is_dead_after_timeout(reads);
        assert!(!is_dead, "a byte came while this call waited");
        assert!(pulse.is_dead_after_timeout(pulse.reads()));
    }

    #[test]
    fn silence_goes_on_while_the_process_is_frozen() {
        let clock = ManualClock::new();
        let pulse = Pulse::new(Arc::new(clock.clone()), Observers::none());
        let now = Instant::now();
        clock.freeze(secs(600));
        assert_eq!(pulse.silence(now), secs(600));
        // The wall clock set back: the monotonic one still counts.
        clock.set_back(secs(3600));
        assert_eq!(pulse.silence(now + secs(3)).as_secs(), 3);
    }
}
