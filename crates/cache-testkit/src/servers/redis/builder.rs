//! How a server is started.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use super::ports::{self, Ports};
use super::process::{START_DEADLINE, is_taken, launch};
use super::server::RedisServer;
#[cfg(feature = "tls")]
use crate::servers::{Certificate, Certificates};

const START_ATTEMPTS: u32 = 5;

/// How a [`RedisServer`] is started.
#[derive(Clone, Default)]
#[must_use]
pub struct RedisServerBuilder {
    port: Option<u16>,
    pub(super) arguments: Vec<String>,
    pub(super) while_loading: bool,
    /// Written into the server's directory under these names before it starts.
    files: Vec<(&'static str, String)>,
    listens_with_tls: bool,
    is_cluster_node: bool,
}

impl RedisServerBuilder {
    /// Listens on this port. Defaults to a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds one argument to the command line, such as `--requirepass` or its value.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments to the command line.
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Takes a server for started that still loads its data. Defaults to waiting for the data.
    pub fn while_loading(mut self) -> Self {
        self.while_loading = true;
        self
    }

    /// Also listens with TLS, on a free port of its own, as `localhost`, `127.0.0.1` and `::1`.
    /// Clients need no certificate.
    #[cfg(feature = "tls")]
    pub fn tls(self, authority: &Certificates) -> Self {
        self.tls_as(authority, authority.local())
    }

    /// As [`tls`](Self::tls), with a certificate of the caller's choice: an expired one, one for
    /// other names, or one of another authority. Certificates of clients are judged by `authority`.
    #[cfg(feature = "tls")]
    pub fn tls_as(mut self, authority: &Certificates, certificate: &Certificate) -> Self {
        self.listens_with_tls = true;
        self.files = vec![
            ("authority.pem", authority.authority_pem().to_owned()),
            ("server.pem", certificate.certificate_pem().to_owned()),
            ("server.key", certificate.key_pem().to_owned()),
        ];
        self.args(["--tls-ca-cert-file", "authority.pem"])
            .args(["--tls-cert-file", "server.pem"])
            .args(["--tls-key-file", "server.key"])
            .args(["--tls-auth-clients", "no"])
    }

    /// Demands a certificate of the authority from clients that speak TLS; to be called after
    /// [`tls`](Self::tls).
    #[cfg(feature = "tls")]
    pub fn require_client_certificates(self) -> Self {
        self.args(["--tls-auth-clients", "yes"])
    }

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    ///
    /// * `NotFound` where the program is not installed.
    /// * The process ended, or did not answer within 10 seconds; the error shows its log.
    pub fn start(self) -> io::Result<RedisServer> {
        let directory = tempfile::Builder::new().prefix("cache-redis-").tempdir()?;
        for (name, contents) in &self.files {
            fs::write(directory.path().join(name), contents)?;
        }
        let deadline = Instant::now() + START_DEADLINE;
        let (child, ports) = self.launch_somewhere(directory.path(), deadline)?;
        Ok(RedisServer::new(child, ports, self, directory))
    }

    /// Makes the server a node of a cluster, with a free port for the bus.
    pub(super) fn cluster_node(mut self) -> Self {
        self.is_cluster_node = true;
        self.args(["--cluster-enabled", "yes"])
    }

    fn launch_somewhere(&self, directory: &Path, deadline: Instant) -> io::Result<(Child, Ports)> {
        let mut attempt = 1;
        loop {
            let ports = self.ports()?;
            match launch(self, directory, ports, deadline) {
                Ok(child) => return Ok((child, ports)),
                // Somebody took the port after it was found free.
                Err(error)
                    if is_taken(&error) && self.port.is_none() && attempt < START_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn ports(&self) -> io::Result<Ports> {
        Ok(Ports {
            plain: self.port.map_or_else(ports::free, Ok)?,
            tls: self.listens_with_tls.then(ports::free).transpose()?,
            bus: self.is_cluster_node.then(ports::free).transpose()?,
        })
    }

    /// The value that follows `--requirepass`.
    pub(super) fn password(&self) -> Option<&str> {
        let mut arguments = self.arguments.iter().rev();
        let mut value = None;
        arguments.find_map(|argument| {
            if argument == "--requirepass" {
                return value;
            }
            value = Some(argument.as_str());
            None
        })
    }
}

impl fmt::Debug for RedisServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may contain a password, and the files a key.
        f.debug_struct("RedisServerBuilder")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
