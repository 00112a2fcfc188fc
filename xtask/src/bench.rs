//! `bench`: measurements against the bare client and against other caches.

use std::ffi::OsString;

use crate::cargo::{cargo, run as run_command};
use crate::{Result, provision};

/// Builds and runs the benchmarks, which start their own server.
pub(crate) fn run(arguments: &[OsString]) -> Result {
    provision::redis_server()?;
    let mut command = cargo(["run", "--release", "--package", "cache-bench", "--"]);
    run_command(command.args(arguments))
}
