//! Reading the map of slots: when, from whom, and for whom.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_core::{CacheError, Event, Result};
use redis::{Value, cmd};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::Cluster;
use super::doubt::Reason;
use super::table::Table;
use crate::address::Address;
use crate::client::call::{Budget, Call, Repeat};
use crate::client::link::Payload;
use crate::client::node::Node;
use crate::client::shape::{Expects, Shape};
use crate::client::slots::Layout;
use crate::error::{Failure, from_server};

/// The map of slots is read again at most this often by one process: thousands of clients that ask
/// a cluster in trouble for its map have brought servers down.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Up to this much is added, so that processes do not ask in step.
const READ_JITTER_MILLIS: u64 = 200;

/// When the map was read, and may be read again.
#[derive(Debug, Default)]
pub(super) struct Readings {
    not_before: Option<Instant>,
    last_failure: Option<(Instant, CacheError)>,
    /// The given addresses for as long as there is no map: a connection that took longer than its
    /// caller had is there for the next one.
    pub(super) seeds: Vec<Arc<Node>>,
}

/// The doubt of a cluster, in the hands of whoever reads the map. It goes back unless the reading
/// settles it.
struct Doubt<'a> {
    cluster: &'a Cluster,
    reason: Reason,
    is_settled: bool,
}

impl<'a> Doubt<'a> {
    fn taken_from(cluster: &'a Cluster) -> Self {
        let reason = cluster.doubts.take();
        Self {
            cluster,
            reason: reason.unwrap_or(Reason::Start),
            is_settled: false,
        }
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.cluster.doubts.note(self.reason);
        }
    }
}

