//! From the server's and the client's errors to ours: every error is mapped on purpose, in one
//! table.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use cache_aws::Trouble;
use cache_core::{CacheError, ConnectionError, ErrorKind};

use crate::item::Unreadable;

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

/// What a server's error means to a caller.
struct Meaning {
    /// The error code, or its beginning where it ends with `*`.
    code: &'static str,
    kind: ErrorKind,
    /// When the call may be tried again, which makes the error transient.
    again: Again,
    /// The message. `{table}`, `{region}` and `{action}` are filled in.
    message: &'static str,
}

const fn meaning(
    code: &'static str,
    kind: ErrorKind,
    again: Again,
    message: &'static str,
) -> Meaning {
    Meaning {
        code,
        kind,
        again,
        message,
    }
}

const SLOW_DOWN: &str = "the table or the account is asked for more than its throughput";
const BAD_KEYS: &str = "AWS refuses the credentials; check the access key and its secret";
const EXPIRED: &str = "the credentials have expired";
const UNSIGNED: &str = "AWS takes the request for unsigned; check the credentials";
const BAD_SIGNATURE: &str =
    "AWS refuses the signature; check the secret access key and the clock of this machine";
const DENIED: &str = "the credentials may not call {action} on table {table}; allow it";
const BUSY: &str = "another transaction or region is writing the item";
const NO_TABLE: &str =
    "there is no table {table} in {region}; create it, or correct its name and region";

const SERVER_ERRORS: &[Meaning] = &[
    // More than was paid for.
    meaning(
        "ProvisionedThroughputExceededException",
        ErrorKind::Throttled,
        Again::Later,
        SLOW_DOWN,
    ),
    meaning(
        "ThrottlingException",
        ErrorKind::Throttled,
        Again::Later,
        SLOW_DOWN,
    ),
    meaning("Throttling", ErrorKind::Throttled, Again::Later, SLOW_DOWN),
    meaning(
        "RequestLimitExceeded",
        ErrorKind::Throttled,
        Again::Later,
        SLOW_DOWN,
    ),
    meaning(
        "LimitExceededException",
        ErrorKind::Throttled,
        Again::Later,
        "the account is changing too many tables at once",
    ),
    // The server's own trouble.
    meaning(
        "InternalServerError",
        ErrorKind::Backend,
        Again::Later,
        "the server failed",
    ),
    meaning(
        "InternalFailure",
        ErrorKind::Backend,
        Again::Later,
        "the server failed",
    ),
    meaning(
        "ServiceUnavailable*",
        ErrorKind::Overloaded,
        Again::Later,
        "the service is not available",
    ),
    meaning(
        "TransactionConflictException",
        ErrorKind::Overloaded,
        Again::Later,
        BUSY,
    ),
    meaning(
        "TransactionInProgressException",
        ErrorKind::Overloaded,
        Again::Later,
        BUSY,
    ),
    meaning(
        "ReplicatedWriteConflictException",
        ErrorKind::Overloaded,
        Again::Later,
        BUSY,
    ),
    // Somebody has to correct something.
    meaning(
        "ResourceNotFoundException",
        ErrorKind::Configuration,
        Again::Never,
        NO_TABLE,
    ),
    meaning(
        "ResourceInUseException",
        ErrorKind::Configuration,
        Again::Never,
        "table {table} is being created, changed or deleted; wait until it is active",
    ),
    meaning(
        "AccessDenied*",
        ErrorKind::Configuration,
        Again::Never,
        DENIED,
    ),
    meaning(
        "ExpiredToken*",
        ErrorKind::Configuration,
        Again::Never,
        EXPIRED,
    ),
    meaning(
        "RequestExpired",
        ErrorKind::Configuration,
        Again::Never,
        BAD_SIGNATURE,
    ),
    meaning(
        "UnrecognizedClient*",
        ErrorKind::Configuration,
        Again::Never,
        BAD_KEYS,
    ),
    meaning(
        "InvalidClientTokenId",
        ErrorKind::Configuration,
        Again::Never,
        BAD_KEYS,
    ),
    meaning(
        "InvalidSignature*",
        ErrorKind::Configuration,
        Again::Never,
        BAD_SIGNATURE,
    ),
    meaning(
        "SignatureDoesNotMatch",
        ErrorKind::Configuration,
        Again::Never,
        BAD_SIGNATURE,
    ),
    meaning(
        "MissingAuthenticationToken*",
        ErrorKind::Configuration,
        Again::Never,
        UNSIGNED,
    ),
    meaning(
        "IncompleteSignature*",
        ErrorKind::Configuration,
        Again::Never,
        UNSIGNED,
    ),
    meaning(
        "OptInRequired",
        ErrorKind::Configuration,
        Again::Never,
        "the account has no access to DynamoDB in {region}",
    ),
    meaning(
        "KMS*",
        ErrorKind::Configuration,
        Again::Never,
        "the KMS key of table {table} cannot be used; check the key and its policy",
    ),
    meaning(
        "UnknownOperationException",
        ErrorKind::Unsupported,
        Again::Never,
        "the endpoint does not know {action}",
    ),
    // The request does not fit.
    meaning(
        "ItemCollectionSizeLimitExceededException",
        ErrorKind::TooLarge,
        Again::Never,
        "the items under the partition key leave no room",
    ),
];

