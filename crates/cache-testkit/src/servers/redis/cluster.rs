//! A cluster.

mod builder;
mod reshard;
mod view;

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::ports::socket_address;
use super::server::RedisServer;
use view::View;

pub use builder::RedisClusterBuilder;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// How long the nodes may take until they agree on something.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A Redis Cluster of one's own: [`RedisServer`]s that share the 16,384 slots, three primaries with
/// one replica each unless told otherwise.
///
/// A primary that is gone is replaced by its replica after 2 to 4 seconds. Nothing else moves by
/// itself. Needs Redis 7 or Valkey.
///
/// Nodes are named by their place in [`nodes`](Self::nodes): the primaries first, in the order of
/// their slots, then as many replicas in the order of their primaries. Promotions change what a
/// node does, not its place. What nodes say is asked of those that run, when it is needed.
///
/// All methods block the thread for as long as they take; those that wait give up after 30 seconds.
/// Methods that take the place of a node panic where there is none.
///
/// ```no_run
/// use cache_testkit::servers::RedisCluster;
///
/// let mut cluster = RedisCluster::start()?;
/// let old = cluster.primary_of(7)?;
/// cluster.kill(old)?;
/// let new = cluster.wait_for_promotion(7, old)?;
/// cluster.restart(old)?;
/// cluster.wait_until_ok()?;
/// assert_eq!(cluster.primary_of(7)?, new);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// The name of each node within the cluster, which outlives its process.
    ids: Vec<String>,
    password: Option<String>,
}

