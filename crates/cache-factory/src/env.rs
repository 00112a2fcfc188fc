//! Variables to a plan, purely: nothing is read but the given settings, nothing is built.

use std::time::Duration;

#[cfg(any(feature = "dynamodb", feature = "redis"))]
use cache_breaker::BreakerOptions;
use cache_core::settings::{Found, Setting, Settings, any_of, did_you_mean, settle};
use cache_core::{
    ConfigurationError, ConfigurationErrors, DisabledStorage, OnTrouble, PrefixStorage, hours,
    millis,
};
#[cfg(feature = "dynamodb")]
use cache_dynamo::DynamoDbOptions;
#[cfg(feature = "memory")]
use cache_memory::MemoryOptions;
#[cfg(feature = "monitor")]
use cache_monitor::MonitorOptions;
#[cfg(feature = "redis")]
use cache_redis::RedisOptions;

use crate::tiers::{self, Tiers};

/// The variables that this crate reads itself.
pub const SETTINGS: &[&Setting] = &[
    &STORAGE_TYPE,
    &FALLBACK,
    &FALLBACK_TTL,
    &FALLBACK_WRITE_ALL,
    &FALLBACK_JOURNAL,
    &tiers::MEMORY_TTL_CAP,
    &tiers::REDIS_TTL_CAP,
    &tiers::DYNAMODB_TTL_CAP,
    &tiers::COUNTERS,
    &tiers::JOURNAL,
    &BREAKER,
    &ON_TROUBLE,
    &PREFIX,
];

pub(crate) const STORAGE_TYPE: Setting = Setting {
    name: "CACHE_STORAGE_TYPE",
    meaning: "Where entries are kept; `none` switches caching off.",
    accepts: "`memory`, `redis`, `dynamodb` or `none`; or several of the first three with commas in between, fastest first",
    default: "none; required",
    secret: false,
};

pub(crate) const FALLBACK: Setting = Setting {
    name: "CACHE_FALLBACK",
    meaning: "Where calls go while the storage is in trouble.",
    accepts: "`memory`, `redis`, `dynamodb` or `none`, and not the storage itself",
    default: "`none`",
    secret: false,
};

const FALLBACK_TTL: Setting = Setting {
    name: "CACHE_FALLBACK_TTL",
    meaning: "The longest life of what is written into the fallback.",
    accepts: "a duration from `1ms` to `1h`",
    default: "`60s`",
    secret: false,
};

const FALLBACK_WRITE_ALL: Setting = Setting {
    name: "CACHE_FALLBACK_WRITE_ALL",
    meaning: "Whether every write goes to storage and fallback alike, each for its whole time to live.",
    accepts: "`true` or `false`",
    default: "`false`",
    secret: false,
};

const FALLBACK_JOURNAL: Setting = Setting {
    name: "CACHE_FALLBACK_JOURNAL",
    meaning: "How many keys of deletes and overwrites that a storage missed are remembered, for each storage.",
    accepts: "a whole number from 1 to 10000000",
    default: "50000",
    secret: false,
};

const BREAKER: Setting = Setting {
    name: "CACHE_BREAKER",
    meaning: "Whether Redis and DynamoDB stand behind a circuit breaker.",
    accepts: "`on` or `off`",
    default: "`on`",
    secret: false,
};

const ON_TROUBLE: Setting = Setting {
    name: "CACHE_ON_TROUBLE",
    meaning: "What reads do when the backend is in trouble: return the error, or read it as a miss.",
    accepts: "`error` or `miss`",
    default: "`error`",
    secret: false,
};

const PREFIX: Setting = Setting {
    name: "CACHE_PREFIX",
    meaning: "Puts every key below this prefix and a colon, so that applications can share a backend.",
    accepts: "text without control characters",
    default: "no prefix",
    secret: false,
};

/// The storages an error offers. `none` is understood too, but nobody who forgot the variable wants
/// it.
const OFFERED: &[&str] = &["memory", "redis", "dynamodb"];
const STORAGES: &[&str] = &["memory", "redis", "dynamodb", "none"];
const POLICIES: &[&str] = &["error", "miss"];
#[cfg(any(feature = "dynamodb", feature = "redis"))]
const SWITCH: &[&str] = &["on", "off"];

/// The longest life of a copy in a fallback: longer ones belong into a fallback that every write
/// reaches.
const LONGEST_FALLBACK_TTL: Duration = hours(1);

/// More keys than any process should remember.
pub(crate) const MOST_JOURNALLED: usize = 10_000_000;

/// The storages of this build.
const COMPILED_IN: &[&str] = &[
    #[cfg(feature = "memory")]
    "memory",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "dynamodb")]
    "dynamodb",
];

