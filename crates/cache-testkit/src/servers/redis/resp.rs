//! Just enough of the Redis protocol to ask a server one question.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One connection to a server.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects, with `limit` for the connection and for each read and write after it.
    pub(super) fn open(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one command and returns its answer, or the text of the server's error.
    pub(super) fn call(&mut self, words: &[&str]) -> io::Result<Result<Reply, String>> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Result<Reply, String>> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err(unexpected(&line));
        };
        match kind {
            "+" | ":" => Ok(Ok(Reply::Text(rest.to_owned()))),
            "-" => Ok(Err(rest.to_owned())),
            "$" => Ok(Ok(Reply::Text(self.bulk(length(rest)?)?))),
            "*" => Ok(Ok(Reply::List(self.array(length(rest)?)?))),
            _ => Err(unexpected(&line)),
        }
    }

    fn bulk(&mut self, length: Option<usize>) -> io::Result<String> {
        let Some(length) = length else {
            return Ok(String::new());
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn array(&mut self, length: Option<usize>) -> io::Result<Vec<Reply>> {
        (0..length.unwrap_or_default())
            .map(|_| Ok(self.answer()?.unwrap_or_else(Reply::Text)))
            .collect()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

/// An answer; null is an empty text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    List(Vec<Self>),
}

impl Reply {
    /// The items of a list; a text is a list of itself.
    pub(super) fn into_items(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(items) => items.iter().map(Self::to_string).collect(),
        }
    }
}

/// Text as `redis-cli --raw` shows it: arrays one item a line, nothing for null.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                let lines: Vec<_> = items.iter().map(Self::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// A length as it stands in front of its contents; none for null.
fn length(text: &str) -> io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| unexpected(text))
}

fn unexpected(text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server answered {text:?}, which is not the Redis protocol"),
    )
}
