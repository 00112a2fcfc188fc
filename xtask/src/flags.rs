//! What may be typed after `cargo xtask`.

use std::ffi::OsString;
use std::fmt;

use lexopt::prelude::*;

use crate::Result;

const HELP: &str = "\
Every command of this workspace.

Usage: cargo xtask COMMAND

To see it work
  demo [--storage memory|redis|redis-cluster|dynamodb] [--requests N]
                       replays recorded traffic of a shop through sessions, geolocation, rate
                       limits and a response cache, and prints what the cache did; on memory unless
                       told otherwise, or on several storages: --storage memory,redis,dynamodb
  demo --outage hang|kill|blackhole [--output DIR]
                       takes Redis away in the middle of the traffic and brings it back, with
                       DynamoDB to fall back to; draws what happened, on the terminal and as an SVG
                       in DIR (target/outage)

To check it
  test                 everything that has to pass: unit, documentation, contract and integration
                       tests, with real Redis servers and with a DynamoDB within the tests
  integration redis|dynamodb|dynalite
                       the contract and integration tests of one backend only; dynalite is a
                       second opinion on the DynamoDB of the tests
  drills               what takes too long for `test`
  lint                 formatting, clippy, each feature alone, and which crate may use which
  docs                 builds the documentation; a warning is an error
  slim                 size and crates of the smallest programs, and the limits they keep
  ci                   lint, docs, test, demo and slim, in this order

To measure and to try
  bench [ARGUMENTS]    measures against the bare clients and against other caches; `bench --help`
                       names the parts
  servers              starts a Redis, prints the variables that name it, and stops it at the end
                       of its input (Ctrl-D) or on Ctrl-C

Commands that need redis-server, node and npm for dynalite, or valgrind for bench install them with
the package manager of the system if they are missing, after saying so. dynalite itself goes to
target/dynalite.
";

/// A command with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Demo {
        /// The fastest first.
        storages: Vec<Storage>,
        /// Whether the server goes away in the middle.
        has_outage: bool,
        arguments: Vec<OsString>,
    },
    Test,
    Integration(Backend),
    Drills,
    Lint,
    Bench {
        arguments: Vec<OsString>,
    },
    Slim,
    Servers,
    Docs,
    Ci,
}

/// A storage to run on; also the Cargo feature of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Memory,
    Redis,
    RedisCluster,
    DynamoDb,
}

impl Storage {
    const ALL: [Self; 4] = [
        Self::Memory,
        Self::Redis,
        Self::RedisCluster,
        Self::DynamoDb,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::DynamoDb => "dynamodb",
        }
    }

    /// Its place among several storages, from the fastest.
    fn layer(self) -> u8 {
        match self {
            Self::Memory => 0,
            Self::Redis | Self::RedisCluster => 1,
            Self::DynamoDb => 2,
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A backend with tests of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Redis,
    DynamoDb,
    Dynalite,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Redis, Self::DynamoDb, Self::Dynalite];

    fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::DynamoDb => "dynamodb",
            Self::Dynalite => "dynalite",
        }
    }
}

/// Prints the manual.
pub(crate) fn help() -> Result {
    print!("{HELP}");
    Ok(())
}

/// Reads the command line.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Command> {
    command(&mut parser).map_err(|error| format!("{error}; see cargo xtask --help"))
}

fn command(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    let name = match parser.next()? {
        None | Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
    };
    let command = match name.as_str() {
        "help" => Command::Help,
        "demo" => demo(parser)?,
        "test" => Command::Test,
        "integration" => Command::Integration(backend(parser)?),
        "drills" => Command::Drills,
        "lint" => Command::Lint,
        "bench" => Command::Bench {
            arguments: parser.raw_args()?.collect(),
        },
        "slim" => Command::Slim,
        "servers" => Command::Servers,
        "docs" => Command::Docs,
        "ci" => Command::Ci,
        _ => return Err(format!("there is no command {name:?}").into()),
    };
    match parser.next()? {
        None => Ok(command),
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(other) => Err(other.unexpected()),
    }
}

fn demo(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut storages = vec![Storage::Memory];
    let mut has_outage = false;
    let mut arguments = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("storage") => storages = parser.value()?.parse_with(list_of_storages)?,
            Long("requests") => {
                let requests: u32 = parser
                    .value()?
                    .parse()
                    .map_err(|_| "--requests is a whole number".to_owned())?;
                arguments.extend(["--requests".into(), requests.to_string().into()]);
            }
            Long("outage") => {
                has_outage = true;
                arguments.extend(["--outage".into(), parser.value()?]);
            }
            Long("output") => arguments.extend(["--output".into(), parser.value()?]),
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Demo {
        storages,
        has_outage,
        arguments,
    })
}

