//! From the server's and the client's errors to ours. What the server says is mapped on purpose, in
//! the one table of `error/server.rs`.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use cache_aws::Trouble;
use cache_core::{CacheError, ConnectionError, ErrorKind, Event, Observers};

use crate::item::Unreadable;

mod server;

use server::meaning_of;

pub(crate) const BACKEND: &str = "dynamodb";

/// Whether and when what failed may be tried once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Trying again does not help.
    Never,
    /// The connection at hand was dead; the next one may not be.
    AtOnce,
    /// After a pause.
    Later,
}

/// Codes that mean that other credentials might do.
const CREDENTIAL_ERRORS: [&str; 3] = ["ExpiredToken", "UnrecognizedClient", "InvalidClientTokenId"];

/// What a message may have to name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) table: &'a str,
    pub(crate) region: &'a str,
    /// The permission that the call needs, such as `dynamodb:GetItem`.
    pub(crate) action: &'static str,
}

/// How one attempt at a call failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// The cause in one word; of a timeout the phase that it ended.
    code: &'static str,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) again: Again,
    /// Whether the server may have executed the request.
    pub(crate) may_have_run: bool,
    /// Whether other credentials might do.
    pub(crate) wants_credentials: bool,
    /// Whether the way to the server is concerned, rather than what the server said.
    is_about_the_way: bool,
    /// What became of a connection, if that is known: `dial_fail` or `close`.
    connection: Option<&'static str>,
}

impl Failure {
    fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>, again: Again) -> Self {
        Self {
            kind,
            code: kind.as_str(),
            reason: reason.into(),
            again,
            may_have_run: false,
            wants_credentials: false,
            is_about_the_way: false,
            connection: None,
        }
    }

    fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    fn on_the_way(self, may_have_run: bool) -> Self {
        Self {
            may_have_run,
            is_about_the_way: true,
            ..self
        }
    }

    /// The answer did not come in time.
    pub(crate) fn no_answer(waited: Duration) -> Self {
        let reason = format!("no answer within {}ms", waited.as_millis());
        let failure = Self::new(ErrorKind::Timeout, reason, Again::Later).on_the_way(true);
        failure.with_code("read")
    }

    /// The call's time was over before it began.
    pub(crate) fn no_time() -> Self {
        let reason = "no time was left to begin";
        let failure = Self::new(ErrorKind::Timeout, reason, Again::Never).on_the_way(false);
        failure.with_code("operation")
    }

    /// What the SDK reports.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>, context: Context<'_>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => Self::of_connector(error),
                None => Self::garbled(),
            },
            SdkError::ServiceError(failure) => {
                let status = failure.raw().status().as_u16();
                let (code, text) = (failure.err().code(), failure.err().message());
                Self::of_server(
                    code.unwrap_or_default(),
                    text.unwrap_or_default(),
                    status,
                    context,
                )
            }
            SdkError::ConstructionFailure(_) => Self::new(
                ErrorKind::Backend,
                "the request could not be made",
                Again::Never,
            ),
            _ => Self::garbled(),
        }
    }

    /// An error of the service, by its code, or by its HTTP status where it has no code that
    /// anybody knows.
    fn of_server(code: &str, text: &str, status: u16, context: Context<'_>) -> Self {
        if (200..300).contains(&status) {
            return Self::garbled();
        }
        let failure = match meaning_of(code, text, status) {
            Some(meaning) => {
                let reason = context.fill(meaning.message);
                Self::new(meaning.kind, reason, meaning.again).with_code(meaning.code)
            }
            None => {
                let reason = format!("the server refused the request with {}", printable(code));
                Self::new(ErrorKind::Backend, reason, Again::Never)
            }
        };
        Self {
            wants_credentials: CREDENTIAL_ERRORS
                .iter()
                .any(|known| code.starts_with(known)),
            may_have_run: status >= 500,
            ..failure
        }
    }

    fn of_connector(error: &ConnectorError) -> Self {
        let trouble = Trouble::of(error);
        let (kind, again) = match trouble {
            Trouble::Tls(_) => (ErrorKind::Configuration, Again::Never),
            Trouble::ConnectTimeout => (ErrorKind::Timeout, Again::Later),
            Trouble::Closed => (ErrorKind::Connection, Again::AtOnce),
            _ => (ErrorKind::Connection, Again::Later),
        };
        let sent = trouble.may_have_been_sent();
        Self {
            code: code_of(trouble),
            connection: Some(if sent { "close" } else { "dial_fail" }),
            ..Self::new(kind, trouble.reason(), again).on_the_way(sent)
        }
    }

    /// What came is no answer.
    fn garbled() -> Self {
        let reason = "the server's answer makes no sense";
        let failure = Self::new(ErrorKind::Connection, reason, Again::Later).on_the_way(true);
        failure.with_code("garbled")
    }

    /// Tells whoever measures it how the attempt failed.
    pub(crate) fn tell(&self, observers: &Observers) {
        let backend = BACKEND;
        match self.kind {
            ErrorKind::Throttled => observers.tell(&Event::Throttled { backend }),
            ErrorKind::Timeout => {
                let phase = self.code;
                observers.tell(&Event::Timeout { backend, phase });
            }
            _ => {}
        }
        if let Some(event) = self.connection {
            let reason = match self.kind {
                ErrorKind::Timeout => "timeout",
                _ => self.code,
            };
            observers.tell(&Event::Connection {
                backend,
                event,
                reason,
            });
        }
    }

    /// The error that callers see.
    pub(crate) fn into_error(self, address: &str, attempt: u32, waited: Duration) -> CacheError {
        let transient = self.again != Again::Never || self.kind == ErrorKind::Timeout;
        let error = if self.is_about_the_way {
            let source = ConnectionError::new(self.reason, address).with_attempt(attempt, waited);
            CacheError::from_source(self.kind, source)
        } else {
            CacheError::new(self.kind, self.reason)
        };
        error
            .with_code(self.code)
            .with_backend(BACKEND)
            .with_transient(transient)
    }
}

