//! Our service on DynamoDB against the bare SDK: instructions of the client alone, the server being
//! in another process.

use std::fs;
use std::process::Command;

use cache_testkit::servers::{Answer, ScriptedHttp};
use serde_json::{Value, json};

use crate::itself::{self, Role};
use crate::measure::{Effort, Result, Target, Verdict};
use crate::visitors::Visitors;

mod client;

pub(crate) use client::run as client;
use client::{Job, Side, TABLE};

/// The end of every entry, in milliseconds since 1970: the year 2100.
const EXPIRES: u64 = 4_102_444_800_000;

/// How many operations the shorter of two runs of a client does, for a round of [`Effort`].
fn count(job: Job, effort: Effort) -> usize {
    match job {
        Job::Get => 100 * effort.rounds,
        Job::GetMany => 10 * effort.rounds,
    }
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Verdict>> {
    let visitors = Visitors::new();
    let item = json!({ "Item": stored(&visitors, 0)? }).to_string();
    let items: Vec<_> = Visitors::batch(0)
        .map(|number| stored(&visitors, number))
        .collect::<Result<_>>()?;
    let items = json!({ "Responses": { TABLE: items }, "UnprocessedKeys": {} }).to_string();
    let server = ScriptedHttp::start(move |request| {
        Answer::json(
            200,
            match request.operation() {
                "GetItem" => &*item,
                _ => &*items,
            },
        )
    })?;
    println!("\nDynamoDB: our service against the bare SDK on the same HTTP client");
    println!(
        "{:<15}{:>14}{:>14}{:>9}{:>14}{:>9}",
        "operation", "ours", "bare(1)", "ratio", "bare(2)", "ratio"
    );
    let mut verdicts = Vec::new();
    for job in Job::ALL {
        let counted = |side| instructions(&server.url(), side, job, count(job, effort));
        let ours = counted(Side::Ours)?;
        let bare = counted(Side::Bare)?;
        let lean = counted(Side::Lean)?;
        let name = job.name();
        let ratio = ours / bare;
        println!(
            "{name:<15}{ours:>14.0}{bare:>14.0}{ratio:>9.4}{lean:>14.0}{:>9.4}",
            ours / lean
        );
        let (unit, most) = match job {
            Job::Get => ("instructions", 1.03),
            Job::GetMany => ("instructions a key", 1.10),
        };
        let what = format!("DynamoDB, {name}: {unit}");
        verdicts.push(Verdict::new(what, ratio, Target::AtMost(most)));
    }
    println!("instructions of the client process for one operation, decoding of JSON included");
    println!("(1) with the same time limits and number of attempts, by the SDK's own means");
    println!("(2) without time limits and repetition");
    Ok(verdicts)
}

/// A session as our storage writes it.
fn stored(visitors: &Visitors, number: usize) -> Result<Value> {
    Ok(json!({
        "PK": { "S": visitors.key(number) },
        "value": { "S": serde_json::to_string(visitors.session(number))? },
        "ttl": { "N": (EXPIRES / 1000).to_string() },
        "cache_v": { "N": "1" },
        "cache_expires": { "N": EXPIRES.to_string() },
    }))
}

/// Instructions of one operation: what a second half of a run adds, so that the beginning and the
/// end of the process do not count.
fn instructions(url: &str, side: Side, job: Job, count: usize) -> Result<f64> {
    let half = total(url, side, job, count)?;
    let whole = total(url, side, job, 2 * count)?;
    Ok((whole - half) / count as f64)
}

/// Instructions of a client from its beginning to its end.
fn total(url: &str, side: Side, job: Job, count: usize) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let counts = directory.path().join("counts");
    let client = itself::command(Role::DynamoDbClient)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(client.get_program()).args(client.get_args());
    valgrind.args([side.as_str(), job.as_str(), &count.to_string(), url]);
    itself::output(&mut valgrind)?;
    let counts = fs::read_to_string(counts)?;
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("valgrind has counted nothing")?.parse()?)
}
