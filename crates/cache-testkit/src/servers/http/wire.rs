//! A connection, with or without TLS.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What HTTP is spoken over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// The socket underneath.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}
