//! `test`, `integration` and `drills`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::cargo::{cargo, show, words};
use crate::dynalite::Dynalite;
use crate::flags::Backend;
use crate::workspace::Package;
use crate::{Result, provision};

/// The feature of `cache-tests` that holds what is too long for `test`.
const DRILLS: &str = "drills";

/// Runs everything that has to pass, in one build, and says how much that was.
pub(crate) fn everything() -> Result {
    provision::redis_server()?;
    let packages = Package::tested()?;
    // One command, so that nothing is compiled twice with different features. A failure does not
    // hide the next one.
    let mut command = cargo(["test", "--no-fail-fast"]);
    for package in &packages {
        command.args(["--package", &package.name]);
    }
    command.args(["--features", &all_features(&packages)]);
    let tally = count(&mut command)?;
    println!();
    println!(
        "Left to `cargo xtask drills`: the long versions of the drills, and 100,000 sequences of \
         loads instead of 10,000."
    );
    tally.settle()
}

/// Runs the contract and integration tests of one backend.
pub(crate) fn integration(backend: Backend) -> Result {
    match backend {
        Backend::Redis => {
            provision::redis_server()?;
            count(&mut suites("redis", "*redis*"))?.settle()
        }
        Backend::DynamoDb => count(&mut suites("dynamodb", "*dynamodb*"))?.settle(),
        Backend::Dynalite => {
            let dynalite = Dynalite::start()?;
            let mut command = suites("dynamodb", "contract_dynamodb");
            let tally = count(command.envs(dynalite.variables()))?;
            println!();
            println!("{}", Dynalite::gaps());
            tally.settle()
        }
    }
}

/// The test programs of this name in `cache-tests`, which may contain stars.
fn suites(feature: &str, name: &str) -> Command {
    let mut command = cargo(["test", "--no-fail-fast", "--package", "cache-tests"]);
    command.args(["--features", feature, "--test", name]);
    command
}

/// Runs what takes too long for [`everything`].
pub(crate) fn drills() -> Result {
    provision::redis_server()?;
    let mut command = cargo(["test", "--no-fail-fast", "--release"]);
    command.args(["--package", "cache-tests", "--features", DRILLS]);
    command.args(["--test", "redis", "--test", "dynamodb", "--test", "faults"]);
    let drills = count(&mut command)?;
    let mut command = cargo(["test", "--release", "--package", "cache-core"]);
    command.args(["--all-features", "--test", "load", "--", "model"]);
    command.env("CACHE_MODEL_SEQUENCES", "100000");
    let model = count(&mut command)?;
    drills.settle()?;
    model.settle()
}

/// Every feature of the packages but the drills.
fn all_features(packages: &[Package]) -> String {
    let features: Vec<_> = packages
        .iter()
        .flat_map(|package| {
            let qualified = |feature| format!("{}/{feature}", package.name);
            package.features.iter().map(qualified)
        })
        .filter(|feature| *feature != format!("cache-tests/{DRILLS}"))
        .collect();
    features.join(",")
}

/// What the test programs reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    programs: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    succeeded: bool,
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.programs += 1;
        for part in counts.split("; ") {
            let Some((Ok(number), what)) = part
                .split_once(' ')
                .map(|(number, what)| (number.parse::<usize>(), what))
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn settle(self) -> Result {
        let Self {
            programs,
            passed,
            failed,
            ignored,
            succeeded,
        } = self;
        if ignored > 0 {
            println!("{ignored} ignored: they did not run and count as nothing.");
        }
        println!("{programs} test programs and sets of documentation examples ran.");
        println!("{passed} passed, {failed} failed");
        match (succeeded, passed, failed) {
            (true, 0, 0) => Err("no test ran".to_owned()),
            (true, _, 0) => Ok(()),
            (_, _, 0) => Err("the tests did not all build and run".to_owned()),
            _ => Err("tests failed".to_owned()),
        }
    }
}

/// Runs a test command, shows what it prints as it comes, and adds up the results.
fn count(command: &mut Command) -> Result<Tally> {
    show(command);
    let unusable = |error| format!("cargo cannot be run: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(unusable)?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        let mut screen = io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(unusable)?;
            let line = String::from_utf8_lossy(&line);
            // A closed screen is no reason to stop the tests.
            _ = writeln!(screen, "{line}");
            tally.add(&line);
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("`{}` was lost: {error}", words(command)))?;
    tally.succeeded = status.success();
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "a test prints: test result: ok. 100 passed; 0 failed",
        ] {
            tally.add(line);
        }
        let expected = Tally {
            programs: 2,
            passed: 4,
            failed: 2,
            ignored: 1,
            succeeded: false,
        };
        assert_eq!(tally, expected);
        assert!(tally.settle().is_err());
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        let tally = Tally {
            succeeded: true,
            ..Tally::default()
        };
        assert!(tally.settle().is_err());
    }

    #[test]
    fn the_drills_are_left_out() {
        let tests = Package {
            name: "cache-tests".to_owned(),
            features: vec!["redis".to_owned(), "drills".to_owned()],
        };
        assert_eq!(all_features(&[tests]), "cache-tests/redis");
    }
}
