//! Several storages in `CACHE_STORAGE_TYPE`: variables to a plan, purely.

use std::time::Duration;

use cache_core::settings::{Setting, Settings, any_of};
use cache_core::{ConfigurationError, Ttl, secs};

use crate::env::{Backend, FALLBACK, MOST_JOURNALLED, STORAGE_TYPE, backend, no_such_word};

pub(crate) const MEMORY_TTL_CAP: Setting = Setting {
    name: "CACHE_TIER_MEMORY_TTL_CAP",
    meaning: "The longest that the memory in front of other storages calls an entry fresh: as long may the writes of other processes stay unseen.",
    accepts: "a duration from `1ms` to ten years, or `none`",
    default: "`10s`",
    secret: false,
};

pub(crate) const REDIS_TTL_CAP: Setting = Setting {
    name: "CACHE_TIER_REDIS_TTL_CAP",
    meaning: "The longest that Redis, as one of several storages, calls an entry fresh.",
    accepts: "a duration from `1ms` to ten years, or `none`",
    default: "`none`",
    secret: false,
};

pub(crate) const DYNAMODB_TTL_CAP: Setting = Setting {
    name: "CACHE_TIER_DYNAMODB_TTL_CAP",
    meaning: "The longest that DynamoDB, as one of several storages, calls an entry fresh.",
    accepts: "a duration from `1ms` to ten years, or `none`",
    default: "`none`",
    secret: false,
};

pub(crate) const COUNTERS: Setting = Setting {
    name: "CACHE_TIER_COUNTERS",
    meaning: "Which of several storages has the counters and decides about conditional writes.",
    accepts: "one of those in `CACHE_STORAGE_TYPE`",
    default: "the last",
    secret: false,
};

pub(crate) const JOURNAL: Setting = Setting {
    name: "CACHE_TIER_JOURNAL",
    meaning: "How many keys of deletes and overwrites that one of several storages missed are remembered, for each storage.",
    accepts: "a whole number from 1 to 10000000",
    default: "50000",
    secret: false,
};

/// How long another process's write may stay unseen unless somebody decides otherwise.
const MEMORY_CAP: Duration = secs(10);

/// What may be a tier, fastest first.
const TIERS: &[&str] = &["memory", "redis", "dynamodb"];

/// Several storages, fastest first.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(crate) tiers: Vec<PlannedTier>,
    pub(crate) counters_in: Option<&'static str>,
    pub(crate) journal: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct PlannedTier {
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
    pub(crate) ttl_cap: Option<Duration>,
}

/// The tiers that `list` names, or none where there is a problem with them.
pub(crate) fn tiers(
    settings: &Settings,
    list: &str,
    problems: &mut Vec<ConfigurationError>,
) -> Option<Tiers> {
    let before = problems.len();
    let words: Vec<&str> = list.split(',').map(str::trim).collect();
    let names: Vec<&'static str> = words
        .iter()
        .filter_map(|word| name(settings, word, problems))
        .collect();
    check_order(settings, list, &names, problems);
    check_fallback(settings, problems);
    let counters_in = counters_in(settings, &names, problems);
    let journal = settings.number(&JOURNAL, (1, MOST_JOURNALLED), problems);
    let tiers = names
        .into_iter()
        .filter_map(|name| tier(settings, name, problems))
        .collect();
    (problems.len() == before).then_some(Tiers {
        tiers,
        counters_in,
        journal,
    })
}

fn name(
    settings: &Settings,
    word: &str,
    problems: &mut Vec<ConfigurationError>,
) -> Option<&'static str> {
    let known = TIERS.iter().find(|tier| **tier == word).copied();
    if known.is_none() {
        let problem = if word == "none" {
            let complaint = "keeps nothing, so it cannot be one of several storages";
            settings.refused(&STORAGE_TYPE, word, complaint)
        } else {
            no_such_word(settings, &STORAGE_TYPE, word, "storage", TIERS, TIERS)
        };
        problems.push(problem);
    }
    known
}

