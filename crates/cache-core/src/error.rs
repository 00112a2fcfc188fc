//! What can go wrong, for callers to match on and for operators to read.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::key::CacheKey;

mod causes;
mod kind;

pub use causes::{
    ConfigurationError, ConfigurationErrors, ConnectionError, KeyError, KeyRule,
    SerializationError, Topology, TtlError,
};
pub use kind::{ErrorKind, Operation};

/// The result of every cache operation.
pub type Result<T, E = CacheError> = std::result::Result<T, E>;

/// How many characters of a key an error shows.
pub(crate) const SHOWN_KEY_CHARACTERS: usize = 64;

/// The one error type of the library: cheap to clone, one pointer wide.
///
/// The text reads from the outside in, `redis get "user:42": connection refused (10.0.0.7:6379)`,
/// and never contains a value or a password. [`source`](StdError::source) leads to the concrete
/// cause: a [`ConnectionError`], [`KeyError`], [`TtlError`], [`SerializationError`],
/// [`ConfigurationErrors`] or [`ConfigurationError`].
#[derive(Clone)]
pub struct CacheError {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    backend: Option<&'static str>,
    operation: Option<Operation>,
    key: Option<Arc<str>>,
    code: Option<&'static str>,
    message: Arc<str>,
    transient: bool,
    may_have_happened: bool,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl CacheError {
    /// An error of `kind` with a one-line message: lower case, no full stop, no secret.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                backend: None,
                operation: None,
                key: None,
                code: None,
                message: message.into().into(),
                transient: kind.is_transient(),
                may_have_happened: false,
                retry_after: None,
                source: None,
            }),
        }
    }

    /// An error of `kind` that says what `source` says and keeps it as its source.
    #[must_use]
    pub fn from_source(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        let mut error = Self::new(kind, source.to_string());
        error.edit().source = Some(Arc::new(source));
        error
    }

    /// The error every call gets after a shutdown.
    #[must_use]
    pub fn closed(backend: &'static str, operation: Operation) -> Self {
        Self::new(ErrorKind::Closed, "the cache was shut down")
            .with_backend(backend)
            .with_operation(operation)
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The backend that was asked, such as `redis`; none if the error arose before one was.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.inner.backend
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.inner.operation
    }

    /// The key concerned, cut at 64 characters.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.inner.key.as_deref()
    }

    /// The cause in one constant word, finer than the kind: `loading`, `oom`, `noperm`, `refused`;
    /// the kind's own word where nothing finer is known. For metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.inner.code.unwrap_or(self.inner.kind.as_str())
    }

    /// The cause in words, without backend, operation and key.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Whether the same call may succeed later without anybody correcting anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.inner.transient
    }

    /// Whether a write may have reached the backend although it failed here.
    ///
    /// True for a write whose answer was lost: the caller must not conclude that nothing changed.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.inner.may_have_happened
    }

    /// How long to wait before the same call may be answered; none where that is not known.
    ///
    /// Set where a breaker turned the call away, which would be turned away again before that.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Names the backend, unless one is named already.
    #[must_use]
    pub fn with_backend(mut self, backend: &'static str) -> Self {
        self.edit().backend.get_or_insert(backend);
        self
    }

    /// Names the operation, unless one is named already.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.edit().operation.get_or_insert(operation);
        self
    }

    /// Names the key, unless one is named already.
    #[must_use]
    pub fn with_key(mut self, key: &CacheKey) -> Self {
        if self.inner.key.is_none() {
            self.edit().key = Some(shown(key.as_str()).into());
        }
        self
    }

    /// Names the cause in one constant word; see [`code`](Self::code).
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.edit().code = Some(code);
        self
    }

    /// Says whether the write may have reached the backend; see
    /// [`may_have_happened`](Self::may_have_happened). Defaults to false.
    #[must_use]
    pub fn with_may_have_happened(mut self, may_have_happened: bool) -> Self {
        self.edit().may_have_happened = may_have_happened;
        self
    }

    /// Overrides what the kind says about repeating the call.
    #[must_use]
    pub fn with_transient(mut self, transient: bool) -> Self {
        self.edit().transient = transient;
        self
    }

    /// Says how long to wait before the same call may be answered; see
    /// [`retry_after`](Self::retry_after). Defaults to none: not known.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.edit().retry_after = retry_after;
        self
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            backend,
            operation,
            key,
            message,
            ..
        } = &*self.inner;
        let mut separator = "";
        if let Some(backend) = backend {
            f.write_str(backend)?;
            separator = " ";
        }
        if let Some(operation) = operation {
            write!(f, "{separator}{operation}")?;
            separator = " ";
        }
        if let Some(key) = key {
            write!(f, "{separator}{key:?}")?;
            separator = " ";
        }
        if !separator.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(message)
    }
}

impl fmt::Debug for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            backend,
            operation,
            key,
            code: _,
            message,
            transient,
            may_have_happened,
            retry_after,
            source: _,
        } = &*self.inner;
        f.debug_struct("CacheError")
            .field("kind", kind)
            .field("code", &self.code())
            .field("backend", backend)
            .field("operation", operation)
            .field("key", key)
            .field("message", message)
            .field("transient", transient)
            .field("may_have_happened", may_have_happened)
            .field("retry_after", retry_after)
            .finish_non_exhaustive()
    }
}

impl StdError for CacheError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner.source.as_deref()?;
        Some(source)
    }
}

impl From<std::convert::Infallible> for CacheError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A key as errors show it.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(SHOWN_KEY_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_from_the_outside_in() {
        let cause = ConnectionError::new("connection refused", "10.0.0.7:6379")
            .with_attempt(2, Duration::from_secs(2));
        let error = CacheError::from_source(ErrorKind::Connection, cause)
            .with_backend("redis")
            .with_operation(Operation::Get)
            .with_key(&CacheKey::from("user:42"));
        assert_eq!(
            error.to_string(),
            "redis get \"user:42\": connection refused \
             (standalone 10.0.0.7:6379, attempt 2, waited 2000ms)"
        );
        let source = error.source().unwrap();
        assert!(source.downcast_ref::<ConnectionError>().is_some());
    }

    #[test]
    fn is_one_pointer_wide() {
        assert_eq!(size_of::<CacheError>(), size_of::<usize>());
        assert_eq!(size_of::<Result<Option<()>>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn keeps_the_innermost_context() {
        let error = CacheError::closed("redis", Operation::Get)
            .with_backend("tiered")
            .with_operation(Operation::GetMany);
        assert_eq!(error.backend(), Some("redis"));
        assert_eq!(error.operation(), Some(Operation::Get));
    }

    #[test]
    fn tells_when_to_come_back_if_that_is_known() {
        let error = CacheError::new(ErrorKind::Rejected, "the breaker is open");
        assert_eq!(error.retry_after(), None);
        let error = error.with_retry_after(Some(Duration::from_secs(2)));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert!(format!("{error:?}").contains("retry_after: Some(2s)"));
    }

    #[test]
    fn cuts_long_keys() {
        let key = CacheKey::from("ü".repeat(300));
        let error = CacheError::new(ErrorKind::Backend, "no").with_key(&key);
        assert_eq!(error.key().unwrap().chars().count(), SHOWN_KEY_CHARACTERS);
    }

    #[test]
    fn lists_every_configuration_problem_in_one_line() {
        let errors = ConfigurationErrors(vec![
            ConfigurationError::new("A", "A is not set"),
            ConfigurationError::new("B", "B is not a number"),
        ]);
        let error = CacheError::from(errors);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.to_string(), "A is not set | B is not a number");
    }
}
