//! A cluster: the server of each slot, redirects, and how the map of slots is kept.
//!
//! The redis crate's own cluster client follows a redirect and repeats a command whose connection
//! dropped from one and the same budget of retries, so it either loses redirects or counts an
//! `INCRBY` twice. Here each server is a [`Node`] as in a standalone set-up, with the same
//! deadlines, the same rules of repetition and the same look at silent connections, and the
//! cluster only decides which one to ask.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cache_core::{CacheError, ErrorKind, Event, Result, Shard, Topology};
use redis::{Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::{Answer, Budget, Call, Repeat};
use super::link::Payload;
use super::node::Node;
use super::shape::{Expects, Shape};
use super::slots::{Layout, Redirect, slot_of};
use crate::address::Address;
use crate::error::{Failure, Place, from_server};
use crate::options::RedisOptions;

mod asking;
mod doubt;
mod each;
mod suspects;
mod table;

use asking::ask;
use doubt::{Doubts, Reason};
use suspects::Suspects;
use table::Table;

/// How often one call is sent to another server than before.
const MOST_REDIRECTS: usize = 5;

/// So many of them at once; before later ones there is a pause of up to so many milliseconds.
const PROMPT_REDIRECTS: usize = 2;
const REDIRECT_PAUSE_MILLIS: u64 = 20;

/// The map of slots is read again at most this often by one process: thousands of clients that ask
/// a cluster in trouble for its map have brought servers down.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Up to this much is added, so that processes do not ask in step.
const READ_JITTER_MILLIS: u64 = 200;

/// The servers of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    options: Arc<RedisOptions>,
    shown_address: String,
    table: RwLock<Option<Arc<Table>>>,
    /// Whether something happened that the map of slots does not explain.
    doubts: Doubts,
    suspects: Suspects,
    is_closed: AtomicBool,
    next: AtomicUsize,
    /// Held by whoever reads the map.
    reading: Mutex<Readings>,
}

/// When the map was read, and may be read again.
#[derive(Debug, Default)]
struct Readings {
    not_before: Option<Instant>,
    last_failure: Option<(Instant, CacheError)>,
    /// The given addresses for as long as there is no map: a connection that took longer than its
    /// caller had is there for the next one.
    seeds: Vec<Arc<Node>>,
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

/// Where a call goes next.
struct Step {
    node: Arc<Node>,
    is_asking: bool,
}

impl Cluster {
    /// A cluster whose servers are not known yet. No I/O.
    pub(super) fn new(options: &Arc<RedisOptions>) -> Self {
        Self {
            options: Arc::clone(options),
            shown_address: options.address_text(),
            table: RwLock::new(None),
            doubts: Doubts::default(),
            suspects: Suspects::default(),
            is_closed: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            reading: Mutex::new(Readings::default()),
        }
    }

    /// Sends a call to the server of `key`, and on to where that server or a new map of slots
    /// sends it.
    ///
    /// A redirected call was not executed, so it is sent on whatever it is. After trouble with a
    /// server the call goes to another one only if the slot has moved there meanwhile and the call
    /// may be repeated.
    pub(super) async fn call(self: &Arc<Self>, key: &[u8], mut call: Call<'_>) -> Result<Value> {
        let slot = slot_of(key);
        let deadline = call.budget.deadline;
        let mut may_have_run = false;
        let mut step = Step {
            node: self.owner(slot, deadline).await?,
            is_asking: false,
        };
        for redirects in 0..=MOST_REDIRECTS {
            if redirects > PROMPT_REDIRECTS {
                // Servers that send a call to and fro have not agreed yet.
                let pause = Duration::from_millis(fastrand::u64(1..=REDIRECT_PAUSE_MILLIS));
                sleep_until(deadline.min(Instant::now() + pause)).await;
            }
            let Step { node, is_asking } = &step;
            let outcome = if *is_asking {
                ask(node, call).await
            } else {
                node.call(call).await
            };
            let next = match &outcome {
                Ok(answer) => {
                    may_have_run |= answer.may_have_run;
                    self.after_reply(&answer.reply, slot, node, deadline).await
                }
                Err(error) => {
                    may_have_run |= error.may_have_happened();
                    self.after_failure(error, call.repeat, slot, node, deadline)
                        .await
                }
            };
            let Some(next) = next else {
                return settled(outcome, may_have_run);
            };
            if let (true, Repeat::With(payload)) = (may_have_run, call.repeat) {
                call.payload = payload;
            }
            call.budget = call.budget.anew();
            step = next;
        }
        let message = "the cluster sent the call from one server to the next too often";
        Err(self.trouble(message).with_may_have_happened(may_have_run))
    }

