//! Where connections come in.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::connection::{Shared, serve};
use super::counters::Open;
use super::fault::End;
use super::faults::Entry;

/// How long nothing is accepted after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

const BACKLOG: u32 = 1024;

/// What the proxy tells its thread, with where to say that it is done.
#[derive(Debug)]
pub(super) enum Command {
    /// To listen or not, as the faults in force say.
    LookAtFaults(mpsc::Sender<io::Result<()>>),
    /// To end all connections.
    EndAll(End, mpsc::Sender<io::Result<()>>),
}

/// The port, open or shut.
pub(super) struct Door {
    address: SocketAddr,
    leaf: Leaf,
    connections: JoinSet<()>,
}

enum Leaf {
    Open(TcpListener),
    /// Bound and not listening: connecting is refused, and nobody else gets the port.
    Shut(TcpSocket),
    /// In between, or when the system would not have it otherwise.
    Missing,
}

impl Door {
    pub(super) fn open() -> io::Result<Self> {
        let listener = bound((Ipv4Addr::LOCALHOST, 0).into())?.listen(BACKLOG)?;
        Ok(Self {
            address: listener.local_addr()?,
            leaf: Leaf::Open(listener),
            connections: JoinSet::new(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections in until the proxy is gone, and then ends them all.
    pub(super) async fn run(
        mut self,
        shared: Arc<Shared>,
        mut commands: UnboundedReceiver<Command>,
    ) {
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command, &shared).await,
                    None => return,
                },
                Some(_) = self.connections.join_next() => {}
                client = self.leaf.next() => self.let_in(client, &shared),
            }
        }
    }

    async fn obey(&mut self, command: Command, shared: &Arc<Shared>) {
        let (outcome, done) = match command {
            Command::LookAtFaults(done) => (self.turn(shared), done),
            Command::EndAll(end, done) => {
                self.end_all(end, shared).await;
                (Ok(()), done)
            }
        };
        // Whoever asked may have panicked since.
        let _ = done.send(outcome);
    }

    fn turn(&mut self, shared: &Shared) -> io::Result<()> {
        let is_refused = shared.faults.borrow().entry == Entry::Refused;
        let leaf = std::mem::replace(&mut self.leaf, Leaf::Missing);
        self.leaf = match (leaf, is_refused) {
            (Leaf::Open(listener), true) => {
                drop(listener);
                Leaf::Shut(bound(self.address)?)
            }
            (Leaf::Shut(socket), false) => Leaf::Open(socket.listen(BACKLOG)?),
            (Leaf::Missing, true) => Leaf::Shut(bound(self.address)?),
            (Leaf::Missing, false) => Leaf::Open(bound(self.address)?.listen(BACKLOG)?),
            (leaf, _) => leaf,
        };
        Ok(())
    }

    /// Ends also what clients take for connections and nobody has accepted yet.
    async fn end_all(&mut self, end: End, shared: &Arc<Shared>) {
        loop {
            tokio::select! {
                biased;
                client = self.leaf.next() => self.let_in(client, shared),
                () = std::future::ready(()) => break,
            }
        }
        shared.ends.send_replace(end);
        while self.connections.join_next().await.is_some() {}
    }

    fn let_in(&mut self, client: TcpStream, shared: &Arc<Shared>) {
        // It fails for a client that is gone already, which reading will notice.
        let _ = client.set_nodelay(true);
        let open = Open::new(&shared.tally);
        let ends = shared.ends.subscribe();
        self.connections
            .spawn(serve(client, open, Arc::clone(shared), ends));
    }
}

impl Leaf {
    async fn next(&self) -> TcpStream {
        let Self::Open(listener) = self else {
            return std::future::pending().await;
        };
        loop {
            if let Ok((client, _)) = listener.accept().await {
                return client;
            }
            // The client is gone already, or the process has no file left: others may be luckier.
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before that linger in the system would otherwise keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