fn backend(parser: &mut lexopt::Parser) -> Result<Backend, lexopt::Error> {
    let Some(argument) = parser.next()? else {
        let known = Backend::ALL.map(Backend::as_str).join(", ");
        return Err(format!("which backend? there are: {known}").into());
    };
    let Value(name) = &argument else {
        return Err(argument.unexpected());
    };
    let mut known = Backend::ALL.into_iter();
    known
        .find(|backend| name == backend.as_str())
        .ok_or_else(|| argument.unexpected())
}

fn one_storage(name: &str) -> Result<Storage> {
    let mut known = Storage::ALL.into_iter();
    known
        .find(|storage| storage.as_str() == name)
        .ok_or_else(|| format!("there is no storage {name:?}; {}", possible_storages()))
}

/// One storage, or several in the order of their speed.
fn list_of_storages(list: &str) -> Result<Vec<Storage>> {
    let storages: Vec<_> = list.split(',').map(one_storage).collect::<Result<_>>()?;
    if storages.is_sorted_by(|one, next| one.layer() < next.layer()) {
        return Ok(storages);
    }
    let problem = "a list has each storage once, the fastest first, and one Redis";
    Err(format!("{problem}; {}", possible_storages()))
}

fn possible_storages() -> String {
    let all = Storage::ALL.map(Storage::as_str).join(", ");
    format!("expected {all}, or several of them, the fastest first, as in memory,redis,dynamodb")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn every_command_of_the_manual_is_one() {
        let is_entry = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        for line in HELP.lines().filter(is_entry) {
            let name = line.split_whitespace().next().unwrap();
            let line = name.replace("integration", "integration redis");
            assert!(parsed(&line).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_manual_names_every_storage_and_backend() {
        let storages = Storage::ALL.map(Storage::as_str).join("|");
        assert!(HELP.contains(&format!("  demo [--storage {storages}] ")));
        let backends = Backend::ALL.map(Backend::as_str).join("|");
        assert!(HELP.contains(&format!("  integration {backends}\n")));
    }

    #[test]
    fn integration_takes_a_backend() {
        for backend in Backend::ALL {
            let line = format!("integration {}", backend.as_str());
            assert_eq!(parsed(&line), Ok(Command::Integration(backend)));
        }
        let error = parsed("integration").unwrap_err();
        assert!(error.contains("redis, dynamodb, dynalite"), "{error}");
    }

    #[test]
    fn nothing_and_help_print_the_manual() {
        for line in ["", "--help", "-h", "help", "test --help", "demo --help"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
    }

    #[test]
    fn the_demo_takes_a_storage_and_a_number() {
        let demo = |storages: &[Storage], arguments: &[&str]| {
            Ok(Command::Demo {
                storages: storages.to_vec(),
                has_outage: false,
                arguments: arguments.iter().map(OsString::from).collect(),
            })
        };
        assert_eq!(parsed("demo"), demo(&[Storage::Memory], &[]));
        assert_eq!(
            parsed("demo --requests 10 --storage=redis"),
            demo(&[Storage::Redis], &["--requests", "10"])
        );
        let outage = Command::Demo {
            storages: vec![Storage::Memory],
            has_outage: true,
            arguments: ["--outage", "hang", "--output", "x"]
                .map(OsString::from)
                .into(),
        };
        assert_eq!(parsed("demo --outage hang --output x"), Ok(outage));
        for storage in Storage::ALL {
            assert_eq!(
                parsed(&format!("demo --storage {storage}")),
                demo(&[storage], &[])
            );
        }
    }

    #[test]
    fn the_demo_takes_several_storages_in_the_order_of_their_speed() {
        let storages = |list: &str| match parsed(&format!("demo --storage {list}")) {
            Ok(Command::Demo { storages, .. }) => Ok(storages),
            other => Err(other),
        };
        let all = [Storage::Memory, Storage::Redis, Storage::DynamoDb];
        assert_eq!(storages("memory,redis,dynamodb"), Ok(all.to_vec()));
        assert_eq!(storages("redis,dynamodb"), Ok(all[1..].to_vec()));
        let cluster = vec![Storage::Memory, Storage::RedisCluster];
        assert_eq!(storages("memory,redis-cluster"), Ok(cluster));

        let lists = ["memory,", "memory,redsi", "redis,memory", "memory,memory"];
        for list in lists.into_iter().chain(["redis,redis-cluster"]) {
            let error = parsed(&format!("demo --storage {list}")).unwrap_err();
            let possible = "expected memory, redis, redis-cluster, dynamodb, or several of them";
            assert!(error.contains(possible), "{list}: {error}");
        }
    }

    #[test]
    fn slips_are_refused() {
        for line in [
            "tset",
            "test now",
            "--verbose",
            "integration",
            "integration mysql",
            "integration memory",
            "integration --verbose",
            "demo --storage mysql",
            "demo --requests many",
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.ends_with("; see cargo xtask --help"), "{error}");
        }
    }
}
