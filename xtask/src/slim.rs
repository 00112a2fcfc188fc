//! `slim`: what the smallest programs cost.

use std::fs;

use crate::Result;
use crate::cargo::{cargo, output};
use crate::flags::Storage;
use crate::lint::dependencies;

/// A program that sets and gets one value, and what it may cost.
struct Program {
    storage: Storage,
    most_crates: usize,
    most_bytes: u64,
    /// Crates that must not be in it; a name that ends in `-` stands for all that begin so.
    forbidden: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        storage: Storage::Memory,
        most_crates: 40,
        most_bytes: 600_000,
        forbidden: &[
            "cache-redis",
            "redis",
            "bb8",
            "bb8-redis",
            "url",
            "socket2",
            "mio",
        ],
    },
    Program {
        storage: Storage::Redis,
        most_crates: 90,
        most_bytes: 1_200_000,
        forbidden: &["cache-memory", "dashmap"],
    },
];

/// Crates that belong in none of them: TLS, AWS, HTTP, other caches.
const FORBIDDEN: &[&str] = &[
    "rustls",
    "rustls-",
    "ring",
    "openssl",
    "openssl-",
    "native-tls",
    "aws-",
    "hyper",
    "hyper-",
    "moka",
    "quick_cache",
    "metrics",
    "tracing",
];

/// Builds each program, prints what it costs, and fails if that is too much.
pub(crate) fn run() -> Result {
    let mut problems = Vec::new();
    let mut rows = Vec::new();
    for program in PROGRAMS {
        let Program {
            storage,
            most_crates,
            most_bytes,
            ..
        } = program;
        let crates = crates(*storage)?;
        let bytes = bytes(*storage)?;
        rows.push(format!(
            "{storage:<8} {:>7} {most_crates:>6} {bytes:>12} {most_bytes:>10}",
            crates.len()
        ));
        if crates.len() > *most_crates {
            problems.push(format!("{storage}: more than {most_crates} crates"));
        }
        if bytes > *most_bytes {
            problems.push(format!("{storage}: more than {most_bytes} bytes"));
        }
        for name in crates.iter().filter(|name| program.forbids(name)) {
            problems.push(format!("{storage}: {name} must not be in it"));
        }
    }
    println!();
    println!("A program that sets and gets one value:");
    println!();
    println!("storage   crates  limit        bytes      limit");
    println!("{}", rows.join("\n"));
    println!();
    println!(
        "crates: everything cargo compiles for this machine besides the program itself, macros \
         included\nand build scripts' own dependencies not; bytes: profile slim (fat LTO, one \
         codegen unit, abort on\npanic, stripped)"
    );
    if problems.is_empty() {
        return Ok(());
    }
    Err(problems.join("; "))
}

impl Program {
    fn forbids(&self, name: &str) -> bool {
        let matches = |pattern: &&str| match pattern.strip_suffix('-') {
            Some(_) => name.starts_with(pattern),
            None => name == *pattern,
        };
        FORBIDDEN.iter().chain(self.forbidden).any(matches)
    }
}

fn crates(storage: Storage) -> Result<Vec<String>> {
    let choice = ["--no-default-features", "--features", storage.as_str()];
    dependencies("cache-slim", &choice)
}

fn bytes(storage: Storage) -> Result<u64> {
    let mut command = cargo(["build", "--package", "cache-slim", "--profile", "slim"]);
    command.args(["--no-default-features", "--features", storage.as_str()]);
    let messages = output(command.args(["--message-format", "json-render-diagnostics"]))?;
    let path = executable(&messages).ok_or("cargo named no program that it built")?;
    let file = fs::metadata(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    Ok(file.len())
}

/// The program that cargo's messages name: only the last one that was built is a program.
fn executable(messages: &str) -> Option<&str> {
    let (_, rest) = messages.rsplit_once("\"executable\":\"")?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_crates_are_told_from_similar_ones() {
        let redis = &PROGRAMS[1];
        for name in ["dashmap", "rustls", "rustls-pki-types", "aws-lc-rs", "ring"] {
            assert!(redis.forbids(name), "{name}");
        }
        for name in ["redis", "string", "cache-core", "ringbuf"] {
            assert!(!redis.forbids(name), "{name}");
        }
        assert!(PROGRAMS[0].forbids("redis"));
    }

    #[test]
    fn the_program_is_found_in_the_messages() {
        let messages = "{\"executable\":null}\n{\"executable\":\"/t/slim/cache-slim\",\"x\":1}\n";
        assert_eq!(executable(messages), Some("/t/slim/cache-slim"));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}
