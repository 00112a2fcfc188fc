//! Time, in a form that tests can hold and a frozen process cannot fool.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in wall-clock time: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `milliseconds` after the Unix epoch.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The point `span` later, at most the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(span)))
    }

    /// How long `earlier` lies back; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A moment read from both clocks of a machine.
///
/// Neither clock alone measures a gap rightly: the monotonic one may stand still while a virtual
/// machine is frozen, as between two invocations of a Lambda function, and the wall clock may be
/// set. The gap is the longer of the two, so an entry never lives longer than its writer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock, from a start of its own choosing.
    pub monotonic: Duration,
}

impl Moment {
    /// The gap since `earlier`: the longer of the two clocks' readings, never negative.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        monotonic.max(self.wall.since(earlier.wall))
    }

    /// The gap since `earlier` in whole milliseconds.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        whole_millis(self.since(earlier))
    }
}

/// Where time is read from.
///
/// [`SystemClock`] outside of tests, `ManualClock` (feature `test-util`) inside them.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Moment;

    /// The present moment of the wall clock alone.
    fn wall(&self) -> Timestamp {
        self.now().wall
    }

    /// The present moment of the monotonic clock alone.
    fn monotonic(&self) -> Duration {
        self.now().monotonic
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Moment {
        (**self).now()
    }

    fn wall(&self) -> Timestamp {
        (**self).wall()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

/// The clocks of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment {
            wall: self.wall(),
            monotonic: self.monotonic(),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        // A wall clock before 1970 reads as 1970: deadlines then lie ahead, and the monotonic
        // clock ends them.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(whole_millis(since_epoch.unwrap_or_default()))
    }
}

fn whole_millis(span: Duration) -> u64 {
    // Read on every operation: `as_millis` would divide 128-bit numbers.
    span.as_secs()
        .saturating_mul(1000)
        .saturating_add(u64::from(span.subsec_millis()))
}

#[cfg(feature = "test-util")]
pub use manual::ManualClock;

#[cfg(feature = "test-util")]
mod manual {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    use super::{Clock, Moment, Timestamp, whole_millis};

    /// A clock that stands still until a test moves it. Clones share one time.
    ///
    /// Starts on 1 January 2026.
    ///
    /// ```
    /// use cache_core::{Clock, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let before = clock.now();
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(clock.now().since(before), Duration::from_secs(60));
    /// ```
    #[derive(Debug, Clone)]
    pub struct ManualClock {
        now: Arc<Mutex<Moment>>,
    }

    impl ManualClock {
        const START: Timestamp = Timestamp(1_767_225_600_000);

        /// A clock that stands at its start.
        #[must_use]
        pub fn new() -> Self {
            Self {
                now: Arc::new(Mutex::new(Moment {
                    wall: Self::START,
                    monotonic: Duration::ZERO,
                })),
            }
        }

        /// Lets `span` pass on both clocks.
        pub fn advance(&self, span: Duration) {
            let mut now = self.lock();
            now.wall = now.wall.after(span);
            now.monotonic = now.monotonic.saturating_add(span);
        }

        /// Lets `span` pass on the wall clock only, as while a virtual machine is frozen.
        pub fn freeze(&self, span: Duration) {
            let mut now = self.lock();
            now.wall = now.wall.after(span);
        }

        /// Sets the wall clock back by `span`, at most to 1970; the monotonic one goes on.
        pub fn set_back(&self, span: Duration) {
            let mut now = self.lock();
            now.wall = Timestamp(now.wall.0.saturating_sub(whole_millis(span)));
        }

        fn lock(&self) -> MutexGuard<'_, Moment> {
            self.now.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Default for ManualClock {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Moment {
            *self.lock()
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_longer_of_both_clocks() {
        let clock = ManualClock::new();
        let start = clock.now();
        clock.advance(Duration::from_secs(5));
        clock.freeze(Duration::from_secs(60));
        assert_eq!(clock.now().since(start), Duration::from_secs(65));
        clock.set_back(Duration::from_secs(3600));
        assert_eq!(clock.now().since(start), Duration::from_secs(5));
        clock.set_back(Duration::MAX);
        assert_eq!(clock.wall(), Timestamp::from_millis(0));
        assert_eq!(clock.now().since(start), Duration::from_secs(5));
    }
}
