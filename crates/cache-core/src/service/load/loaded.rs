//! What a load came to, for those who want to know.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{CacheError, ErrorKind, Result};

/// What a [`load`](crate::CacheService::load) found or loaded, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded<T> {
    /// The value; none where there is nothing.
    pub value: Option<Arc<T>>,
    /// Where it comes from.
    pub status: LoadStatus,
    /// The tier that had it: `decoded` for values that this process keeps decoded, the names of a
    /// [`TieredStorage`](crate::TieredStorage)'s tiers, or else the backend. None for a value that
    /// was just loaded.
    pub tier: Option<&'static str>,
    /// How old it is; none where its writer did not keep when it was made.
    pub age: Option<Duration>,
    /// Whether another call was reading or loading it already.
    pub joined: bool,
    /// What went wrong on the way: the failed load behind a stale value or a default, or the
    /// trouble of a storage that did not keep the value from being loaded.
    pub trouble: Option<CacheError>,
}

/// Where the result of a load comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadStatus {
    /// A stored value within its time to live.
    Fresh,
    /// A stored value past its time to live, within its stale budget.
    Stale,
    /// The loader, just now.
    Loaded,
    /// The caller's default, or the value that a failed loader gave.
    Default,
    /// A loader said, now or a while ago, that there is nothing.
    Absent,
}

impl<T> Loaded<T> {
    /// The value.
    ///
    /// # Errors
    ///
    /// `Absent` where there is nothing.
    pub fn into_value(self) -> Result<Arc<T>> {
        self.value.ok_or_else(|| {
            let message = "the loader says that there is nothing under this key";
            CacheError::new(ErrorKind::Absent, message)
        })
    }
}