/// What a validation error's text says about its cause. The text itself is not repeated: it may
/// quote values.
const VALIDATION_ERRORS: &[(&str, ErrorKind, &str)] = &[
    (
        "does not match the schema",
        ErrorKind::Configuration,
        KEY_SCHEMA,
    ),
    ("Missing the key", ErrorKind::Configuration, KEY_SCHEMA),
    ("required keys", ErrorKind::Configuration, KEY_SCHEMA),
    ("mismatch for key", ErrorKind::Configuration, KEY_SCHEMA),
    (
        "number of conditions on the keys",
        ErrorKind::Configuration,
        KEY_SCHEMA,
    ),
    ("key schema element", ErrorKind::Configuration, KEY_SCHEMA),
    (
        "Item size",
        ErrorKind::TooLarge,
        "the item is larger than the server takes",
    ),
    (
        "item size",
        ErrorKind::TooLarge,
        "the item is larger than the server takes",
    ),
];

const KEY_SCHEMA: &str = "the keys of table {table} are not those of the options";

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
    pub(crate) reason: Cow<'static, str>,
    pub(crate) again: Again,
    /// Whether the server may have executed the request.
    pub(crate) may_have_run: bool,
    /// Whether other credentials might do.
    pub(crate) wants_credentials: bool,
    /// Whether the way to the server is concerned, rather than what the server said.
    is_about_the_way: bool,
}

