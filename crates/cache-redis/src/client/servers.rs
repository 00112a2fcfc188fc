//! The servers behind an address: one, or a cluster of them.

use std::sync::Arc;

use cache_core::{Result, Shard};
use redis::Value;
use tokio::time::Instant;

use super::batch::{PerKey, send};
use super::call::{Budget, Call};
#[cfg(feature = "cluster")]
use super::cluster::Cluster;
use super::node::Node;
use crate::options::RedisOptions;

/// Who answers for which key.
#[derive(Debug)]
pub(super) enum Servers {
    /// One server for all.
    Standalone(Arc<Node>),
    /// Each key has its slot, and each slot its server.
    #[cfg(feature = "cluster")]
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// The servers that `options` name. No I/O.
    pub(super) fn new(options: &Arc<RedisOptions>) -> Self {
        #[cfg(feature = "cluster")]
        if options.topology == cache_core::Topology::Cluster {
            return Self::Cluster(Arc::new(Cluster::new(options)));
        }
        Self::Standalone(Arc::new(Node::new(options, &options.address())))
    }

    /// Which server of a cluster `key` belongs to; none for one server, or while none is known.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "one server holds every key")
    )]
    pub(super) fn shard(&self, key: &[u8]) -> Option<Shard> {
        match self {
            Self::Standalone(_) => None,
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.shard(key),
        }
    }

    /// Sends a call to the server that holds `key`. Error replies are values here.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "one server holds every key")
    )]
    pub(super) async fn call(&self, key: &[u8], call: Call<'_>) -> Result<Value> {
        match self {
            Self::Standalone(node) => node.call(call).await?.settle(),
            #[cfg(feature = "cluster")]
            // Boxed, so that the call to one server stays small.
            Self::Cluster(cluster) => Box::pin(cluster.call(key, call)).await,
        }
    }

    /// Sends the commands of a batch, each to the server that holds its key, and returns the
    /// replies in the order of the batch.
    pub(super) async fn each_key<B: PerKey<N>, const N: usize>(
        &self,
        batch: &B,
        budget: Budget,
    ) -> Vec<Result<[Value; N]>> {
        match self {
            Self::Standalone(node) => {
                let every: Vec<_> = (0..batch.count()).collect();
                send(node, batch, &every, budget).await
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.each_key(batch, budget)).await,
        }
    }

    /// One server, another one each time where there are several.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "the one server is known")
    )]
    pub(super) async fn any(&self, deadline: Instant) -> Result<Arc<Node>> {
        match self {
            Self::Standalone(node) => Ok(Arc::clone(node)),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.any(deadline).await,
        }
    }

    /// Every server that takes writes.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(unused_variables, reason = "the one server is known")
    )]
    pub(super) async fn primaries(&self, deadline: Instant) -> Result<Vec<Arc<Node>>> {
        match self {
            Self::Standalone(node) => Ok(vec![Arc::clone(node)]),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.primaries(deadline).await,
        }
    }

    /// Lets go of every connection for good; those who use them finish on them.
    pub(super) fn close(&self) {
        match self {
            Self::Standalone(node) => node.close(),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.close(),
        }
    }
}
