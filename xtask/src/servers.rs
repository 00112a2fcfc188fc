//! `servers`: a backend to try things on.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, provision};

/// How long a server may take before it answers.
const READY: Duration = Duration::from_secs(10);

/// Starts a Redis on a free port and keeps it until the input ends.
pub(crate) fn run() -> Result {
    provision::redis_server()?;
    let port = free_port().map_err(|error| format!("no free port: {error}"))?;
    let mut server = Server::start(port)?;
    server.wait_until_ready(port)?;
    println!("export CACHE_STORAGE_TYPE=redis");
    println!("export CACHE_REDIS_URL=redis://127.0.0.1:{port}");
    eprintln!("Redis answers on port {port} until Ctrl-D or Ctrl-C.");
    // Whatever comes is dropped; only the end matters.
    _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    Ok(())
}

/// A server, stopped on drop. On Ctrl-C the terminal tells the server itself.
struct Server(Child);

impl Server {
    fn start(port: u16) -> Result<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        // Nothing is ever written there; without it the server would use the current directory.
        command.arg("--dir").arg(env::temp_dir());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server cannot be started: {error}"))?;
        Ok(Self(child))
    }

    fn wait_until_ready(&mut self, port: u16) -> Result {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if answers(port).unwrap_or(false) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("redis-server ended at once ({status})"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("redis-server did not answer within {READY:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Whether a PING gets its answer; an accepted connection alone means nothing.
fn answers(port: u16) -> io::Result<bool> {
    let timeout = Duration::from_millis(200);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}
