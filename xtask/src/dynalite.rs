//! dynalite, another implementation of DynamoDB: a second opinion on the one of the tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{root, run};
use crate::server::{Server, free_port};
use crate::{Result, provision};

const PACKAGE: &str = "dynalite@4";

/// What it cannot do, of what the suite and the storage make use of.
const GAPS: [&str; 2] = [
    "it has no time-to-live, so tables are made without",
    "it returns no item where a condition does not hold, so the storage reads that itself",
];

/// Any answer at all, even that the question is not signed, is one of a server that is ready.
const QUESTION: &str = "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
                        content-type: application/x-amz-json-1.0\r\n\
                        x-amz-target: DynamoDB_20120810.ListTables\r\n\
                        content-length: 2\r\n\r\n{}";

/// A dynalite on a free port, stopped on drop.
pub(crate) struct Dynalite {
    port: u16,
    _server: Server,
}

impl Dynalite {
    /// Starts dynalite, and installs it below `target` first where it is missing.
    pub(crate) fn start() -> Result<Self> {
        provision::node()?;
        let program = install()?;
        let port = free_port()?;
        let mut command = Command::new("node");
        command.arg(program).args(["--host", "127.0.0.1"]);
        command.args(["--port", &port.to_string()]);
        // Tables are there at once, so that no test waits for them.
        command.args(["--createTableMs", "0", "--deleteTableMs", "0"]);
        let server = Server::start(&mut command, port, QUESTION, "HTTP/1.1 ")?;
        Ok(Self {
            port,
            _server: server,
        })
    }

    /// What it cannot do, to be read beside the result.
    pub(crate) fn gaps() -> String {
        let count = GAPS.len();
        format!(
            "{count} known gaps of dynalite, for which no case is left out: {}.",
            GAPS.join("; ")
        )
    }

    /// The variables by which a test finds it. It asks for credentials and looks at none.
    pub(crate) fn variables(&self) -> [(&'static str, String); 5] {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("CACHE_TEST_DYNAMODB_ENDPOINT", endpoint),
            // It does not know the setting for expiry, and never deletes anything.
            ("CACHE_TEST_DYNAMODB_NO_TTL", "1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }
}

/// The program, which npm has put in a directory of its own.
fn install() -> Result<PathBuf> {
    let directory = root().join("target/dynalite");
    let program = directory.join("node_modules/dynalite/cli.js");
    if program.is_file() {
        return Ok(program);
    }
    println!("dynalite is missing; installing {PACKAGE} in target/dynalite with npm.");
    fs::create_dir_all(&directory)
        .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund"]);
    // Packages run no program of theirs; dynalite does without what they would build.
    npm.args(["--ignore-scripts", "--prefix"]);
    run(npm.arg(&directory).arg(PACKAGE))?;
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("npm has not installed {}", program.display()))
}
