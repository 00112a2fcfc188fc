//! Servers as child processes, each on a port and in a directory of its own.

mod redis;
mod resp;

pub use redis::{RedisServer, RedisServerBuilder};