/// Every variable that this build understands: those of this crate and of the backends compiled in.
#[must_use]
pub fn all_settings() -> Vec<&'static Setting> {
    let backends: &[&[&Setting]] = &[
        #[cfg(feature = "memory")]
        MemoryOptions::SETTINGS,
        #[cfg(feature = "redis")]
        RedisOptions::SETTINGS,
        #[cfg(feature = "dynamodb")]
        DynamoDbOptions::SETTINGS,
        #[cfg(any(feature = "dynamodb", feature = "redis"))]
        BreakerOptions::SETTINGS,
        #[cfg(feature = "monitor")]
        MonitorOptions::SETTINGS,
    ];
    [SETTINGS, &backends.concat()].concat()
}

/// What is to be built.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) storage: Storage,
    pub(crate) fallback: Option<Fallback>,
    /// How the breakers of servers behave; none where they are switched off.
    #[cfg(any(feature = "dynamodb", feature = "redis"))]
    pub(crate) breaker: Option<BreakerOptions>,
    #[cfg(feature = "monitor")]
    pub(crate) monitor: MonitorOptions,
    pub(crate) prefix: Option<String>,
    pub(crate) on_trouble: OnTrouble,
}

/// One storage, or several.
#[derive(Debug)]
pub(crate) enum Storage {
    One(Backend),
    Tiers(Tiers),
}

#[derive(Debug)]
pub(crate) enum Backend {
    None,
    #[cfg(feature = "memory")]
    Memory(MemoryOptions),
    #[cfg(feature = "redis")]
    Redis(Box<RedisOptions>),
    #[cfg(feature = "dynamodb")]
    DynamoDb(Box<DynamoDbOptions>),
}

/// Where calls go while the storage is in trouble.
#[derive(Debug)]
pub(crate) struct Fallback {
    pub(crate) backend: Backend,
    pub(crate) ttl: Option<Duration>,
    pub(crate) write_all: bool,
    pub(crate) journal: Option<usize>,
}

/// Reads the whole configuration, or everything that is wrong with it.
pub(crate) fn plan(settings: &Settings) -> Result<Plan, ConfigurationErrors> {
    let mut problems = Vec::new();
    let plan = Plan {
        // Stands in for a backend that could not be read; there is a problem then, and no plan.
        storage: storage(settings, &mut problems).unwrap_or(Storage::One(Backend::None)),
        fallback: fallback(settings, &mut problems),
        #[cfg(any(feature = "dynamodb", feature = "redis"))]
        breaker: breaker(settings, &mut problems),
        #[cfg(feature = "monitor")]
        monitor: MonitorOptions::from_settings(settings, &mut problems),
        prefix: prefix(settings, &mut problems),
        on_trouble: on_trouble(settings, &mut problems),
    };
    problems.extend(unknown(settings));
    settle(plan, problems)
}

