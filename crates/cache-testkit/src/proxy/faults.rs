//! The faults in force, as the connections see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::fault::{Direction, End, Fault, TLS_GARBAGE};

/// Everything that is in force at one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub(super) up: Line,
    pub(super) down: Line,
    pub(super) entry: Entry,
    /// What the proxy answers by itself.
    pub(super) reply: Option<Bytes>,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Entry {
    #[default]
    Open,
    Held,
    Refused,
}

/// What is in force in one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Tells one setting from the next: counting begins anew when it differs.
    pub(super) number: u64,
    pub(super) flow: Flow,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Default)]
pub(super) enum Flow {
    #[default]
    Pass,
    Delay(Duration),
    Jitter(Arc<Jitter>),
    Drip(usize, Duration),
    Cut(Arc<Countdown>, End),
    CutEach(u64, End),
    Blackhole,
    Stall,
    Corrupt(Arc<Countdown>, u8),
    Duplicate(Arc<Countdown>),
    HalfClose(Arc<Countdown>),
}

impl Faults {
    /// `fault` in force too, in place of whatever was in its way.
    pub(super) fn with(mut self, fault: Fault, number: u64) -> Self {
        match fault {
            Fault::Pass => return Self::passing(number),
            Fault::Refuse => self.entry = Entry::Refused,
            Fault::AcceptThenHang => self.entry = Entry::Held,
            Fault::TlsGarbage => self.reply = Some(Bytes::from_static(TLS_GARBAGE)),
            Fault::Reply(bytes) => self.reply = Some(bytes),
            Fault::Delay(direction, by) => self.flow(direction, number, || Flow::Delay(by)),
            Fault::Jitter(direction, range, seed) => {
                let jitter = Arc::new(Jitter::new(range.start, range.end, seed));
                self.flow(direction, number, || Flow::Jitter(Arc::clone(&jitter)));
            }
            Fault::Drip(direction, bytes, every) => {
                self.flow(direction, number, || Flow::Drip(bytes.max(1), every));
            }
            Fault::Cut(direction, after, end) => {
                self.flow(direction, number, || Flow::Cut(Countdown::from(after), end));
            }
            Fault::CutEach(direction, after, end) => {
                self.flow(direction, number, || Flow::CutEach(after, end));
            }
            Fault::Blackhole(direction) => self.flow(direction, number, || Flow::Blackhole),
            Fault::Stall(direction) => self.flow(direction, number, || Flow::Stall),
            Fault::Corrupt(direction, after, mask) => {
                self.flow(direction, number, || {
                    Flow::Corrupt(Countdown::from(after), mask)
                });
            }
            Fault::Duplicate(direction) => {
                self.flow(direction, number, || Flow::Duplicate(Countdown::from(0)));
            }
            Fault::HalfClose => {
                let flow = || Flow::HalfClose(Countdown::from(0));
                self.flow(Direction::Up, number, flow);
            }
        }
        self
    }

    /// Nothing in force.
    pub(super) fn passing(number: u64) -> Self {
        let mut faults = Self::default();
        faults.flow(Direction::Both, number, || Flow::Pass);
        faults
    }

    fn flow(&mut self, direction: Direction, number: u64, flow: impl Fn() -> Flow) {
        let line = || Line {
            number,
            flow: flow(),
        };
        if direction.is_up() {
            self.up = line();
        }
        if direction.is_down() {
            self.down = line();
        }
    }
}

/// Something that happens once, after so many bytes.
#[derive(Debug)]
pub(super) struct Countdown {
    left: AtomicU64,
    is_spent: AtomicBool,
}

impl Countdown {
    fn from(after: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(after),
            is_spent: AtomicBool::new(false),
        })
    }

    /// How many bytes go before it happens; none where it has.
    pub(super) fn left(&self) -> Option<u64> {
        let is_spent = self.is_spent.load(Ordering::Acquire);
        (!is_spent).then(|| self.left.load(Ordering::Acquire))
    }

    /// Counts bytes that went. All connections live on one thread, so nobody counts in between.
    pub(super) fn count(&self, bytes: u64) {
        let left = self.left.load(Ordering::Acquire);
        self.left
            .store(left.saturating_sub(bytes), Ordering::Release);
    }

    /// Whether it is the caller to whom it happens.
    pub(super) fn fire(&self) -> bool {
        !self.is_spent.swap(true, Ordering::AcqRel)
    }
}

/// Times drawn from a range, the same ones for the same seed.
#[derive(Debug)]
pub(super) struct Jitter {
    least: Duration,
    span_nanos: u64,
    state: AtomicU64,
}

impl Jitter {
    fn new(least: Duration, end: Duration, seed: u64) -> Self {
        let span = end.saturating_sub(least).as_nanos();
        Self {
            least,
            span_nanos: u64::try_from(span).unwrap_or(u64::MAX).max(1),
            state: AtomicU64::new(seed),
        }
    }

    pub(super) fn draw(&self) -> Duration {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(STEP, Ordering::AcqRel);
        let drawn = mixed(state.wrapping_add(STEP)) % self.span_nanos;
        self.least.saturating_add(Duration::from_nanos(drawn))
    }
}

/// The output function of SplitMix64: every bit of the state moves every bit of the result.
fn mixed(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_times_within_the_range() {
        let range = (Duration::from_millis(5), Duration::from_millis(20));
        let (one, two) = (
            Jitter::new(range.0, range.1, 7),
            Jitter::new(range.0, range.1, 7),
        );
        let drawn: Vec<_> = (0..1000).map(|_| one.draw()).collect();
        let again: Vec<_> = (0..1000).map(|_| two.draw()).collect();
        assert_eq!(drawn, again);
        assert!(drawn.iter().all(|time| (range.0..range.1).contains(time)));
        assert_ne!(drawn[0], drawn[1]);
    }

    #[test]
    fn an_empty_range_draws_its_beginning() {
        let jitter = Jitter::new(Duration::from_millis(5), Duration::ZERO, 1);
        assert_eq!(jitter.draw(), Duration::from_millis(5));
    }

    #[test]
    fn one_direction_leaves_the_other_alone() {
        let faults = Faults::passing(1)
            .with(Fault::CutEach(Direction::Down, 5, End::Fin), 2)
            .with(Fault::Blackhole(Direction::Up), 3);
        assert_eq!((faults.up.number, faults.down.number), (3, 2));
        assert!(matches!(faults.up.flow, Flow::Blackhole));
        assert!(matches!(faults.down.flow, Flow::CutEach(5, End::Fin)));
    }
}
