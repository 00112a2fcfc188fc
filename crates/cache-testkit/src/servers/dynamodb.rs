//! A DynamoDB inside the test process.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dynoxide::{Database, server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A DynamoDB emulator of one's own on a free port of 127.0.0.1: its HTTP API is the real one, its
/// tables live in memory. It runs on a thread of its own, so that it answers whatever the test's
/// runtime does, and is stopped on drop.
///
/// It takes any credentials and any region, never throttles, and leaves no item of a batch
/// unprocessed unless the answer would be too long.
#[derive(Debug)]
pub struct DynamoDb {
    address: SocketAddr,
    /// Told to stop by being dropped.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The longest that one request may hold up a stop.
const PATIENCE: Duration = Duration::from_secs(5);

impl DynamoDb {
    /// Starts an emulator without tables and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// No port, no thread, or no database is to be had.
    pub fn start() -> io::Result<Self> {
        let (running, stop) = oneshot::channel();
        let (sender, started) = mpsc::channel();
        let serve = move || {
            let prepared = prepare();
            let address = prepared
                .as_ref()
                .map(|(.., address)| *address)
                .map_err(|error| io::Error::new(error.kind(), error.to_string()));
            // Whoever started this waits for the address.
            let _ = sender.send(address);
            let Ok((runtime, listener, database, _)) = prepared else {
                return;
            };
            runtime.spawn(async {
                let forever = std::future::pending();
                if let Err(error) = server::serve_with_shutdown(listener, database, forever).await {
                    eprintln!("the DynamoDB emulator ended: {error}");
                }
            });
            // The sender is dropped rather than used.
            let _ = stop.blocking_recv();
            // A connection that a client keeps open is no reason to go on; what the server is just
            // doing is waited for, so that nobody answers any more once this thread has ended.
            runtime.shutdown_timeout(PATIENCE);
        };
        let thread = thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(serve)?;
        let address = started.recv().map_err(io::Error::other)??;
        Ok(Self {
            address,
            running: Some(running),
            thread: Some(thread),
        })
    }

    /// The URL of the emulator, `http://127.0.0.1:` and its port.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the emulator; its tables are gone. Later connections are refused.
    pub fn stop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the emulator has been printed by its thread.
            let _ = thread.join();
        }
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A runtime, a listener on a free port within it, and an empty database.
fn prepare() -> io::Result<(tokio::runtime::Runtime, TcpListener, Database, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let database = Database::memory().map_err(|error| io::Error::other(error.to_string()))?;
    Ok((runtime, listener, database, address))
}
