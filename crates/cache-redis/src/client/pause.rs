//! How long a server that could not be reached is left alone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use cache_core::{ErrorKind, Moment};

use crate::error::{Failure, LOCAL_EXHAUSTED};

/// The longest that the first pause may be, and the longest that any may be.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// The pause after dials that failed in a row: up to 50 ms, doubling to 2 s. Its length is random,
/// from nothing on, so that processes that lost a server together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    since: Option<Moment>,
    length: Duration,
}

impl Pause {
    /// Notes that a dial failed at `now`.
    pub(super) fn lengthen(&mut self, failure: &Failure, now: Moment) {
        if !is_about_the_server(failure) {
            return;
        }
        if self.since.is_some_and(|since| now.since(since) > LONGEST) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.since = Some(now);
        // Most who hang up on a first attempt were about to go down and are up again by the next.
        let is_free = failure.is_hang_up && self.failures == 1;
        self.length = if is_free {
            Duration::ZERO
        } else {
            longest(self.failures).mul_f64(random())
        };
    }

    /// Whether it is not over at `now`. A process that was frozen meanwhile has waited enough.
    pub(super) fn is_on(&self, now: Moment) -> bool {
        self.since
            .is_some_and(|since| now.since(since) < self.length)
    }

    /// The server was reached.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// Whether a failure says that the server cannot be reached, rather than that somebody has to
/// correct something, which may be done at any moment, or that this machine has no room.
fn is_about_the_server(failure: &Failure) -> bool {
    failure.kind != ErrorKind::Configuration && !matches!(failure.code, LOCAL_EXHAUSTED | "auth")
}

fn longest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    LONGEST.min(FIRST * 2_u32.pow(doublings))
}

/// A number from 0 to 1. The keys that the standard library gives its maps are random enough.
fn random() -> f64 {
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use cache_core::{Clock as _, ManualClock, millis, secs};

    use super::*;

    fn refused() -> Failure {
        Failure::new(ErrorKind::Connection, "refused").with_code("refused")
    }

    #[test]
    fn pauses_are_random_and_double_to_two_seconds() {
        let longest: Vec<_> = (1..=8).map(longest).collect();
        let expected = [50, 100, 200, 400, 800, 1600, 2000, 2000].map(millis);
        assert_eq!(longest, expected);
        let clock = ManualClock::new();
        let lengths: Vec<_> = (0..100)
            .map(|_| {
                let mut pause = Pause::default();
                pause.lengthen(&refused(), clock.now());
                pause.length
            })
            .collect();
        assert!(lengths.iter().all(|length| *length <= FIRST));
        assert!(lengths.iter().any(|length| *length < FIRST / 2));
        assert!(lengths.iter().any(|length| *length > FIRST / 2));
    }

    #[test]
    fn a_pause_ends_with_its_time_however_the_time_passed() {
        let clock = ManualClock::new();
        let mut pause = Pause::default();
        assert!(!pause.is_on(clock.now()));
        for _ in 0..20 {
            pause.lengthen(&refused(), clock.now());
        }
        pause.length = secs(1);
        assert!(pause.is_on(clock.now()));
        clock.freeze(secs(1));
        assert!(!pause.is_on(clock.now()));
        clock.advance(secs(2));
        pause.lengthen(&refused(), clock.now());
        assert_eq!(pause.failures, 1, "after a long gap it begins anew");
        pause.end();
        assert!(!pause.is_on(clock.now()));
    }

    #[test]
    fn who_hangs_up_once_is_dialed_again_at_once() {
        let clock = ManualClock::new();
        let mut pause = Pause::default();
        pause.lengthen(&Failure::hang_up(), clock.now());
        assert_eq!((pause.failures, pause.length), (1, Duration::ZERO));
        pause.lengthen(&Failure::hang_up(), clock.now());
        assert_eq!(pause.failures, 2);
    }

    #[test]
    fn what_somebody_has_to_correct_and_what_this_machine_lacks_makes_no_pause() {
        let clock = ManualClock::new();
        let mut pause = Pause::default();
        let wrong = Failure::new(ErrorKind::Configuration, "no").with_code("tls");
        let full = Failure::new(ErrorKind::Connection, "no").with_code(LOCAL_EXHAUSTED);
        let vault = Failure::new(ErrorKind::Timeout, "no").with_code("auth");
        for failure in [wrong, full, vault] {
            pause.lengthen(&failure, clock.now());
            assert_eq!(pause.failures, 0, "{failure:?}");
        }
    }
}
