//! How a server is started.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use super::ports::{self, Ports};
use super::process::{START_DEADLINE, is_taken, launch};
use super::server::RedisServer;

const START_ATTEMPTS: u32 = 5;

/// How a [`RedisServer`] is started.
#[derive(Clone, Default)]
#[must_use]
pub struct RedisServerBuilder {
    port: Option<u16>,
    pub(super) arguments: Vec<String>,
    pub(super) while_loading: bool,
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

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    ///
    /// * `NotFound` where the program is not installed.
    /// * The process ended, or did not answer within 10 seconds; the error shows its log.
    pub fn start(self) -> io::Result<RedisServer> {
        let directory = tempfile::Builder::new().prefix("cache-redis-").tempdir()?;
        let deadline = Instant::now() + START_DEADLINE;
        let (child, ports) = self.launch_somewhere(directory.path(), deadline)?;
        Ok(RedisServer::new(child, ports, self, directory))
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
            tls: None,
            bus: None,
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
        // The arguments may contain a password.
        f.debug_struct("RedisServerBuilder")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
