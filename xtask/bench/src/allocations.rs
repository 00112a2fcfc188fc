//! Allocations an operation, in a build of their own: counting them would slow down whoever
//! allocates more.

use allocation_counter::measure;
use tokio::runtime::Runtime;

use crate::measure::{Result, Side, Target, Verdict};
use crate::redis::{Field, write_all};
use crate::visitors::{Job, Visitors};

pub(crate) fn run(port: u16) -> Result<Vec<Verdict>> {
    let visitors = Visitors::new();
    let field = Field::new(1, port, &visitors)?;
    write_all(&field)?;
    allocations(&field, &visitors)
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
