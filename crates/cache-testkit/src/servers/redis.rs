//! Redis: one server, or a cluster of them.

mod builder;
mod cluster;
mod ports;
mod process;
mod resp;
mod server;

pub use builder::RedisServerBuilder;
pub use cluster::{RedisCluster, RedisClusterBuilder};
pub use server::RedisServer;
