//! Reaching a host: its addresses, and a connection to the first of them that takes one.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::address::Address;
use crate::error::{Failure, LOCAL_EXHAUSTED, io_code};
use crate::resolver::{Resolver, SystemResolver};

/// How long the addresses of a host that was reached before are asked for again, at most; no longer
/// than half of what a connection may take, so that the other half is left for connecting.
const RESOLVING_PATIENCE: Duration = Duration::from_millis(300);

/// While one address says nothing, the next is tried after this long.
const STAGGER: Duration = Duration::from_millis(100);

/// The names of hosts, and where they were reached last.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) resolver: Arc<dyn Resolver>,
    last_good: Arc<Mutex<HashMap<Address, Vec<SocketAddr>>>>,
}

/// The addresses of a host.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether the resolver failed, so that these are the addresses of an earlier connection.
    pub(super) is_remembered: bool,
}

impl Names {
    pub(crate) fn new(resolver: impl Resolver) -> Self {
        Self {
            resolver: Arc::new(resolver),
            last_good: Arc::default(),
        }
    }

    /// The addresses of a host by `until`. Those it was reached at before will do where the
    /// resolver fails or takes too long.
    pub(super) async fn find(&self, address: &Address, until: Instant) -> Result<Found, Failure> {
        let Address { host, port } = address;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Found {
                addresses: vec![SocketAddr::new(ip, *port)],
                is_remembered: false,
            });
        }
        let remembered = self.remembered(address);
        let resolving = self.resolver.resolve(host, *port);
        let resolved = match &remembered {
            None => resolving.await,
            Some(_) => {
                let half = until.saturating_duration_since(Instant::now()) / 2;
                match timeout(RESOLVING_PATIENCE.min(half), resolving).await {
                    Ok(resolved) => resolved,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        match (resolved, remembered) {
            (Ok(addresses), _) if !addresses.is_empty() => Ok(Found {
                addresses,
                is_remembered: false,
            }),
            (_, Some(addresses)) => Ok(Found {
                addresses,
                is_remembered: true,
            }),
            (Ok(_), None) => Err(unresolved(&io::Error::other("the name has no address"))),
            (Err(error), None) => Err(unresolved(&error)),
        }
    }

    /// Remembers where a host was reached, that address first.
    pub(super) fn reached(&self, address: &Address, mut found: Vec<SocketAddr>, at: SocketAddr) {
        if address.host.parse::<IpAddr>().is_ok() {
            return;
        }
        found.retain(|known| *known != at);
        found.insert(0, at);
        let mut last_good = self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last_good.insert(address.clone(), found);
    }

    fn remembered(&self, address: &Address) -> Option<Vec<SocketAddr>> {
        let last_good = self.last_good.lock();
        let last_good = last_good.unwrap_or_else(PoisonError::into_inner);
        last_good.get(address).cloned()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new(SystemResolver)
    }
}

/// A connection to the first of `addresses` that takes one. The next is tried when the one before
/// has failed, or has said nothing for 100 ms, without giving that one up.
pub(super) async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match rest.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let outcome = if rest.len() == 0 {
            attempts.next().await
        } else {
            let soon = Instant::now() + STAGGER;
            timeout_at(soon, attempts.next()).await.unwrap_or_default()
        };
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => {}
        }
    }
}

fn unresolved(error: &io::Error) -> Failure {
    let failure = Failure::unreachable(error);
    match io_code(error) {
        LOCAL_EXHAUSTED => failure,
        _ => failure.with_code("dns"),
    }
}
