//! What passes between a load and its loader.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CacheError, ErrorKind};
use crate::ttl::Ttl;

/// What a loader comes back with. A plain `Result<T, E>` is one too: a value, or a failure.
///
/// ```
/// use cache_core::{LoaderOutcome, mins};
///
/// let found: Option<u32> = None;
/// let outcome = match found {
///     Some(user) => LoaderOutcome::value(user),
///     None => LoaderOutcome::Absent,
/// };
/// assert!(matches!(outcome, LoaderOutcome::Absent));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum LoaderOutcome<T> {
    /// A value to return and to store.
    Value {
        /// The value.
        value: T,
        /// How long it is fresh, where the loader decides that.
        ttl: Option<Ttl>,
        /// How long after that it may be served stale, where the loader decides that.
        stale_for: Option<Duration>,
    },
    /// A value to return and not to store. What is stored stays.
    DoNotStore(T),
    /// There is nothing under this key, which is remembered for a while
    /// ([`absent_for`](crate::LoadOptionsBuilder::absent_for)).
    Absent,
    /// There is nothing under this key, which is remembered for so long; for ever is ten years.
    AbsentFor(Ttl),
    /// The value that the loader was shown is still right: it is stored anew, for a whole time to
    /// live. A failure where it was shown none.
    NotModified,
    /// The load failed.
    Failed(Box<dyn StdError + Send + Sync>),
    /// The load failed, and this value is to be returned instead, where there is no stale one. It
    /// is not stored; this process keeps it for the throttle.
    FailedWith {
        /// What went wrong.
        error: Box<dyn StdError + Send + Sync>,
        /// The value to return.
        value: T,
    },
}

impl<T> LoaderOutcome<T> {
    /// A value that is stored for the time to live of the call or the service.
    pub fn value(value: T) -> Self {
        Self::Value {
            value,
            ttl: None,
            stale_for: None,
        }
    }

    /// A value that is stored for `ttl`.
    pub fn value_for(value: T, ttl: Ttl) -> Self {
        Self::Value {
            value,
            ttl: Some(ttl),
            stale_for: None,
        }
    }

    /// A failure with this cause.
    pub fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// What loaders return: a [`LoaderOutcome`], or a plain `Result`.
pub trait IntoLoaderOutcome {
    /// The type of the value.
    type Value;

    /// The outcome in full.
    fn into_outcome(self) -> LoaderOutcome<Self::Value>;
}

impl<T> IntoLoaderOutcome for LoaderOutcome<T> {
    type Value = T;

    fn into_outcome(self) -> Self {
        self
    }
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> IntoLoaderOutcome for Result<T, E> {
    type Value = T;

    fn into_outcome(self) -> LoaderOutcome<T> {
        match self {
            Ok(value) => LoaderOutcome::value(value),
            Err(error) => LoaderOutcome::failed(error),
        }
    }
}

/// Why a loader is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadReason {
    /// Nothing is stored, or nobody could say.
    Missing,
    /// What is stored is past its time to live.
    Expired,
    /// What is stored is still fresh, and has passed the threshold of eager refresh.
    Eager,
    /// A caller asked for it.
    Refresh,
}

/// What a loader is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadContext<T> {
    /// Why it is called.
    pub reason: LoadReason,
    /// The value as it is stored, past its time to live or about to be replaced. For conditional
    /// requests, with [`LoaderOutcome::NotModified`] as a possible end.
    pub stored: Option<Arc<T>>,
    /// How old that value is, where its writer kept when it was made.
    pub age: Option<Duration>,
}

/// A cause that is only known as a box.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Cause(Box<dyn StdError + Send + Sync>);

/// The error of a load that ended with `cause`.
pub(super) fn failure(cause: Box<dyn StdError + Send + Sync>) -> CacheError {
    CacheError::from_source(ErrorKind::Loader, Cause(cause))
}
