//! The concrete causes behind an error.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{CacheError, ErrorKind, shown};
use crate::key::CacheKey;

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
