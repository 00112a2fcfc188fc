//! A server as a child process.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a server may take before it answers.
const READY: Duration = Duration::from_secs(10);

/// How long it may take over one question; a new one is asked after that.
const QUESTION: Duration = Duration::from_secs(1);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A server that answers, stopped on drop. On Ctrl-C the terminal tells the server itself.
pub(crate) struct Server(Child);

impl Server {
    /// Starts a server on a port of 127.0.0.1, and returns when it has answered `question` with
    /// bytes that begin with `answer`: an accepted connection alone means nothing.
    pub(crate) fn start(
        command: &mut Command,
        port: u16,
        question: &str,
        answer: &str,
    ) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let mut server = Self(child);
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if answers(port, question, answer).unwrap_or(false) {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.0.try_wait() {
                return Err(format!("{name} ended at once ({status})"));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Err(format!("{name} did not answer within {READY:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16> {
    let find = || -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(listener.local_addr()?.port())
    };
    find().map_err(|error| format!("no free port: {error}"))
}

fn answers(port: u16, question: &str, expected: &str) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, QUESTION)?;
    stream.set_read_timeout(Some(QUESTION))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == expected.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_answer_counts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::scope(|scope| {
            scope.spawn(|| {
                for answer in ["+PONG\r\n", "-ERR no\r\n"] {
                    let (mut client, _) = listener.accept().unwrap();
                    client.read_exact(&mut [0; 6]).unwrap();
                    client.write_all(answer.as_bytes()).unwrap();
                }
            });
            assert!(answers(port, "PING\r\n", "+PONG").unwrap());
            assert!(!answers(port, "PING\r\n", "+PONG").unwrap());
        });
        drop(listener);
        assert!(answers(port, "PING\r\n", "+PONG").is_err());
    }

    #[test]
    fn a_program_that_ends_is_no_server() {
        let port = free_port().unwrap();
        let outcome = Server::start(Command::new("true").arg("now"), port, "", "+PONG");
        let error = outcome.err().unwrap();
        assert!(error.starts_with("true ended at once"), "{error}");
        let outcome = Server::start(&mut Command::new("no-such-program"), port, "", "");
        let error = outcome.err().unwrap();
        assert!(error.contains("cannot be started"), "{error}");
    }
}
