//! `lint`: formatting, clippy, each feature alone, and the direction of dependencies.

use crate::Result;
use crate::bench::MANIFEST;
use crate::cargo::{cargo, output, run as run_command};
use crate::workspace::Package;

/// Which packages of this workspace a package may be built with, dependencies of dependencies
/// included, whatever its features.
const LAYERS: &[(&str, &[&str])] = &[
    ("cache-core", &[]),
    ("cache-memory", &["cache-core"]),
    ("cache-breaker", &["cache-core"]),
    ("cache-monitor", &["cache-breaker", "cache-core"]),
    ("cache-aws", &["cache-core"]),
    ("cache-dynamo", &["cache-aws", "cache-core"]),
    // For passwords that AWS keeps.
    ("cache-redis", &["cache-aws", "cache-core"]),
    (
        "cache-factory",
        &[
            "cache-aws",
            "cache-breaker",
            "cache-core",
            "cache-dynamo",
            "cache-memory",
            "cache-monitor",
            "cache-redis",
        ],
    ),
    ("cache-testkit", &["cache-core"]),
    ("xtask", &[]),
];

/// What a package must not pull in with its default features.
const ABSENT: &[(&str, &[&str])] = &[
    (
        "cache-core",
        // Of tokio it takes tasks and timers; mio would mean that it does I/O.
        &["mio", "redis", "bb8", "dashmap", "metrics"],
    ),
    ("cache-memory", &["redis", "bb8", "mio"]),
    ("cache-breaker", &["metrics", "redis", "tracing"]),
    ("cache-monitor", &["redis", "hyper"]),
    ("cache-dynamo", &["aws-lc-rs", "dashmap", "redis"]),
    ("cache-redis", &["cache-aws", "dashmap", "rustls"]),
    (
        "cache-factory",
        &[
            "cache-aws",
            "cache-breaker",
            "cache-dynamo",
            "cache-monitor",
            "cache-redis",
            "redis",
            "bb8",
        ],
    ),
];

/// Runs every check and stops at the first that fails.
pub(crate) fn run() -> Result {
    run_command(&mut cargo(["fmt", "--all", "--check"]))?;
    output(&mut cargo([
        "metadata",
        "--locked",
        "--format-version",
        "1",
    ]))?;
    run_command(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut bench = cargo(["clippy", "--all-targets"]);
    run_command(bench.args(MANIFEST).args(["--", "-D", "warnings"]))?;
    each_feature_alone()?;
    layers()
}

/// Features only add, so every library has to compile with none of them and with any one.
fn each_feature_alone() -> Result {
    for Package { name, features } in Package::libraries()? {
        let mut choices = vec![None];
        choices.extend(features.iter().map(Some));
        for feature in choices {
            let mut command = cargo(["clippy", "--package", &name, "--no-default-features"]);
            if let Some(feature) = feature {
                command.args(["--features", feature]);
            }
            run_command(command.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// Dependencies point one way: see docs/architecture.md.
fn layers() -> Result {
    let mut problems = Vec::new();
    for (package, allowed) in LAYERS {
        for dependency in dependencies(package, &["--all-features"])? {
            if dependency.starts_with("cache-") && !allowed.contains(&dependency.as_str()) {
                problems.push(format!("{package} must not depend on {dependency}"));
            }
        }
    }
    for (package, absent) in ABSENT {
        for dependency in dependencies(package, &[])? {
            if absent.contains(&dependency.as_str()) {
                problems.push(format!(
                    "{package} must not depend on {dependency} by default"
                ));
            }
        }
    }
    if problems.is_empty() {
        println!("the dependencies point one way");
        return Ok(());
    }
    Err(problems.join("; "))
}

/// The names of everything a package is built from, as [`crates`].
fn dependencies(package: &str, choice: &[&str]) -> Result<Vec<String>> {
    let name = |crate_: String| crate_.split(' ').next().unwrap_or_default().to_owned();
    Ok(crates(package, choice)?.into_iter().map(name).collect())
}

/// Everything a package is built from, itself left out, as name and version such as `redis v1.8.1`;
/// tests do not count.
pub(crate) fn crates(package: &str, choice: &[&str]) -> Result<Vec<String>> {
    let mut command = cargo(["tree", "--package", package, "--edges", "normal"]);
    command.args(["--prefix", "none", "--format", "{p}", "--no-dedupe"]);
    let lines = output(command.args(choice))?;
    let mut crates: Vec<_> = lines
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    crates.sort();
    crates.dedup();
    Ok(crates)
}
