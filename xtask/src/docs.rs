//! `docs`: the documentation without a warning.

use crate::Result;
use crate::cargo::{cargo, run as run_command};

/// Builds the documentation of every package with every feature.
pub(crate) fn run() -> Result {
    let mut command = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
}
