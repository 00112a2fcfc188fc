//! `slim`: what the smallest programs cost.

use std::fs;

use crate::Result;
use crate::cargo::{cargo, output};
use crate::lint::crates;

/// A program that sets and gets one value, and what it may cost.
struct Program {
    /// The feature that chooses its storage.
    storage: &'static str,
    most_crates: usize,
    most_bytes: u64,
    /// Crates that must not be in it.
    forbidden: &'static [&'static [&'static str]],
}

const PROGRAMS: &[Program] = &[
    Program {
        storage: "memory",
        most_crates: 40,
        most_bytes: 600_000,
        forbidden: &[ANYWHERE, AWS, MEMORY_HAS_NONE, REDIS, TLS],
    },
    Program {
        storage: "redis",
        most_crates: 90,
        most_bytes: 1_200_000,
        forbidden: &[ANYWHERE, AWS, MEMORY, TLS],
    },
    Program {
        storage: "redis-tls",
        most_crates: 110,
        most_bytes: 2_400_000,
        forbidden: &[ANYWHERE, AWS, MEMORY],
    },
    Program {
        storage: "redis-cluster",
        most_crates: 92,
        most_bytes: 1_300_000,
        forbidden: &[ANYWHERE, AWS, MEMORY, TLS],
    },
    Program {
        storage: DYNAMODB,
        most_crates: 160,
        most_bytes: 4_600_000,
        forbidden: &[ANYWHERE, MEMORY, REDIS, SLOW_AWS],
    },
];

/// The program whose first answer is measured.
const DYNAMODB: &str = "dynamodb";

/// How often it runs.
const RUNS: usize = 21;

/// The program that measures it, and its feature.
const FIRST_ANSWER: &str = "first-answer";

/// The most CPU time from exec to the first answer over TLS, in microseconds.
const MOST_CPU: u64 = 6_000;

// A name that ends in `-` stands for all that begin so; a number after a name for all versions that
// begin so.

/// Other TLS, other caches, metrics.
const ANYWHERE: &[&str] = &[
    "aws-lc-",
    "openssl",
    "openssl-macros",
    "openssl-src",
    "openssl-sys",
    "native-tls",
    "moka",
    "quick_cache",
    "metrics",
];

const AWS: &[&str] = &[
    "aws-",
    "cache-aws",
    "cache-dynamo",
    "hyper",
    "hyper-",
    "tracing",
];

/// The second HTTP stack of the SDK, and the chain of credentials with the services it asks.
const SLOW_AWS: &[&str] = &[
    "aws-config",
    "aws-sdk-secretsmanager",
    "aws-sdk-sso",
    "aws-sdk-ssooidc",
    "aws-sdk-sts",
    "h2 0.3",
    "hyper 0.14",
    "hyper-rustls 0.24",
    "rustls 0.21",
];

const MEMORY: &[&str] = &["cache-memory", "dashmap"];

const MEMORY_HAS_NONE: &[&str] = &["url", "socket2", "mio"];

const REDIS: &[&str] = &["cache-redis", "redis", "bb8", "bb8-redis"];

const TLS: &[&str] = &["rustls", "rustls-", "ring"];

/// Builds each program, prints what it costs, and fails if that is too much.
pub(crate) fn run() -> Result {
    let mut problems = Vec::new();
    let mut rows = Vec::new();
    let mut first_answer = String::new();
    for program in PROGRAMS {
        let cost = program.cost()?;
        rows.push(program.row(&cost));
        problems.extend(program.problems(&cost));
        if program.storage == DYNAMODB {
            let (median, least) = cpu_to_first_answer(&cost.path)?;
            first_answer = format!("{median} (limit {MOST_CPU}, least of {RUNS} runs {least})");
            if median > MOST_CPU {
                problems.push(format!("{DYNAMODB}: more than {MOST_CPU} µs to an answer"));
            }
        }
    }
    println!();
    println!("A program that sets and gets one value:");
    println!();
    println!("storage        crates  limit        bytes      limit");
    println!("{}", rows.join("\n"));
    println!();
    println!(
        "crates: everything cargo compiles for this machine besides the program itself, macros \
         included\nand build scripts' own dependencies not; bytes: profile slim (fat LTO, one \
         codegen unit, abort on\npanic, stripped, dependencies built for size)"
    );
    println!();
    println!("{DYNAMODB}: CPU time from exec to the first answer over TLS, in µs: {first_answer}");
    if problems.is_empty() {
        return Ok(());
    }
    Err(problems.join("; "))
}

/// What a program came to.
struct Cost {
    path: String,
    bytes: u64,
    crates: Vec<String>,
}

impl Program {
    fn cost(&self) -> Result<Cost> {
        let choice = choice(self.storage);
        let mut command = cargo(["build", "--package", "cache-slim", "--profile", "slim"]);
        command.args(["--bin", "cache-slim"]).args(choice);
        let messages = output(command.args(["--message-format", "json-render-diagnostics"]))?;
        let path = executable(&messages).ok_or("cargo named no program that it built")?;
        let file = fs::metadata(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
        Ok(Cost {
            path: path.to_owned(),
            bytes: file.len(),
            crates: crates("cache-slim", &choice)?,
        })
    }

    fn row(&self, cost: &Cost) -> String {
        let Self {
            storage,
            most_crates,
            most_bytes,
            ..
        } = self;
        let (crates, bytes) = (cost.crates.len(), cost.bytes);
        format!("{storage:<14} {crates:>6} {most_crates:>6} {bytes:>12} {most_bytes:>10}")
    }

    fn problems(&self, cost: &Cost) -> Vec<String> {
        let Self {
            storage,
            most_crates,
            most_bytes,
            ..
        } = self;
        let mut problems = Vec::new();
        if cost.crates.len() > *most_crates {
            problems.push(format!("{storage}: more than {most_crates} crates"));
        }
        if cost.bytes > *most_bytes {
            problems.push(format!("{storage}: more than {most_bytes} bytes"));
        }
        let forbidden = cost.crates.iter().filter(|crate_| self.forbids(crate_));
        problems.extend(forbidden.map(|crate_| format!("{storage}: {crate_} must not be in it")));
        problems
    }

    /// Whether a crate, given as name and version, must not be in it.
    fn forbids(&self, crate_: &str) -> bool {
        let name = crate_.split(' ').next().unwrap_or_default();
        let matches = |pattern: &&str| match pattern.split_once(' ') {
            Some((exact, version)) => {
                let rest = crate_.strip_prefix(&format!("{exact} v{version}"));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            None if pattern.ends_with('-') => name.starts_with(pattern),
            None => name == *pattern,
        };
        self.forbidden.iter().copied().flatten().any(matches)
    }
}

fn choice(storage: &str) -> [&str; 3] {
    ["--no-default-features", "--features", storage]
}

/// CPU time of a program in microseconds, the median of some runs and the least.
fn cpu_to_first_answer(program: &str) -> Result<(u64, u64)> {
    let mut command = cargo(["run", "--quiet", "--package", "cache-slim"]);
    command
        .args(["--bin", FIRST_ANSWER])
        .args(choice(FIRST_ANSWER));
    let printed = output(command.args(["--", program, &RUNS.to_string()]))?;
    let mut numbers = printed.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(median)), Some(Ok(least))) => Ok((median, least)),
        _ => Err(format!("{FIRST_ANSWER} printed {printed:?}")),
    }
}

