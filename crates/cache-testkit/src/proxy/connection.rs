//! One connection through the proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::counters::{Open, Tally};
use super::fault::End;
use super::faults::{Entry, Faults};
use super::pipe::{Both, Pipe, Side};

/// The most that is taken from a client before the server is dialed.
const TAKEN_BEFOREHAND: usize = 64 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: SocketAddr,
    pub(super) faults: watch::Sender<Faults>,
    pub(super) tally: Arc<Tally>,
    /// How all connections at the time end; renewed by each command to do so.
    pub(super) ends: watch::Sender<End>,
}

/// Serves a client until either side, a fault or the proxy ends the connection.
pub(super) async fn serve(
    mut client: TcpStream,
    open: Open,
    shared: Arc<Shared>,
    mut ends: watch::Receiver<End>,
) {
    let mut server = None;
    let end = tokio::select! {
        biased;
        // An error says that the proxy is gone.
        ended = ends.changed() => ended.map_or(End::Reset, |()| *ends.borrow()),
        end = talk(&mut client, &mut server, &open, &shared) => end,
    };
    if end == End::Reset {
        reset(&client);
        if let Some(server) = &server {
            reset(server);
        }
    }
}

/// Makes dropping the socket a reset.
fn reset(socket: &TcpStream) {
    // It fails for a socket whose connection is gone already.
    let _ = socket.set_zero_linger();
}

async fn talk(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    open: &Open,
    shared: &Shared,
) -> End {
    let mut faults = shared.faults.subscribe();
    let Ok(taken) = wait_at_the_door(client, &mut faults).await else {
        return End::Fin;
    };
    if own_reply(&mut faults).is_none() {
        let Ok(connected) = TcpStream::connect(shared.target).await else {
            return End::Reset;
        };
        // It fails for a server that is gone already, which reading will notice.
        let _ = connected.set_nodelay(true);
        let connected = server.insert(connected);
        tokio::select! {
            biased;
            () = taken_over(faults.clone()) => {}
            end = through(client, connected, taken, open, shared) => return end,
        }
        *server = None;
    }
    // The client leaving and the client not reading any more are the same to it.
    let _ = answer(client, faults, &shared.tally).await;
    End::Fin
}

/// Takes what the client sends for as long as connections only hang.
async fn wait_at_the_door(
    client: &mut TcpStream,
    faults: &mut watch::Receiver<Faults>,
) -> io::Result<Bytes> {
    let mut taken = BytesMut::new();
    while faults.borrow_and_update().entry == Entry::Held {
        let has_room = taken.len() < TAKEN_BEFOREHAND;
        tokio::select! {
            changed = faults.changed() => changed.map_err(io::Error::other)?,
            read = client.read_buf(&mut taken), if has_room => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    Ok(taken.freeze())
}

fn own_reply(faults: &mut watch::Receiver<Faults>) -> Option<Bytes> {
    faults.borrow_and_update().reply.clone()
}

/// Returns when the proxy is to answer by itself.
async fn taken_over(mut faults: watch::Receiver<Faults>) {
    while own_reply(&mut faults).is_none() {
        if faults.changed().await.is_err() {
            return;
        }
    }
}

async fn through(
    client: &mut TcpStream,
    server: &mut TcpStream,
    taken: Bytes,
    open: &Open,
    shared: &Shared,
) -> End {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let half_close = Notify::new();
    let both = Both {
        tally: &shared.tally,
        open,
        half_close: &half_close,
    };
    let faults = || shared.faults.subscribe();
    let mut up = Pipe::new(Side::Up, (from_client, to_server), &both, faults());
    let down = Pipe::new(Side::Down, (from_server, to_client), &both, faults());
    up.begin_with(taken);
    match tokio::try_join!(up.run(), down.run()) {
        Ok(_) => End::Fin,
        Err(_) => End::Reset,
    }
}

/// Answers each piece of a request with the reply in force, for as long as there is one.
async fn answer(
    client: &mut TcpStream,
    mut faults: watch::Receiver<Faults>,
    tally: &Tally,
) -> io::Result<()> {
    let mut request = vec![0; 16 * 1024];
    while let Some(reply) = own_reply(&mut faults) {
        let length = tokio::select! {
            changed = faults.changed() => {
                changed.map_err(io::Error::other)?;
                continue;
            }
            length = client.read(&mut request) => length?,
        };
        if length == 0 {
            break;
        }
        tally.change(|counters| {
            counters.lost_up += length as u64;
            counters.bytes_down += reply.len() as u64;
            counters.fired += 1;
        });
        client.write_all(&reply).await?;
    }
    Ok(())
}
