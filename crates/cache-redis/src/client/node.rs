//! One server and the connections to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(feature = "cluster")]
use std::time::Duration;

#[cfg(feature = "cluster")]
use cache_core::Shard;
use cache_core::{Observers, Topology};
#[cfg(feature = "cluster")]
use tokio::time::Instant;

use super::lane::Lane;
use crate::address::Address;
use crate::error::Place;
use crate::options::RedisOptions;

/// A server: its address and the places of its connections.
///
/// Dropped, it closes its connections once the calls on them are done.
#[derive(Debug)]
pub(super) struct Node {
    #[cfg(feature = "cluster")]
    address: Address,
    shown_address: String,
    topology: Topology,
    pub(super) observers: Observers,
    #[cfg(feature = "cluster")]
    shard: Shard,
    lanes: Box<[Lane]>,
    next_lane: AtomicUsize,
}

impl Node {
    /// A server without a connection. No I/O.
    pub(super) fn new(options: &Arc<RedisOptions>, address: &Address) -> Self {
        let shown_address = address.to_string();
        let lanes = (0..options.connections)
            .map(|_| Lane::new(Arc::clone(options), address.clone()))
            .collect();
        Self {
            #[cfg(feature = "cluster")]
            shard: Shard::new(shown_address.as_str()),
            observers: options.observers.clone(),
            shown_address,
            topology: options.topology,
            #[cfg(feature = "cluster")]
            address: address.clone(),
            lanes,
            next_lane: AtomicUsize::new(0),
        }
    }

    #[cfg(feature = "cluster")]
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The server's name among those of its cluster.
    #[cfg(feature = "cluster")]
    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The server as errors show it.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            address: &self.shown_address,
            topology: self.topology,
        }
    }

    /// How many connections there may be.
    pub(super) fn width(&self) -> usize {
        self.lanes.len()
    }

    /// The connection's place whose turn it is.
    pub(super) fn lane(&self) -> &Lane {
        if let [only] = &*self.lanes {
            return only;
        }
        let next = self.next_lane.fetch_add(1, Ordering::Relaxed);
        &self.lanes[next % self.lanes.len()]
    }

    /// How long ago the server last said something on a connection that is fit for use; none where
    /// there is no such connection.
    #[cfg(feature = "cluster")]
    pub(super) fn silence(&self) -> Option<Duration> {
        let now = Instant::now();
        let links = self.lanes.iter().filter_map(|lane| lane.at_hand(now));
        links.map(|link| link.pulse().silence(now)).min()
    }

    /// Lets go of the connections for good; those who use them finish on them.
    pub(super) fn close(&self) {
        for lane in &self.lanes {
            lane.close();
        }
    }
}
