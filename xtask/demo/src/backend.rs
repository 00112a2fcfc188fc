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

/// How long copies live in front of slower storages: less than a run takes, so that these answer too.
const CAPS: [(&str, &str, &str); 2] = [
    ("memory", "CACHE_TIER_MEMORY_TTL_CAP", "2s"),
    ("redis", "CACHE_TIER_REDIS_TTL_CAP", "10s"),
];

/// The layers of the geolocation where there are three storages.
const TWO_LAYERS: [(&str, &str); 2] = [
    ("CACHE_GEO_STORAGE_TYPE", "memory,redis"),
    ("CACHE_GEO_TIER_REDIS_TTL_CAP", "none"),
];

/// The table of the emulator, in a region that it believes.
#[cfg(feature = "dynamodb")]
pub(crate) const TABLE: &str = "cache-demo";
#[cfg(feature = "dynamodb")]
pub(crate) const REGION: &str = "eu-central-1";

/// The backends of a storage, the fastest first; they were started, and are stopped on drop.
pub(crate) struct Backends(Vec<Backend>);

enum Backend {
    Memory,
    #[cfg(feature = "redis")]
    Redis(RedisServer),
    #[cfg(feature = "redis-cluster")]
    RedisCluster(RedisCluster),
    #[cfg(feature = "dynamodb")]
    DynamoDb(DynamoDb),
}

impl Backends {
    /// Starts what a list such as `memory,redis` names.
    pub(crate) fn start(list: &str) -> Result<Self> {
        list.split(',').map(Backend::start).collect()
    }

    /// Makes what an application finds in place.
    #[cfg_attr(
        not(feature = "dynamodb"),
        expect(clippy::unused_async, reason = "only a table has to be made")
    )]
    pub(crate) async fn prepare(&self) -> Result {
        #[cfg(feature = "dynamodb")]
        for backend in &self.0 {
            if let Backend::DynamoDb(server) = backend {
                let options = DynamoDbOptions::new(TABLE)
                    .with_region(REGION)
                    .with_endpoint(server.endpoint());
                DynamoDbCacheStorage::new(options)?.create_table().await?;
            }
        }
        Ok(())
    }

    /// The variables that an application would be given.
    pub(crate) fn settings(&self) -> Settings {
        let tiers = self.tiers();
        let mut pairs = vec![("CACHE_STORAGE_TYPE", tiers.join(","))];
        if tiers.contains(&"memory") {
            pairs.push(("CACHE_RESPONSE_MEMORY_MAX_ENTRIES", RESPONSES.to_owned()));
        }
        let copies = &tiers[..tiers.len().saturating_sub(1)];
        let caps = CAPS.iter().filter(|(tier, ..)| copies.contains(tier));
        pairs.extend(caps.map(|(_, variable, cap)| (*variable, (*cap).to_owned())));
        if tiers.len() == 3 {
            pairs.extend(TWO_LAYERS.map(|(variable, value)| (variable, value.to_owned())));
        }
        pairs.extend(self.0.iter().flat_map(Backend::settings));
        Settings::from_pairs(pairs)
    }

    /// What the backends are called in answers.
    pub(crate) fn tiers(&self) -> Vec<&'static str> {
        self.0.iter().map(Backend::tier).collect()
    }

    pub(crate) fn description(&self) -> String {
        let descriptions: Vec<_> = self.0.iter().map(Backend::description).collect();
        descriptions.join(", over ")
    }
}

impl FromIterator<Backend> for Backends {
    fn from_iter<I: IntoIterator<Item = Backend>>(backends: I) -> Self {
        Self(backends.into_iter().collect())
    }
}

impl Backend {
    fn start(storage: &str) -> Result<Self> {
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

    fn tier(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
            #[cfg(feature = "redis-cluster")]
            Self::RedisCluster(_) => "redis",
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb(_) => "dynamodb",
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Memory => Vec::new(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => vec![("CACHE_REDIS_URL", server.url(0))],
            #[cfg(feature = "redis-cluster")]
            Self::RedisCluster(cluster) => vec![
                ("CACHE_REDIS_TOPOLOGY", "cluster".to_owned()),
                ("CACHE_REDIS_URL", cluster.url()),
            ],
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb(server) => vec![
                ("CACHE_DYNAMODB_TABLE", TABLE.to_owned()),
                ("CACHE_DYNAMODB_REGION", REGION.to_owned()),
                ("CACHE_DYNAMODB_ENDPOINT", server.endpoint()),
            ],
        }
    }

    fn description(&self) -> String {
        match self {
            Self::Memory => format!("memory (at most {RESPONSES} responses)"),
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