impl Cluster {
    pub(super) fn known_table(&self) -> Option<Arc<Table>> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The map of slots. The known one will do; where it is in doubt and due it is read again
    /// beside the caller, who has no part in the trouble and does not wait for it.
    pub(super) async fn table(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Table>> {
        let Some(table) = self.known_table() else {
            return self.first_table(deadline).await;
        };
        self.reread_in_passing();
        Ok(table)
    }

    /// Has a map that is in doubt and due read again beside the caller.
    pub(super) fn reread_in_passing(self: &Arc<Self>) {
        if !self.doubts.is_any() || !self.is_due() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let cluster = Arc::clone(self);
        // Nothing depends on it: those in trouble read the map themselves.
        runtime.spawn(async move {
            let patience = cluster.options.timeout;
            cluster.reread(Instant::now() + patience).await;
        });
    }

    /// The map of slots, read again first where it is known not to do and due.
    pub(super) async fn table_that(
        self: &Arc<Self>,
        will_do: impl Fn(&Table) -> bool,
        deadline: Instant,
    ) -> Result<Arc<Table>> {
        let table = self.table(deadline).await?;
        if will_do(&table) {
            return Ok(table);
        }
        self.doubts.note(Reason::Doubt);
        self.reread(deadline).await;
        Ok(self.known_table().unwrap_or(table))
    }

    /// Whether the map may be read again by now, and is not being read.
    pub(super) fn is_due(&self) -> bool {
        let readings = self.reading.try_lock();
        readings.is_ok_and(|readings| readings.is_due())
    }

    /// Reads the map for the first time; one caller reads, the others wait for what comes of it.
    pub(super) async fn first_table(&self, deadline: Instant) -> Result<Arc<Table>> {
        let began = Instant::now();
        let Ok(mut readings) = timeout_at(deadline, self.reading.lock()).await else {
            let failure = Failure::no_answer("operation", began.elapsed());
            return Err(failure.into_error(self.place(), 1, began.elapsed()));
        };
        if let Some(table) = self.known_table() {
            return Ok(table);
        }
        if let Some((at, error)) = &readings.last_failure
            && *at >= began
        {
            return Err(error.clone());
        }
        let table = self.read_table(deadline, &mut readings).await?;
        Ok(table)
    }

    /// Reads the map again, unless that was done a moment ago or is being done. What cannot be
    /// read leaves the known map as it is.
    pub(super) async fn reread(&self, deadline: Instant) {
        let Ok(mut readings) = self.reading.try_lock() else {
            return;
        };
        if readings.is_due() && self.known_table().is_some() {
            // The outcome is in the map and in the doubt that stays.
            _ = self.read_table(deadline, &mut readings).await;
        }
    }

    /// Asks one server after another for the map of slots.
    ///
    /// Whoever drops this leaves the doubt behind, and counts as having read.
    async fn read_table(&self, deadline: Instant, readings: &mut Readings) -> Result<Arc<Table>> {
        readings.rest();
        let mut doubt = Doubt::taken_from(self);
        let mut failure = self.uncovered();
        let informants = self.informants(readings);
        let last = informants.len().saturating_sub(1);
        for (at, node) in informants.into_iter().enumerate() {
            match self.layout_of(&node, deadline, at == last).await {
                Ok(layout) if !layout.ranges.is_empty() => {
                    readings.rest();
                    readings.seeds.clear();
                    let table = self.install(&layout, &node);
                    let is_open = self.suspects.have_slots(&table, Instant::now());
                    self.tell_refresh(doubt.reason, "ok");
                    if is_open {
                        doubt.reason = Reason::Unreachable;
                    } else {
                        doubt.is_settled = true;
                    }
                    return Ok(table);
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        readings.rest();
        if self.is_closed.load(Ordering::Acquire) {
            readings.seeds.clear();
        }
        readings.last_failure = Some((Instant::now(), failure.clone()));
        self.tell_refresh(doubt.reason, "error");
        Err(failure)
    }

    /// Whom to ask for the map: those heard of last come first, then those that only copy the
    /// others, those that are silent, and the given addresses.
    fn informants(&self, readings: &mut Readings) -> Vec<Arc<Node>> {
        let mut informants = Vec::new();
        let table = self.known_table();
        if table.is_none() && readings.seeds.is_empty() {
            let seeds = self.options.seeds();
            readings.seeds = seeds.map(|seed| self.node_at(&seed)).collect();
        }
        if let Some(table) = &table {
            let nodes = table.nodes().iter().cloned();
            let heard = nodes.map(|node| (node.silence(), node));
            let (mut talking, silent): (Vec<_>, Vec<_>) =
                heard.partition(|(silence, _)| silence.is_some());
            talking.sort_by_key(|(silence, _)| *silence);
            let node = |(_, node)| node;
            informants.extend(talking.into_iter().map(node));
            informants.extend(table.replicas().iter().map(|at| self.node_at(at)));
            let silent = silent.into_iter().map(node);
            informants.extend(silent);
        }
        if readings.seeds.is_empty() {
            informants.extend(self.options.seeds().map(|seed| self.node_at(&seed)));
        }
        informants.extend(readings.seeds.iter().cloned());
        informants
    }

    /// The map as one server sees it. The last one that can be asked may use all the time left,
    /// since a source of passwords may take longer than a connection.
    async fn layout_of(&self, node: &Node, deadline: Instant, is_last: bool) -> Result<Layout> {
        let is_talking = node.silence().is_some();
        let patience = if is_talking {
            self.options.attempt_timeout
        } else {
            self.options.connect_timeout
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = patience.min(left);
        let whole = if is_last && !is_talking {
            left
        } else {
            patience
        };
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        let call = Call {
            payload: &Payload::Command(command),
            expects: Expects::One(Shape::Array),
            repeat: Repeat::Same,
            is_write: false,
            budget: Budget::new(patience, whole),
        };
        match node.call(call).await?.settle()? {
            Value::ServerError(error) => Err(from_server(&error)),
            reply => Layout::parse(reply, node.address())
                .ok_or_else(|| self.trouble("the server's map of slots cannot be read")),
        }
    }

    /// Puts a new map in the place of the known one. Servers it names keep their connections;
    /// those of others close when they are done.
    fn install(&self, layout: &Layout, informant: &Arc<Node>) -> Arc<Table> {
        let mut known = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let node_at = |address: &Address| {
            let kept = known.as_ref().and_then(|table| table.node_at(address));
            let informant = (informant.address() == address).then(|| Arc::clone(informant));
            kept.or(informant)
                .unwrap_or_else(|| Arc::new(Node::new(&self.options, address)))
        };
        let table = Arc::new(Table::new(layout, node_at));
        let before = known.replace(Arc::clone(&table));
        drop(known);
        // Connections may go with it, which is told, and so not under the lock.
        drop(before);
        table
            .nodes()
            .iter()
            .for_each(|node| self.close_if_closed(node));
        table
    }

    /// Closes a server that was met while the cluster was being closed.
    fn tell_refresh(&self, reason: Reason, result: &'static str) {
        let reason = reason.as_str();
        let event = Event::TopologyRefresh { reason, result };
        self.options.observers.tell(&event);
    }
}

impl Readings {
    fn is_due(&self) -> bool {
        let now = Instant::now();
        self.not_before.is_none_or(|due| due <= now)
    }

    /// Lets a while pass before the next reading.
    fn rest(&mut self) {
        let jitter = Duration::from_millis(fastrand::u64(0..=READ_JITTER_MILLIS));
        self.not_before = Some(Instant::now() + READ_EVERY + jitter);
    }
}

#[cfg(test)]
mod tests {
    use cache_core::Topology;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::options::RedisOptions;

    #[tokio::test]
    async fn who_drops_a_reading_leaves_the_doubt_and_counts_as_having_read() {
        // It accepts connections and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let options = RedisOptions::new("127.0.0.1", port).with_topology(Topology::Cluster);
        let cluster = Cluster::new(&Arc::new(options));
        let layout = Layout {
            ranges: vec![(0, 16_383, Address::new("127.0.0.1", port))],
            replicas: Vec::new(),
        };
        let table = Table::new(&layout, |address| cluster.node_at(address));
        *cluster.table.write().unwrap() = Some(Arc::new(table));

        cluster.doubts.note(Reason::Doubt);
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(cluster.reread(deadline).now_or_never().is_none());
        assert!(cluster.doubts.is_any());
        let again = cluster.reread(deadline).now_or_never();
        assert!(again.is_some(), "it was read a moment ago");
    }
}
