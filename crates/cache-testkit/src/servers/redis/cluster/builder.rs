//! How a cluster is started.

use std::fmt;
use std::io;

use super::super::builder::RedisServerBuilder;
use super::super::server::RedisServer;
use super::{RedisCluster, SLOTS};
#[cfg(feature = "tls")]
use crate::servers::Certificates;

/// How a [`RedisCluster`] is started.
#[derive(Clone)]
#[must_use]
pub struct RedisClusterBuilder {
    primaries: u16,
    replicas: u16,
    password: Option<String>,
    node: RedisServerBuilder,
}

impl RedisClusterBuilder {
    /// How many nodes share the slots. Defaults to 3; with fewer no replica is ever promoted,
    /// because that takes a majority of the primaries.
    pub fn primaries(mut self, primaries: u16) -> Self {
        self.primaries = primaries;
        self
    }

    /// How many replicas each primary has. Defaults to 1.
    pub fn replicas(mut self, replicas: u16) -> Self {
        self.replicas = replicas;
        self
    }

    /// Adds one argument to the command line of each node.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.node = self.node.arg(argument);
        self
    }

    /// Adds several arguments to the command line of each node.
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.node = self.node.args(arguments);
        self
    }

    /// Demands this password, of clients and of the nodes among themselves: letters and digits.
    /// Defaults to none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        let password = password.into();
        self.node = self.node.args(["--masterauth", &password]);
        self.node = self.node.args(["--requirepass", &password]);
        self.password = Some(password);
        self
    }

    /// Also listens with TLS, as
    /// [`RedisServerBuilder::tls`](super::super::RedisServerBuilder::tls). Clients that speak TLS
    /// are sent to ports with TLS, and so is what the nodes tell each other.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, authority: &Certificates) -> Self {
        self.node = self.node.tls(authority);
        self.args(["--tls-cluster", "yes", "--tls-replication", "yes"])
    }

    /// Starts the nodes and returns when all is well with them, which takes about 3 seconds.
    ///
    /// # Errors
    ///
    /// * `InvalidInput` where there is no primary, or more than slots.
    /// * As [`RedisServerBuilder::start`](super::super::RedisServerBuilder::start).
    /// * `TimedOut` where the nodes have not agreed within 30 seconds.
    pub fn start(self) -> io::Result<RedisCluster> {
        if !(1..=SLOTS).contains(&self.primaries) {
            let message = format!("a cluster of {} primaries", self.primaries);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let cluster = self.launch()?;
        self.hand_out_slots(&cluster)?;
        introduce(&cluster)?;
        self.appoint_replicas(&cluster)?;
        cluster.wait_until_ok()?;
        Ok(cluster)
    }

    fn launch(&self) -> io::Result<RedisCluster> {
        let nodes: Vec<_> = (0..self.primaries * (1 + self.replicas))
            .map(|_| self.node.clone().start())
            .collect::<io::Result<_>>()?;
        let ids = nodes
            .iter()
            .map(|node| node.command(&["CLUSTER", "MYID"]))
            .collect::<io::Result<_>>()?;
        Ok(RedisCluster {
            nodes,
            ids,
            password: self.password.clone(),
        })
    }

    fn hand_out_slots(&self, cluster: &RedisCluster) -> io::Result<()> {
        let start =
            |primary: u16| u32::from(primary) * u32::from(SLOTS) / u32::from(self.primaries);
        for (primary, node) in (0..self.primaries).zip(cluster.nodes()) {
            let first = start(primary).to_string();
            let last = (start(primary + 1) - 1).to_string();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        }
        Ok(())
    }

    fn appoint_replicas(&self, cluster: &RedisCluster) -> io::Result<()> {
        let primaries = usize::from(self.primaries);
        for (place, node) in cluster.nodes().iter().enumerate().skip(primaries) {
            node.command(&["CLUSTER", "REPLICATE", cluster.id(place % primaries)])?;
        }
        Ok(())
    }
}

impl Default for RedisClusterBuilder {
    fn default() -> Self {
        let node = RedisServer::builder().cluster_node().args([
            "--cluster-announce-ip",
            "127.0.0.1",
            "--cluster-node-timeout",
            "1000",
            // A test may keep a replica from its primary for long and still want it promoted.
            "--cluster-replica-validity-factor",
            "0",
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        Self {
            primaries: 3,
            replicas: 1,
            password: None,
            node,
        }
    }
}

impl fmt::Debug for RedisClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClusterBuilder")
            .field("primaries", &self.primaries)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// Makes all nodes known to each other. Each epoch is a different one from the start, or the nodes
/// would first have to settle whose claims come first.
fn introduce(cluster: &RedisCluster) -> io::Result<()> {
    for (place, node) in cluster.nodes().iter().enumerate() {
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()])?;
    }
    for (place, node) in cluster.nodes().iter().enumerate() {
        for other in &cluster.nodes()[..place] {
            let ports = other.ports();
            let port = ports.public().to_string();
            let bus = ports.bus.unwrap_or_default().to_string();
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
    }
    cluster.wait_until(|| {
        let views = cluster.views()?;
        let is_unknown = |&other: &usize| !views.iter().all(|(_, view)| cluster.knows(view, other));
        let unknown: Vec<_> = cluster.running().filter(is_unknown).collect();
        Ok(if unknown.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "these nodes are not known to all others: {unknown:?}"
            ))
        })
    })
}
