//! Times to live.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::TtlError;

/// How long an entry is fresh after it was written.
///
/// A whole number of milliseconds, from one millisecond to ten years, or [`Ttl::FOREVER`] by name.
/// Zero is an error and never means "for ever". A fraction of a millisecond is dropped, so that no
/// entry lives longer than its writer said.
///
/// ```
/// use cache_core::{Ttl, mins};
/// use std::time::Duration;
///
/// assert!(Ttl::new(mins(15)).is_ok());
/// assert!(Ttl::new(Duration::ZERO).is_err());
/// assert!(Ttl::new(Duration::MAX).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// Zero stands for "for ever", the largest number for none at all.
    milliseconds: u64,
}

impl Ttl {
    /// The longest time to live that is not "for ever": ten years of 365.25 days.
    pub const MAX: Duration = Duration::from_secs(315_576_000);

    /// No end at all.
    pub const FOREVER: Self = Self { milliseconds: 0 };
    /// Past from the beginning, for entries that are never fresh; not for callers to ask for.
    pub(crate) const SPENT: Self = Self {
        milliseconds: u64::MAX,
    };

    /// A time to live of `span`.
    ///
    /// # Errors
    ///
    /// Shorter than a millisecond or longer than ten years.
    pub fn new(span: Duration) -> Result<Self, TtlError> {
        if span < Duration::from_millis(1) {
            return Err(TtlError::TooShort(span));
        }
        if span > Self::MAX {
            return Err(TtlError::TooLong(span));
        }
        let milliseconds = u64::try_from(span.as_millis()).map_err(|_| TtlError::TooLong(span))?;
        Ok(Self { milliseconds })
    }

    /// The span; none for [`Ttl::FOREVER`].
    #[must_use]
    pub fn as_duration(self) -> Option<Duration> {
        match self {
            Self::FOREVER => None,
            Self::SPENT => Some(Duration::ZERO),
            Self { milliseconds } => Some(Duration::from_millis(milliseconds)),
        }
    }

    /// When an entry written at `now` expires.
    #[must_use]
    pub fn expiry(self, now: Timestamp) -> Expiry {
        self.as_duration()
            .map_or(Expiry::Never, |span| Expiry::At(now.after(span)))
    }

    /// This time to live, shortened by up to `fraction` of itself as `draw` (0 to 1) decides.
    #[must_use]
    pub(crate) fn shortened(self, fraction: f64, draw: f64) -> Self {
        let Some(span) = self.as_duration() else {
            return self;
        };
        let kept = span.mul_f64((1.0 - fraction * draw).clamp(0.0, 1.0));
        Self::new(kept.max(Duration::from_millis(1))).unwrap_or(self)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_duration() {
            Some(span) => write!(f, "{}", humantime::format_duration(span)),
            None => f.write_str("for ever"),
        }
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = TtlError;

    fn try_from(span: Duration) -> Result<Self, TtlError> {
        Self::new(span)
    }
}

/// When an entry stops being fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// At this point of the wall clock.
    At(Timestamp),
    /// Never.
    Never,
    /// The entry is fresh now, and the server knows until when. Asking for it costs more than
    /// reading the entry, so plain reads do not; [`lookup`](crate::CacheStorage::lookup) does.
    AtServer,
}

impl Expiry {
    /// Whether the entry is past its time to live at `now`.
    #[must_use]
    pub fn is_past(self, now: Timestamp) -> bool {
        self.has_passed(|| now)
    }

    /// The same, with a clock that is read only where there is an end to compare with.
    pub(crate) fn has_passed(self, now: impl FnOnce() -> Timestamp) -> bool {
        matches!(self, Self::At(end) if end <= now())
    }
}

/// What is left of an entry's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeLeft {
    /// There is no fresh entry.
    Missing,
    /// The entry does not expire.
    Forever,
    /// The entry expires after this span.
    Remaining(Duration),
}

/// `n` milliseconds.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes; more than a `Duration` holds becomes the longest one, which every [`Ttl`] refuses.
#[must_use]
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// `n` hours; see [`mins`] for too many.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(3600))
}

/// `n` days of 24 hours; see [`mins`] for too many.
#[must_use]
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(86_400))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_time_to_live() {
        for span in [Duration::ZERO, Duration::from_micros(999)] {
            assert_eq!(Ttl::new(span), Err(TtlError::TooShort(span)));
        }
        let above = Ttl::MAX + Duration::from_nanos(1);
        for span in [above, Duration::MAX, days(u64::MAX), mins(u64::MAX)] {
            assert_eq!(Ttl::new(span), Err(TtlError::TooLong(span)));
        }
    }

    #[test]
    fn takes_both_ends() {
        assert!(Ttl::new(millis(1)).is_ok());
        assert_eq!(Ttl::new(Ttl::MAX).unwrap().as_duration(), Some(Ttl::MAX));
    }

    #[test]
    fn drops_fractions_of_a_millisecond() {
        let ttl = Ttl::new(Duration::from_micros(1_999)).unwrap();
        assert_eq!(ttl.as_duration(), Some(millis(1)));
    }

    #[test]
    fn for_ever_only_by_name() {
        assert_eq!(Ttl::FOREVER.as_duration(), None);
        assert_eq!(
            Ttl::FOREVER.expiry(Timestamp::from_millis(1)),
            Expiry::Never
        );
    }

    proptest! {
        #[test]
        fn jitter_only_shortens(ms in 1u64..=315_576_000_000, fraction in 0.0..=1.0, draw in 0.0..=1.0) {
            let ttl = Ttl::new(millis(ms)).unwrap();
            let shortened = ttl.shortened(fraction, draw).as_duration().unwrap();
            prop_assert!(shortened <= millis(ms));
            prop_assert!(shortened >= millis(1));
            let least = millis(ms).mul_f64(1.0 - fraction);
            prop_assert!(shortened + millis(1) >= least);
        }
    }
}
