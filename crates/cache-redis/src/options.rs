//! How to reach a server and how long to wait for it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cache_core::settings::{Setting, Settings, settle};
use cache_core::{
    CacheError, Clock, ConfigurationError, ConfigurationErrors, StorageInfo, SystemClock, millis,
    secs,
};

mod settings;
mod url;

use settings::{
    ATTEMPT_TIMEOUT, BULK_TIMEOUT, CLEAR_TIMEOUT, CONNECT_TIMEOUT, CONNECTIONS, DATABASE, HOST,
    MAX_VALUE_BYTES, PASSWORD, PORT, TIMEOUT, URL, USERNAME,
};
use url::{is_host, parse_url};

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
    /// Host name or address of the server. Defaults to 127.0.0.1.
    pub host: String,
    /// TCP port. Defaults to 6379.
    pub port: u16,
    /// ACL user. Defaults to the server's default user.
    pub username: Option<String>,
    /// Number of the logical database. Defaults to 0.
    pub database: u32,
    /// How many multiplexed connections calls share. More than one helps only with values of tens
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
    password: Option<Secret>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Text that `Debug` does not show.
#[derive(Clone)]
struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The longest string that Redis stores.
const SERVER_VALUE_BYTES: usize = 512 * 1024 * 1024;

/// The longest any of our timeouts may be.
const LONGEST_TIMEOUT: Duration = secs(3600);

const MOST_CONNECTIONS: u32 = 64;

