//! What became of a request that the HTTP client failed to carry.

use std::error::Error;
use std::io;

use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio_rustls::rustls;

/// Why no answer came, as far as the HTTP client can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// No connection came about; the request was not sent.
    Unreachable(&'static str),
    /// No connection came about in time; the request was not sent.
    ConnectTimeout,
    /// The server's certificate, or its TLS, is not acceptable; the request was not sent.
    Tls(&'static str),
    /// The connection ended under the request, which may have been executed.
    Closed,
    /// Something came that is no answer; the request may have been executed.
    Garbled,
}

impl Trouble {
    /// What `error` amounts to. The texts of foreign errors are not repeated.
    #[must_use]
    pub fn of(error: &ConnectorError) -> Self {
        if let Some(trouble) = chain(error).find_map(tls_trouble) {
            return trouble;
        }
        if error.is_timeout() {
            // The only timeout that the HTTP client is given is the one for connecting.
            return Self::ConnectTimeout;
        }
        if chain(error).any(is_connecting) {
            return Self::Unreachable(reason(error));
        }
        let is_io = error.is_io() || chain(error).any(|cause| cause.is::<io::Error>());
        if is_io || error.as_other().is_some() {
            return Self::Closed;
        }
        Self::Garbled
    }

    /// Whether the request may have reached the server.
    #[must_use]
    pub fn may_have_been_sent(self) -> bool {
        matches!(self, Self::Closed | Self::Garbled)
    }

    /// The trouble in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreachable(reason) | Self::Tls(reason) => reason,
            Self::ConnectTimeout => "no connection within the connect timeout",
            Self::Closed => "the connection was closed",
            Self::Garbled => "the server does not speak HTTP",
        }
    }
}

/// An error and its causes. An I/O error hides the one it was made from behind the cause of that.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn tls_trouble(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let reason = match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Expired) => {
            "the server's certificate has expired"
        }
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name",
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "nobody trusted vouches for the server's certificate"
        }
        rustls::Error::InvalidCertificate(_) => "the server's certificate is not acceptable",
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS",
        _ => "the server refuses our TLS",
    };
    Some(Trouble::Tls(reason))
}

/// Whether the HTTP client says that it was still connecting. Its error type belongs to a crate
/// that nothing here names, so its text has to do.
fn is_connecting(error: &(dyn Error + 'static)) -> bool {
    error.to_string().starts_with("client error (Connect)")
}

fn reason(error: &ConnectorError) -> &'static str {
    let kind = chain(error).find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            "the connection was closed while it was made"
        }
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            "the host cannot be reached"
        }
        _ if chain(error).any(|cause| cause.to_string().starts_with("dns error")) => {
            "the host name was not found"
        }
        _ => "the connection failed",
    }
}
