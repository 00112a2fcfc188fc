//! `bench`: measurements against the bare client and against other caches.

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

/// Parts that have nothing to do with allocations.
const TIMES_ONLY: [&str; 3] = ["memory", "ratio", "peers"];

/// Builds and runs the benchmarks, which start their own server.
pub(crate) fn run(arguments: &[OsString]) -> Result {
    provision::redis_server()?;
    let is_times_only = arguments
        .iter()
        .any(|argument| TIMES_ONLY.iter().any(|part| argument == part));
    if !is_times_only {
        let mut counting = cargo(["run", "--release"]);
        counting.args(MANIFEST).args(["--features", "allocations"]);
        run_command(counting.args(["--", "allocations"]))?;
    }
    let mut timing = cargo(["run", "--release"]);
    run_command(timing.args(MANIFEST).arg("--").args(arguments))
}