impl RedisCluster {
    /// Starts three primaries with one replica each.
    ///
    /// # Errors
    ///
    /// As [`RedisClusterBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A cluster to be configured first.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
    }

    /// All nodes, dead ones too.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// One node.
    #[must_use]
    pub fn node(&self, place: usize) -> &RedisServer {
        &self.nodes[place]
    }

    /// The name of a node within the cluster, for commands such as `CLUSTER SETSLOT`.
    #[must_use]
    pub fn id(&self, place: usize) -> &str {
        &self.ids[place]
    }

    /// The address of a node that runs as a URL, as [`RedisServer::url`].
    #[must_use]
    pub fn url(&self) -> String {
        let running = self.nodes.iter().find(|node| node.is_running());
        running.unwrap_or(&self.nodes[0]).url(0)
    }

    /// Host and port of every node, dead ones too; the port is that for TLS where they speak it.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let address = |node: &RedisServer| socket_address(node.ports().public()).to_string();
        self.nodes.iter().map(address).collect()
    }

    /// Which node serves a slot, as the nodes themselves say.
    ///
    /// # Errors
    ///
    /// No node that runs serves it, or one did not answer.
    pub fn primary_of(&self, slot: u16) -> io::Result<usize> {
        let mut owner = None;
        for (place, view) in self.views()? {
            let Some(myself) = view.myself().filter(|myself| myself.owns(slot)) else {
                continue;
            };
            // One that has lost the slot may not have heard of it; its claim is the older one.
            owner = owner.max(Some((myself.epoch, place)));
        }
        owner
            .map(|(_, place)| place)
            .ok_or_else(|| io::Error::other(format!("no node that runs serves the slot {slot}")))
    }

    /// The nodes that serve slots, as they themselves say.
    ///
    /// # Errors
    ///
    /// A node did not answer.
    pub fn primaries(&self) -> io::Result<Vec<usize>> {
        let serves = |view: &View| view.myself().is_some_and(|myself| !myself.slots.is_empty());
        let views = self.views()?.into_iter();
        Ok(views
            .filter_map(|(place, view)| serves(&view).then_some(place))
            .collect())
    }

    /// Kills a node, as [`RedisServer::kill`].
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn kill(&mut self, place: usize) -> io::Result<()> {
        self.nodes[place].kill()
    }

    /// Starts a node anew, as [`RedisServer::restart`]. It is the same member of the cluster as
    /// before, and empty until a primary has sent it data: a primary that comes back before its
    /// replica was promoted takes the data of both with it.
    ///
    /// # Errors
    ///
    /// As [`RedisServerBuilder::start`](super::RedisServerBuilder::start).
    pub fn restart(&mut self, place: usize) -> io::Result<()> {
        self.nodes[place].restart()
    }

    /// Waits until the nodes that run serve all slots, know each other as well, agree on who does
    /// what, and every replica has the data of its primary.
    ///
    /// # Errors
    ///
    /// `TimedOut`, with what is amiss; or a node did not answer.
    pub fn wait_until_ok(&self) -> io::Result<()> {
        self.wait_until(|| self.is_ok())
    }

    /// Waits until every node that runs says that another one than `old` serves the slot, and
    /// returns that node. [`wait_until_ok`](Self::wait_until_ok) waits for the rest.
    ///
    /// # Errors
    ///
    /// `TimedOut`, also where `old` has no replica; or a node did not answer.
    pub fn wait_for_promotion(&self, slot: u16, old: usize) -> io::Result<usize> {
        self.wait_until(|| {
            let owners: Vec<_> = self
                .views()?
                .iter()
                .map(|(_, view)| self.place(view.owner(slot)?))
                .collect();
            Ok(match owners.first() {
                Some(&Some(owner)) if owner != old && is_uniform(&owners) => Ok(owner),
                _ => Err(format!("the slot {slot} is served by {owners:?}")),
            })
        })
    }

    /// What is amiss, if anything.
    fn is_ok(&self) -> io::Result<Result<(), String>> {
        let views = self.views()?;
        for (place, view) in &views {
            if let Some(stranger) = self.running().find(|&other| !self.knows(view, other)) {
                return Ok(Err(format!("node {place} is not in touch with {stranger}")));
            }
            if let Some(trouble) = self.trouble(*place, view)? {
                return Ok(Err(trouble));
            }
        }
        let orders: Vec<_> = views.iter().map(|(_, view)| view.order()).collect();
        if !is_uniform(&orders) {
            return Ok(Err(format!(
                "the nodes do not agree:\n{}",
                orders.join("\n")
            )));
        }
        Ok(Ok(()))
    }

    /// What is amiss with one node.
    fn trouble(&self, place: usize, view: &View) -> io::Result<Option<String>> {
        let info = self.nodes[place].command(&["CLUSTER", "INFO"])?;
        if !has_line(&info, "cluster_state:ok") {
            return Ok(Some(format!("node {place} says {info}")));
        }
        let served_by_the_dead =
            |&slot: &u16| !view.owner(slot).is_some_and(|owner| self.is_up(owner));
        if let Some(slot) = (0..SLOTS).find(served_by_the_dead) {
            let trouble = format!("node {place} knows nobody alive who serves the slot {slot}");
            return Ok(Some(trouble));
        }
        let is_replica = view.myself().is_some_and(|myself| myself.primary.is_some());
        let info = self.nodes[place].command(&["INFO", "replication"])?;
        if is_replica && !has_line(&info, "master_link_status:up") {
            return Ok(Some(format!("the replica {place} says {info}")));
        }
        Ok(None)
    }

    fn knows(&self, view: &View, place: usize) -> bool {
        view.member(&self.ids[place])
            .is_some_and(|member| member.is_well)
    }

    fn is_up(&self, id: &str) -> bool {
        self.place(id)
            .is_some_and(|place| self.nodes[place].is_running())
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| known == id)
    }

    /// The places of the nodes that run.
    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&place| self.nodes[place].is_running())
    }

    /// What each node that runs says of the cluster.
    fn views(&self) -> io::Result<Vec<(usize, View)>> {
        self.running()
            .map(|place| {
                let answer = self.nodes[place].command(&["CLUSTER", "NODES"])?;
                Ok((place, View::parse(&answer)))
            })
            .collect()
    }

    /// Asks again and again until the answer is a value rather than what is amiss.
    fn wait_until<T>(&self, ask: impl Fn() -> io::Result<Result<T, String>>) -> io::Result<T> {
        let deadline = Instant::now() + AGREEMENT_DEADLINE;
        loop {
            let amiss = match ask()? {
                Ok(value) => return Ok(value),
                Err(amiss) => amiss,
            };
            if Instant::now() >= deadline {
                let message = format!("after {AGREEMENT_DEADLINE:?}: {amiss}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCluster")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|candidate| candidate.trim_end() == line)
}

fn is_uniform<T: PartialEq>(items: &[T]) -> bool {
    items.windows(2).all(|pair| pair[0] == pair[1])
}
