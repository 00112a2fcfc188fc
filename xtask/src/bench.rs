//! `bench`: measurements against the bare clients and against other caches.

use std::ffi::OsString;

use crate::cargo::{cargo, run as run_command};
use crate::{Result, provision};

/// A workspace of its own, built where everything else is.
pub(crate) const MANIFEST: [&str; 4] = [
    "--manifest-path",
    "xtask/bench/Cargo.toml",
    "--target-dir",
    "target",
];

/// Parts that start a Redis.
const WITH_REDIS: [&str; 5] = ["allocations", "cluster", "peers", "redis", "tls"];

/// Parts that count instructions.
const WITH_VALGRIND: [&str; 1] = ["dynamodb"];

/// Parts that count allocations.
const WITH_ALLOCATIONS: [&str; 2] = ["allocations", "redis"];

/// Builds and runs the benchmarks, which start their own servers.
pub(crate) fn run(arguments: &[OsString]) -> Result {
    let part = part(arguments);
    let takes = |parts: &[&str]| part == "all" || parts.contains(&part);
    if takes(&WITH_REDIS) {
        provision::redis_server()?;
    }
    if takes(&WITH_VALGRIND) {
        provision::valgrind()?;
    }
    if takes(&WITH_ALLOCATIONS) {
        let mut counting = cargo(["run", "--release"]);
        counting.args(MANIFEST).args(["--features", "allocations"]);
        run_command(counting.args(["--", "allocations"]))?;
        if part == "allocations" {
            return Ok(());
        }
    }
    let mut timing = cargo(["run", "--release"]);
    run_command(timing.args(MANIFEST).arg("--").args(arguments))
}

/// What is measured: all there is unless a part is named; nothing where help is asked for.
fn part(arguments: &[OsString]) -> &str {
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        return "help";
    }
    let mut words = arguments.iter().filter_map(|argument| argument.to_str());
    words.find(|word| !word.starts_with('-')).unwrap_or("all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_word_without_dashes() {
        for (line, expected) in [
            ("", "all"),
            ("--quick", "all"),
            ("--quick tls --strict", "tls"),
            ("redis", "redis"),
            ("redis --help", "help"),
            ("-h", "help"),
        ] {
            let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(part(&arguments), expected, "{line}");
        }
    }
}
