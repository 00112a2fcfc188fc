//! The process: how it is started, and when it is ready.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::builder::RedisServerBuilder;
use super::ports::{Ports, socket_address};
use super::resp::Connection;

const PROGRAM: &str = "redis-server";

/// How long a server may take until it answers.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(10);

/// How long one question to the server may take.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

pub(super) const LOG_FILE: &str = "redis.log";

const LOG_TAIL_LINES: usize = 30;

/// A server on these very ports that answers.
pub(super) fn launch(
    settings: &RedisServerBuilder,
    directory: &Path,
    ports: Ports,
    deadline: Instant,
) -> io::Result<Child> {
    let mut child = spawn(settings, directory, ports)?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(failure(directory, &format!("ended with {status}")));
        }
        if answers(settings, ports.plain, child.id()) {
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

/// Whether somebody else has one of the ports.
pub(super) fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// The last lines of the log.
pub(super) fn log_tail(directory: &Path) -> String {
    let log = fs::read(log_file(directory)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

fn spawn(settings: &RedisServerBuilder, directory: &Path, ports: Ports) -> io::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(directory))?;
    Command::new(PROGRAM)
        .args(ports.arguments())
        .args(["--bind", "127.0.0.1"])
        .args(["--daemonize", "no", "--databases", "1024"])
        .args(["--save", "", "--appendonly", "no"])
        .args(debug_arguments()?)
        .arg("--dir")
        .arg(directory)
        .args(&settings.arguments)
        // Arguments may name files that were put there.
        .current_dir(directory)
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
                .to_string()
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

fn log_file(directory: &Path) -> PathBuf {
    directory.join(LOG_FILE)
}
