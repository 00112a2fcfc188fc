//! A TCP proxy that does to connections what networks do.

mod connection;
mod counters;
mod door;
mod fault;
mod faults;
mod pipe;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use connection::Shared;
use counters::Tally;
use door::{Command, Door};
use faults::Faults;

pub use counters::Counters;
pub use fault::{Direction, End, Fault};

/// A TCP proxy on a free port of 127.0.0.1, in front of a server at another address, that passes
/// everything on until it is told to do otherwise.
///
/// It runs on a thread of its own, so a test may block and may use any runtime; its times are
/// real, also where the test's are paused. Each client's connection is one connection to the
/// server. Dropping the proxy ends all of them and the thread.
///
/// At most 256 KiB are held back in each direction of a connection, by a delay for example; then
/// nothing more is read until there is room again.
///
/// ```
/// use std::io::{Read as _, Write as _};
/// use std::net::{TcpListener, TcpStream};
///
/// use cache_testkit::proxy::{Direction, End, Fault, FaultProxy};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = FaultProxy::start(server.local_addr()?).await?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// let (mut accepted, _) = server.accept()?;
///
/// proxy.set(Fault::Cut(Direction::Down, 4, End::Fin));
/// accepted.write_all(b"half of it")?;
/// let mut text = String::new();
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, "half");
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    numbers: AtomicU64,
    /// Dropped to end the thread.
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy in front of `target`, which is dialed by the first connection.
    ///
    /// # Errors
    ///
    /// The system has no port or no thread left.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            target,
            faults: watch::Sender::new(Faults::passing(0)),
            tally: Arc::new(Tally::new()),
            ends: watch::Sender::new(End::Reset),
        });
        let (commands, orders) = unbounded_channel();
        let (opened, opening) = oneshot::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("fault-proxy".to_owned())
                .spawn(move || run(shared, orders, opened))?
        };
        let address = opening.await.map_err(io::Error::other)??;
        Ok(Self {
            address,
            shared,
            numbers: AtomicU64::new(1),
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections lead.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.shared.target
    }

    /// Puts `fault` in force, in place of all that were, for existing connections and new ones.
    /// When it returns, the port is open or closed as the fault says.
    pub fn set(&self, fault: Fault) {
        let number = self.next_number();
        let faults = Faults::passing(number).with(fault, number);
        self.shared.faults.send_replace(faults);
        self.look_at_faults();
    }

    /// Puts `fault` in force beside those that are, for another direction or for new connections:
    /// each direction has one fault at a time.
    pub fn also(&self, fault: Fault) {
        let number = self.next_number();
        self.shared
            .faults
            .send_modify(|faults| *faults = std::mem::take(faults).with(fault, number));
        self.look_at_faults();
    }

    /// Resets all current connections on both sides, and returns when that is done. One that has
    /// not reached the server yet may look closed to it rather than reset.
    pub fn reset_all(&self) {
        self.end_all(End::Reset);
    }

    /// Closes all current connections on both sides, and returns when that is done. A side that
    /// has sent something which the proxy did not read sees a reset, as with any server.
    pub fn close_all(&self) {
        self.end_all(End::Fin);
    }

    /// What went through so far. What has just arrived may not be counted yet; where that matters,
    /// [wait for it](Self::wait_for).
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.tally.now()
    }

    /// Waits until `condition` holds, for ever if need be, and returns the counters of then.
    /// Dropping the future has no effect.
    pub async fn wait_for(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        self.shared.tally.wait_for(condition).await
    }

    /// Waits until exactly so many connections are open.
    pub async fn wait_until_open(&self, connections: u64) -> Counters {
        self.wait_for(|counters| counters.open == connections).await
    }

    /// Waits until at least so many connections were accepted in all.
    pub async fn wait_until_accepted(&self, connections: u64) -> Counters {
        self.wait_for(|counters| counters.accepted >= connections)
            .await
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::AcqRel)
    }

    fn look_at_faults(&self) {
        self.command(Command::LookAtFaults);
    }

    fn end_all(&self, end: End) {
        self.command(|done| Command::EndAll(end, done));
    }

    /// Has the thread do something, and waits for it.
    fn command(&self, command: impl FnOnce(mpsc::Sender<io::Result<()>>) -> Command) {
        let (done, doing) = mpsc::channel();
        let commands = self.commands.as_ref();
        commands
            .and_then(|commands| commands.send(command(done)).ok())
            .expect("the thread lives as long as the proxy");
        doing
            .recv()
            .expect("the thread lives as long as the proxy")
            .expect("a port that was the proxy's own stays so");
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; what panicked in it was printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("target", &self.shared.target)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// What the thread does.
fn run(
    shared: Arc<Shared>,
    orders: UnboundedReceiver<Command>,
    opened: oneshot::Sender<io::Result<SocketAddr>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(opened, Err(error)),
    };
    runtime.block_on(async {
        match Door::open() {
            Ok(door) => {
                tell(opened, Ok(door.address()));
                door.run(shared, orders).await;
            }
            Err(error) => tell(opened, Err(error)),
        }
    });
}

fn tell(opened: oneshot::Sender<io::Result<SocketAddr>>, outcome: io::Result<SocketAddr>) {
    // Whoever started the proxy may have gone.
    let _ = opened.send(outcome);
}