/// Memory that is not the first would be another truth in each process.
fn check_order(
    settings: &Settings,
    list: &str,
    names: &[&str],
    problems: &mut Vec<ConfigurationError>,
) {
    let mut complain = |complaint: &str| {
        problems.push(settings.refused(&STORAGE_TYPE, list, complaint));
    };
    for (position, name) in names.iter().enumerate() {
        if names[..position].contains(name) {
            complain(&format!("names {name} twice"));
        } else if *name == "memory" && position > 0 {
            complain("has memory after another storage; the fastest comes first");
        }
    }
}

fn check_fallback(settings: &Settings, problems: &mut Vec<ConfigurationError>) {
    let fallback = settings.find(&FALLBACK).map(|found| found.value);
    if fallback.is_some_and(|fallback| fallback != "none") {
        let fallback = settings.variable(&FALLBACK);
        let problem = format!(
            "{fallback} and several storages in {} contradict each other; leave one out",
            settings.variable(&STORAGE_TYPE)
        );
        problems.push(ConfigurationError::new(fallback, problem));
    }
}

fn counters_in(
    settings: &Settings,
    names: &[&'static str],
    problems: &mut Vec<ConfigurationError>,
) -> Option<&'static str> {
    let what = format!("one of the storages; expected {}", any_of(names));
    settings.read(&COUNTERS, &what, problems, |text| {
        names.iter().find(|name| **name == text).copied()
    })
}

fn tier(
    settings: &Settings,
    name: &'static str,
    problems: &mut Vec<ConfigurationError>,
) -> Option<PlannedTier> {
    let (setting, default) = match name {
        "memory" => (&MEMORY_TTL_CAP, Some(MEMORY_CAP)),
        "redis" => (&REDIS_TTL_CAP, None),
        _ => (&DYNAMODB_TTL_CAP, None),
    };
    let ttl_cap = cap(settings, setting, default, problems);
    let backend = backend(settings, &STORAGE_TYPE, name, problems)?;
    Some(PlannedTier {
        name,
        backend: exact(settings, backend),
        ttl_cap,
    })
}

/// What DynamoDB answers is copied to faster tiers, so it reads consistently there unless somebody
/// has decided: what it still had just after a delete would live on as a copy.
#[cfg(feature = "dynamodb")]
fn exact(settings: &Settings, backend: Backend) -> Backend {
    let consistent_reads = crate::env::all_settings()
        .into_iter()
        .find(|setting| setting.name == "CACHE_DYNAMODB_CONSISTENT_READS");
    let is_decided = consistent_reads.is_some_and(|setting| settings.find(setting).is_some());
    match backend {
        Backend::DynamoDb(options) if !is_decided => {
            Backend::DynamoDb(Box::new(options.with_consistent_reads(true)))
        }
        backend => backend,
    }
}

#[cfg(not(feature = "dynamodb"))]
fn exact(_: &Settings, backend: Backend) -> Backend {
    backend
}

fn cap(
    settings: &Settings,
    setting: &Setting,
    default: Option<Duration>,
    problems: &mut Vec<ConfigurationError>,
) -> Option<Duration> {
    let Some(found) = settings.find(setting) else {
        return default;
    };
    if found.value == "none" {
        return None;
    }
    let cap = settings.duration(setting, problems)?;
    if Ttl::new(cap).is_err() {
        let complaint = "is not between 1ms and ten years";
        problems.push(settings.refused(setting, found.value, complaint));
    }
    Some(cap)
}

#[cfg(test)]
mod tests {
    use crate::env::plan;

    use super::*;

    fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
        let Err(errors) = plan(&Settings::from_pairs(pairs.iter().copied())) else {
            return Vec::new();
        };
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_a_tier_is_refused() {
        let of = |list| problems(&[("CACHE_STORAGE_TYPE", list)]);
        assert_eq!(
            of("none,redsi,"),
            [
                "CACHE_STORAGE_TYPE=\"none\" keeps nothing, so it cannot be one of several storages",
                "CACHE_STORAGE_TYPE=\"redsi\" is not a storage; did you mean redis?",
                "CACHE_STORAGE_TYPE=\"\" is not a storage; expected memory, redis or dynamodb",
            ]
        );
    }