    /// A server, another one each time.
    pub(super) async fn any(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Node>> {
        let table = self.table(deadline).await?;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let node = table
            .nodes()
            .iter()
            .cycle()
            .nth(next % table.nodes().len().max(1));
        node.map(Arc::clone).ok_or_else(|| self.uncovered())
    }

    /// The server that `key` belongs to by the map as it is; none where there is no map.
    ///
    /// Whoever asks may be about to turn a call away, and then nobody else might find out that the
    /// key has a new server.
    pub(super) fn shard(self: &Arc<Self>, key: &[u8]) -> Option<Shard> {
        self.reread_in_passing();
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let owner = table.as_ref()?.owner(slot_of(key))?;
        Some(owner.shard().clone())
    }

    /// Every server that has slots.
    pub(super) async fn primaries(self: &Arc<Self>, deadline: Instant) -> Result<Vec<Arc<Node>>> {
        Ok(self.table(deadline).await?.nodes().to_vec())
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(table) = self.known_table() {
            table.everyone().for_each(|node| node.close());
        }
        // Whoever is reading lets go of them in the end.
        if let Ok(mut readings) = self.reading.try_lock() {
            readings.seeds.clear();
        }
    }

    /// Where a call goes after `reply`; none where the reply is its answer.
    async fn after_reply(
        &self,
        reply: &Value,
        slot: u16,
        node: &Arc<Node>,
        deadline: Instant,
    ) -> Option<Step> {
        let redirect = Redirect::in_reply(reply, node.address());
        if let Some(redirect) = &redirect {
            self.tell_redirect(redirect);
        }
        match redirect {
            Some(Redirect::Moved(slot, address)) => Some(Step {
                node: self.moved(slot, &address),
                is_asking: false,
            }),
            Some(Redirect::Ask(address)) => Some(Step {
                node: self.asked(&address),
                is_asking: true,
            }),
            None if is_outdated(reply) => {
                self.suspect(node);
                self.successor(slot, node, deadline).await
            }
            None => None,
        }
    }

    /// Where a call goes after `error`; none where the error is its answer.
    async fn after_failure(
        &self,
        error: &CacheError,
        repeat: Repeat<'_>,
        slot: u16,
        node: &Arc<Node>,
        deadline: Instant,
    ) -> Option<Step> {
        if !matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) {
            return None;
        }
        self.suspect(node);
        if error.may_have_happened() && matches!(repeat, Repeat::Never) {
            return None;
        }
        self.successor(slot, node, deadline).await
    }

    /// The server that has taken the slot over from `node`, if the map now says so.
    async fn successor(&self, slot: u16, node: &Arc<Node>, deadline: Instant) -> Option<Step> {
        self.reread(deadline).await;
        let table = self.known_table()?;
        let owner = table.owner(slot)?;
        (!Arc::ptr_eq(owner, node)).then(|| Step {
            node: Arc::clone(owner),
            is_asking: false,
        })
    }

    async fn owner(self: &Arc<Self>, slot: u16, deadline: Instant) -> Result<Arc<Node>> {
        let covers = |table: &Table| table.owner(slot).is_some();
        let table = self.table_that(covers, deadline).await?;
        let owner = table.owner(slot).map(Arc::clone);
        owner.ok_or_else(|| self.uncovered())
    }

    /// Notes that the map of slots is out of date, since `node` is in trouble.
    fn suspect(&self, node: &Arc<Node>) {
        self.suspects.add(node, Instant::now());
        self.doubts.note(Reason::Unreachable);
    }

    fn tell_redirect(&self, redirect: &Redirect) {
        let kind = match redirect {
            Redirect::Moved(..) => "moved",
            Redirect::Ask(_) => "ask",
        };
        self.options.observers.tell(&Event::Redirect { kind });
    }

