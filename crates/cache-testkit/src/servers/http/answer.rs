//! What a client gets.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::Wire;

/// What the server does about a request.
///
/// ```
/// use std::time::Duration;
/// use cache_testkit::servers::Answer;
///
/// let late = Answer::json(200, r#"{"Item":{}}"#).after(Duration::from_millis(50));
/// let torn = Answer::json(200, r#"{"Item":{}}"#).reset_after(20);
/// # let _ = (late, torn);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Answer {
    content: Content,
    delay: Duration,
    pace: Option<Pace>,
    /// How many bytes are sent of it.
    limit: usize,
    end: End,
}

#[derive(Debug, Clone)]
enum Content {
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    Raw(Vec<u8>),
}

/// How a body is dripped.
#[derive(Debug, Clone, Copy)]
struct Pace {
    bytes: usize,
    pause: Duration,
}

/// What becomes of the connection afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It waits for the next request.
    Stay,
    /// It is closed, as the answer announced.
    Close,
    /// It is closed, which nothing announced.
    HangUp,
    /// It is reset.
    Reset,
    /// It stays open, and nothing is answered any more.
    Silence,
}

impl Answer {
    /// A response of AWS's JSON protocol.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let content_type = "application/x-amz-json-1.0".to_owned();
        Self::new(Content::Http {
            status,
            headers: vec![("content-type".to_owned(), content_type)],
            body: body.into(),
        })
    }

    /// An error of DynamoDB, such as `ProvisionedThroughputExceededException` with status 400.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(
            r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"by the script"}}"#
        );
        Self::json(status, body)
    }

    /// Bytes that need not be HTTP; nothing is added to them, and the connection waits for the next
    /// request.
    pub fn garbage(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Content::Raw(bytes.into()))
    }

    /// No answer: the connection is reset. Also what a client meets that uses an idle connection
    /// which died unnoticed.
    pub fn reset() -> Self {
        Self::garbage([]).reset_after(0)
    }

    /// No answer, ever: the connection stays open until the client or the test ends it.
    pub fn silence() -> Self {
        Self::garbage([]).silence_after(0)
    }

    /// Adds a header to a response; garbage has none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Content::Http { headers, .. } = &mut self.content {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Waits this long before the first byte. Defaults to not at all.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the headers at once and then so many bytes of the body at a time, with a pause before
    /// each. Garbage is body from its first byte.
    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some(Pace { bytes, pause });
        self
    }

    /// Announces that the connection will be closed, and closes it.
    pub fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Closes the connection although the answer lets the client keep it.
    pub fn then_hang_up(mut self) -> Self {
        self.end = End::HangUp;
        self
    }

    /// Sends only so many bytes of the answer, headers included, and closes the connection.
    pub fn hang_up_after(self, bytes: usize) -> Self {
        self.cut(bytes, End::HangUp)
    }

    /// Sends only so many bytes of the answer, headers included, and resets the connection.
    pub fn reset_after(self, bytes: usize) -> Self {
        self.cut(bytes, End::Reset)
    }

    /// Sends only so many bytes of the answer, headers included, and leaves the connection open.
    pub fn silence_after(self, bytes: usize) -> Self {
        self.cut(bytes, End::Silence)
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            delay: Duration::ZERO,
            pace: None,
            limit: usize::MAX,
            end: End::Stay,
        }
    }

    fn cut(mut self, bytes: usize, end: End) -> Self {
        self.limit = bytes;
        self.end = end;
        self
    }

    /// Gives the answer, and says whether the connection may bring another request.
    pub(super) async fn send<S: Wire>(&self, stream: &mut S) -> io::Result<bool> {
        tokio::time::sleep(self.delay).await;
        let (mut head, mut body) = self.encode();
        head.truncate(self.limit);
        body.truncate(self.limit - head.len());
        stream.write_all(&head).await?;
        stream.flush().await?;
        self.send_body(stream, &body).await?;
        match self.end {
            End::Stay => return Ok(true),
            End::Close => stream.shutdown().await?,
            End::HangUp => {}
            End::Reset => stream.socket().set_zero_linger()?,
            End::Silence => while stream.read(&mut [0; 1024]).await? > 0 {},
        }
        Ok(false)
    }

    async fn send_body<S: Wire>(&self, stream: &mut S, body: &[u8]) -> io::Result<()> {
        let Some(Pace { bytes, pause }) = self.pace else {
            stream.write_all(body).await?;
            return stream.flush().await;
        };
        for piece in body.chunks(bytes.max(1)) {
            tokio::time::sleep(pause).await;
            stream.write_all(piece).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    /// The headers and the body.
    fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (status, headers, body) = match &self.content {
            Content::Raw(bytes) => return (Vec::new(), bytes.clone()),
            Content::Http {
                status,
                headers,
                body,
            } => (status, headers, body),
        };
        let mut head = format!("HTTP/1.1 {status} \r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.end == End::Close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        (head.into_bytes(), body.clone())
    }
}
