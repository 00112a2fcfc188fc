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
use redis::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::call::{Answer, Call, Repeat};
use super::node::Node;
use super::slots::{Redirect, slot_of};
use crate::address::Address;
use crate::error::{Failure, Place};
use crate::options::RedisOptions;

mod asking;
mod doubt;
mod each;
mod reading;
mod suspects;
mod table;

use asking::ask;
use doubt::{Doubts, Reason};
use reading::Readings;
use suspects::Suspects;
use table::Table;

/// How often one call is sent to another server than before.
const MOST_REDIRECTS: usize = 5;

/// So many of them at once; before later ones there is a pause of up to so many milliseconds.
const PROMPT_REDIRECTS: usize = 2;
const REDIRECT_PAUSE_MILLIS: u64 = 20;

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

    fn close_if_closed(&self, node: &Node) {
        if self.is_closed.load(Ordering::Acquire) {
            node.close();
        }
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
