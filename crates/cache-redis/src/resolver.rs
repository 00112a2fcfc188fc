//! From host names to addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Finds the addresses of a host.
///
/// Asked by each new connection to a host that is named rather than given by its address; it has a
/// part of that connection's time. Where it fails or is slow, the addresses at which this storage
/// reached the host before are used.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host` with `port`, the best one first. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// The host is not known, or nobody answers who knows.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks the system. The default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}
