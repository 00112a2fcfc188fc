//! How to reach a server and how long to wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::settings::settle;
use cache_core::{
    CacheError, Clock, ConfigurationError, ConfigurationErrors, Observers, StorageInfo,
    SystemClock, Topology, millis, secs,
};

use crate::address::{Address, is_host};
use crate::client::Names;
use crate::credentials::{Credentials, CredentialsProvider, FixedPassword};
use crate::resolver::Resolver;

mod encryption;
mod environment;
mod settings;
mod tls;
mod url;

pub use tls::TlsOptions;
#[cfg(feature = "tls")]
pub(crate) use tls::{ClientCertificate, Pem, Roots};
use url::parse_url;

/// How to reach a Redis or Valkey server and how long to wait for it.
///
/// Made from code ([`RedisOptions::new`]), from a URL ([`from_url`](Self::from_url)) or from the
/// environment ([`from_env`](Self::from_env)). `Debug` leaves the password out.
///
/// ```
/// use cache_core::millis;
/// use cache_redis::RedisOptions;
///
/// let options = RedisOptions::new("cache.internal", 6379)
///     .with_password("correct horse")
///     .with_attempt_timeout(millis(50));
/// assert!(!format!("{options:?}").contains("horse"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Host name or address of the server, or of any server of the cluster. Defaults to 127.0.0.1.
    pub host: String,
    /// TCP port. Defaults to 6379.
    pub port: u16,
    /// Whether that is one server or the entry to a cluster, which needs the feature `cluster`.
    /// Defaults to one server.
    pub topology: Topology,
    /// ACL user. Defaults to the one that comes with the credentials, or else the server's default
    /// user.
    pub username: Option<String>,
    /// Number of the logical database; a cluster has only 0. Defaults to 0.
    pub database: u32,
    /// How connections are encrypted, which needs the feature `tls`. Defaults to not at all.
    pub tls: Option<TlsOptions>,
    /// How many multiplexed connections calls share, to each server. More than one helps only with values of tens
    /// of KB. Defaults to 1.
    pub connections: u32,
    /// The longest a new connection may take: name, TCP, authentication and first answer together.
    /// Defaults to 300 ms.
    pub connect_timeout: Duration,
    /// The longest one attempt at a single-key operation may take on a connection. Defaults to
    /// 100 ms.
    pub attempt_timeout: Duration,
    /// The longest a single-key operation may take in all. Defaults to 500 ms.
    pub timeout: Duration,
    /// The longest a batch may take in all. Defaults to 2 s.
    pub bulk_timeout: Duration,
    /// The longest a clear may take before it reports what it managed. Defaults to 60 s.
    pub clear_timeout: Duration,
    /// The longest encoded value in bytes, checked before any I/O. Defaults to 1 MiB.
    pub max_value_bytes: usize,
    more_seeds: Vec<Address>,
    credentials: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observers: Observers,
    pub(crate) names: Names,
}

/// The longest string that Redis stores.
const SERVER_VALUE_BYTES: usize = 512 * 1024 * 1024;

/// The longest any of our timeouts may be.
const LONGEST_TIMEOUT: Duration = secs(3600);

const MOST_CONNECTIONS: u32 = 64;

