//! What a client asked.

use std::io;
use std::time::Instant;

use tokio::io::AsyncReadExt as _;

use super::wire::Wire;

const HEAD_END: &[u8] = b"\r\n\r\n";

const MAX_HEAD: usize = 64 * 1024;

/// Four times what the largest request to DynamoDB may hold.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// Its place among the requests of all connections, from 0.
    pub number: usize,
    /// The place of its connection among all connections, from 0.
    pub connection: usize,
    /// When its last byte had been read.
    pub received_at: Instant,
    /// Such as `POST`.
    pub method: String,
    /// Such as `/`.
    pub path: String,
    /// In the order in which they came; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name, in whatever case it is given.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// What is asked of an AWS service, such as `DynamoDB_20120810.GetItem`; empty where the
    /// request has no `X-Amz-Target`.
    #[must_use]
    pub fn target(&self) -> &str {
        self.header("x-amz-target").unwrap_or_default()
    }

    /// The end of the [target](Self::target), such as `GetItem`.
    #[must_use]
    pub fn operation(&self) -> &str {
        let target = self.target();
        target.rsplit_once('.').map_or(target, |(_, name)| name)
    }

    /// The body as text; what is not UTF-8 becomes `U+FFFD`.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the lines in front of the body.
    fn from_head(head: &str, connection: usize) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            number: 0,
            connection,
            received_at: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: lines.map(header).collect::<Option<_>>()?,
            body: Vec::new(),
        })
    }

    /// How long the body is. Only a length says so here: no client of AWS sends JSON in chunks.
    fn body_length(&self) -> io::Result<usize> {
        if self.header("transfer-encoding").is_some() {
            return Err(malformed("the body comes in chunks"));
        }
        let length = self.header("content-length").unwrap_or("0");
        match length.parse() {
            Ok(length @ 0..=MAX_BODY) => Ok(length),
            _ => Err(malformed("the length of the body")),
        }
    }
}

/// The next request of a connection; none at its end. What came after it is left in `unread`.
pub(super) async fn read<S: Wire>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<Request>> {
    let head_length = loop {
        if let Some(position) = position(unread, HEAD_END) {
            break position;
        }
        if unread.len() > MAX_HEAD {
            return Err(malformed("the headers do not end"));
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&unread[..head_length]);
    let mut request =
        Request::from_head(&head, connection).ok_or_else(|| malformed("the headers"))?;
    unread.drain(..head_length + HEAD_END.len());
    let length = request.body_length()?;
    while unread.len() < length {
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
    request.body = unread.drain(..length).collect();
    request.received_at = Instant::now();
    Ok(Some(request))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
