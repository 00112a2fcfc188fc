//! Making connections: the manager behind the pool.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::bb8;
use cache_core::{ErrorKind, Event};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::dials::{Dials, Phase, UnderWay};
use super::link::{EndOnDrop, Exchange, Link, Payload, Pulse, Socket, Watched};
use super::reach::connect_to_any;
use super::silence::{DIAL_AFTER, LOOK_AFTER};
use super::tell;
#[cfg(feature = "tls")]
use super::tls::encrypt;
use crate::address::Address;
use crate::credentials::Credentials;
use crate::error::{BACKEND, Failure, is_refused_password};
use crate::options::RedisOptions;

/// The kernel gives a connection up when sent bytes stay unacknowledged for this long.
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// The kernel asks a silent peer for a sign of life after this long, and this often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// How long a provider of credentials may take.
const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(2);

/// How many commands may wait for the connection's driver. The client's own default of 50 makes
/// callers queue twice at high concurrency.
const QUEUED_COMMANDS: usize = 1024;

/// Makes connections for one pool and tells those who wait when that fails.
///
/// bb8 keeps a failed dial to itself and lets its callers wait until their time is up; waiting for
/// [`Dials::failed_since`] beside the pool ends the wait at once.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    options: Arc<RedisOptions>,
    address: Address,
    dials: Arc<Dials>,
}

/// That a dial failed, for bb8; [`Dials`] has the reason.
#[derive(Debug)]
pub(super) struct DialFailed;

impl bb8::ManageConnection for Dialer {
    type Connection = Link;
    type Error = DialFailed;

    async fn connect(&self) -> Result<Link, DialFailed> {
        let mut under_way = UnderWay::new(&self.dials);
        match self.dial().await {
            Ok(link) => {
                link.pulse().open();
                under_way.outcome = Some(Ok(()));
                Ok(link)
            }
            Err(failure) => {
                tell::dial_failed(&self.options.observers, &failure);
                under_way.outcome = Some(Err(failure));
                Err(DialFailed)
            }
        }
    }

    /// Decides without I/O, so that taking a connection out never costs a round trip.
    async fn is_valid(&self, link: &mut Link) -> Result<(), DialFailed> {
        let pulse = link.pulse();
        let silence = pulse.silence(Instant::now());
        if !pulse.is_alive() {
            return Err(DialFailed);
        }
        if silence < LOOK_AFTER {
            return Ok(());
        }
        let observers = &self.options.observers;
        if silence >= DIAL_AFTER {
            tell::thaw(observers, "dial");
            pulse.give_up("idle");
            return Err(DialFailed);
        }
        tell::thaw(observers, "look");
        if link.is_closed_by_server() {
            pulse.give_up("closed");
            return Err(DialFailed);
        }
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        !link.pulse().is_alive()
    }
}

impl Dialer {
    pub(super) fn new(options: Arc<RedisOptions>, address: Address, dials: Arc<Dials>) -> Self {
        Self {
            options,
            address,
            dials,
        }
    }

    /// A connection that has answered. A stopped server still accepts connections, so only a reply
    /// counts.
    async fn dial(&self) -> Result<Link, Failure> {
        let credentials = self.credentials(None).await?;
        let (mut link, replies) = self
            .in_time(async |until| {
                let mut link = self.connect(until).await?;
                let replies = self.sign_in(&mut link, credentials.as_ref(), until).await?;
                Ok((link, replies))
            })
            .await?;
        let Some(refused) = credentials.filter(|_| is_sign_in_refused(&replies)) else {
            return accepted(replies).map(|()| link);
        };
        // Passwords are rotated: whoever gives them is asked once more.
        let fresh = self.credentials(Some(&refused)).await;
        let is_same = matches!(&fresh, Ok(fresh) if fresh.as_ref() == Some(&refused));
        self.options.observers.tell(&Event::AuthRefresh {
            backend: BACKEND,
            result: match &fresh {
                Err(_) => "error",
                Ok(_) if is_same => "same",
                Ok(_) => "ok",
            },
        });
        let fresh = fresh?;
        if is_same {
            return accepted(replies).map(|()| link);
        }
        let replies = self
            .in_time(async |until| self.sign_in(&mut link, fresh.as_ref(), until).await)
            .await?;
        accepted(replies).map(|()| link)
    }