    /// The server that a slot has moved to, noted unless it is known already.
    fn moved(&self, slot: u16, address: &Address) -> Arc<Node> {
        let table = self.known_table();
        let owner = table.as_ref().and_then(|table| table.owner(slot));
        if let Some(owner) = owner.filter(|owner| owner.address() == address) {
            return Arc::clone(owner);
        }
        self.doubts.note(Reason::Moved);
        self.remember(address, |table, node| table.with_owner(slot, node))
    }

    /// The server that keys of a slot on its way are sent to, noted unless it is known already, so
    /// that not every key dials it.
    fn asked(&self, address: &Address) -> Arc<Node> {
        let known = self.known_table();
        let node = known.and_then(|table| table.node_at(address));
        node.unwrap_or_else(|| {
            self.remember(address, |table, node| match table.node_at(address) {
                Some(_) => table.clone(),
                None => table.with_guest(node),
            })
        })
    }

    /// The server at an address, in the map as `note` puts it there.
    fn remember(
        &self,
        address: &Address,
        note: impl FnOnce(&Table, &Arc<Node>) -> Table,
    ) -> Arc<Node> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let known = table.as_ref().and_then(|table| table.node_at(address));
        let node = known.unwrap_or_else(|| Arc::new(Node::new(&self.options, address)));
        let noted = table.as_deref().map(|known| Arc::new(note(known, &node)));
        let before = noted.and_then(|noted| table.replace(noted));
        drop(table);
        // Connections may go with it, which is told, and so not under the lock.
        drop(before);
        self.close_if_closed(&node);
        node
    }

    /// The server at an address, a new one where it is not known.
    fn node_at(&self, address: &Address) -> Arc<Node> {
        self.known_table()
            .and_then(|table| table.node_at(address))
            .unwrap_or_else(|| Arc::new(Node::new(&self.options, address)))
    }

    fn known_table(&self) -> Option<Arc<Table>> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The map of slots. The known one will do; where it is in doubt and due it is read again
    /// beside the caller, who has no part in the trouble and does not wait for it.
    async fn table(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Table>> {
        let Some(table) = self.known_table() else {
            return self.first_table(deadline).await;
        };
        self.reread_in_passing();
        Ok(table)
    }

    /// Has a map that is in doubt and due read again beside the caller.
    fn reread_in_passing(self: &Arc<Self>) {
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
    async fn table_that(
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
    fn is_due(&self) -> bool {
        let readings = self.reading.try_lock();
        readings.is_ok_and(|readings| readings.is_due())
    }

    /// Reads the map for the first time; one caller reads, the others wait for what comes of it.
    async fn first_table(&self, deadline: Instant) -> Result<Arc<Table>> {
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
    async fn reread(&self, deadline: Instant) {
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
    fn close_if_closed(&self, node: &Node) {
        if self.is_closed.load(Ordering::Acquire) {
            node.close();
        }
    }

    fn tell_refresh(&self, reason: Reason, result: &'static str) {
        let reason = reason.as_str();
        let event = Event::TopologyRefresh { reason, result };
        self.options.observers.tell(&event);
    }

    fn uncovered(&self) -> CacheError {
        self.trouble("no server of the cluster serves the key's slot")
            .with_code("shard")
    }

    fn trouble(&self, message: &str) -> CacheError {
        let failure = Failure::new(ErrorKind::Connection, message).with_code("topology");
        failure.into_error(self.place(), 1, Duration::ZERO)
    }

    fn place(&self) -> Place<'_> {
        Place {
            address: &self.shown_address,
            topology: Topology::Cluster,
        }
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

/// Whether a refusal says that the server is not, or not for now, the one to ask.
fn is_outdated(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => {
            matches!(error.code(), "READONLY" | "CLUSTERDOWN" | "MASTERDOWN")
        }
        Value::Array(replies) => replies.iter().any(is_outdated),
        _ => false,
    }
}

/// What a caller is told in the end, given that an earlier attempt may have been executed.
fn settled(outcome: Result<Answer>, may_have_run: bool) -> Result<Value> {
    match outcome {
        Ok(answer) => Answer {
            reply: answer.reply,
            may_have_run,
        }
        .settle(),
        Err(error) if may_have_run => Err(error.with_may_have_happened(true)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

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