fn storage(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Option<Storage> {
    let Some(found) = settings.find(&STORAGE_TYPE) else {
        let variable = settings.variable(&STORAGE_TYPE);
        let problem = format!("{variable} is not set; expected {}", any_of(OFFERED));
        problems.push(ConfigurationError::new(variable, problem));
        return None;
    };
    if found.value.contains(',') {
        return tiers::tiers(settings, found.value, problems).map(Storage::Tiers);
    }
    backend(settings, &STORAGE_TYPE, found.value, problems).map(Storage::One)
}

fn fallback(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Option<Fallback> {
    let ttl = settings.duration(&FALLBACK_TTL, problems);
    if ttl.is_some_and(|ttl| ttl < millis(1) || ttl > LONGEST_FALLBACK_TTL) {
        let value = settings.find(&FALLBACK_TTL).map_or("", |found| found.value);
        problems.push(settings.refused(&FALLBACK_TTL, value, "is not between 1ms and 1h"));
    }
    let write_all = settings.read(&FALLBACK_WRITE_ALL, "true or false", problems, |text| {
        text.parse().ok()
    });
    let journal = settings.number(&FALLBACK_JOURNAL, (1, MOST_JOURNALLED), problems);
    let found = settings.find(&FALLBACK)?.value;
    let has_tiers = |storage: Found<'_>| storage.value.contains(',');
    if found == "none" || settings.find(&STORAGE_TYPE).is_some_and(has_tiers) {
        return None;
    }
    if settings
        .find(&STORAGE_TYPE)
        .is_some_and(|storage| storage.value == found)
    {
        let complaint = "is the storage itself; name another, or none";
        problems.push(settings.refused(&FALLBACK, found, complaint));
        return None;
    }
    Some(Fallback {
        backend: backend(settings, &FALLBACK, found, problems)?,
        ttl,
        write_all: write_all.unwrap_or(false),
        journal,
    })
}

#[cfg(any(feature = "dynamodb", feature = "redis"))]
fn breaker(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Option<BreakerOptions> {
    let options = BreakerOptions::from_settings(settings, problems);
    match settings.find(&BREAKER).map(|found| found.value) {
        None | Some("on") => Some(options),
        Some("off") => None,
        Some(other) => {
            problems.push(no_such_word(
                settings, &BREAKER, other, "switch", SWITCH, SWITCH,
            ));
            None
        }
    }
}

/// The backend that `setting` names with `value`.
pub(crate) fn backend(
    settings: &Settings,
    setting: &Setting,
    value: &str,
    problems: &mut Vec<ConfigurationError>,
) -> Option<Backend> {
    match value {
        "none" => Some(Backend::None),
        #[cfg(feature = "memory")]
        "memory" => Some(Backend::Memory(MemoryOptions::from_settings(
            settings, problems,
        ))),
        #[cfg(feature = "redis")]
        "redis" => {
            let options = RedisOptions::from_settings(settings, problems);
            Some(Backend::Redis(Box::new(options)))
        }
        #[cfg(feature = "dynamodb")]
        "dynamodb" => {
            let options = DynamoDbOptions::from_settings(settings, problems);
            Some(Backend::DynamoDb(Box::new(options)))
        }
        other => {
            problems.push(no_such_backend(settings, setting, other));
            None
        }
    }
}

fn no_such_backend(settings: &Settings, setting: &Setting, value: &str) -> ConfigurationError {
    if !OFFERED.contains(&value) {
        return no_such_word(settings, setting, value, "storage", STORAGES, OFFERED);
    }
    let variable = settings.variable(setting);
    let available = match COMPILED_IN {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let problem = format!(
        "{variable}={value} needs the Cargo feature {value:?}, this build has: {available}"
    );
    ConfigurationError::new(variable, problem).with_value(value)
}

fn on_trouble(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> OnTrouble {
    match settings.find(&ON_TROUBLE).map(|found| found.value) {
        None | Some("error") => OnTrouble::Error,
        Some("miss") => OnTrouble::Miss,
        Some(other) => {
            let problem = no_such_word(settings, &ON_TROUBLE, other, "policy", POLICIES, POLICIES);
            problems.push(problem);
            OnTrouble::Error
        }
    }
}

fn prefix(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Option<String> {
    let prefix = settings.find(&PREFIX)?.value;
    if let Err(error) = PrefixStorage::new(prefix, DisabledStorage::new()) {
        let complaint = format!("is not a prefix; it {}", error.message());
        problems.push(settings.refused(&PREFIX, prefix, &complaint));
    }
    Some(prefix.to_owned())
}

/// `value` is none of `words`: the one that was meant, or else those `offered`.
pub(crate) fn no_such_word(
    settings: &Settings,
    setting: &Setting,
    value: &str,
    noun: &str,
    words: &[&str],
    offered: &[&str],
) -> ConfigurationError {
    let meant = match value.to_ascii_lowercase().as_str() {
        "valkey" | "elasticache" => Some("redis"),
        "dynamo" => Some("dynamodb"),
        "off" | "disabled" => Some("none"),
        _ => None,
    };
    let meant = meant.filter(|word| words.contains(word));
    let advice = match meant.or_else(|| did_you_mean(value, words)) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("expected {}", any_of(offered)),
    };
    settings.refused(setting, value, &format!("is not a {noun}; {advice}"))
}

/// Variables that look like ours and are not; those of a backend outside this build are left to
/// builds that have it.
fn unknown(settings: &Settings) -> Vec<ConfigurationError> {
    let mut problems = settings.unknown(&all_settings());
    problems.retain(|problem| !is_of_absent_backend(&problem.variable));
    problems
}

/// `CACHE_REDIS_...`, or `CACHE_GEO_REDIS_...` of a named cache, in a build without Redis.
fn is_of_absent_backend(variable: &str) -> bool {
    let absent = OFFERED
        .iter()
        .filter(|backend| !COMPILED_IN.contains(backend))
        .chain(ABSENT_PARTS);
    absent
        .into_iter()
        .any(|part| variable.contains(&format!("_{}_", part.to_ascii_uppercase())))
}

/// The parts of a stack with variables of their own that this build does not have.
const ABSENT_PARTS: &[&str] = &[
    #[cfg(not(any(feature = "dynamodb", feature = "redis")))]
    "breaker",
    #[cfg(not(feature = "monitor"))]
    "monitor",
];

#[cfg(test)]
mod tests;
