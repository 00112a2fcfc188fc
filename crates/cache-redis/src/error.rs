//! From the client's errors to ours: every server error is mapped on purpose, in one table.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use cache_core::{CacheError, ConnectionError, ErrorKind, Topology};
use redis::{RedisError, ServerError};

pub(crate) const BACKEND: &str = "redis";

mod server;

pub(crate) use server::{from_server, is_demoted, is_refused_password};

/// Where an exchange failed, as its error shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) address: &'a str,
    pub(crate) topology: Topology,
}

/// How an exchange with a server failed, other than by an error reply.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) reason: String,
    /// The cause in one word; see [`CacheError::code`].
    pub(crate) code: &'static str,
    /// Whether the command may have reached the server.
    pub(crate) sent: bool,
    /// Whether the server was there and hung up.
    pub(crate) is_hang_up: bool,
    /// Whether it is a time limit that ended the exchange, whatever the kind says.
    pub(crate) is_stalled: bool,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            code: kind.as_str(),
            sent: false,
            is_hang_up: false,
            is_stalled: false,
        }
    }

    /// Names the cause in one word. Defaults to the word of the kind.
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Nothing came in time, while the exchange was in `phase`.
    pub(crate) fn no_answer(phase: &'static str, patience: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("no answer within {}ms", patience.as_millis()),
        )
        .with_code(phase)
    }

    /// The connection ended under the call.
    pub(crate) fn hang_up() -> Self {
        Self {
            is_hang_up: true,
            ..Self::new(ErrorKind::Connection, CLOSED)
        }
        .with_code("closed")
    }

    /// Says how the connection under it ended, where the client only knows that it did.
    pub(crate) fn ended_by(self, ending: &'static str) -> Self {
        match (self.code, ending) {
            ("closed", "resp") => Self {
                is_hang_up: self.is_hang_up,
                ..Self::not_redis()
            },
            ("closed", _) => self.with_code(ending),
            _ => self,
        }
    }

    /// What came was not what Redis says.
    pub(crate) fn not_redis() -> Self {
        let reason = "the server does not speak the Redis protocol";
        Self::new(ErrorKind::Connection, reason).with_code("resp")
    }

    /// No connection came about, for a reason of the network or of this machine.
    pub(crate) fn unreachable(error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "no route to the server".to_owned()
            }
            // Names that do not resolve and exhausted descriptors explain themselves.
            _ => error.to_string(),
        };
        Self::new(ErrorKind::Connection, reason).with_code(io_code(error))
    }

    /// What the client reports about its connection.
    pub(crate) fn from_client(error: &RedisError) -> Self {
        use redis::ErrorKind as Client;

        match error.kind() {
            Client::Parse | Client::UnexpectedReturnType => Self::not_redis(),
            Client::Io => Self {
                is_hang_up: error.is_connection_dropped() && !error.is_connection_refusal(),
                ..Self::from_io(error)
            },
            Client::Server(_) | Client::Extension => match ServerError::try_from(error.clone()) {
                Ok(server) => Self::from_server(&server),
                Err(_) => Self::new(ErrorKind::Backend, "the server refused the command"),
            },
            _ => Self::new(ErrorKind::Connection, "the connection failed"),
        }
    }

    fn from_io(error: &RedisError) -> Self {
        let source = error.source();
        let io_error = source.and_then(|source| source.downcast_ref::<io::Error>());
        let code = io_error.map_or("closed", io_code);
        Self::new(ErrorKind::Connection, io_reason(error)).with_code(code)
    }

    /// An error reply while a connection is made.
    pub(crate) fn from_server(error: &ServerError) -> Self {
        let error = from_server(error);
        Self::new(error.kind(), error.message()).with_code(error.code())
    }

    /// The error that callers see.
    pub(crate) fn into_error(self, place: Place<'_>, attempt: u32, waited: Duration) -> CacheError {
        let sent = self.sent;
        let source = ConnectionError::new(self.reason, place.address)
            .with_topology(place.topology)
            .with_attempt(attempt, waited);
        CacheError::from_source(self.kind, source)
            .with_backend(BACKEND)
            .with_code(self.code)
            .with_may_have_happened(sent)
    }
}

const CLOSED: &str = "the connection was closed";

/// The code of an error that says that this process or this machine has no descriptor, port or
/// buffer left. The server has no part in it.
pub(crate) const LOCAL_EXHAUSTED: &str = "local_exhausted";

/// What the system calls these on Linux, and so on everything that Lambda is: no descriptor left in
/// the process, none in the system, no buffer.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// What an error of the network is about, in one word.
pub(crate) fn io_code(error: &io::Error) -> &'static str {
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS)) {
        return LOCAL_EXHAUSTED;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset => "reset",
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => "closed",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::AddrNotAvailable => LOCAL_EXHAUSTED,
        // The kernel gave up on a peer that acknowledges nothing.
        io::ErrorKind::TimedOut => "silent",
        _ => ErrorKind::Connection.as_str(),
    }
}

fn io_reason(error: &RedisError) -> &'static str {
    if error.is_connection_refusal() {
        return "connection refused";
    }
    if error.is_connection_dropped() {
        return CLOSED;
    }
    if error.is_timeout() {
        return "the connection timed out";
    }
    "the connection failed"
}
