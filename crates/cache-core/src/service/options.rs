//! What a call or a service may decide.

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

    pub(super) fn condition(&self) -> Condition {
        match self.presence {
            Presence::Any => Condition::Always,
            Presence::Absent => Condition::IfAbsent,
            Presence::Present => Condition::IfPresent,
        }
    }
}
