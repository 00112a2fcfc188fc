//! What can go wrong, for callers to match on and for operators to read.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::key::CacheKey;

/// The result of every cache operation.
pub type Result<T, E = CacheError> = std::result::Result<T, E>;

/// How many characters of a key an error shows.
pub(crate) const SHOWN_KEY_CHARACTERS: usize = 64;

/// What went wrong, by what the caller should do about it.
///
/// Callers match the kind and never read the text of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, a credential, a certificate or a permission is wrong. Repeating the call does not
    /// help; correct the configuration.
    #[doc(alias = "RedisCacheConfigurationError")]
    Configuration,
    /// The backend could not be reached, or the connection ended under the call. Repeating the call
    /// later may help.
    #[doc(alias = "RedisCacheConnectionError")]
    Connection,
    /// No answer came within the time allowed. Repeating the call later may help; see
    /// [`CacheError::may_have_happened`] before repeating a write.
    Timeout,
    /// The key breaks a rule of [`CacheKey`]. Correct the caller.
    #[doc(alias = "RedisCacheKeyError")]
    Key,
    /// The time to live is zero, shorter than a millisecond, or longer than ten years. Correct the
    /// caller.
    Ttl,
    /// A value could not be encoded, or stored bytes could not be decoded as the type asked for.
    /// Stored bytes are left alone.
    #[doc(alias = "RedisCacheSerializationError")]
    Serialization,
    /// The value is larger than the storage takes. Nothing was sent.
    TooLarge,
    /// The backend asked to slow down. Repeat later, with a growing pause.
    Throttled,
    /// The backend has no memory or capacity left for this call, or too many calls of this process
    /// are under way. Shed load; repeating at once makes it worse.
    Overloaded,
    /// A circuit breaker is open, so the backend was not asked.
    Rejected,
    /// The entry is not the decimal text of a 64-bit integer, so it cannot be counted. It was left
    /// alone.
    NotACounter,
    /// The sum would leave the range of a signed 64-bit integer. The counter was left alone.
    Overflow,
    /// The loader behind a `get_or_load` failed.
    Loader,
    /// The loader behind a `get_or_load` said that there is nothing under the key.
    Absent,
    /// The cache was shut down; this call and all later ones are refused.
    Closed,
    /// The storage cannot do what was asked.
    Unsupported,
    /// The backend refused the call for a reason that none of the other kinds describes.
    Backend,
}

impl ErrorKind {
    /// The kind in words, as it appears in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Key => "key",
            Self::Ttl => "ttl",
            Self::Serialization => "serialization",
            Self::TooLarge => "too_large",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Rejected => "rejected",
            Self::NotACounter => "not_a_counter",
            Self::Overflow => "overflow",
            Self::Loader => "loader",
            Self::Absent => "absent",
            Self::Closed => "closed",
            Self::Unsupported => "unsupported",
            Self::Backend => "backend",
        }
    }

    /// Trouble of a backend, as opposed to a mistake of the caller, an entry that is not what was
    /// expected, or a shutdown.
    pub(crate) fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Configuration
                | Self::Connection
                | Self::Timeout
                | Self::Throttled
                | Self::Overloaded
                | Self::Rejected
                | Self::Backend
        )
    }

    fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::Timeout
                | Self::Throttled
                | Self::Overloaded
                | Self::Rejected
                | Self::Loader
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operation an error belongs to, named as the method that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the method of the same name")]
pub enum Operation {
    Get,
    GetMany,
    Lookup,
    LookupMany,
    Set,
    SetMany,
    Delete,
    DeleteMany,
    CompareAndDelete,
    Has,
    Expire,
    ExpireNow,
    GetTtl,
    Increment,
    GetOrLoad,
    Clear,
    Ping,
    Shutdown,
}

impl Operation {
    /// The operation in words, as it appears in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Lookup => "lookup",
            Self::LookupMany => "lookup_many",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
            Self::CompareAndDelete => "compare_and_delete",
            Self::Has => "has",
            Self::Expire => "expire",
            Self::ExpireNow => "expire_now",
            Self::GetTtl => "get_ttl",
            Self::Increment => "increment",
            Self::GetOrLoad => "get_or_load",
            Self::Clear => "clear",
            Self::Ping => "ping",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether the operation may change something.
    #[must_use]
    pub fn is_write(self) -> bool {
        !matches!(
            self,
            Self::Get
                | Self::GetMany
                | Self::Lookup
                | Self::LookupMany
                | Self::Has
                | Self::GetTtl
                | Self::GetOrLoad
                | Self::Ping
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// Why a backend could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({topology} {address}{}{})", attempts(*attempt), waiting(*waited))]
#[non_exhaustive]
#[doc(alias = "RedisCacheConnectionError")]
pub struct ConnectionError {
    /// What happened, in words, such as `connection refused`.
    pub reason: String,
    /// Where the backend was looked for, such as `10.0.0.7:6379`. Never contains credentials.
    pub address: String,
    /// Whether the address is one server or the entry to a cluster.
    pub topology: Topology,
    /// Which attempt of the operation this was, from 1.
    pub attempt: u32,
    /// How long the operation had waited in all.
    pub waited: Duration,
}

impl ConnectionError {
    /// A first attempt at one server that failed for `reason` without waiting.
    #[must_use]
    pub fn new(reason: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            address: address.into(),
            topology: Topology::Standalone,
            attempt: 1,
            waited: Duration::ZERO,
        }
    }

    /// Says how the backend behind the address is laid out. Defaults to one server.
    #[must_use]
    pub fn with_topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Says which attempt failed and how long the operation had waited by then.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32, waited: Duration) -> Self {
        self.attempt = attempt;
        self.waited = waited;
        self
    }
}

/// How the backend behind an address is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topology {
    /// One server.
    Standalone,
    /// A cluster of servers behind one entry address.
    Cluster,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
        })
    }
}

