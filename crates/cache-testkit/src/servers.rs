//! Servers to test against, each on a port of its own: child processes, or threads of the test.

#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "http-stub")]
mod http;
#[cfg(feature = "redis-server")]
mod redis;

#[cfg(feature = "tls")]
pub use certificates::{Certificate, CertificateFiles, Certificates};
#[cfg(feature = "dynamodb")]
pub use dynamodb::DynamoDb;
#[cfg(feature = "http-stub")]
pub use http::{Answer, Request, ScriptedHttp};
#[cfg(feature = "redis-server")]
pub use redis::{RedisCluster, RedisClusterBuilder, RedisServer, RedisServerBuilder};
