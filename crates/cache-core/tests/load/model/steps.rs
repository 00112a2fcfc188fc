//! What may happen to one key, drawn from a seed.

use std::time::Duration;

use cache_core::{LoadOptions, millis, secs};
use fastrand::Rng;

/// How long values are fresh.
pub(super) const FRESH: Duration = secs(60);
/// How long they may be served stale after that.
pub(super) const STALE: Duration = secs(60);
/// How long a failed load is not tried again.
pub(super) const THROTTLE: Duration = secs(30);
/// How long it is remembered that there is nothing.
pub(super) const ABSENT: Duration = secs(30);
/// What a loader may decide for its own value.
pub(super) const SHORT: Duration = secs(10);

/// How many calls may be under way at once.
pub(super) const CALLS: usize = 4;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Call(Wishes),
    /// Drops the caller in this place, if there is one.
    Drop(usize),
    /// Lets the loader in this place of those under way come back.
    Release(usize, Outcome),
    /// Lets time pass on both clocks.
    Pass(Duration),
    Write(Write),
    Outage(bool),
    /// The next call of the storage hangs before, or after, it takes effect.
    Hang {
        after: bool,
    },
    /// What hangs in the storage goes on.
    GoOn,
    /// Lets every task go on until nothing is left to do.
    Settle,
}

/// The options of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    pub(super) soft: Option<Duration>,
    pub(super) hard: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) refuses_stale: bool,
    pub(super) revalidates: bool,
    pub(super) is_eager: bool,
    pub(super) refreshes: bool,
    pub(super) has_default: bool,
    pub(super) completes: bool,
    pub(super) cancels: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Value,
    ValueFor,
    DoNotStore,
    Absent,
    NotModified,
    Failed,
    FailedWith,
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Set,
    Delete,
    ExpireNow,
    Clear,
}

impl Wishes {
    pub(super) fn options(self, default: u64) -> LoadOptions {
        let mut builder = LoadOptions::builder()
            .allow_stale(!self.refuses_stale)
            .stale_while_revalidate(self.revalidates)
            .complete_in_background(self.completes)
            .cancel_on_timeout(self.cancels);
        if let Some(soft) = self.soft {
            builder = builder.soft_timeout(soft);
        }
        if let Some(hard) = self.hard {
            builder = builder.hard_timeout(hard);
        }
        if let Some(deadline) = self.deadline {
            builder = builder.with_deadline(deadline);
        }
        if self.is_eager {
            builder = builder.eager_refresh(0.5);
        }
        if self.refreshes {
            builder = builder.refresh();
        }
        if self.has_default {
            builder = builder.or_default(default);
        }
        builder.build().expect("the options are sound")
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut one_in = |n: u32| rng.u32(0..n) == 0;
        Self {
            soft: one_in(4).then_some(millis(100)),
            hard: one_in(4).then_some(secs(1)),
            deadline: one_in(8).then_some(secs(2)),
            refuses_stale: one_in(6),
            revalidates: one_in(5),
            is_eager: one_in(5),
            refreshes: one_in(6),
            has_default: one_in(5),
            completes: one_in(8),
            cancels: one_in(8),
        }
    }
}

/// A sequence of ten to twenty-five steps. Most of them settle before the next.
pub(super) fn draw(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let mut steps = Vec::new();
    if rng.bool() {
        // A key that has a value leads further than one that has none.
        steps.push(Step::Write(Write::Set));
    }
    for _ in 0..rng.usize(10..=25) {
        steps.push(step(&mut rng));
        if rng.u32(0..4) > 0 {
            steps.push(Step::Settle);
        }
    }
    steps
}

fn step(rng: &mut Rng) -> Step {
    match rng.u32(0..100) {
        0..36 => Step::Call(Wishes::draw(rng)),
        36..42 => Step::Drop(rng.usize(0..CALLS)),
        42..66 => Step::Release(rng.usize(0..2), outcome(rng)),
        66..80 => Step::Pass(span(rng)),
        80..91 => Step::Write(write(rng)),
        91..93 => Step::Outage(rng.bool()),
        93..97 => Step::Hang { after: rng.bool() },
        _ => Step::GoOn,
    }
}

fn outcome(rng: &mut Rng) -> Outcome {
    match rng.u32(0..12) {
        0..4 => Outcome::Value,
        4 => Outcome::ValueFor,
        5 => Outcome::DoNotStore,
        6 => Outcome::Absent,
        7 => Outcome::NotModified,
        8..10 => Outcome::Failed,
        10 => Outcome::FailedWith,
        _ => Outcome::Panic,
    }
}

fn write(rng: &mut Rng) -> Write {
    match rng.u32(0..8) {
        0..3 => Write::Set,
        3..6 => Write::Delete,
        6 => Write::ExpireNow,
        _ => Write::Clear,
    }
}

fn span(rng: &mut Rng) -> Duration {
    let spans = [
        millis(50),
        millis(200),
        secs(1),
        secs(5),
        secs(29),
        secs(40),
        secs(61),
        secs(90),
    ];
    spans[rng.usize(0..spans.len())]
}
