//! `servers`: a backend to try things on.

use std::env;
use std::io;
use std::process::Command;

use crate::server::{Server, free_port};
use crate::{Result, provision};

/// Starts a Redis on a free port and keeps it until the input ends.
pub(crate) fn run() -> Result {
    provision::redis_server()?;
    let port = free_port()?;
    let _redis = redis(port)?;
    println!("export CACHE_STORAGE_TYPE=redis");
    println!("export CACHE_REDIS_URL=redis://127.0.0.1:{port}");
    eprintln!("Redis answers on port {port} until Ctrl-D or Ctrl-C.");
    // Whatever comes is dropped; only the end matters.
    _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    Ok(())
}

fn redis(port: u16) -> Result<Server> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no"]);
    // Nothing is ever written there; without it the server would use the current directory.
    command.arg("--dir").arg(env::temp_dir());
    Server::start(&mut command, port, "PING\r\n", "+PONG\r\n")
}
