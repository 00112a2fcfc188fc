//! `demo`: real traffic through the cache.

use std::ffi::OsString;

use crate::cargo::{cargo, run as run_command};
use crate::flags::Storage;
use crate::{Result, provision};

/// Builds the demo with the backend it runs on and nothing else, and runs it.
pub(crate) fn run(storage: Storage, arguments: &[OsString]) -> Result {
    match storage {
        Storage::Redis | Storage::RedisCluster => provision::redis_server()?,
        Storage::Memory | Storage::DynamoDb => {}
    }
    let mut command = cargo(["run", "--release", "--package", "cache-demo"]);
    command.args(["--no-default-features", "--features", storage.as_str()]);
    command.args(["--", "--storage", storage.as_str()]);
    run_command(command.args(arguments))
}
