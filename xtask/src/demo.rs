//! `demo`: real traffic through the cache.

use std::ffi::OsString;

use crate::cargo::{cargo, run as run_command};
use crate::flags::Storage;
use crate::{Result, provision};

/// The emulator of DynamoDB asks for credentials and looks at none.
const CREDENTIALS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
];

/// What the demo is built with for an outage: a storage to lose, and one to fall back to.
const OUTAGE: &str = "outage";

/// Builds the demo with the backends it runs on and nothing else, and runs it.
pub(crate) fn run(storages: &[Storage], has_outage: bool, arguments: &[OsString]) -> Result {
    if has_outage {
        provision::redis_server()?;
        let mut command = cargo(["run", "--release", "--package", "cache-demo"]);
        command.args(["--no-default-features", "--features", OUTAGE, "--"]);
        return run_command(command.envs(CREDENTIALS).args(arguments));
    }
    let list = storages.iter().map(|storage| storage.as_str());
    let list = list.collect::<Vec<_>>().join(",");
    let mut command = cargo(["run", "--release", "--package", "cache-demo"]);
    command.args(["--no-default-features", "--features", &list]);
    command.args(["--", "--storage", &list]);
    for storage in storages {
        match storage {
            Storage::Memory => {}
            Storage::Redis | Storage::RedisCluster => provision::redis_server()?,
            Storage::DynamoDb => _ = command.envs(CREDENTIALS),
        }
    }
    run_command(command.args(arguments))
}
