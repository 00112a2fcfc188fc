//! Our side and the bare client.

use std::sync::Arc;

use cache_core::{CacheKey, CacheService, CacheServiceBuilder, CacheStorage, hours};
use cache_redis::{RedisCacheStorage, RedisOptions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, RedisConnectionInfo};
use tokio::net::TcpStream;

use crate::measure::{Result, Side};
use crate::visitors::{Job, PREFIX, Session, Visitors};

/// The service over the Redis storage.
#[derive(Clone)]
pub(crate) struct Ours {
    service: CacheService,
    visitors: Arc<Visitors>,
}

impl Ours {
    pub(crate) fn new(port: u16, visitors: &Arc<Visitors>) -> Result<Self> {
        Self::at(RedisOptions::new("127.0.0.1", port), visitors)
    }

    pub(crate) fn at(server: RedisOptions, visitors: &Arc<Visitors>) -> Result<Self> {
        Self::over(RedisCacheStorage::new(server)?, visitors)
    }

    pub(crate) fn over(storage: impl CacheStorage, visitors: &Arc<Visitors>) -> Result<Self> {
        let service = CacheService::builder(storage).ttl(hours(1));
        let service = service.prefix(PREFIX).build()?;
        Ok(Self {
            service,
            visitors: Arc::clone(visitors),
        })
    }
}

impl Side for Ours {
    type Job = Job;

    async fn run(&mut self, job: Job, number: usize) -> Result {
        let Self { service, visitors } = self;
        let session = visitors.session(number);
        let batch = &visitors.sessions[Visitors::batch(number)];
        match job {
            Job::Get => found(service.get::<Session>(&session.id).await?),
            Job::Set => Ok(service.set(&session.id, session).await?),
            Job::GetMany => {
                let keys = batch.iter().map(|session| &session.id);
                let sessions = service.get_many::<Session>(keys).await?;
                sessions.into_iter().try_for_each(found)
            }
            Job::SetMany => {
                let entries = batch.iter().map(|session| (&session.id, session));
                Ok(service.set_many(entries).await?)
            }
        }
    }
}

/// The same service without a prefix, its keys made beforehand as the bare client's are.
#[derive(Clone)]
pub(crate) struct OursWithKeys {
    service: CacheService,
    keys: Arc<[CacheKey]>,
    visitors: Arc<Visitors>,
}

impl OursWithKeys {
    pub(crate) fn new(port: u16, visitors: &Arc<Visitors>) -> Result<Self> {
        Ok(Self {
            service: service(RedisOptions::new("127.0.0.1", port))?.build()?,
            keys: visitors.keys.iter().map(CacheKey::from).collect(),
            visitors: Arc::clone(visitors),
        })
    }
}

impl Side for OursWithKeys {
    type Job = Job;

    async fn run(&mut self, job: Job, number: usize) -> Result {
        let Self {
            service,
            keys,
            visitors,
        } = self;
        let key = &keys[number % keys.len()];
        let batch = Visitors::batch(number);
        match job {
            Job::Get => found(service.get::<Session>(key).await?),
            Job::Set => Ok(service.set(key, visitors.session(number)).await?),
            Job::GetMany => {
                let sessions = service.get_many::<Session>(&keys[batch]).await?;
                sessions.into_iter().try_for_each(found)
            }
            Job::SetMany => {
                let sessions = &visitors.sessions[batch.clone()];
                Ok(service.set_many(keys[batch].iter().zip(sessions)).await?)
            }
        }
    }
}

fn service(server: RedisOptions) -> Result<CacheServiceBuilder> {
    let storage = RedisCacheStorage::new(server)?;
    Ok(CacheService::builder(storage).ttl(hours(1)))
}

pub(crate) const TTL_SECONDS: u64 = 3600;

/// A connection of the client library, with the same codec work.
#[derive(Clone)]
pub(crate) struct Bare {
    connection: MultiplexedConnection,
    visitors: Arc<Visitors>,
}

impl Bare {
    /// Our own settings of the socket and, where `queued_commands` says so, of the client's queue;
    /// the client's defaults otherwise.
    pub(crate) async fn connect(
        port: u16,
        visitors: &Arc<Visitors>,
        queued_commands: Option<usize>,
    ) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut config = AsyncConnectionConfig::new();
        if let Some(commands) = queued_commands {
            config = config.set_pipeline_buffer_size(commands);
        }
        let info = RedisConnectionInfo::default();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        tokio::spawn(driver);
        Ok(Self {
            connection,
            visitors: Arc::clone(visitors),
        })
    }
}

impl Side for Bare {
    type Job = Job;

    async fn run(&mut self, job: Job, number: usize) -> Result {
        let Self {
            connection,
            visitors,
        } = self;
        let batch = Visitors::batch(number);
        match job {
            Job::Get => {
                let stored: Option<Vec<u8>> = connection.get(visitors.key(number)).await?;
                found(decoded(stored)?)
            }
            Job::Set => {
                let bytes = serde_json::to_vec(visitors.session(number))?;
                let key = visitors.key(number);
                Ok(connection.set_ex(key, bytes, TTL_SECONDS).await?)
            }
            Job::GetMany => {
                let stored: Vec<Option<Vec<u8>>> = connection.mget(&visitors.keys[batch]).await?;
                let sessions: Vec<_> = stored.into_iter().map(decoded).collect::<Result<_>>()?;
                sessions.into_iter().try_for_each(found)
            }
            Job::SetMany => {
                let mut pipeline = redis::pipe();
                for number in batch {
                    let bytes = serde_json::to_vec(visitors.session(number))?;
                    let key = visitors.key(number);
                    pipeline.set_ex(key, bytes, TTL_SECONDS).ignore();
                }
                Ok(pipeline.query_async(connection).await?)
            }
        }
    }
}

pub(crate) fn decoded(stored: Option<Vec<u8>>) -> Result<Option<Session>> {
    Ok(stored
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()?)
}

pub(crate) fn found(session: Option<Session>) -> Result {
    let session = session.ok_or("a session that was written was not found")?;
    std::hint::black_box(session);
    Ok(())
}
