//! Redis: one server, or a cluster of them.

mod builder;
mod ports;
mod process;
mod resp;
mod server;

pub use builder::RedisServerBuilder;
pub use server::RedisServer;
