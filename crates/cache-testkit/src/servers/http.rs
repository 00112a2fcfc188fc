//! An HTTP server that answers as a test says.

mod answer;
mod request;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

#[cfg(feature = "tls")]
use super::{Certificate, Certificates};
use wire::Wire;

pub use answer::Answer;
pub use request::Request;

/// How long nothing is accepted after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// An HTTP/1.1 server on a free port of 127.0.0.1 that gives to each request the [`Answer`] of a
/// function: for what no emulator does, such as throttling, slowness and torn connections.
///
/// It runs on a thread of its own until it is dropped, which closes all connections; use it from
/// any runtime or none. The function is called on that thread, so it must not block: to answer
/// late, use [`Answer::after`].
///
/// ```
/// use cache_testkit::servers::{Answer, ScriptedHttp};
///
/// let server = ScriptedHttp::start(|request| match (request.number, request.operation()) {
///     (0, _) => Answer::error(400, "ThrottlingException"),
///     (_, "GetItem") => Answer::json(200, "{}"),
///     _ => Answer::reset(),
/// })?;
/// assert!(server.url().starts_with("http://127.0.0.1:"));
/// assert!(server.requests().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ScriptedHttp {
    address: SocketAddr,
    scheme: &'static str,
    script: Arc<Script>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedHttp {
    /// Starts a server without TLS.
    ///
    /// # Errors
    ///
    /// The system has no port or no thread left.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        Self::start_with(Box::new(handler), "http", |socket| async { Ok(socket) })
    }

    /// Starts a server that speaks TLS as `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    #[cfg(feature = "tls")]
    pub fn start_tls(
        authority: &Certificates,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_tls_as(authority.local(), handler)
    }

    /// As [`start_tls`](Self::start_tls), with a certificate of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    #[cfg(feature = "tls")]
    pub fn start_tls_as(
        certificate: &Certificate,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let acceptor = tls::acceptor(certificate)?;
        Self::start_with(Box::new(handler), "https", move |socket| {
            acceptor.accept(socket)
        })
    }

    fn start_with<S, F>(
        handler: Box<Handler>,
        scheme: &'static str,
        greet: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> io::Result<Self>
    where
        S: Wire + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let script = Arc::new(Script {
            handler,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let accepting = accept(listener, Arc::clone(&script), greet);
        let thread = thread::Builder::new()
            .name("scripted-http".to_owned())
            .spawn(move || {
                runtime.spawn(accepting);
                // The end is an error: that the sender is gone.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            address,
            scheme,
            script,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL without a path, `https://` where the server speaks TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// All requests so far, in the order in which they were read to their ends.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().clone()
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.script.connections.load(Ordering::Acquire)
    }
}

impl Drop for ScriptedHttp {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; what panics in a handler was printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ScriptedHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedHttp")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

/// What the connections share.
struct Script {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

impl Script {
    /// Numbers and records a request, and asks the test for its answer.
    fn answer(&self, mut request: Request) -> Answer {
        let mut requests = self.lock();
        request.number = requests.len();
        requests.push(request.clone());
        drop(requests);
        (self.handler)(&request)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections for as long as the runtime lives.
async fn accept<S, F>(
    listener: TcpListener,
    script: Arc<Script>,
    greet: impl Fn(TcpStream) -> F + Send + Sync,
) where
    S: Wire + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // The client is gone already, or the process has no file left: others may be luckier.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // It fails for a client that is gone already, which reading will notice.
        let _ = socket.set_nodelay(true);
        let connection = script.connections.fetch_add(1, Ordering::AcqRel);
        let greeting = greet(socket);
        let script = Arc::clone(&script);
        tokio::spawn(async move {
            // A client that goes away, or that dislikes our certificate, is part of the test.
            if let Ok(stream) = greeting.await {
                let _ = serve(stream, connection, &script).await;
            }
        });
    }
}

/// Answers the requests of one connection until either side ends it.
async fn serve<S: Wire>(mut stream: S, connection: usize, script: &Script) -> io::Result<()> {
    let mut unread = Vec::new();
    while let Some(request) = request::read(&mut stream, &mut unread, connection).await? {
        if !script.answer(request).send(&mut stream).await? {
            break;
        }
    }
    Ok(())
}
