//! Rounds, medians, tables and verdicts.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds whose median counts. Each round runs every side once.
    pub(crate) rounds: usize,
    /// How long a side runs in a round, roughly.
    pub(crate) slice: Duration,
}

/// Something that does one operation after another, in as many copies as there are callers.
pub(crate) trait Side: Clone + Send + 'static {
    /// What is done.
    type Job: Copy + Send + 'static;

    /// Does the job once, on the entries that `number` names.
    fn run(&mut self, job: Self::Job, number: usize) -> impl Future<Output = Result> + Send;
}

type Slice = Pin<Box<dyn Future<Output = Result> + Send>>;

/// A side with its job. What is measured inside stays monomorphic.
pub(crate) struct Contestant {
    name: &'static str,
    run: Box<dyn Fn(usize, usize) -> Slice>,
}

impl Contestant {
    pub(crate) fn new<S: Side + Sync>(name: &'static str, side: &S, job: S::Job) -> Self {
        let side = side.clone();
        let run = move |callers, count| -> Slice {
            let callers = (0..callers).map(|_| side.clone()).collect();
            Box::pin(drive(callers, job, count))
        };
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// `count` operations, shared out among the callers.
async fn drive<S: Side>(callers: Vec<S>, job: S::Job, count: usize) -> Result {
    let step = callers.len();
    let mut tasks = JoinSet::new();
    for (first, mut side) in callers.into_iter().enumerate() {
        tasks.spawn(async move {
            for number in (first..count).step_by(step) {
                side.run(job, number).await?;
            }
            Result::<()>::Ok(())
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}

/// What one side came to. Ratios are medians of each round's ratio to the first side.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) rate_ratio: f64,
    /// CPU time of this process for an operation, in microseconds.
    pub(crate) cpu: f64,
    pub(crate) cpu_ratio: f64,
}

/// Runs the sides in turn, each as often as the first, and compares all of them with the first.
pub(crate) fn race(
    runtime: &Runtime,
    effort: Effort,
    callers: usize,
    sides: &[Contestant],
) -> Result<Vec<Outcome>> {
    let once = |side: &Contestant, count: usize| -> Result<(f64, f64)> {
        let (began, cpu_before) = (Instant::now(), cpu_time());
        runtime.block_on((side.run)(callers, count))?;
        let (wall, cpu) = (began.elapsed(), cpu_time() - cpu_before);
        let count = count as f64;
        Ok((count / wall.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count))
    };
    let mut count = callers * 10;
    for side in sides {
        once(side, count)?;
    }
    for _ in 0..2 {
        let (rate, _) = once(&sides[0], count)?;
        count = (rate * effort.slice.as_secs_f64()) as usize + callers;
    }
    for side in &sides[1..] {
        once(side, count)?;
    }
    let mut samples = vec![Vec::new(); sides.len()];
    for round in 0..effort.rounds {
        // Every other round backwards, so that a drift of the machine favours nobody.
        let mut order: Vec<_> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            samples[at].push(once(&sides[at], count)?);
        }
    }
    let summary = |(at, side): (usize, &Contestant)| {
        let own: &Vec<(f64, f64)> = &samples[at];
        let pairs = || own.iter().zip(&samples[0]);
        Outcome {
            name: side.name,
            rate: median(own.iter().map(|sample| sample.0)),
            rate_ratio: median(pairs().map(|(own, first)| own.0 / first.0)),
            cpu: median(own.iter().map(|sample| sample.1)),
            cpu_ratio: median(pairs().map(|(own, first)| own.1 / first.1)),
        }
    };
    Ok(sides.iter().enumerate().map(summary).collect())
}

/// CPU time of this process so far, on all of its threads, in user and kernel mode.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // The clock starts at zero, and nanoseconds are below a billion.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// A measured figure beside what is to be reached.
#[derive(Clone)]
pub(crate) struct Verdict {
    what: String,
    value: f64,
    target: Target,
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Verdict {
    pub(crate) fn new(what: impl Into<String>, value: f64, target: Target) -> Self {
        Self {
            what: what.into(),
            value,
            target,
        }
    }

    pub(crate) fn is_reached(&self) -> bool {
        match self.target {
            Target::AtLeast(bound) => self.value >= bound,
            Target::AtMost(bound) => self.value <= bound,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_reached() {
            "PASS"
        } else {
            "FALLS SHORT"
        };
        let (sign, bound) = match self.target {
            Target::AtLeast(bound) => (">=", bound),
            Target::AtMost(bound) => ("<=", bound),
        };
        let Self { what, value, .. } = self;
        write!(
            f,
            "{word:<12}{what:<48}{value:>7.3}  (target {sign} {bound})"
        )
    }
}
