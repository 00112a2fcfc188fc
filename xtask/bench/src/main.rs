//! Measurements: each ratio comes from one run with both sides in it, as the median of several
//! rounds. Rates differ from run to run and from machine to machine; ratios and counts do not.

#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to its user"
)]

#[cfg(feature = "allocations")]
mod allocations;
mod breaker;
mod cluster;
mod dynamodb;
mod itself;
mod load;
mod measure;
mod memory;
mod peers;
mod ratio;
mod redis;
mod sides;
mod tls;
mod visitors;

use std::process::ExitCode;
use std::time::Duration;

use cache_testkit::servers::RedisServer;
use itself::Role;
use lexopt::prelude::*;
use measure::{Effort, Result, Verdict};

const HELP: &str = "\
usage: cache-bench [PART] [--quick] [--strict]

  redis    the service on Redis against a bare connection
  breaker  the breaker alone, and the whole stack on Redis against a bare connection
  cluster  the service on a Redis Cluster against the client library's cluster connection
  tls      the first GET over TLS against the client library's own set-up
  dynamodb the service on DynamoDB against the bare SDK, in instructions; needs valgrind
  memory   a hit in memory against bare maps and other caches
  load     get_or_load: hits, joins, and other caches' own get-or-insert
  ratio    hit ratios on the recorded trace
  allocations
           those of the service and of the bare connection; needs a build with the feature of
           this name, in which times mean nothing
  peers    other cache crates on the same Redis
  all      all of these, the default

  --quick  fewer and shorter rounds
  --strict fail where a target is not reached
";

struct Arguments {
    part: String,
    quick: bool,
    strict: bool,
}

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        return finish(role.play().map(|()| ExitCode::SUCCESS));
    }
    let outcome = arguments().and_then(|arguments| {
        let verdicts = run(&arguments)?;
        Ok((arguments, verdicts))
    });
    finish(outcome.map(|(arguments, verdicts)| {
        let short = summary(&verdicts);
        ExitCode::from(u8::from(arguments.strict && short > 0))
    }))
}

fn finish(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments {
        part: "all".to_owned(),
        quick: false,
        strict: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => parsed.quick = true,
            Long("strict") => parsed.strict = true,
            Long("help") | Short('h') => {
                print!("{HELP}");
                std::process::exit(0);
            }
            Value(part) => parsed.part = part.string()?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(parsed)
}

fn run(arguments: &Arguments) -> Result<Vec<Verdict>> {
    let effort = if arguments.quick {
        Effort {
            rounds: 3,
            slice: Duration::from_millis(60),
        }
    } else {
        Effort {
            rounds: 9,
            slice: Duration::from_millis(200),
        }
    };
    let redis = || -> Result<_> {
        let server = RedisServer::start()?;
        redis::run(server.port(), effort)
    };
    let breaker = || -> Result<_> {
        let server = RedisServer::start()?;
        breaker::run(server.port(), effort)
    };
    let peers = || -> Result<_> {
        let server = RedisServer::start()?;
        peers::run(&server.url(0), server.port(), effort)
    };
    match arguments.part.as_str() {
        "redis" => redis(),
        "breaker" => breaker(),
        "cluster" => cluster::run(effort),
        "tls" => tls::run(effort),
        "dynamodb" => dynamodb::run(effort),
        #[cfg(feature = "allocations")]
        "allocations" => {
            let server = RedisServer::start()?;
            allocations::run(server.port())
        }
        "memory" => memory::run(effort),
        "load" => load::run(effort),
        "ratio" => ratio::run(),
        "peers" => peers(),
        "all" => Ok([
            redis()?,
            breaker()?,
            cluster::run(effort)?,
            tls::run(effort)?,
            dynamodb::run(effort)?,
            memory::run(effort)?,
            load::run(effort)?,
            ratio::run()?,
            peers()?,
        ]
        .concat()),
        other => Err(format!("there is no part {other:?}\n{HELP}").into()),
    }
}

/// Prints each target and says how many are not reached.
fn summary(verdicts: &[Verdict]) -> usize {
    if verdicts.is_empty() {
        return 0;
    }
    println!("\nTargets");
    for verdict in verdicts {
        println!("{verdict}");
    }
    let short = verdicts
        .iter()
        .filter(|verdict| !verdict.is_reached())
        .count();
    println!(
        "{} of {} targets reached",
        verdicts.len() - short,
        verdicts.len()
    );
    short
}
