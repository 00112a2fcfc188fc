//! Reads with their circumstances.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::ttl::Expiry;

/// What a read found, and how.
///
/// [`CacheService::get`](crate::CacheService::get) answers only the value; this is for those who
/// want to know more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lookup<T> {
    /// The value: present when the status is fresh or stale.
    pub value: Option<T>,
    /// What the read came to.
    pub status: LookupStatus,
    /// When the value stops or stopped being fresh; none without a value.
    pub expires_at: Option<Expiry>,
    /// How old the value is; none where its writer did not keep the creation time.
    pub age: Option<Duration>,
    /// The trouble that the service's policy reads as a miss; present when the status is unknown.
    pub trouble: Option<CacheError>,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LookupStatus {
    /// A value within its time to live.
    Fresh,
    /// A value past its time to live, within its stale budget.
    Stale,
    /// The backend answered that there is nothing.
    Absent,
    /// Nobody could answer, and the service reads trouble as a miss.
    Unknown,
}

impl<T> Lookup<T> {
    pub(crate) fn absent() -> Self {
        Self {
            value: None,
            status: LookupStatus::Absent,
            expires_at: None,
            age: None,
            trouble: None,
        }
    }

    pub(crate) fn unknown(trouble: CacheError) -> Self {
        Self {
            status: LookupStatus::Unknown,
            trouble: Some(trouble),
            ..Self::absent()
        }
    }

    /// A value of `entry`; the clock is read only where a deadline or an age depends on it.
    pub(crate) fn found(value: T, entry: &Entry, now: impl Fn() -> Timestamp) -> Self {
        let Entry {
            expires_at,
            created_at,
            ..
        } = *entry;
        let status = if expires_at.has_passed(&now) {
            LookupStatus::Stale
        } else {
            LookupStatus::Fresh
        };
        Self {
            value: Some(value),
            status,
            expires_at: Some(expires_at),
            age: created_at.map(|created_at| now().since(created_at)),
            trouble: None,
        }
    }

    /// The value if it is fresh.
    #[must_use]
    pub fn into_fresh(self) -> Option<T> {
        self.value.filter(|_| self.status == LookupStatus::Fresh)
    }
}
