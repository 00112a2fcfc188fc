//! Where a server is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A server's host and port, shown as `10.0.0.7:6379` or `[::1]:6379`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`, with `default_port` where none is given.
    pub(crate) fn parse(place: &str, default_port: u16) -> Option<Self> {
        let (host, rest) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest)
            }
            None => {
                let end = place.find(':').unwrap_or(place.len());
                let (host, rest) = place.split_at(end);
                is_host(host).then_some((host, rest))?
            }
        };
        let port = match rest {
            "" => default_port,
            rest => digits(rest.strip_prefix(':')?)?.parse().ok()?,
        };
        Some(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.parse::<Ipv6Addr>().is_ok() {
            return write!(f, "[{host}]:{port}");
        }
        write!(f, "{host}:{port}")
    }
}

/// Whether `host` is an address, or a name of the characters that names have. Nothing else is
/// taken, since what is taken is shown: part of a URL in the wrong place may be a password.
pub(crate) fn is_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(is_plain);
    is_name || host.parse::<IpAddr>().is_ok()
}

/// `text` if it is a number without a sign.
pub(crate) fn digits(text: &str) -> Option<&str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(text)
}
