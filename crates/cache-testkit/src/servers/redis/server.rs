//! One server.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::builder::RedisServerBuilder;
use super::ports::{Ports, socket_address};
use super::process::{
    ANSWER_DEADLINE, LOG_FILE, POLL_INTERVAL, START_DEADLINE, is_taken, launch, log_tail,
};
use super::resp::{Connection, Reply};

/// A `redis-server` of one's own: a child process that keeps nothing on disk, on a port of
/// 127.0.0.1 and in a temporary directory of its own.
///
/// It has 1,024 databases and allows `DEBUG`; arguments given later override both. Dropping it
/// kills the process, and prints the end of its log to standard error during a panic. A server in
/// a `static` is never dropped and outlives the test.
///
/// All methods block the thread for as long as they take.
///
/// ```no_run
/// use cache_testkit::servers::RedisServer;
///
/// let mut server = RedisServer::start()?;
/// assert_eq!(server.command(&["PING"])?, "PONG");
/// server.restart()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RedisServer {
    child: Child,
    /// Whether the child was not waited for yet; its process id may be somebody else's afterwards.
    owns_pid: bool,
    is_paused: AtomicBool,
    ports: Ports,
    settings: RedisServerBuilder,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server with the default arguments on a free port.
    ///
    /// # Errors
    ///
    /// As [`RedisServerBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server to be configured first.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    pub(super) fn new(
        child: Child,
        ports: Ports,
        settings: RedisServerBuilder,
        directory: TempDir,
    ) -> Self {
        Self {
            child,
            owns_pid: true,
            is_paused: AtomicBool::new(false),
            ports,
            settings,
            directory,
        }
    }

    /// The port on 127.0.0.1 for connections without TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// The port on 127.0.0.1 for connections with TLS, where the server has one.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.tls
    }

    /// Host and port for connections without TLS, such as `127.0.0.1:16379`.
    #[must_use]
    pub fn address(&self) -> String {
        socket_address(self.ports.plain).to_string()
    }

    /// The address of one database as a URL: `rediss://` where the server speaks TLS, and with the
    /// password where it has one. The password is taken as it is: use letters and digits.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        let scheme = if self.ports.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        let address = socket_address(self.ports.public());
        let password = self.settings.password();
        let user = password.map_or_else(String::new, |password| format!(":{password}@"));
        format!("{scheme}://{user}{address}/{database}")
    }

    /// The process, also after it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The temporary directory in which the server works.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills the process and waits until it is gone. Killing a dead one is no error.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.owns_pid = false;
        Ok(())
    }

    /// Kills the process if it runs, and starts a new one with the same port and arguments. Returns
    /// when it answers.
    ///
    /// # Errors
    ///
    /// As [`RedisServerBuilder::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let deadline = Instant::now() + START_DEADLINE;
        self.child = loop {
            match launch(&self.settings, self.directory.path(), self.ports, deadline) {
                Err(error) if is_taken(&error) && Instant::now() < deadline => {
                    thread::sleep(POLL_INTERVAL);
                }
                outcome => break outcome?,
            }
        };
        self.owns_pid = true;
        *self.is_paused.get_mut() = false;
        Ok(())
    }

    /// Stops the process without ending it: connections stay, and nothing answers. Returns when it
    /// stands still.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let states = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.process()?), states)?;
        self.is_paused.store(true, Ordering::Release);
        Ok(())
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        self.is_paused.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether it was neither killed nor paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.owns_pid && !self.is_paused.load(Ordering::Acquire)
    }

    /// Sends one command on a connection of its own, after the password where the server has one,
    /// and returns the answer as `redis-cli --raw` prints it: arrays one item a line, nothing for
    /// null.
    ///
    /// # Errors
    ///
    /// No answer within 5 seconds, or the server's own error as text.
    pub fn command(&self, words: &[&str]) -> io::Result<String> {
        Ok(self.ask(words)?.to_string())
    }

    /// As [`command`](Self::command), with the items of an array apart.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn command_items(&self, words: &[&str]) -> io::Result<Vec<String>> {
        Ok(self.ask(words)?.into_items())
    }

    /// The last 30 lines that the server wrote to its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(self.directory.path())
    }

    /// The ports, for the nodes of a cluster to find each other.
    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    fn ask(&self, words: &[&str]) -> io::Result<Reply> {
        let mut connection = Connection::open(socket_address(self.ports.plain), ANSWER_DEADLINE)?;
        if let Some(password) = self.settings.password() {
            connection
                .call(&["AUTH", password])?
                .map_err(io::Error::other)?;
        }
        connection.call(words)?.map_err(io::Error::other)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.process()?, signal)?)
    }

    fn process(&self) -> io::Result<Pid> {
        if !self.owns_pid {
            return Err(io::Error::other("the server was killed"));
        }
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        Pid::from_raw(pid).ok_or_else(|| io::Error::other("the child has no process id"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Nothing is left to be done about a child that can be neither killed nor waited for.
        let _ = self.kill();
        if thread::panicking() {
            eprintln!("--- {LOG_FILE} of {self:?} ---\n{}", self.log_tail());
        }
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("address", &self.address())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
