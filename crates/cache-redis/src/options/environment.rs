//! Options from environment variables.

use cache_core::settings::{Setting, Settings, settle};
use cache_core::{CacheError, ConfigurationError, Topology};

use super::encryption::tls;
use super::settings::{
    ATTEMPT_TIMEOUT, BULK_TIMEOUT, CLEAR_TIMEOUT, CONNECT_TIMEOUT, CONNECTIONS, DATABASE, HOST,
    MAX_VALUE_BYTES, PASSWORD, PASSWORD_FILE, PASSWORD_SECRET, PORT, SECRETS_ENDPOINT, TIMEOUT,
    TLS, TLS_CERTIFICATE_FILE, TLS_KEY_FILE, TLS_ROOTS, TLS_ROOTS_FILE, TLS_SERVER_NAME, TOPOLOGY,
    URL, USERNAME,
};
use super::url::parse_url;
use super::{MOST_CONNECTIONS, RedisOptions};
use crate::credentials::PasswordFile;

/// The variables behind the options that problems name.
const VARIABLES: [(&str, &Setting); 10] = [
    ("the Redis host", &HOST),
    ("the Redis port", &PORT),
    ("the Redis database", &DATABASE),
    ("the Redis topology", &TOPOLOGY),
    ("the largest Redis value", &MAX_VALUE_BYTES),
    ("the Redis connect timeout", &CONNECT_TIMEOUT),
    ("the Redis attempt timeout", &ATTEMPT_TIMEOUT),
    ("the Redis timeout", &TIMEOUT),
    ("the Redis bulk timeout", &BULK_TIMEOUT),
    ("the Redis clear timeout", &CLEAR_TIMEOUT),
];

impl RedisOptions {
    /// Every environment variable that [`from_env`](Self::from_env) reads.
    pub const SETTINGS: &'static [&'static Setting] = &[
        &URL,
        &HOST,
        &PORT,
        &TOPOLOGY,
        &USERNAME,
        &PASSWORD,
        &PASSWORD_FILE,
        &PASSWORD_SECRET,
        &SECRETS_ENDPOINT,
        &DATABASE,
        &TLS,
        &TLS_ROOTS,
        &TLS_ROOTS_FILE,
        &TLS_CERTIFICATE_FILE,
        &TLS_KEY_FILE,
        &TLS_SERVER_NAME,
        &CONNECTIONS,
        &CONNECT_TIMEOUT,
        &ATTEMPT_TIMEOUT,
        &TIMEOUT,
        &BULK_TIMEOUT,
        &CLEAR_TIMEOUT,
        &MAX_VALUE_BYTES,
    ];

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
        let (mut options, place) = address(settings, problems);
        if place.has(settings, &TOPOLOGY)
            && let Some(topology) = topology(settings, problems)
        {
            options.topology = topology;
        }
        options = with_password_source(options, place, settings, problems);
        options.tls = tls(options.tls.is_some(), place, settings, problems);
        if let Some(connections) = settings.number(&CONNECTIONS, (1, MOST_CONNECTIONS), problems) {
            options.connections = connections;
        }
        read_budgets(&mut options, settings, problems);
        if let Some(bytes) = settings.bytes(&MAX_VALUE_BYTES, problems) {
            options.max_value_bytes = bytes;
        }
        if options.username.is_some() && options.credentials.is_none() {
            problems.push(user_without_password(settings));
        }
        // What is wrong with single values has been said; contradictions between them are only
        // looked for where every value could be read.
        if problems.len() == known {
            problems.extend(settings.naming(options.problems(), &VARIABLES));
        }
        options
    }
}

/// What the address was read from.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) is_url: bool,
    /// Whether it is the named cache's own.
    pub(super) is_scoped: bool,
}

impl Place {
    /// Whether `setting` is set for this address. A named cache's own URL leaves everything behind
    /// that is said about the common server.
    pub(super) fn has(self, settings: &Settings, setting: &Setting) -> bool {
        let is_left_behind = self.is_url && self.is_scoped;
        settings
            .find(setting)
            .is_some_and(|found| found.scoped || !is_left_behind)
    }
}

/// The address from a URL or from its parts, whichever is set.
fn address(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> (RedisOptions, Place) {
    let url = settings.find(&URL);
    let host = settings.find(&HOST);
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
        let place = Place {
            is_url: false,
            is_scoped: host.is_some_and(|host| host.scoped),
        };
        return (from_parts(settings, problems), place);
    }
    let url_is_scoped = url.is_some_and(|url| url.scoped);
    let place = Place {
        is_url: true,
        is_scoped: url_is_scoped,
    };
    for part in [&HOST, &PORT, &USERNAME, &PASSWORD, &DATABASE] {
        if settings
            .find(part)
            .is_some_and(|found| found.scoped == url_is_scoped || found.scoped)
        {
            problems.push(contradiction(settings, &URL, part));
        }
    }
    let complaint = match parse_url(url.map(|url| url.value).unwrap_or_default()) {
        Ok(options) => return (options, place),
        Err(complaint) => complaint,
    };
    problems.push(settings.refused(&URL, "", complaint));
    (RedisOptions::default(), place)
}

