//! What went wrong, and in which operation.

use std::fmt;

#[cfg(doc)]
use super::CacheError;
#[cfg(doc)]
use crate::key::CacheKey;

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

    pub(super) fn is_transient(self) -> bool {
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
