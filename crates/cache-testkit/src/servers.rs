//! Servers to test against, each on a port of its own: child processes, or threads of the test.

#[cfg(feature = "redis-server")]
mod redis;

#[cfg(feature = "redis-server")]
pub use redis::{RedisServer, RedisServerBuilder};
