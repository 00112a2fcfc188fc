//! `docs`: the documentation without a warning.

use crate::Result;
use crate::cargo::{cargo, run as run_command};

/// The published packages, each after those it links to: rustdoc leaves out links to what is not
/// there yet, and does not call that a warning.
const ORDER: [&[&str]; 4] = [
    &["cache-core"],
    &[
        "cache-aws",
        "cache-breaker",
        "cache-memory",
        "cache-testkit",
    ],
    &["cache-dynamo", "cache-monitor", "cache-redis"],
    &["cache-factory"],
];

/// Builds the documentation of every published package with every feature.
pub(crate) fn run() -> Result {
    for packages in ORDER {
        let mut command = cargo(["doc", "--no-deps", "--all-features"]);
        for package in packages {
            command.args(["--package", package]);
        }
        run_command(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    println!("Begin with target/doc/cache_factory/index.html.");
    Ok(())
}
