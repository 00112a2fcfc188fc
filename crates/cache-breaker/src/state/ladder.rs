//! How long a breaker stays open, each time longer.

use std::time::Duration;

/// Spans that double up to a longest one, each shortened by chance, so that the breakers of many
/// processes do not probe together.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    first: Duration,
    longest: Duration,
    next: Duration,
    jitter: f64,
}

impl Ladder {
    /// From `first` up to `longest`, shortened by up to the fraction `jitter`.
    pub(super) fn new(first: Duration, longest: Duration, jitter: f64) -> Self {
        Self {
            first,
            longest,
            next: first,
            jitter,
        }
    }

    /// The next span; the one after it is twice as long.
    pub(super) fn climb(&mut self, random: &mut fastrand::Rng) -> Duration {
        let span = self.next;
        self.next = span.saturating_mul(2).min(self.longest);
        span.saturating_sub(span.mul_f64(self.jitter * random.f64()))
    }

    /// Begins anew.
    pub(super) fn descend(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn doubles_up_to_the_longest_and_begins_anew() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut ladder = Ladder::new(SECOND, 5 * SECOND, 0.0);
        let spans = [1, 2, 4, 5, 5].map(|seconds| seconds * SECOND);
        assert_eq!([(); 5].map(|()| ladder.climb(&mut random)), spans);
        ladder.descend();
        assert_eq!(ladder.climb(&mut random), SECOND);
    }

    #[test]
    fn chance_only_shortens_and_by_no_more_than_said() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut ladder = Ladder::new(SECOND, SECOND, 0.2);
        let spans: Vec<_> = (0..1000).map(|_| ladder.climb(&mut random)).collect();
        let (least, most) = (spans.iter().min().unwrap(), spans.iter().max().unwrap());
        assert!(*least >= SECOND.mul_f64(0.8) && *least < SECOND.mul_f64(0.81));
        assert!(*most <= SECOND && *most > SECOND.mul_f64(0.99));
    }
}
