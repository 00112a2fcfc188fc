//! What a call or a service may decide.

use std::time::Duration;

use crate::entry::Condition;
use crate::error::{CacheError, Result};
use crate::ttl::Ttl;

/// What reads do when the backend is in trouble: unreachable, slow, misconfigured, behind an open
/// breaker, or holding bytes that cannot be decoded.
///
/// Mistakes of the caller (`Key`) and calls after a shutdown (`Closed`) are errors under either.
/// Set and delete always report; increment and conditional writes always fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnTrouble {
    /// Return the typed error. The default.
    #[default]
    Error,
    /// Read it as a miss, counted as degraded in
    /// [`get_stats`](crate::CacheService::get_stats) and visible in
    /// [`lookup`](crate::CacheService::lookup).
    Miss,
}

/// How one value is written, where it differs from the service's defaults.
///
/// ```
/// use cache_core::{SetOptions, mins};
///
/// let options = SetOptions::new().ttl(mins(1)).if_absent();
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SetOptions {
    ttl: Option<Result<Ttl>>,
    stale_for: Option<Duration>,
    keeps_creation_time: bool,
    presence: Presence,
}

#[derive(Debug, Clone, Copy, Default)]
enum Presence {
    #[default]
    Any,
    Absent,
    Present,
}

impl SetOptions {
    /// The service's defaults, unconditionally.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time to live of this value. Defaults to the service's. An impossible one fails the
    /// write.
    pub fn ttl<L: TryInto<Ttl, Error: Into<CacheError>>>(mut self, ttl: L) -> Self {
        self.ttl = Some(ttl.try_into().map_err(Into::into));
        self
    }

    /// How long after its time to live this value may still be served as stale. Defaults to the
    /// service's. An impossible one fails the write.
    pub fn stale_for(mut self, span: Duration) -> Self {
        self.stale_for = Some(span);
        self
    }

    /// Keeps when the value was made, as a stale budget does by itself: the value's age is then
    /// known, and on Redis the value gets a header in front.
    pub fn keep_creation_time(mut self) -> Self {
        self.keeps_creation_time = true;
        self
    }

    /// Writes only where there is no fresh value.
    pub fn if_absent(mut self) -> Self {
        self.presence = Presence::Absent;
        self
    }

    /// Writes only where there is a fresh value.
    pub fn if_present(mut self) -> Self {
        self.presence = Presence::Present;
        self
    }

    pub(super) fn ttl_or_error(&self) -> Result<Option<Ttl>> {
        self.ttl.clone().transpose()
    }

    pub(super) fn stale_budget(&self) -> Option<Duration> {
        self.stale_for
    }

    pub(super) fn keeps_creation_time(&self) -> bool {
        self.keeps_creation_time
    }

    pub(super) fn condition(&self) -> Condition {
        match self.presence {
            Presence::Any => Condition::Always,
            Presence::Absent => Condition::IfAbsent,
            Presence::Present => Condition::IfPresent,
        }
    }
}