    #[cfg(feature = "memory")]
    #[test]
    fn an_order_that_makes_no_sense_is_refused() {
        let of = |list| problems(&[("CACHE_STORAGE_TYPE", list)]);
        assert!(
            of("memory, memory")
                .contains(&"CACHE_STORAGE_TYPE=\"memory, memory\" names memory twice".to_owned())
        );
        assert!(
            of("redis,memory").contains(
                &"CACHE_STORAGE_TYPE=\"redis,memory\" has memory after another storage; \
              the fastest comes first"
                    .to_owned()
            )
        );
    }

    #[cfg(all(feature = "dynamodb", feature = "memory"))]
    #[test]
    fn dynamodb_behind_others_reads_consistently_unless_that_is_decided() {
        let consistent = |more: &[(&str, &str)]| {
            let base = [
                ("CACHE_DYNAMODB_TABLE", "cache"),
                ("CACHE_DYNAMODB_REGION", "eu-west-1"),
            ];
            let settings = Settings::from_pairs([&base[..], more].concat());
            let mut problems = Vec::new();
            let planned = tiers(&settings, "memory,dynamodb", &mut problems);
            assert_eq!(problems, []);
            let mut planned = planned.expect("there is no problem").tiers;
            match planned.pop().expect("there are two").backend {
                Backend::DynamoDb(options) => options.consistent_reads,
                other => unreachable!("{other:?} is not the last"),
            }
        };
        assert!(consistent(&[]));
        assert!(!consistent(&[("CACHE_DYNAMODB_CONSISTENT_READS", "false")]));
    }

    #[cfg(all(feature = "memory", feature = "redis"))]
    mod memory_over_redis {
        use super::*;

        fn with(more: &[(&str, &str)]) -> Vec<String> {
            let base = [
                ("CACHE_STORAGE_TYPE", "memory,redis"),
                ("CACHE_REDIS_URL", "redis://192.0.2.1:6379"),
            ];
            problems(&[&base[..], more].concat())
        }

        #[test]
        fn everything_about_tiers_is_checked_at_once() {
            assert_eq!(
                with(&[
                    ("CACHE_TIER_MEMORY_TTL_CAP", "soon"),
                    ("CACHE_TIER_REDIS_TTL_CAP", "1us"),
                    ("CACHE_TIER_COUNTERS", "dynamodb"),
                    ("CACHE_TIER_JOURNAL", "0"),
                    ("CACHE_FALLBACK", "dynamodb"),
                    ("CACHE_TIER_JUORNAL", "1"),
                ]),
                [
                    "CACHE_FALLBACK and several storages in CACHE_STORAGE_TYPE contradict each \
                     other; leave one out",
                    "CACHE_TIER_COUNTERS=\"dynamodb\" is not one of the storages; expected \
                     memory or redis",
                    "CACHE_TIER_JOURNAL=\"0\" is not a whole number from 1 to 10000000",
                    "CACHE_TIER_MEMORY_TTL_CAP=\"soon\" is not a duration; try 500ms, 2s",
                    "CACHE_TIER_REDIS_TTL_CAP=\"1us\" is not between 1ms and ten years",
                    "CACHE_TIER_JUORNAL is not a setting; did you mean CACHE_TIER_JOURNAL?",
                ]
            );
        }

        #[test]
        fn nothing_has_to_be_said() {
            assert_eq!(with(&[]), [""; 0]);
            assert_eq!(with(&[("CACHE_FALLBACK", "none")]), [""; 0]);
        }

        #[test]
        fn the_memory_has_a_cap_unless_it_is_taken_off() {
            let caps = |more: &[(&str, &str)]| -> Vec<_> {
                let base = [("CACHE_REDIS_URL", "redis://192.0.2.1:6379")];
                let pairs = [&base[..], more].concat();
                let settings = Settings::from_pairs(pairs);
                let planned = tiers(&settings, "memory, redis", &mut Vec::new());
                let planned = planned.expect("there is no problem");
                planned.tiers.iter().map(|tier| tier.ttl_cap).collect()
            };
            assert_eq!(caps(&[]), [Some(secs(10)), None]);
            assert_eq!(
                caps(&[
                    ("CACHE_TIER_MEMORY_TTL_CAP", "none"),
                    ("CACHE_TIER_REDIS_TTL_CAP", "1h")
                ]),
                [None, Some(secs(3600))]
            );
        }
    }
}
