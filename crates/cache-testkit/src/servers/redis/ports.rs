//! Ports of 127.0.0.1 to listen on.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Where free ports are looked for: below those that systems give to outgoing connections. Such a
/// connection could otherwise hold the port while the server is down, even a client's connection
/// to that very port.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

const ATTEMPTS: u32 = 20;

/// What one server listens on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) tls: Option<u16>,
    /// Where the nodes of a cluster talk to each other.
    pub(super) bus: Option<u16>,
}

impl Ports {
    /// The one that clients are told: with TLS where there is one.
    pub(super) fn public(&self) -> u16 {
        self.tls.unwrap_or(self.plain)
    }

    /// Those by which the server is told what to listen on.
    pub(super) fn arguments(&self) -> Vec<String> {
        let Self { plain, tls, bus } = *self;
        [
            ("--port", Some(plain)),
            ("--tls-port", tls),
            ("--cluster-port", bus),
        ]
        .into_iter()
        .filter_map(|(name, port)| Some([name.to_owned(), port?.to_string()]))
        .flatten()
        .collect()
    }
}

/// A port that nobody listens on at this moment.
pub(super) fn free() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for attempt in 0..ATTEMPTS {
        let random = RandomState::new().hash_one(attempt) % RANGE.len() as u64;
        let port = RANGE.start + u16::try_from(random).expect("the range holds 16-bit numbers");
        match TcpListener::bind(socket_address(port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// This port of 127.0.0.1.
pub(super) fn socket_address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
