//! What a program costs from exec to the first answer of DynamoDB over HTTPS: CPU time of its own,
//! in user and kernel mode, its end included.
//!
//! Takes the path of the program, which reads one value and prints it, and how often it shall run;
//! prints two numbers of microseconds: the median of the runs, and the least.

#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to its user"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use cache_testkit::servers::{Answer, Certificates, ScriptedHttp};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The value `hello` as JSON, for ever.
const ITEM: &str =
    r#"{"Item":{"PK":{"S":"greeting"},"value":{"S":"\"hello\""},"cache_v":{"N":"1"}}}"#;

fn main() -> ExitCode {
    match measure() {
        Ok(times) => {
            let [median, least] = [times.len() / 2, 0].map(|at| times[at].as_micros());
            println!("{median} {least}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The CPU time of each run, the least first.
fn measure() -> Result<Vec<Duration>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [program, runs] = &*arguments else {
        return Err("usage: first-answer PROGRAM RUNS".into());
    };
    let authority = Certificates::new()?;
    let directory = tempfile::tempdir()?;
    let roots = authority.write_authority_to(directory.path())?;
    let server = ScriptedHttp::start_tls(&authority, |_| Answer::json(200, ITEM))?;
    // The first run only brings the program into memory.
    cpu_time(program, &server.url(), &roots)?;
    let mut times = (0..runs.parse::<usize>()?.max(1))
        .map(|_| cpu_time(program, &server.url(), &roots))
        .collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times)
}

/// Runs the program once, to its end.
fn cpu_time(program: &str, url: &str, roots: &Path) -> Result<Duration> {
    let mut child = Command::new(program)
        .arg("get")
        .env_clear()
        .env("CACHE_DYNAMODB_TABLE", "cache")
        .env("CACHE_DYNAMODB_ENDPOINT", url)
        .env("CACHE_DYNAMODB_ROOTS_FILE", roots)
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdout(Stdio::piped())
        .spawn()?;
    let time = cpu_time_at_end(&mut child)?;
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || printed != "hello\n" {
        let status = output.status;
        return Err(format!("the program printed {printed:?} ({status})").into());
    }
    Ok(time)
}

/// Waits until the process has ended, but not until it is gone: the system still knows what its one
/// thread has used, to the nanosecond.
fn cpu_time_at_end(child: &mut Child) -> Result<Duration> {
    let id = WaitId::Pid(Pid::from_child(child));
    waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let path = format!("/proc/{}/schedstat", child.id());
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("{path}, which Linux has, cannot be read: {error}"))?;
    let used = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(used.parse()?))
}