/// The cause of trouble with a connection in one word.
fn code_of(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::ConnectTimeout => "connect",
        Trouble::Tls(_) => "tls",
        Trouble::Closed => "closed",
        Trouble::Garbled => "garbled",
        // Which of them it is, is told in words alone.
        trouble => match trouble.reason() {
            "connection refused" => "refused",
            "the host name was not found" => "dns",
            "the connection was closed while it was made" => "closed",
            "the host cannot be reached" => "unreachable",
            _ => "connection",
        },
    }
}

impl Context<'_> {
    fn fill(self, message: &str) -> String {
        message
            .replace("{table}", self.table)
            .replace("{region}", self.region)
            .replace("{action}", self.action)
    }
}

impl From<Unreadable> for CacheError {
    fn from(error: Unreadable) -> Self {
        Self::from_source(ErrorKind::Serialization, error).with_backend(BACKEND)
    }
}

/// An error of this backend's own making.
pub(crate) fn error(kind: ErrorKind, message: &str) -> CacheError {
    CacheError::new(kind, message).with_backend(BACKEND)
}

/// A server's error code if it looks like one.
fn printable(code: &str) -> &str {
    let is_code =
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_code { code } else { "an unknown error" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'_> = Context {
        table: "sessions",
        region: "eu-west-1",
        action: "dynamodb:GetItem",
    };

    fn failure(code: &str, text: &str, status: u16) -> Failure {
        Failure::of_server(code, text, status, CONTEXT)
    }

    #[test]
    fn what_may_have_been_executed_is_told_by_the_status() {
        for (code, status, may_have_run) in [
            ("InternalServerError", 500, true),
            ("ServiceUnavailable", 503, true),
            ("NewException", 502, true),
            ("ThrottlingException", 400, false),
            ("NewException", 400, false),
            ("", 404, false),
        ] {
            assert_eq!(
                failure(code, "", status).may_have_run,
                may_have_run,
                "{code} {status}"
            );
        }
    }

    #[test]
    fn a_good_status_with_an_error_is_no_answer() {
        let failure = failure("", "", 200);
        assert_eq!(
            (failure.kind, failure.may_have_run),
            (ErrorKind::Connection, true)
        );
        let error = failure.into_error("sessions@eu-west-1", 2, Duration::ZERO);
        assert!(error.is_transient());
        let source = error.source().unwrap();
        assert!(source.is::<ConnectionError>());
    }

    #[test]
    fn trouble_on_the_way_has_its_code() {
        for (trouble, code) in [
            (Trouble::Unreachable("connection refused"), "refused"),
            (Trouble::Unreachable("the host name was not found"), "dns"),
            (Trouble::Unreachable("something new"), "connection"),
            (Trouble::ConnectTimeout, "connect"),
            (Trouble::Tls("the server refuses our TLS"), "tls"),
            (Trouble::Closed, "closed"),
            (Trouble::Garbled, "garbled"),
        ] {
            assert_eq!(code_of(trouble), code, "{trouble:?}");
        }
        let code = |failure: Failure| failure.into_error("t", 1, Duration::ZERO).code();
        assert_eq!(code(Failure::no_answer(Duration::ZERO)), "read");
        assert_eq!(code(Failure::no_time()), "operation");
        assert_eq!(code(failure("", "", 200)), "garbled");
        assert_eq!(code(failure("AccessDenied", "", 403)), "noperm");
        assert_eq!(code(failure("NewException", "", 400)), "backend");
    }

    #[test]
    fn messages_name_what_has_to_be_corrected() {
        let text = |code| failure(code, "", 400).reason.into_owned();
        assert_eq!(
            text("ResourceNotFoundException"),
            "there is no table sessions in eu-west-1; create it, or correct its name and region"
        );
        assert_eq!(
            text("AccessDeniedException"),
            "the credentials may not call dynamodb:GetItem on table sessions; allow it"
        );
    }

    #[test]
    fn the_servers_text_is_not_repeated() {
        for code in ["ValidationException", "NewException", "the value hunter2"] {
            let failure = failure(code, "the value hunter2 is invalid", 400);
            let error = failure.into_error("sessions@eu-west-1", 1, Duration::ZERO);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn refused_credentials_are_asked_for_again() {
        for code in ["ExpiredTokenException", "UnrecognizedClientException"] {
            assert!(failure(code, "", 400).wants_credentials, "{code}");
        }
        assert!(!failure("AccessDeniedException", "", 400).wants_credentials);
    }
}
