//! Redis.

use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::resp::Connection;

const PROGRAM: &str = "redis-server";

/// How long a server may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How long one question to the server may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

const LOG_FILE: &str = "redis.log";

const LOG_TAIL_LINES: usize = 30;

/// Where free ports are looked for: below those that systems give to outgoing connections. Such a
/// connection could otherwise hold the port while the server is down, even a client's connection
/// to that very port.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

const PORT_ATTEMPTS: u32 = 20;

const START_ATTEMPTS: u32 = 5;

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
    port: u16,
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

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, such as `127.0.0.1:16379`.
    #[must_use]
    pub fn address(&self) -> String {
        socket_address(self.port).to_string()
    }

    /// The address of one database as a URL, with the password where the server has one. The
    /// password is taken as it is: use letters and digits.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        let password = self.settings.password();
        let user = password.map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis://{user}{}/{database}", self.address())
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
            match launch(&self.settings, self.directory.path(), self.port, deadline) {
                Err(error) if is_taken(&error) && Instant::now() < deadline => {
                    thread::sleep(POLL_INTERVAL);
                }
                outcome => break outcome?,
            }
        };
        self.owns_pid = true;
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
        Ok(())
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends one command on a connection of its own, after the password where the server has one,
    /// and returns the answer as `redis-cli --raw` prints it: arrays one item a line, nothing for
    /// null.
    ///
    /// # Errors
    ///
    /// No answer within 5 seconds, or the server's own error as text.
    pub fn command(&self, words: &[&str]) -> io::Result<String> {
        let mut connection = Connection::open(socket_address(self.port), ANSWER_DEADLINE)?;
        if let Some(password) = self.settings.password() {
            connection
                .call(&["AUTH", password])?
                .map_err(io::Error::other)?;
        }
        connection.call(words)?.map_err(io::Error::other)
    }

    /// The last 30 lines that the server wrote to its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(self.directory.path())
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

/// How a [`RedisServer`] is started.
#[derive(Clone, Default)]
#[must_use]
pub struct RedisServerBuilder {
    port: Option<u16>,
    arguments: Vec<String>,
    while_loading: bool,
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
        let (child, port) = self.launch_somewhere(directory.path(), deadline)?;
        Ok(RedisServer {
            child,
            owns_pid: true,
            port,
            settings: self,
            directory,
        })
    }

    fn launch_somewhere(&self, directory: &Path, deadline: Instant) -> io::Result<(Child, u16)> {
        let mut attempt = 1;
        loop {
            let port = self.port.map_or_else(free_port, Ok)?;
            match launch(self, directory, port, deadline) {
                Ok(child) => return Ok((child, port)),
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

    /// The value that follows `--requirepass`.
    fn password(&self) -> Option<&str> {
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

/// A server on this very port that answers.
fn launch(
    settings: &RedisServerBuilder,
    directory: &Path,
    port: u16,
    deadline: Instant,
) -> io::Result<Child> {
    let mut child = spawn(settings, directory, port)?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(failure(directory, &format!("ended with {status}")));
        }
        if answers(settings, port, child.id()) {
            return Ok(child);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let waited = format!("did not answer within {START_DEADLINE:?}");
            return Err(failure(directory, &waited));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn spawn(settings: &RedisServerBuilder, directory: &Path, port: u16) -> io::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(directory))?;
    Command::new(PROGRAM)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--daemonize", "no", "--databases", "1024"])
        .args(["--save", "", "--appendonly", "no"])
        .args(debug_arguments()?)
        .arg("--dir")
        .arg(directory)
        .args(&settings.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(explain_missing)
}

/// Versions before 7 always allow `DEBUG` and do not know the argument.
fn debug_arguments() -> io::Result<&'static [&'static str]> {
    let output = Command::new(PROGRAM)
        .arg("--version")
        .output()
        .map_err(explain_missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text
        .split_once("v=")
        .and_then(|(_, version)| version.split('.').next()?.parse::<u32>().ok());
    Ok(match major {
        Some(0..7) => &[],
        _ => &["--enable-debug-command", "local"],
    })
}

/// Whether the process `pid` answers on `port`.
fn answers(settings: &RedisServerBuilder, port: u16, pid: u32) -> bool {
    let ask = || -> io::Result<bool> {
        let mut connection = Connection::open(socket_address(port), ANSWER_DEADLINE)?;
        if let Some(password) = settings.password() {
            let _while_loading_this_fails = connection.call(&["AUTH", password])?;
        }
        let ready = match connection.call(&["PING"])? {
            Ok(_) => true,
            // It wants a password that only the caller knows.
            Err(refusal) if refusal.starts_with("NOAUTH") => return Ok(true),
            Err(refusal) => settings.while_loading && refusal.starts_with("LOADING"),
        };
        // Where another server took the port in the meantime, our child is about to end.
        let is_ours = match connection.call(&["INFO", "server"])? {
            Ok(info) => info
                .lines()
                .any(|line| line.trim_end() == format!("process_id:{pid}")),
            Err(_) => true,
        };
        Ok(ready && is_ours)
    };
    ask().unwrap_or(false)
}

fn failure(directory: &Path, what: &str) -> io::Error {
    let log = log_tail(directory);
    let kind = if log.contains("Address already in use") {
        io::ErrorKind::AddrInUse
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(
        kind,
        format!("{PROGRAM} {what}; the end of its log:\n{log}"),
    )
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn explain_missing(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error;
    }
    let message = format!(
        "{PROGRAM} was not found; install the package redis-server, \
         or run `cargo xtask test`, which does"
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

fn free_port() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for attempt in 0..PORT_ATTEMPTS {
        let random = RandomState::new().hash_one(attempt) % PORTS.len() as u64;
        let port = PORTS.start + u16::try_from(random).expect("the range holds 16-bit numbers");
        match TcpListener::bind(socket_address(port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn socket_address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join(LOG_FILE)
}

fn log_tail(directory: &Path) -> String {
    let log = fs::read(log_file(directory)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
