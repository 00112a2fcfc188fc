//! One client that does the same operation again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Builder, Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use cache_aws::{AwsClient, AwsOptions};
use cache_core::{CacheService, millis, mins, secs};
use cache_dynamo::{AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};

use crate::measure::Result;
use crate::redis::runtime;
use crate::sides::{decoded, found};
use crate::visitors::{PREFIX, Session, Visitors};

pub(super) const TABLE: &str = "cache";

const REGION: &str = "eu-west-1";

/// The time limits of both: far off, since whoever counts instructions slows a program down.
const ATTEMPT: Duration = secs(10);
const WHOLE: Duration = secs(30);

/// What our storage does after a failed attempt.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    /// The SDK with the limits that ours has.
    Bare,
    /// The SDK without time limits and repetition.
    Lean,
}

impl Side {
    const ALL: [Self; 3] = [Self::Ours, Self::Bare, Self::Lean];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
            Self::Lean => "lean",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Get,
    GetMany,
}

impl Job {
    pub(super) const ALL: [Self; 2] = [Self::Get, Self::GetMany];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many 100",
        }
    }
}

/// Runs a client as `SIDE JOB COUNT URL` say.
pub(crate) fn run(arguments: &[String]) -> Result {
    let [side, job, count, url] = arguments else {
        return Err("a side, a job, a number of times and a URL are missing".into());
    };
    let side = Side::ALL.into_iter().find(|known| known.as_str() == side);
    let job = Job::ALL.into_iter().find(|known| known.as_str() == job);
    let (Some(side), Some(job)) = (side, job) else {
        return Err("there is no such side or job".into());
    };
    let (count, visitors) = (count.parse()?, Visitors::new());
    runtime(1)?.block_on(async {
        match side {
            Side::Ours => Ours::new(url, visitors)?.run(job, count).await,
            Side::Bare => Bare::new(url, visitors, side)?.run(job, count).await,
            Side::Lean => Bare::new(url, visitors, side)?.run(job, count).await,
        }
    })
}

struct Ours {
    service: CacheService,
    visitors: Arc<Visitors>,
}

impl Ours {
    fn new(url: &str, visitors: Arc<Visitors>) -> Result<Self> {
        let credentials = AwsCredentials::new("test", "test");
        let mut options = DynamoDbOptions::new(TABLE)
            .with_region(REGION)
            .with_endpoint(url)
            .with_credentials(CredentialsSource::fixed(credentials))
            .with_connect_timeout(ATTEMPT)
            .with_timeout(WHOLE)
            .with_bulk_timeout(WHOLE);
        options.attempt_timeout = ATTEMPT;
        let service = CacheService::builder(DynamoDbCacheStorage::new(options)?)
            .prefix(PREFIX)
            .ttl(mins(15))
            .build()?;
        Ok(Self { service, visitors })
    }

    async fn run(&self, job: Job, count: usize) -> Result {
        let batch = &self.visitors.sessions[Visitors::batch(0)];
        for _ in 0..count {
            match job {
                Job::Get => found(self.service.get::<Session>(&batch[0].id).await?)?,
                Job::GetMany => {
                    let keys = batch.iter().map(|session| &session.id);
                    let sessions = self.service.get_many::<Session>(keys).await?;
                    sessions.into_iter().try_for_each(found)?;
                }
            }
        }
        Ok(())
    }
}

struct Bare {
    client: Client,
    visitors: Arc<Visitors>,
}

impl Bare {
    fn new(url: &str, visitors: Arc<Visitors>, side: Side) -> Result<Self> {
        let mut options = AwsOptions::new();
        options.region = Some(REGION.to_owned());
        options.endpoint = Some(url.to_owned());
        options.connect_timeout = ATTEMPT;
        let credentials = Credentials::new("test", "test", None, None, "fixed");
        // The region, the endpoint and the HTTP client are those of our storage.
        let config = Builder::from(&AwsClient::new(options)?.sdk_config())
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        let config = match side {
            Side::Lean => config
                .timeout_config(TimeoutConfig::disabled())
                .retry_config(RetryConfig::disabled()),
            _ => config.timeout_config(limits()).retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(FIRST_PAUSE),
            ),
        };
        Ok(Self {
            client: Client::from_conf(config.build()),
            visitors,
        })
    }

    async fn run(&self, job: Job, count: usize) -> Result {
        for _ in 0..count {
            match job {
                Job::Get => self.get().await?,
                Job::GetMany => self.get_many().await?,
            }
        }
        Ok(())
    }

    async fn get(&self) -> Result {
        let request = self.client.get_item().table_name(TABLE);
        let request = request.key("PK", self.key(0)).consistent_read(false);
        let item = request.send().await?.item.unwrap_or_default();
        found(decoded(value(item))?)
    }

    async fn get_many(&self) -> Result {
        let keys = Visitors::batch(0).map(|number| [("PK".to_owned(), self.key(number))].into());
        let asked = KeysAndAttributes::builder()
            .set_keys(Some(keys.collect()))
            .consistent_read(false)
            .build()?;
        let request = self.client.batch_get_item().request_items(TABLE, asked);
        let mut tables = request.send().await?.responses.unwrap_or_default();
        let items = tables.remove(TABLE).unwrap_or_default();
        if items.len() < Visitors::batch(0).len() {
            return Err("a session that was written was not found".into());
        }
        let sessions: Vec<_> = items
            .into_iter()
            .map(|item| decoded(value(item)))
            .collect::<Result<_>>()?;
        sessions.into_iter().try_for_each(found)
    }

    fn key(&self, number: usize) -> AttributeValue {
        AttributeValue::S(self.visitors.key(number).to_owned())
    }
}

fn limits() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(WHOLE)
        .build()
}

fn value(mut item: HashMap<String, AttributeValue>) -> Option<Vec<u8>> {
    match item.remove("value") {
        Some(AttributeValue::S(text)) => Some(text.into_bytes()),
        _ => None,
    }
}