/// The program that cargo's messages name: only the last one that was built is a program.
fn executable(messages: &str) -> Option<&str> {
    let (_, rest) = messages.rsplit_once("\"executable\":\"")?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(storage: &str) -> &'static Program {
        let mut programs = PROGRAMS.iter();
        let program = programs.find(|program| program.storage == storage);
        program.unwrap()
    }

    #[test]
    fn forbidden_crates_are_told_from_similar_ones() {
        let redis = program("redis");
        for name in ["dashmap", "rustls", "rustls-pki-types", "aws-lc-rs", "ring"] {
            assert!(redis.forbids(&format!("{name} v1.0.0")), "{name}");
        }
        for name in ["redis", "string", "cache-core", "ringbuf"] {
            assert!(!redis.forbids(&format!("{name} v1.0.0")), "{name}");
        }
        assert!(program("memory").forbids("redis v1.8.1"));
        assert!(!program("redis-tls").forbids("rustls v0.23.46"));
    }

    #[test]
    fn forbidden_versions_are_told_from_others() {
        let dynamodb = program(DYNAMODB);
        for crate_ in ["hyper v0.14.32", "rustls v0.21.12", "aws-lc-sys v0.1.0"] {
            assert!(dynamodb.forbids(crate_), "{crate_}");
        }
        for crate_ in [
            "hyper v1.12.0",
            "hyper v0.141.0",
            "rustls v0.23.46",
            "ring v0.17.14",
        ] {
            assert!(!dynamodb.forbids(crate_), "{crate_}");
        }
    }

    #[test]
    fn the_program_is_found_in_the_messages() {
        let messages = "{\"executable\":null}\n{\"executable\":\"/t/slim/cache-slim\",\"x\":1}\n";
        assert_eq!(executable(messages), Some("/t/slim/cache-slim"));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}
