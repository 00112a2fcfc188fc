//! What it takes to test a cache: the contract suite, and servers to run it against.
//!
//! [`contract`] holds one test for each sentence of
//! [`CacheStorage`](cache_core::CacheStorage): anyone who writes a storage or a decorator can run
//! it. [`servers`] starts real servers, and one that answers as a test says. `proxy` is a network
//! that misbehaves, and `chaos` a storage that does. [`ManualClock`] is the time that tests move:
//! storages and breakers take it as their clock.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `runner` | | `contract::main`, the suite as a test binary |
//! | `redis-server` | | `servers::RedisServer`, `servers::RedisCluster` |
//! | `dynamodb` | | `servers::DynamoDb` |
//! | `http-stub` | | `servers::ScriptedHttp` |
//! | `chaos` | | `chaos::ChaosStorage` |
//! | `proxy` | | `proxy::FaultProxy` |
//! | `tls` | | `servers::Certificates`, and TLS on the servers |

#[cfg(feature = "chaos")]
pub mod chaos;
pub mod contract;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod servers;

pub use cache_core::ManualClock;