fn from_parts(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> RedisOptions {
    let mut options = RedisOptions::default();
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
    match settings.find(&PASSWORD) {
        Some(password) => options.with_password(password.value),
        None => options,
    }
}

fn topology(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Option<Topology> {
    let what = "a topology; expected standalone or cluster";
    settings.read(&TOPOLOGY, what, problems, |text| match text {
        "standalone" => Some(Topology::Standalone),
        "cluster" => Some(Topology::Cluster),
        _ => None,
    })
}

/// Takes the password from a file or from Secrets Manager, where that is set. A named cache's own
/// source goes before the common ones.
fn with_password_source(
    options: RedisOptions,
    place: Place,
    settings: &Settings,
    problems: &mut Vec<ConfigurationError>,
) -> RedisOptions {
    let fixed = if place.is_url { &URL } else { &PASSWORD };
    let mut sources = vec![];
    if options.credentials.is_some() {
        sources.push(fixed);
    }
    let elsewhere = [&PASSWORD_FILE, &PASSWORD_SECRET];
    sources.extend(elsewhere.into_iter().filter(|at| place.has(settings, at)));
    let is_own = |source: &&Setting| settings.find(source).is_some_and(|found| found.scoped);
    if sources.iter().any(is_own) {
        sources.retain(is_own);
    }
    let source = match sources[..] {
        [] => return options,
        [only] => only,
        [first, second, ..] => {
            problems.push(contradiction(settings, first, second));
            return options;
        }
    };
    let value = settings.find(source).map_or("", |found| found.value);
    if source == &PASSWORD_FILE {
        return options.with_credentials(PasswordFile::new(value));
    }
    if source == &PASSWORD_SECRET {
        return with_secret(options, value, settings, problems);
    }
    options
}

#[cfg(feature = "secrets-manager")]
fn with_secret(
    options: RedisOptions,
    secret: &str,
    settings: &Settings,
    problems: &mut Vec<ConfigurationError>,
) -> RedisOptions {
    match crate::secrets::PasswordSecret::from_settings(secret, settings, &SECRETS_ENDPOINT) {
        Ok(provider) => options.with_credentials(provider),
        Err(found) => {
            problems.extend(found);
            options
        }
    }
}

#[cfg(not(feature = "secrets-manager"))]
fn with_secret(
    options: RedisOptions,
    _secret: &str,
    settings: &Settings,
    problems: &mut Vec<ConfigurationError>,
) -> RedisOptions {
    let variable = settings.variable(&PASSWORD_SECRET);
    let problem = format!("{variable} needs the Cargo feature \"secrets-manager\"");
    problems.push(ConfigurationError::new(variable, problem));
    options
}

fn read_budgets(
    options: &mut RedisOptions,
    settings: &Settings,
    problems: &mut Vec<ConfigurationError>,
) {
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
    let Some(attempt) = settings.find(&ATTEMPT_TIMEOUT) else {
        options.attempt_timeout = options.attempt_timeout.min(options.timeout);
        return;
    };
    if options.attempt_timeout > options.timeout {
        let whole = settings.variable(&TIMEOUT);
        let complaint = format!("is longer than {whole}, which is {:?}", options.timeout);
        problems.push(settings.refused(&ATTEMPT_TIMEOUT, attempt.value, &complaint));
    }
}

fn user_without_password(settings: &Settings) -> ConfigurationError {
    // The user may be part of the URL, which is never shown.
    let setting = match settings.find(&USERNAME) {
        Some(_) => &USERNAME,
        None => &URL,
    };
    let variable = settings.variable(setting);
    let problem = if setting == &URL {
        format!("{variable} names a user without a password")
    } else {
        format!(
            "{variable} is set without {}, _FILE or _SECRET",
            PASSWORD.name
        )
    };
    ConfigurationError::new(variable, problem)
}

pub(super) fn contradiction(
    settings: &Settings,
    first: &Setting,
    second: &Setting,
) -> ConfigurationError {
    let (first, second) = (settings.variable(first), settings.variable(second));
    let problem = format!("{first} and {second} contradict each other; set one of them");
    ConfigurationError::new(second, problem)
}

#[cfg(test)]
mod tests {
    use cache_core::millis;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (RedisOptions, Vec<String>) {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let mut problems = Vec::new();
        let options = RedisOptions::from_settings(&settings, &mut problems);
        (options, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_address_is_required() {
        let (_, problems) = read(&[]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_URL is not set; expected \
              redis[s]://[user:password@]host[:port][/database] or CACHE_REDIS_HOST"]
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
        assert_eq!(&*options.host, "geo");
        assert!(options.credentials.is_none());
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
                "CACHE_REDIS_USERNAME is set without CACHE_REDIS_PASSWORD, _FILE or _SECRET",
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

    const HOST_ONLY: (&str, &str) = ("CACHE_REDIS_HOST", "host");

    #[test]
    fn passwords_have_one_source() {
        let (options, problems) = read(&[HOST_ONLY, ("CACHE_REDIS_PASSWORD_FILE", "/run/secret")]);
        assert_eq!(problems, [""; 0]);
        assert!(format!("{options:?}").contains("/run/secret"));
        let (_, problems) = read(&[
            HOST_ONLY,
            ("CACHE_REDIS_PASSWORD", "hunter2"),
            ("CACHE_REDIS_PASSWORD_FILE", "/run/secret"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_REDIS_PASSWORD and CACHE_REDIS_PASSWORD_FILE contradict each other; \
                 set one of them"
            ]
        );
        let (_, problems) = read(&[
            ("CACHE_REDIS_URL", "redis://:hunter2@host"),
            ("CACHE_REDIS_PASSWORD_FILE", "/run/secret"),
        ]);
        assert_eq!(
            problems,
            [
                "CACHE_REDIS_URL and CACHE_REDIS_PASSWORD_FILE contradict each other; set one of them"
            ]
        );
    }

    #[test]
    fn a_url_may_name_the_user_whose_password_is_elsewhere() {
        let (options, problems) = read(&[
            ("CACHE_REDIS_URL", "redis://app@host"),
            ("CACHE_REDIS_PASSWORD_FILE", "/run/secret"),
        ]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(options.username.as_deref(), Some("app"));
        let (_, problems) = read(&[("CACHE_REDIS_URL", "redis://app@host")]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_URL names a user without a password"]
        );
    }

    #[cfg(not(feature = "secrets-manager"))]
    #[test]
    fn a_secret_needs_its_feature() {
        let (_, problems) = read(&[HOST_ONLY, ("CACHE_REDIS_PASSWORD_SECRET", "prod/redis")]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_PASSWORD_SECRET needs the Cargo feature \"secrets-manager\""]
        );
    }

    #[test]
    fn a_topology_is_one_of_two() {
        let (_, problems) = read(&[HOST_ONLY, ("CACHE_REDIS_TOPOLOGY", "ring")]);
        assert_eq!(
            problems,
            ["CACHE_REDIS_TOPOLOGY=\"ring\" is not a topology; expected standalone or cluster"]
        );
        let (options, problems) = read(&[HOST_ONLY, ("CACHE_REDIS_TOPOLOGY", "standalone")]);
        assert_eq!(
            (options.topology, problems.len()),
            (Topology::Standalone, 0)
        );
    }

    fn read_for_geo(pairs: &[(&str, &str)]) -> (RedisOptions, Vec<String>) {
        let settings = Settings::from_pairs(pairs.iter().copied());
        let mut problems = Vec::new();
        let options = RedisOptions::from_settings(&settings.named("geo").unwrap(), &mut problems);
        (options, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_named_caches_own_url_leaves_the_common_server_behind() {
        let (options, problems) = read_for_geo(&[
            ("CACHE_REDIS_URL", "rediss://common"),
            ("CACHE_REDIS_PASSWORD_FILE", "/run/common"),
            ("CACHE_REDIS_TLS_ROOTS_FILE", "/common.pem"),
            ("CACHE_REDIS_TOPOLOGY", "cluster"),
            ("CACHE_GEO_REDIS_URL", "redis://geo/3"),
        ]);
        assert_eq!(problems, [""; 0]);
        assert!(options.credentials.is_none() && options.tls.is_none());
        assert_eq!(
            (options.topology, options.database),
            (Topology::Standalone, 3)
        );
    }

    #[test]
    fn a_named_caches_own_source_of_its_password_wins() {
        let (options, problems) = read_for_geo(&[
            HOST_ONLY,
            ("CACHE_REDIS_PASSWORD", "hunter2"),
            ("CACHE_GEO_REDIS_PASSWORD_FILE", "/run/geo"),
        ]);
        assert_eq!(problems, [""; 0]);
        assert!(format!("{options:?}").contains("/run/geo"));
    }
}
