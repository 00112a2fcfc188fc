//! Allocations an operation, in a build of their own: counting them would slow down whoever
//! allocates more.

use std::time::Duration;

use allocation_counter::measure;
use cache_breaker::{Admission, BreakerOptions, Machine, Outcome};
use tokio::runtime::Runtime;

use crate::measure::{Result, Side, Target, Verdict};
use crate::redis::{Field, write_all};
use crate::visitors::{Job, Visitors};

pub(crate) fn run(port: u16) -> Result<Vec<Verdict>> {
    let visitors = Visitors::new();
    let field = Field::new(1, port, &visitors)?;
    write_all(&field)?;
    let mut verdicts = allocations(&field, &visitors)?;
    verdicts.push(breaker()?);
    Ok(verdicts)
}

/// How many operations allocations are counted over.
const COUNTED: usize = 1000;

fn allocations(field: &Field, visitors: &Visitors) -> Result<Vec<Verdict>> {
    println!("\nAllocations an operation, one caller on one thread, reallocations included");
    println!(
        "{:<13}{:>10}{:>10}{:>10}{:>10}{:>15}{:>15}{:>15}",
        "operation",
        "ours",
        "keys(1)",
        "bare",
        "codec",
        "ours - codec",
        "keys - codec",
        "bare - codec"
    );
    let mut verdicts = Vec::new();
    for job in Job::ALL {
        let ours = counted(&field.runtime, field.ours.clone(), job)?;
        let with_keys = counted(&field.runtime, field.ours_with_keys.clone(), job)?;
        let bare = counted(&field.runtime, field.bare.clone(), job)?;
        let codec = codec_alone(visitors, job)?;
        let own = ours - codec;
        let name = job.name();
        println!(
            "{name:<13}{ours:>10.2}{with_keys:>10.2}{bare:>10.2}{codec:>10.2}{own:>15.2}{:>15.2}{:>15.2}",
            with_keys - codec,
            bare - codec
        );
        let most = match job {
            Job::Get => 9.0,
            Job::Set => 8.0,
            Job::GetMany | Job::SetMany => continue,
        };
        let what = format!("{name}: allocations beyond the codec");
        verdicts.push(Verdict::new(what, own, Target::AtMost(most)));
    }
    Ok(verdicts)
}

/// The pure machine through all its states: closed, open, half-open, with every verdict, and with
/// calls that were given up.
fn breaker() -> Result<Verdict> {
    const OUTCOMES: [Outcome; 6] = [
        Outcome::Success,
        Outcome::Throttled,
        Outcome::Neutral,
        Outcome::Failure,
        Outcome::Timeout,
        Outcome::Configuration,
    ];
    let mut machine = Machine::new(&BreakerOptions::default(), 7);
    let (mut changes, mut rejected) = (0, 0);
    let allocated = average(|| {
        for number in 0..COUNTED {
            // Each verdict for a while, so that the limits of all of them are reached, and long
            // enough for an open machine to let a probe through.
            let now = Duration::from_millis(100) * number as u32;
            let change = match machine.admit(now) {
                Admission::Admitted(ticket) if number % 10 == 9 => machine.abandon(now, ticket),
                Admission::Admitted(ticket) => {
                    machine.settle(now, ticket, OUTCOMES[number / 20 % OUTCOMES.len()])
                }
                Admission::Rejected { .. } => {
                    rejected += 1;
                    continue;
                }
            };
            changes += usize::from(change.is_some());
        }
        Ok(())
    })?;
    println!(
        "\nBreaker, the pure machine: {allocated:.2} allocations a call, \
         {changes} changes, {rejected} rejections"
    );
    if changes == 0 || rejected == 0 {
        return Err("the machine was not driven through its states".into());
    }
    let what = "breaker: allocations of admission and verdict";
    Ok(Verdict::new(what, allocated, Target::AtMost(0.0)))
}

fn counted<S: Side>(runtime: &Runtime, mut side: S, job: S::Job) -> Result<f64> {
    let mut run = |count: usize| {
        runtime.block_on(async {
            for number in 0..count {
                side.run(job, number).await?;
            }
            Result::<()>::Ok(())
        })
    };
    run(COUNTED)?;
    average(|| run(COUNTED))
}

fn codec_alone(visitors: &Visitors, job: Job) -> Result<f64> {
    match job {
        Job::Set | Job::SetMany => {
            average(|| (0..COUNTED).try_for_each(|number| visitors.encode(job, number)))
        }
        Job::Get | Job::GetMany => {
            let encoded = visitors.encoded(job)?;
            average(|| (0..COUNTED).try_for_each(|_| Visitors::decode(&encoded)))
        }
    }
}

fn average(run: impl FnOnce() -> Result) -> Result<f64> {
    let mut outcome = Ok(());
    let info = measure(|| outcome = run());
    outcome?;
    Ok(info.count_total as f64 / COUNTED as f64)
}
