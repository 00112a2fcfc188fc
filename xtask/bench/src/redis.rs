//! The service on Redis against a bare connection.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::measure::{Contestant, Effort, Outcome, Result, Side, Target, Verdict, race};
use crate::sides::{Bare, Ours, OursWithKeys};
use crate::visitors::{Job, Visitors};

/// What the Redis storage gives its connections.
const QUEUED_COMMANDS: usize = 1024;

const CALLERS: [usize; 3] = [1, 64, 256];

/// The sides, connected on one runtime.
pub(crate) struct Field {
    pub(crate) runtime: Runtime,
    threads: usize,
    pub(crate) bare: Bare,
    default: Bare,
    pub(crate) ours: Ours,
    pub(crate) ours_with_keys: OursWithKeys,
}

impl Field {
    pub(crate) fn new(threads: usize, port: u16, visitors: &Arc<Visitors>) -> Result<Self> {
        let runtime = runtime(threads)?;
        let bare = runtime.block_on(Bare::connect(port, visitors, Some(QUEUED_COMMANDS)))?;
        let default = runtime.block_on(Bare::connect(port, visitors, None))?;
        let ours = Ours::new(port, visitors)?;
        let ours_with_keys = OursWithKeys::new(port, visitors)?;
        Ok(Self {
            runtime,
            threads,
            bare,
            default,
            ours,
            ours_with_keys,
        })
    }
}

/// A runtime of one thread, which is the caller's, or of several.
pub(crate) fn runtime(threads: usize) -> Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    Ok(builder.enable_all().build()?)
}

pub(crate) fn run(port: u16, effort: Effort) -> Result<Vec<Verdict>> {
    let visitors = Visitors::new();
    let fields = [
        Field::new(1, port, &visitors)?,
        Field::new(2, port, &visitors)?,
    ];
    write_all(&fields[0])?;
    let mut verdicts = Vec::new();
    println!("\nRedis: our service against a bare MultiplexedConnection (TCP_NODELAY on both)");
    println!(
        "{:<13}{:>8}{:>8}{:>9}{:>9}{:>7}{:>8}{:>9}{:>10}{:>9}{:>7}{:>8}",
        "operation",
        "threads",
        "callers",
        "ours/s",
        "bare/s",
        "ratio",
        "keys(1)",
        "queue(2)",
        "ours(3)",
        "bare(3)",
        "ratio",
        "keys(1)"
    );
    for field in &fields {
        for job in Job::ALL {
            for callers in CALLERS {
                verdicts.extend(cell(field, job, callers, effort)?);
            }
        }
    }
    println!("(1) the ratio without a prefix, with keys made beforehand as the bare client's are");
    println!("(2) the ratio to a connection with the client's default queue of 50 commands");
    println!("(3) CPU time of this process for one operation, in microseconds");
    Ok(verdicts)
}

/// Every session once, so that reads find something.
pub(crate) fn write_all(field: &Field) -> Result {
    let mut ours = field.ours.clone();
    field.runtime.block_on(async move {
        for number in 0..10 {
            ours.run(Job::SetMany, number).await?;
        }
        Ok(())
    })
}

fn cell(field: &Field, job: Job, callers: usize, effort: Effort) -> Result<Vec<Verdict>> {
    let sides = [
        Contestant::new("bare", &field.bare, job),
        Contestant::new("ours", &field.ours, job),
        Contestant::new("ours, keys made beforehand", &field.ours_with_keys, job),
        Contestant::new("bare, default queue", &field.default, job),
    ];
    let outcomes = race(&field.runtime, effort, callers, &sides)?;
    let [bare, ours, with_keys, default] = outcomes[..] else {
        return Err("a side is missing".into());
    };
    let (name, threads) = (job.name(), field.threads);
    println!(
        "{name:<13}{threads:>8}{callers:>8}{:>9.0}{:>9.0}{:>7.3}{:>8.3}{:>9.3}{:>10.2}{:>9.2}{:>7.3}{:>8.3}",
        ours.rate,
        bare.rate,
        ours.rate_ratio,
        with_keys.rate_ratio,
        ours.rate_ratio / default.rate_ratio,
        ours.cpu,
        bare.cpu,
        ours.cpu_ratio,
        with_keys.cpu_ratio
    );
    Ok(targets(name, threads, callers, ours).into_iter().collect())
}

fn targets(name: &str, threads: usize, callers: usize, ours: Outcome) -> Option<Verdict> {
    let rate = format!("{name}, {callers} callers, {threads} threads: rate");
    match (threads, callers) {
        (1, 64) => Some(Verdict::new(rate, ours.rate_ratio, Target::AtLeast(0.95))),
        (2, 64) => Some(Verdict::new(rate, ours.rate_ratio, Target::AtLeast(0.80))),
        (1, 1) => {
            let what = format!("{name}, 1 caller: CPU time");
            Some(Verdict::new(what, ours.cpu_ratio, Target::AtMost(1.05)))
        }
        _ => None,
    }
}