fn attempts(attempt: u32) -> String {
    if attempt <= 1 {
        return String::new();
    }
    format!(", attempt {attempt}")
}

fn waiting(waited: Duration) -> String {
    if waited < Duration::from_millis(1) {
        return String::new();
    }
    format!(", waited {}ms", waited.as_millis())
}

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {key:?} {rule}")]
#[non_exhaustive]
#[doc(alias = "RedisCacheKeyError")]
pub struct KeyError {
    /// The key, cut at 64 characters.
    pub key: String,
    /// The rule it breaks.
    pub rule: KeyRule,
}

/// The rules every key keeps; see [`CacheKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRule {
    /// A key has at least one byte.
    #[error("is empty")]
    Empty,
    /// A key has at most 1,024 bytes, its prefix included.
    #[error("is longer than {} bytes", crate::key::MAX_KEY_BYTES)]
    TooLong,
    /// A key has no control characters.
    #[error("contains a control character")]
    ControlCharacter,
}

impl From<KeyError> for CacheError {
    fn from(error: KeyError) -> Self {
        let key: Arc<str> = error.key.as_str().into();
        let mut wrapped = Self::new(ErrorKind::Key, error.rule.to_string());
        wrapped.edit().key = Some(key);
        wrapped.edit().source = Some(Arc::new(error));
        wrapped
    }
}

/// Why a time to live was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TtlError {
    /// Shorter than one millisecond, zero included. Zero never means "for ever".
    #[error("a time to live of {0:?} is shorter than 1ms")]
    TooShort(Duration),
    /// Longer than ten years, stale budget included.
    #[error("a time to live of {0:?} is longer than 10 years")]
    TooLong(Duration),
}

impl From<TtlError> for CacheError {
    fn from(error: TtlError) -> Self {
        Self::from_source(ErrorKind::Ttl, error)
    }
}

/// Why a value could not be encoded or stored bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (codec {codec}, type {type_name}{})", sized(*bytes))]
#[non_exhaustive]
#[doc(alias = "RedisCacheSerializationError")]
pub struct SerializationError {
    /// What the codec objected to. Never contains the value.
    pub reason: String,
    /// The key, cut at 64 characters.
    pub key: String,
    /// The codec of the service, such as `json`.
    pub codec: &'static str,
    /// The Rust type that was to be written or read.
    pub type_name: &'static str,
    /// The length of the stored bytes; none where encoding failed.
    pub bytes: Option<usize>,
}

impl SerializationError {
    /// An error about `key` and the Rust type `T`.
    #[must_use]
    pub fn new<T: ?Sized>(
        reason: impl Into<String>,
        key: &CacheKey,
        codec: &'static str,
        bytes: Option<usize>,
    ) -> Self {
        Self {
            reason: reason.into(),
            key: shown(key.as_str()),
            codec,
            type_name: std::any::type_name::<T>(),
            bytes,
        }
    }
}

fn sized(bytes: Option<usize>) -> String {
    bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"))
}

impl From<SerializationError> for CacheError {
    fn from(error: SerializationError) -> Self {
        let key: Arc<str> = error.key.as_str().into();
        let mut wrapped = Self::from_source(ErrorKind::Serialization, error);
        wrapped.edit().key = Some(key);
        wrapped
    }
}

/// One problem with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
#[non_exhaustive]
#[doc(alias = "RedisCacheConfigurationError")]
pub struct ConfigurationError {
    /// The environment variable, or the option in code, that is concerned.
    pub variable: String,
    /// Its value; none where it is not set or is a secret.
    pub value: Option<String>,
    /// The whole problem in one sentence, with what is accepted.
    pub problem: String,
}

impl ConfigurationError {
    /// A problem with `variable` described by a whole sentence that names it.
    #[must_use]
    pub fn new(variable: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            value: None,
            problem: problem.into(),
        }
    }

    /// Keeps the refused value. Never call this for a secret.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }
}

impl From<ConfigurationError> for CacheError {
    fn from(error: ConfigurationError) -> Self {
        ConfigurationErrors(vec![error]).into()
    }
}

/// Everything that is wrong with a configuration, found in one go; shown in one line, with ` | `
/// between the problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationErrors(pub Vec<ConfigurationError>);

impl fmt::Display for ConfigurationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl StdError for ConfigurationErrors {}

impl From<ConfigurationErrors> for CacheError {
    fn from(errors: ConfigurationErrors) -> Self {
        Self::from_source(ErrorKind::Configuration, errors)
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