    /// Runs one part of a dial within the time for a connection.
    async fn in_time<T>(
        &self,
        part: impl AsyncFnOnce(Instant) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let patience = self.options.connect_timeout;
        let until = Instant::now() + patience;
        match timeout_at(until, part(until)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::no_answer(self.dials.phase(), patience)),
        }
    }

    /// What to sign in with; not part of the time for a connection.
    async fn credentials(
        &self,
        refused: Option<&Credentials>,
    ) -> Result<Option<Credentials>, Failure> {
        let Some(provider) = self.options.credentials() else {
            return Ok(None);
        };
        match timeout(CREDENTIALS_PATIENCE, provider.credentials(refused)).await {
            Ok(Ok(credentials)) => Ok(Some(credentials)),
            Ok(Err(error)) => Err(Failure::new(error.kind(), error.message()).with_code("auth")),
            Err(_) => {
                let reason = "the provider of the credentials did not answer";
                Err(Failure::new(ErrorKind::Timeout, reason).with_code("auth"))
            }
        }
    }

    async fn connect(&self, until: Instant) -> Result<Link, Failure> {
        self.dials.enter(Phase::Connect);
        let stream = self.connect_tcp(until).await?;
        let socket = same_socket(&stream).map_err(|error| Failure::unreachable(&error))?;
        match &self.options.tls {
            None => self.speak(stream, socket).await,
            #[cfg(feature = "tls")]
            Some(tls) => {
                self.dials.enter(Phase::Tls);
                let handshake = encrypt(tls, &self.address.host, stream);
                match timeout_at(until, handshake).await {
                    Ok(stream) => self.speak(stream?, socket).await,
                    Err(_) => Err(no_handshake(self.options.connect_timeout)),
                }
            }
            #[cfg(not(feature = "tls"))]
            Some(_) => {
                let reason = "this build has no TLS";
                Err(Failure::new(ErrorKind::Configuration, reason))
            }
        }
    }

    /// Starts the connection's driver.
    async fn speak<S>(&self, stream: S, socket: socket2::Socket) -> Result<Link, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pulse = Arc::new(Pulse::new(
            Arc::clone(&self.options.clock),
            self.options.observers.clone(),
        ));
        let watched = Watched {
            stream,
            pulse: Arc::clone(&pulse),
        };
        // The deadlines are ours: the client knows nothing of the operation an attempt belongs to.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUED_COMMANDS);
        // Nor is the set-up left to it: its errors do not say what the server said.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, watched, config)
            .await
            .map_err(|error| Failure::from_client(&error))?;
        let end = EndOnDrop(Arc::clone(&pulse));
        let driver = tokio::spawn(async move {
            let end = end;
            let mut driver = std::pin::pin!(driver);
            driver.as_mut().await;
            // Before the driver goes, and with it the calls that wait for it.
            end.0.note_objection();
        });
        let is_encrypted = self.options.tls.is_some();
        let socket = Socket {
            socket,
            is_encrypted,
        };
        Ok(Link::new(connection, pulse, socket, driver.abort_handle()))
    }

    async fn connect_tcp(&self, until: Instant) -> Result<TcpStream, Failure> {
        let names = &self.options.names;
        let found = names.find(&self.address, until).await?;
        if found.is_remembered {
            tell::connection(&self.options.observers, "dial_fail", "dns");
        }
        let stream = connect_to_any(&found.addresses).await;
        let stream = stream.map_err(|error| Failure::unreachable(&error))?;
        prepare(&stream).map_err(|error| Failure::unreachable(&error))?;
        if let Ok(at) = stream.peer_addr() {
            names.reached(&self.address, found.addresses, at);
        }
        Ok(stream)
    }

    /// Signs in and selects the database, or asks for any answer where there is nothing to set up.
    /// A round trip of its own: nothing else is on the connection yet.
    async fn sign_in(
        &self,
        link: &mut Link,
        credentials: Option<&Credentials>,
        until: Instant,
    ) -> Result<Vec<Value>, Failure> {
        self.dials.enter(Phase::Handshake);
        let RedisOptions {
            username, database, ..
        } = &*self.options;
        let mut commands = Pipeline::with_capacity(2);
        if let Some(credentials) = credentials {
            let auth = commands.cmd("AUTH");
            if let Some(username) = username.as_deref().or(credentials.username()) {
                auth.arg(username);
            }
            auth.arg(credentials.password());
        }
        if *database != 0 {
            commands.cmd("SELECT").arg(*database);
        }
        if commands.is_empty() {
            commands.cmd("PING");
        }
        match link
            .exchange(&Payload::Pipeline(commands), Instant::now(), until)
            .await
        {
            Exchange::Reply(Value::Array(replies)) => Ok(replies),
            Exchange::Reply(_) => Err(Failure::not_redis()),
            Exchange::Failed(error) => Err(explained(
                Failure::from_client(&error).ended_by(link.pulse().ending()),
                link,
            )),
            Exchange::Ended => Err(explained(
                Failure::hang_up().ended_by(link.pulse().ending()),
                link,
            )),
            Exchange::TooLate => Err(Failure::no_answer(
                self.dials.phase(),
                self.options.connect_timeout,
            )),
        }
    }
}

/// What the replies to a set-up say.
fn accepted(replies: Vec<Value>) -> Result<(), Failure> {
    replies.into_iter().try_for_each(|reply| match reply {
        Value::Okay => Ok(()),
        Value::SimpleString(text) if text == "PONG" => Ok(()),
        Value::ServerError(error) => Err(Failure::from_server(&error)),
        _ => Err(Failure::not_redis()),
    })
}

/// Whether the server refused user or password.
fn is_sign_in_refused(replies: &[Value]) -> bool {
    replies
        .iter()
        .any(|reply| matches!(reply, Value::ServerError(error) if is_refused_password(error)))
}

/// Says what is, or most often is, behind a connection that fails before the first answer.
fn explained(mut failure: Failure, link: &Link) -> Failure {
    #[cfg(feature = "tls")]
    if let Some(objection) = link.pulse().objection() {
        return objection;
    }
    if failure.kind == ErrorKind::Connection && !link.is_encrypted() {
        failure.reason.push_str("; does it expect TLS (rediss://)?");
    }
    failure
}

#[cfg(feature = "tls")]
fn no_handshake(patience: Duration) -> Failure {
    let reason = format!(
        "no answer to the TLS handshake within {}ms; does the server expect TLS on this port?",
        patience.as_millis()
    );
    // A server that expects plain text waits for the rest of it, so this is no mere slowness.
    Failure {
        is_stalled: true,
        ..Failure::new(ErrorKind::Connection, reason).with_code("tls")
    }
}

/// Sets what the kernel is to do about a connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Nagle's algorithm would hold a command back until the one before it is acknowledged.
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// A second handle to the socket of `stream`.
fn same_socket(stream: &TcpStream) -> io::Result<socket2::Socket> {
    stream
        .as_fd()
        .try_clone_to_owned()
        .map(socket2::Socket::from)
}
