//! What the demo runs on.

use cache_core::settings::Settings;
#[cfg(feature = "redis-cluster")]
use cache_testkit::servers::RedisCluster;
#[cfg(feature = "redis")]
use cache_testkit::servers::RedisServer;

use crate::Result;

/// How many responses are kept in memory: fewer than there are, so that it has to choose.
const RESPONSES: &str = "2000";

/// A backend that was started, and is stopped on drop.
pub(crate) enum Backend {
    Memory,
    #[cfg(feature = "redis")]
    Redis(RedisServer),
    #[cfg(feature = "redis-cluster")]
    RedisCluster(RedisCluster),
}

impl Backend {
    pub(crate) fn start(storage: &str) -> Result<Self> {
        match storage {
            "memory" => Ok(Self::Memory),
            #[cfg(feature = "redis")]
            "redis" => Ok(Self::Redis(RedisServer::start()?)),
            #[cfg(feature = "redis-cluster")]
            "redis-cluster" => Ok(Self::RedisCluster(RedisCluster::start()?)),
            other => Err(format!("this demo was built without the storage {other:?}").into()),
        }
    }

    /// The variables that an application would be given.
    pub(crate) fn settings(&self) -> Settings {
        match self {
            Self::Memory => Settings::from_pairs([
                ("CACHE_STORAGE_TYPE", "memory"),
                ("CACHE_RESPONSE_MEMORY_MAX_ENTRIES", RESPONSES),
            ]),
            #[cfg(feature = "redis")]
            Self::Redis(server) => Settings::from_pairs([
                ("CACHE_STORAGE_TYPE", "redis".to_owned()),
                ("CACHE_REDIS_URL", server.url(0)),
            ]),
            #[cfg(feature = "redis-cluster")]
            Self::RedisCluster(cluster) => Settings::from_pairs([
                ("CACHE_STORAGE_TYPE", "redis".to_owned()),
                ("CACHE_REDIS_TOPOLOGY", "cluster".to_owned()),
                ("CACHE_REDIS_URL", cluster.url()),
            ]),
        }
    }

    pub(crate) fn description(&self) -> String {
        match self {
            Self::Memory => format!("memory, at most {RESPONSES} responses"),
            #[cfg(feature = "redis")]
            Self::Redis(server) => format!("Redis on {}", server.address()),
            #[cfg(feature = "redis-cluster")]
            Self::RedisCluster(cluster) => {
                format!("a Redis Cluster of {} nodes", cluster.nodes().len())
            }
        }
    }
}
