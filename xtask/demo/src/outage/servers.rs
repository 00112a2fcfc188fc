//! What goes away, and how.

use std::time::Duration;

use cache_core::settings::Settings;
use cache_factory::cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions};
use cache_testkit::proxy::{Direction, Fault, FaultProxy};
use cache_testkit::servers::{DynamoDb, RedisServer};

use crate::Result;
use crate::backend::{REGION, TABLE};

/// How Redis goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// The process is stopped: connections stay, answers do not come.
    Hang,
    /// The process is killed, and comes back empty.
    Kill,
    /// The network swallows everything.
    Blackhole,
}

impl Outage {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let all = [Self::Hang, Self::Kill, Self::Blackhole];
        let known = all.into_iter().find(|outage| outage.as_str() == text);
        known.ok_or_else(|| "--outage is hang, kill or blackhole".into())
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Kill => "kill",
            Self::Blackhole => "blackhole",
        }
    }

    pub(crate) fn announcement(self, gone: Duration, back: Duration) -> String {
        let (gone, back) = (gone.as_secs(), back.as_secs());
        match self {
            Self::Hang => format!(
                "Redis is stopped after {gone} s and goes on after {back} s: its connections stay \
                 open and nothing answers."
            ),
            Self::Kill => {
                format!("Redis is killed after {gone} s and starts again, empty, after {back} s.")
            }
            Self::Blackhole => {
                format!("The network to Redis swallows everything from {gone} s to {back} s.")
            }
        }
    }
}

/// Redis behind a proxy, and the fallback.
pub(crate) struct Servers {
    outage: Outage,
    redis: RedisServer,
    proxy: FaultProxy,
    dynamodb: DynamoDb,
}

impl Servers {
    pub(crate) async fn start(outage: Outage) -> Result<Self> {
        let redis = RedisServer::start()?;
        let proxy = FaultProxy::start(redis.address().parse()?).await?;
        let dynamodb = DynamoDb::start()?;
        let options = DynamoDbOptions::new(TABLE)
            .with_region(REGION)
            .with_endpoint(dynamodb.endpoint());
        DynamoDbCacheStorage::new(options)?.create_table().await?;
        Ok(Self {
            outage,
            redis,
            proxy,
            dynamodb,
        })
    }

    /// The variables that an application would be given.
    pub(crate) fn settings(&self) -> Settings {
        // Only what the proxy is needed for goes through it: the other outages are the server's.
        let url = match self.outage {
            Outage::Blackhole => format!("redis://{}", self.proxy.address()),
            Outage::Hang | Outage::Kill => self.redis.url(0),
        };
        Settings::from_pairs([
            ("CACHE_STORAGE_TYPE", "redis".to_owned()),
            ("CACHE_REDIS_URL", url),
            ("CACHE_FALLBACK", "dynamodb".to_owned()),
            ("CACHE_DYNAMODB_TABLE", TABLE.to_owned()),
            ("CACHE_DYNAMODB_REGION", REGION.to_owned()),
            ("CACHE_DYNAMODB_ENDPOINT", self.dynamodb.endpoint()),
        ])
    }

    pub(crate) fn take_away(&mut self) -> Result {
        match self.outage {
            Outage::Hang => self.redis.pause()?,
            Outage::Kill => self.redis.kill()?,
            Outage::Blackhole => self.proxy.set(Fault::Blackhole(Direction::Both)),
        }
        Ok(())
    }

    pub(crate) fn bring_back(&mut self) -> Result {
        match self.outage {
            Outage::Hang => self.redis.resume()?,
            Outage::Kill => self.redis.restart()?,
            Outage::Blackhole => self.proxy.set(Fault::Pass),
        }
        Ok(())
    }
}