impl RedisOptions {
    /// The server at `host` and `port`, with the default budgets and without a password.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            topology: Topology::Standalone,
            username: None,
            database: 0,
            tls: None,
            connections: 1,
            connect_timeout: millis(300),
            attempt_timeout: millis(100),
            timeout: millis(500),
            bulk_timeout: secs(2),
            clear_timeout: secs(60),
            max_value_bytes: StorageInfo::MAX_VALUE_BYTES,
            more_seeds: Vec::new(),
            credentials: None,
            clock: Arc::new(SystemClock::new()),
            observers: Observers::none(),
            names: Names::default(),
        }
    }

    /// The server that `url` names: `redis://[user:password@]host[:port][/database]`, with
    /// percent-encoding where user or password need it; `valkey://` is the same, and `rediss://`
    /// and `valkeys://` are encrypted. Several `host:port` with commas in between are entries to
    /// one cluster.
    ///
    /// # Errors
    ///
    /// `Configuration`, saying what is wrong without quoting the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, CacheError> {
        let options = parse_url(url).and_then(|options| {
            if options.username.is_some() && options.credentials.is_none() {
                return Err("names a user without a password");
            }
            Ok(options)
        });
        options.map_err(|complaint| {
            ConfigurationError::new("url", format!("the Redis URL {complaint}")).into()
        })
    }

    /// One server, or the entry to a cluster.
    #[must_use]
    pub fn with_topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Adds another server of the cluster, asked for the others where the first does not answer.
    #[must_use]
    pub fn with_seed(mut self, host: impl Into<String>, port: u16) -> Self {
        self.more_seeds.push(Address::new(host, port));
        self
    }

    /// The ACL user.
    #[must_use]
    pub fn with_username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password of the user.
    #[must_use]
    pub fn with_password(self, password: impl AsRef<str>) -> Self {
        self.with_credentials(FixedPassword(Credentials::new(password)))
    }

    /// Where user and password of new connections come from, instead of a fixed password.
    #[must_use]
    pub fn with_credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials = Some(Arc::new(provider));
        self
    }

    /// Encrypts connections.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The logical database.
    #[must_use]
    pub fn with_database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// How many multiplexed connections calls share.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// The longest a new connection may take.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest one attempt at a single-key operation may take.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// The longest a single-key operation may take in all; an attempt takes no longer either.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.attempt_timeout = self.attempt_timeout.min(timeout);
        self
    }

    /// The longest a batch may take in all.
    #[must_use]
    pub fn with_bulk_timeout(mut self, timeout: Duration) -> Self {
        self.bulk_timeout = timeout;
        self
    }

    /// The longest a clear may take.
    #[must_use]
    pub fn with_clear_timeout(mut self, timeout: Duration) -> Self {
        self.clear_timeout = timeout;
        self
    }

    /// The longest encoded value in bytes.
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The clock that deadlines in metadata and idle gaps are read from. Defaults to the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who is told of connections, time limits, repetitions and redirects. Defaults to nobody.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// Who finds the addresses of hosts. Defaults to the system.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl Resolver) -> Self {
        self.names = Names::new(resolver);
        self
    }

    /// `host:port`, as errors and logs show it.
    #[must_use]
    pub fn address_text(&self) -> String {
        self.address().to_string()
    }

    pub(crate) fn address(&self) -> Address {
        Address::new(self.host.as_str(), self.port)
    }

    /// Every address that was given.
    #[cfg(feature = "cluster")]
    pub(crate) fn seeds(&self) -> impl Iterator<Item = Address> + '_ {
        std::iter::once(self.address()).chain(self.more_seeds.iter().cloned())
    }

    pub(crate) fn credentials(&self) -> Option<&dyn CredentialsProvider> {
        self.credentials.as_deref()
    }

    /// Everything that no server could make sense of.
    pub(crate) fn check(&self) -> Result<(), CacheError> {
        let problems = self.problems();
        settle((), problems).map_err(ConfigurationErrors::into)
    }

    fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, complaint: String| {
            problems.push(ConfigurationError::new(
                option,
                format!("{option} {complaint}"),
            ));
        };
        for Address { host, port } in self.more_seeds.iter().chain([&self.address()]) {
            if !is_host(host) {
                let complaint = "is not a host name or an address";
                refuse("the Redis host", complaint.to_owned());
            }
            if *port == 0 {
                refuse("the Redis port", "is 0".to_owned());
            }
        }
        for (option, complaint) in self.contradictions() {
            refuse(option, complaint.to_owned());
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.as_ref().filter(|tls| tls.is_all_text())
            && let Err(failure) = crate::client::connector(tls)
        {
            refuse("TLS to Redis:", failure.reason);
        }
        if self.username.is_some() && self.credentials.is_none() {
            refuse(
                "the Redis user name",
                "is set without a password".to_owned(),
            );
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            let complaint = format!("are {}, not 1 to {MOST_CONNECTIONS}", self.connections);
            refuse("the Redis connections", complaint);
        }
        if !(1..=SERVER_VALUE_BYTES).contains(&self.max_value_bytes) {
            let complaint = format!("is {}, not 1 to {SERVER_VALUE_BYTES}", self.max_value_bytes);
            refuse("the largest Redis value", complaint);
        }
        for (option, timeout) in [
            ("the Redis connect timeout", self.connect_timeout),
            ("the Redis attempt timeout", self.attempt_timeout),
            ("the Redis timeout", self.timeout),
            ("the Redis bulk timeout", self.bulk_timeout),
            ("the Redis clear timeout", self.clear_timeout),
        ] {
            if timeout < millis(1) || timeout > LONGEST_TIMEOUT {
                refuse(option, format!("is {timeout:?}, not 1ms to 1h"));
            }
        }
        if self.attempt_timeout > self.timeout {
            let complaint = format!(
                "of {:?} is longer than the whole of {:?}",
                self.attempt_timeout, self.timeout
            );
            refuse("the Redis attempt timeout", complaint);
        }
        problems
    }

    /// What cannot be together, or not in this build.
    fn contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let is_cluster = self.topology == Topology::Cluster;
        let rules = [
            (
                is_cluster && !cfg!(feature = "cluster"),
                "the Redis topology",
                "cluster needs the Cargo feature \"cluster\" of cache-redis \
                 (\"redis-cluster\" of cache-factory)",
            ),
            (
                self.tls.is_some() && !cfg!(feature = "tls"),
                "TLS to Redis",
                "needs the Cargo feature \"tls\" of cache-redis (\"redis-tls\" of cache-factory)",
            ),
            (
                !is_cluster && !self.more_seeds.is_empty(),
                "the Redis address",
                "names several servers, which only a cluster has; choose the topology cluster",
            ),
            (
                is_cluster && self.database != 0,
                "the Redis database",
                "is not 0, and a cluster has no other",
            ),
        ];
        rules
            .into_iter()
            .filter(|(is_broken, ..)| *is_broken)
            .map(|(_, option, complaint)| (option, complaint))
            .collect()
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self::new("127.0.0.1", 6379)
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            topology,
            username,
            database,
            tls,
            connections,
            connect_timeout,
            attempt_timeout,
            timeout,
            bulk_timeout,
            clear_timeout,
            max_value_bytes,
            more_seeds,
            credentials,
            clock: _,
            observers,
            names: _,
        } = self;
        f.debug_struct("RedisOptions")
            .field("host", host)
            .field("port", port)
            .field("more_seeds", more_seeds)
            .field("topology", topology)
            .field("username", username)
            .field("credentials", credentials)
            .field("database", database)
            .field("tls", tls)
            .field("connections", connections)
            .field("connect_timeout", connect_timeout)
            .field("attempt_timeout", attempt_timeout)
            .field("timeout", timeout)
            .field("bulk_timeout", bulk_timeout)
            .field("clear_timeout", clear_timeout)
            .field("max_value_bytes", max_value_bytes)
            .field("observers", observers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password that a URL gave.
    async fn password(options: &RedisOptions) -> String {
        let provider = options.credentials().unwrap();
        let credentials = provider.credentials(None).await.unwrap();
        credentials.password().to_owned()
    }

    #[tokio::test]
    async fn urls_are_taken_apart() {
        let options =
            RedisOptions::from_url("redis://app:p%40ss%3A@cache.internal:7000/3").unwrap();
        assert_eq!(options.address_text(), "cache.internal:7000");
        assert_eq!(options.username.as_deref(), Some("app"));
        assert_eq!(password(&options).await, "p@ss:");
        assert_eq!(options.database, 3);
        let options = RedisOptions::from_url("valkey://:secret@[::1]").unwrap();
        assert_eq!(options.address_text(), "[::1]:6379");
        assert_eq!((options.username, options.database), (None, 0));
        assert!(options.tls.is_none());
        let options = RedisOptions::from_url("REDIS://:a:b@c@10.0.0.7:1/").unwrap();
        assert_eq!(options.address_text(), "10.0.0.7:1");
        assert_eq!(password(&options).await, "a:b@c");
    }

    #[test]
    fn bad_urls_are_refused_without_quoting_them() {
        for url in [
            "",
            "redis",
            "redis://",
            "redis:///0",
            "http://:hunter2@host",
            "rediss://:hunter2@host,",
            "redis://:hunter2@host,other:0",
            "redis://:hunter2@host,oth er",
            "redis://:hunter2@host/x",
            "redis://:hunter2@host/70000",
            "redis://:hunter2@host:0",
            "redis://:hunter2@host:99999",
            "redis://:hunter2@host:",
            "redis://:hunter2@host:1:2",
            "redis://:hunter2@host:+1",
            "redis://:hunter2@host/+1",
            "redis://:hunter2@[::1",
            "redis://:hunter2@[::g]",
            "redis://:hunter2@[::1]6379",
            "redis://:hunter2@ho st",
            "redis://:hun/ter2@host",
            "hunter2",
            "redis://:hunter2@host?protocol=3",
            "redis://hunter2@host",
            "redis://:hunter2%zz@host",
            "redis://:hunter2%4@host",
            "redis://:hunter2%ff@host",
        ] {
            let error = RedisOptions::from_url(url).unwrap_err();
            assert_eq!(error.kind(), cache_core::ErrorKind::Configuration, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn urls_say_whether_connections_are_encrypted() {
        for url in ["rediss://host", "VALKEYS://host:7000"] {
            assert!(RedisOptions::from_url(url).unwrap().tls.is_some(), "{url}");
        }
    }

    #[test]
    fn several_places_are_a_cluster() {
        let options = RedisOptions::from_url("redis://a:1,b,[::1]:3").unwrap();
        assert_eq!(options.topology, Topology::Cluster);
        assert_eq!(options.address_text(), "a:1");
        assert_eq!(
            options.more_seeds,
            [Address::new("b", 6379), Address::new("::1", 3)]
        );
        let alone = RedisOptions::new("a", 1).with_seed("b", 2);
        let error = alone.check().unwrap_err().to_string();
        assert!(error.contains("choose the topology cluster"), "{error}");
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_cluster_has_one_database() {
        let options = RedisOptions::default().with_topology(Topology::Cluster);
        assert!(options.check().is_ok());
        assert!(options.with_database(1).check().is_err());
    }

    #[cfg(not(any(feature = "cluster", feature = "tls")))]
    #[test]
    fn what_was_not_compiled_in_is_named_with_its_feature() {
        let options = RedisOptions::default()
            .with_topology(Topology::Cluster)
            .with_tls(TlsOptions::new());
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains("\"redis-cluster\""), "{error}");
        assert!(error.contains("\"redis-tls\""), "{error}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn pem_text_is_looked_at_before_any_connection() {
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        for tls in [
            TlsOptions::new().with_roots_pem("no certificate"),
            TlsOptions::new().with_roots_pem(key),
            TlsOptions::new().with_client_certificate_pem("", key),
        ] {
            let options = RedisOptions::default().with_tls(tls);
            let error = options.check().unwrap_err();
            assert!(error.to_string().contains("PEM"), "{error}");
            assert!(!format!("{error:?} {options:?}").contains("hunter2"));
        }
    }

    #[test]
    fn debug_leaves_the_password_out() {
        let options = RedisOptions::default().with_password("hunter2");
        let text = format!("{options:?}");
        assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
    }
}