impl Failure {
    fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>, again: Again) -> Self {
        Self {
            kind,
            reason: reason.into(),
            again,
            may_have_run: false,
            wants_credentials: false,
            is_about_the_way: false,
        }
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
        Self::new(ErrorKind::Timeout, reason, Again::Later).on_the_way(true)
    }

    /// The call's time was over before it began.
    pub(crate) fn no_time() -> Self {
        let reason = "no time was left to begin";
        Self::new(ErrorKind::Timeout, reason, Again::Never).on_the_way(false)
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
        let told = |kind, message: &str, again| Self::new(kind, context.fill(message), again);
        let known = SERVER_ERRORS.iter().find(|meaning| meaning.is_about(code));
        let failure = match (known, status) {
            (Some(meaning), _) => told(meaning.kind, meaning.message, meaning.again),
            (None, 429) => told(ErrorKind::Throttled, SLOW_DOWN, Again::Later),
            (None, 503) => told(
                ErrorKind::Overloaded,
                "the service is not available",
                Again::Later,
            ),
            (None, 500..) => told(ErrorKind::Backend, "the server failed", Again::Later),
            (None, _) if code.starts_with("Validation") => {
                let cause = VALIDATION_ERRORS
                    .iter()
                    .find(|(part, ..)| text.contains(part));
                match cause {
                    Some((_, kind, message)) => told(*kind, message, Again::Never),
                    None => told(
                        ErrorKind::Backend,
                        "the server takes the request for invalid",
                        Again::Never,
                    ),
                }
            }
            (None, _) => {
                let message = format!("the server refused the request with {}", printable(code));
                told(ErrorKind::Backend, &message, Again::Never)
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
        Self::new(kind, trouble.reason(), again).on_the_way(trouble.may_have_been_sent())
    }

    /// What came is no answer.
    fn garbled() -> Self {
        let reason = "the server's answer makes no sense";
        Self::new(ErrorKind::Connection, reason, Again::Later).on_the_way(true)
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
        error.with_backend(BACKEND).with_transient(transient)
    }
}

impl Meaning {
    fn is_about(&self, code: &str) -> bool {
        match self.code.strip_suffix('*') {
            Some(beginning) => code.starts_with(beginning),
            None => code == self.code,
        }
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
    fn every_server_error_has_its_kind() {
        use ErrorKind::{Backend, Configuration, Overloaded, Throttled, TooLarge, Unsupported};

        // Code, status, kind, whether it passes by itself, whether a write may have been executed.
        let cases = [
            (
                "ProvisionedThroughputExceededException",
                400,
                Throttled,
                true,
                false,
            ),
            ("ThrottlingException", 400, Throttled, true, false),
            ("Throttling", 400, Throttled, true, false),
            ("RequestLimitExceeded", 400, Throttled, true, false),
            ("LimitExceededException", 400, Throttled, true, false),
            ("InternalServerError", 500, Backend, true, true),
            ("InternalFailure", 500, Backend, true, true),
            ("ServiceUnavailable", 503, Overloaded, true, true),
            ("ServiceUnavailableException", 503, Overloaded, true, true),
            ("TransactionConflictException", 400, Overloaded, true, false),
            (
                "TransactionInProgressException",
                400,
                Overloaded,
                true,
                false,
            ),
            (
                "ReplicatedWriteConflictException",
                400,
                Overloaded,
                true,
                false,
            ),
            (
                "ResourceNotFoundException",
                400,
                Configuration,
                false,
                false,
            ),
            ("ResourceInUseException", 400, Configuration, false, false),
            ("AccessDeniedException", 400, Configuration, false, false),
            ("AccessDenied", 403, Configuration, false, false),
            ("ExpiredTokenException", 400, Configuration, false, false),
            ("ExpiredToken", 403, Configuration, false, false),
            ("RequestExpired", 400, Configuration, false, false),
            (
                "UnrecognizedClientException",
                400,
                Configuration,
                false,
                false,
            ),
            ("InvalidClientTokenId", 403, Configuration, false, false),
            (
                "InvalidSignatureException",
                400,
                Configuration,
                false,
                false,
            ),
            ("SignatureDoesNotMatch", 403, Configuration, false, false),
            (
                "MissingAuthenticationTokenException",
                400,
                Configuration,
                false,
                false,
            ),
            (
                "MissingAuthenticationToken",
                403,
                Configuration,
                false,
                false,
            ),
            (
                "IncompleteSignatureException",
                400,
                Configuration,
                false,
                false,
            ),
            ("IncompleteSignature", 400, Configuration, false, false),
            ("OptInRequired", 403, Configuration, false, false),
            ("KMSInvalidStateException", 400, Configuration, false, false),
            ("UnknownOperationException", 400, Unsupported, false, false),
            (
                "ItemCollectionSizeLimitExceededException",
                400,
                TooLarge,
                false,
                false,
            ),
            ("ValidationException", 400, Backend, false, false),
            ("NewException", 400, Backend, false, false),
            ("NewException", 502, Backend, true, true),
            ("", 500, Backend, true, true),
            ("", 503, Overloaded, true, true),
            ("", 429, Throttled, true, false),
            ("", 404, Backend, false, false),
            ("", 200, ErrorKind::Connection, true, true),
        ];
        for (code, status, kind, transient, may_have_run) in cases {
            let failure = failure(code, "", status);
            assert_eq!(failure.may_have_run, may_have_run, "{code} {status}");
            let error = failure.into_error("sessions@eu-west-1", 1, Duration::ZERO);
            assert_eq!(
                (error.kind(), error.is_transient()),
                (kind, transient),
                "{code} {status}"
            );
            assert!(!error.message().contains('{'), "{error}");
        }
        for meaning in SERVER_ERRORS {
            let has_case = cases.iter().any(|(code, ..)| meaning.is_about(code));
            assert!(has_case, "{} has no case", meaning.code);
        }
    }

    #[test]
    fn a_validation_error_is_told_by_its_text() {
        let schema = ErrorKind::Configuration;
        for (text, kind) in [
            ("The provided key element does not match the schema", schema),
            (
                "One or more parameter values were invalid: Missing the key SK in the item",
                schema,
            ),
            ("One of the required keys was not given a value", schema),
            (
                "One or more parameter values were invalid: Type mismatch for key PK expected: N \
                 actual: S",
                schema,
            ),
            ("The number of conditions on the keys is invalid", schema),
            ("Query condition missed key schema element: PK", schema),
            (
                "Item size has exceeded the maximum allowed size",
                ErrorKind::TooLarge,
            ),
            (
                "Item size to update has exceeded the maximum allowed size",
                ErrorKind::TooLarge,
            ),
            (
                "Aggregated item size has exceeded the limit",
                ErrorKind::TooLarge,
            ),
            ("Invalid UpdateExpression", ErrorKind::Backend),
        ] {
            assert_eq!(
                failure("ValidationException", text, 400).kind,
                kind,
                "{text}"
            );
        }
        for (part, ..) in VALIDATION_ERRORS {
            assert!(failure("ValidationException", part, 400).kind != ErrorKind::Backend);
        }
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