impl RedisOptions {
    /// Every environment variable that [`from_env`](Self::from_env) reads.
    pub const SETTINGS: &'static [&'static Setting] = &[
        &URL,
        &HOST,
        &PORT,
        &USERNAME,
        &PASSWORD,
        &DATABASE,
        &CONNECTIONS,
        &CONNECT_TIMEOUT,
        &ATTEMPT_TIMEOUT,
        &TIMEOUT,
        &BULK_TIMEOUT,
        &CLEAR_TIMEOUT,
        &MAX_VALUE_BYTES,
    ];

    /// The server at `host` and `port`, with the default budgets and without a password.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            username: None,
            database: 0,
            connections: 1,
            connect_timeout: millis(300),
            attempt_timeout: millis(100),
            timeout: millis(500),
            bulk_timeout: secs(2),
            clear_timeout: secs(60),
            max_value_bytes: StorageInfo::MAX_VALUE_BYTES,
            password: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The server that `url` names: `redis://[user:password@]host[:port][/database]`, with
    /// percent-encoding where user or password need it; `valkey://` is the same.
    ///
    /// # Errors
    ///
    /// `Configuration`, saying what is wrong without quoting the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, CacheError> {
        parse_url(url).map_err(|complaint| {
            ConfigurationError::new("url", format!("the Redis URL {complaint}")).into()
        })
    }

    /// The server that the environment names; see [`SETTINGS`](Self::SETTINGS).
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem at once: no address, values that cannot be read,
    /// contradictions, unknown names that begin with `CACHE_REDIS_`.
    pub fn from_env() -> Result<Self, CacheError> {
        let settings = Settings::from_env();
        let mut problems = settings.unknown(Self::SETTINGS);
        problems.retain(|problem| problem.variable.starts_with("CACHE_REDIS_"));
        let options = Self::from_settings(&settings, &mut problems);
        Ok(settle(options, problems)?)
    }

    /// The server that `settings` name; what is wrong is added to `problems`. A pure function: it
    /// neither reads the environment nor does any I/O.
    #[must_use]
    pub fn from_settings(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let known = problems.len();
        let mut options = Self::address(settings, problems);
        if let Some(connections) = settings.number(&CONNECTIONS, (1, MOST_CONNECTIONS), problems) {
            options.connections = connections;
        }
        for (setting, timeout) in [
            (&CONNECT_TIMEOUT, &mut options.connect_timeout),
            (&ATTEMPT_TIMEOUT, &mut options.attempt_timeout),
            (&TIMEOUT, &mut options.timeout),
            (&BULK_TIMEOUT, &mut options.bulk_timeout),
            (&CLEAR_TIMEOUT, &mut options.clear_timeout),
        ] {
            if let Some(duration) = settings.duration(setting, problems) {
                *timeout = duration;
            }
        }
        if settings.find(&ATTEMPT_TIMEOUT).is_none() {
            options.attempt_timeout = options.attempt_timeout.min(options.timeout);
        }
        if let Some(bytes) = settings.bytes(&MAX_VALUE_BYTES, problems) {
            options.max_value_bytes = bytes;
        }
        if options.attempt_timeout > options.timeout
            && let Some(attempt) = settings.find(&ATTEMPT_TIMEOUT)
        {
            let whole = settings.variable(&TIMEOUT);
            let complaint = format!("is longer than {whole}, which is {:?}", options.timeout);
            problems.push(settings.refused(&ATTEMPT_TIMEOUT, attempt.value, &complaint));
        }
        if options.username.is_some() && options.password.is_none() {
            let (user, password) = (settings.variable(&USERNAME), PASSWORD.name);
            let problem = format!("{user} is set without {password}");
            problems.push(ConfigurationError::new(user, problem));
        }
        // What is wrong with single values has been said; contradictions between them are only
        // looked for where every value could be read.
        if problems.len() == known {
            problems.extend(options.problems());
        }
        options
    }

    /// The ACL user.
    #[must_use]
    pub fn with_username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password of the user.
    #[must_use]
    pub fn with_password(mut self, password: impl AsRef<str>) -> Self {
        self.password = Some(Secret(password.as_ref().into()));
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

    /// `host:port`, as errors and logs show it.
    #[must_use]
    pub fn address_text(&self) -> String {
        if self
            .host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6())
        {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|Secret(text)| &**text)
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
        if !is_host(&self.host) {
            refuse(
                "the Redis host",
                "is not a host name or an address".to_owned(),
            );
        }
        if self.port == 0 {
            refuse("the Redis port", "is 0".to_owned());
        }
        if self.username.is_some() && self.password.is_none() {
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

    /// The address from a URL or from its parts, whichever is set.
    fn address(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let url = settings.find(&URL);
        let host = settings.find(&HOST);
        let parts = [&HOST, &PORT, &USERNAME, &PASSWORD, &DATABASE];
        let use_url = match (url, host) {
            (None, None) => {
                let name = URL.name;
                let problem = format!(
                    "{name} is not set; expected {} or {}",
                    URL.accepts, HOST.name
                );
                problems.push(ConfigurationError::new(name, problem.replace('`', "")));
                false
            }
            (None, Some(_)) => false,
            // A named cache's own address replaces the common one, whatever its form.
            (Some(url), Some(host)) if url.scoped != host.scoped => url.scoped,
            (Some(_), _) => true,
        };
        if !use_url {
            return Self::from_parts(settings, problems);
        }
        let url_is_scoped = url.is_some_and(|url| url.scoped);
        for part in parts {
            if settings
                .find(part)
                .is_some_and(|found| found.scoped == url_is_scoped || found.scoped)
            {
                let (url, part) = (settings.variable(&URL), settings.variable(part));
                let problem = format!("{url} and {part} contradict each other; set one of them");
                problems.push(ConfigurationError::new(part, problem));
            }
        }
        let complaint = match parse_url(url.map(|url| url.value).unwrap_or_default()) {
            Ok(options) => return options,
            Err(complaint) => complaint,
        };
        problems.push(settings.refused(&URL, "", complaint));
        Self::default()
    }

    fn from_parts(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let mut options = Self::default();
        if let Some(host) = settings.find(&HOST) {
            host.value.clone_into(&mut options.host);
        }
        if let Some(port) = settings.number(&PORT, (1, u16::MAX), problems) {
            options.port = port;
        }
        if let Some(database) = settings.number(&DATABASE, (0, u32::from(u16::MAX)), problems) {
            options.database = database;
        }
        options.username = settings.find(&USERNAME).map(|found| found.value.to_owned());
        options.password = settings
            .find(&PASSWORD)
            .map(|found| Secret(found.value.into()));
        options
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
            username,
            database,
            connections,
            connect_timeout,
            attempt_timeout,
            timeout,
            bulk_timeout,
            clear_timeout,
            max_value_bytes,
            password,
            clock: _,
        } = self;
        f.debug_struct("RedisOptions")
            .field("host", host)
            .field("port", port)
            .field("username", username)
            .field("password", password)
            .field("database", database)
            .field("connections", connections)
            .field("connect_timeout", connect_timeout)
            .field("attempt_timeout", attempt_timeout)
            .field("timeout", timeout)
            .field("bulk_timeout", bulk_timeout)
            .field("clear_timeout", clear_timeout)
            .field("max_value_bytes", max_value_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (RedisOptions, Vec<String>) {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let mut problems = Vec::new();
        let options = RedisOptions::from_settings(&settings, &mut problems);
        (options, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn urls_are_taken_apart() {
        let options =
            RedisOptions::from_url("redis://app:p%40ss%3A@cache.internal:7000/3").unwrap();
        assert_eq!(options.address_text(), "cache.internal:7000");
        assert_eq!(options.username.as_deref(), Some("app"));
        assert_eq!(options.password(), Some("p@ss:"));
        assert_eq!(options.database, 3);
        let options = RedisOptions::from_url("valkey://:secret@[::1]").unwrap();
        assert_eq!(options.address_text(), "[::1]:6379");
        assert_eq!((options.username, options.database), (None, 0));
        let options = RedisOptions::from_url("REDIS://:a:b@c@10.0.0.7:1/").unwrap();
        assert_eq!(options.address_text(), "10.0.0.7:1");
        assert_eq!(options.password(), Some("a:b@c"));
    }

    #[test]
    fn bad_urls_are_refused_without_quoting_them() {
        for url in [
            "",
            "redis",
            "redis://",
            "redis:///0",
            "http://:hunter2@host",
            "rediss://:hunter2@host",
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
    fn an_address_is_required() {
        let (_, problems) = read(&[]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_URL is not set; expected \
              redis://[user:password@]host[:port][/database] or CACHE_REDIS_HOST"]
        );
    }

    #[test]
    fn url_and_parts_contradict_each_other() {
        let (_, problems) = read(&[
            ("CACHE_REDIS_URL", "redis://host"),
            ("CACHE_REDIS_PASSWORD", "hunter2"),
        ]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_URL and CACHE_REDIS_PASSWORD contradict each other; set one of them"]
        );
    }

    #[test]
    fn a_named_caches_own_address_wins() {
        let settings = Settings::from_pairs([
            ("CACHE_REDIS_URL", "redis://:common@shared"),
            ("CACHE_GEO_REDIS_HOST", "geo"),
            ("CACHE_REDIS_TIMEOUT", "700ms"),
        ]);
        let mut problems = Vec::new();
        let geo = settings.named("geo").unwrap();
        let options = RedisOptions::from_settings(&geo, &mut problems);
        assert_eq!(problems, []);
        assert_eq!((&*options.host, options.password()), ("geo", None));
        assert_eq!(options.timeout, millis(700));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let (_, problems) = read(&[
            ("CACHE_REDIS_HOST", "host"),
            ("CACHE_REDIS_PORT", "0"),
            ("CACHE_REDIS_TIMEOUT", "5 parsecs"),
            ("CACHE_REDIS_CONNECTIONS", "-1"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_REDIS_PORT=\"0\" is not a whole number from 1 to 65535",
                "CACHE_REDIS_CONNECTIONS=\"-1\" is not a whole number from 1 to 64",
                "CACHE_REDIS_TIMEOUT=\"5 parsecs\" is not a duration; try 500ms, 2s",
            ]
        );
    }

    #[test]
    fn contradictory_budgets_are_refused() {
        let (_, problems) = read(&[
            ("CACHE_REDIS_HOST", "host"),
            ("CACHE_REDIS_ATTEMPT_TIMEOUT", "2s"),
            ("CACHE_REDIS_USERNAME", "app"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_REDIS_ATTEMPT_TIMEOUT=\"2s\" is longer than CACHE_REDIS_TIMEOUT, \
                 which is 500ms",
                "CACHE_REDIS_USERNAME is set without CACHE_REDIS_PASSWORD",
            ]
        );
    }

    #[test]
    fn a_host_is_a_host_and_nothing_else() {
        for host in [
            "",
            "a b",
            "app:hunter2@cache",
            "cache:6379",
            "[::1]",
            "a\0",
            "a,b",
            "a/b",
        ] {
            let error = RedisOptions::new(host, 6379).check().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let (_, problems) = read(&[("CACHE_REDIS_HOST", host), ("CACHE_REDIS_DATABASE", "1")]);
            assert_eq!(problems.len(), 1, "{host}");
        }
        for host in ["cache", "10.0.0.7", "::1", "my_cache-1.internal."] {
            assert!(RedisOptions::new(host, 6379).check().is_ok(), "{host}");
        }
    }

    #[test]
    fn a_short_timeout_alone_is_no_contradiction() {
        let (options, problems) = read(&[
            ("CACHE_REDIS_HOST", "host"),
            ("CACHE_REDIS_TIMEOUT", "50ms"),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(options.attempt_timeout, millis(50));
        let options = RedisOptions::default().with_timeout(millis(20));
        assert!(options.check().is_ok());
    }

    #[test]
    fn debug_leaves_the_password_out() {
        let options = RedisOptions::default().with_password("hunter2");
        let text = format!("{options:?}");
        assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
    }
}
