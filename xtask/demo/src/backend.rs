//! What the demo runs on.

use cache_core::settings::Settings;
#[cfg(feature = "dynamodb")]
use cache_factory::cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions};
#[cfg(feature = "dynamodb")]
use cache_testkit::servers::DynamoDb;
#[cfg(feature = "redis-cluster")]
use cache_testkit::servers::RedisCluster;
#[cfg(feature = "redis")]
use cache_testkit::servers::RedisServer;

use crate::Result;

/// How many responses are kept in memory: fewer than there are, so that it has to choose.
const RESPONSES: &str = "2000";

/// The table of the emulator, in a region that it believes.
#[cfg(feature = "dynamodb")]
pub(crate) const TABLE: &str = "cache-demo";
#[cfg(feature = "dynamodb")]
pub(crate) const REGION: &str = "eu-central-1";

/// A backend that was started, and is stopped on drop.
pub(crate) enum Backend {
    Memory,
    #[cfg(feature = "redis")]
    Redis(RedisServer),
    #[cfg(feature = "redis-cluster")]
    RedisCluster(RedisCluster),
    #[cfg(feature = "dynamodb")]
    DynamoDb(DynamoDb),
}

impl Backend {
    pub(crate) fn start(storage: &str) -> Result<Self> {
        match storage {
            "memory" => Ok(Self::Memory),
            #[cfg(feature = "redis")]
            "redis" => Ok(Self::Redis(RedisServer::start()?)),
            #[cfg(feature = "redis-cluster")]
            "redis-cluster" => Ok(Self::RedisCluster(RedisCluster::start()?)),
            #[cfg(feature = "dynamodb")]
            "dynamodb" => Ok(Self::DynamoDb(DynamoDb::start()?)),
            other => Err(format!("this demo was built without the storage {other:?}").into()),
        }
    }

    /// Makes what an application finds in place.
    #[cfg_attr(
        not(feature = "dynamodb"),
        expect(clippy::unused_async, reason = "only a table has to be made")
    )]
    pub(crate) async fn prepare(&self) -> Result {
        #[cfg(feature = "dynamodb")]
        if let Self::DynamoDb(server) = self {
            let options = DynamoDbOptions::new(TABLE)
                .with_region(REGION)
                .with_endpoint(server.endpoint());
            DynamoDbCacheStorage::new(options)?.create_table().await?;
        }
        Ok(())
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
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb(server) => Settings::from_pairs([
                ("CACHE_STORAGE_TYPE", "dynamodb".to_owned()),
                ("CACHE_DYNAMODB_TABLE", TABLE.to_owned()),
                ("CACHE_DYNAMODB_REGION", REGION.to_owned()),
                ("CACHE_DYNAMODB_ENDPOINT", server.endpoint()),
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
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb(server) => format!("an emulator of DynamoDB at {}", server.endpoint()),
        }
    }
}
