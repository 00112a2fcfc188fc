//! Settings from the environment: one description a setting, read purely, all problems at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::error::{ConfigurationError, ConfigurationErrors};

/// The description of one environment variable: the code reads it, the documentation is checked
/// against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The variable, such as `CACHE_REDIS_URL`.
    pub name: &'static str,
    /// What it sets, in one sentence.
    pub meaning: &'static str,
    /// What is accepted.
    pub accepts: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// The variable that sets this for one named cache only: `CACHE_GEO_REDIS_URL` for `GEO`.
    fn scoped(&self, scope: &str) -> String {
        let rest = self.name.strip_prefix(FAMILY).unwrap_or(self.name);
        format!("{FAMILY}{scope}_{rest}")
    }
}

/// What all our variables begin with.
const FAMILY: &str = "CACHE_";

/// Beginnings of variables that are ours alone: an unknown one is a mistake.
pub const FAMILIES: &[&str] = &[
    "CACHE_STORAGE_",
    "CACHE_MEMORY_",
    "CACHE_REDIS_",
    "CACHE_DYNAMODB_",
    "CACHE_BREAKER_",
    "CACHE_MONITOR_",
    "CACHE_FALLBACK",
    "CACHE_TIER_",
];

/// A misspelling is at most this many edits away from the name that was meant.
const NEAR: usize = 2;

/// Variables with their values, from the process environment or from a test.
///
/// A named cache reads `CACHE_GEO_REDIS_URL` before `CACHE_REDIS_URL`. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Settings {
    pairs: BTreeMap<String, String>,
    /// Names of variables whose values are no text.
    unreadable: BTreeSet<String>,
    scope: Option<String>,
}

/// A value found for a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The text.
    pub value: &'a str,
    /// Whether it was set for the named cache, rather than for all.
    pub scoped: bool,
}

impl Settings {
    /// The variables of this process.
    #[must_use]
    pub fn from_env() -> Self {
        // A name that is no text cannot be one of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut settings = Self::default();
        for (name, value) in variables {
            match value.into_string() {
                Ok(value) => drop(settings.pairs.insert(name, value)),
                Err(_) => drop(settings.unreadable.insert(name)),
            }
        }
        settings
    }

    /// The given variables and no others.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            pairs,
            ..Self::default()
        }
    }

    /// The same variables, read for the cache called `name`: letters, digits, `-` and `_`, in any
    /// case.
    ///
    /// # Errors
    ///
    /// The name has other characters, or is one of our own families, such as `redis`.
    pub fn named(mut self, name: &str) -> Result<Self, ConfigurationError> {
        let scope = name.to_ascii_uppercase().replace('-', "_");
        let plain = scope
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let problem = if scope.is_empty() || !plain {
            format!("{name:?} is not a cache name; use letters, digits, - and _")
        } else if is_ours(&format!("{FAMILY}{scope}_")) {
            format!("{name:?} cannot name a cache: CACHE_{scope}_ variables have a meaning already")
        } else {
            self.scope = Some(scope);
            return Ok(self);
        };
        Err(ConfigurationError::new("name", problem).with_value(name))
    }

    /// The value of `setting`, the named cache's own first. An empty value counts as not set.
    #[must_use]
    pub fn find(&self, setting: &Setting) -> Option<Found<'_>> {
        if let Some(scope) = &self.scope
            && let Some(value) = self.value(&setting.scoped(scope))
        {
            return Some(Found {
                value,
                scoped: true,
            });
        }
        self.value(setting.name).map(|value| Found {
            value,
            scoped: false,
        })
    }

    /// The variable that `setting` is read from: the named cache's own where that is set.
    #[must_use]
    pub fn variable(&self, setting: &Setting) -> String {
        match (&self.scope, self.find(setting)) {
            (Some(scope), Some(found)) if found.scoped => setting.scoped(scope),
            _ => setting.name.to_owned(),
        }
    }

    /// Reads `setting` with `parse`, or notes in `problems` that its value is not `what`.
    ///
    /// `parse` returns none for a value it does not accept. The problem quotes the value unless it
    /// is a secret: `CACHE_REDIS_TIMEOUT="5 parsecs" is not a duration; try 500ms, 2s`.
    pub fn read<T>(
        &self,
        setting: &Setting,
        what: &str,
        problems: &mut Vec<ConfigurationError>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let found = self.find(setting)?;
        let parsed = parse(found.value);
        if parsed.is_none() {
            problems.push(self.refused(setting, found.value, &format!("is not {what}")));
        }
        parsed
    }

    /// Reads a duration such as `500ms`, `2s` or `1h 30m`, longer than zero.
    pub fn duration(
        &self,
        setting: &Setting,
        problems: &mut Vec<ConfigurationError>,
    ) -> Option<Duration> {
        self.read(setting, "a duration; try 500ms, 2s", problems, |text| {
            let duration = humantime::parse_duration(text).ok()?;
            (!duration.is_zero()).then_some(duration)
        })
    }

    /// Reads a whole number from `least` to `most`.
    pub fn number<N>(
        &self,
        setting: &Setting,
        (least, most): (N, N),
        problems: &mut Vec<ConfigurationError>,
    ) -> Option<N>
    where
        N: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let what = format!("a whole number from {least} to {most}");
        self.read(setting, &what, problems, |text| {
            let number: N = text.parse().ok()?;
            (least <= number && number <= most).then_some(number)
        })
    }

    /// Reads a size such as `65536`, `512KiB` or `64MiB`, of at least one byte.
    pub fn bytes(
        &self,
        setting: &Setting,
        problems: &mut Vec<ConfigurationError>,
    ) -> Option<usize> {
        self.read(
            setting,
            "a size; try 65536, 512KiB, 64MiB",
            problems,
            parse_bytes,
        )
    }

    /// A problem with the value of `setting`: the variable, its value unless secret, `complaint`.
    ///
    /// A value that may be a URL is not quoted either, whatever the setting: somebody may have put
    /// one with a password into the wrong variable.
    #[must_use]
    pub fn refused(&self, setting: &Setting, value: &str, complaint: &str) -> ConfigurationError {
        let variable = self.variable(setting);
        if setting.secret || value.contains("://") || value.contains('@') {
            let problem = format!("{variable} {complaint}");
            return ConfigurationError::new(variable, problem);
        }
        let problem = format!("{variable}={value:?} {complaint}");
        ConfigurationError::new(variable, problem).with_value(value)
    }

    /// Says in problems found in options which variable each option was read from, as far as
    /// `variables` know and the variable is set: what begins with the option's name then begins
    /// with the variable's.
    #[must_use]
    pub fn naming(
        &self,
        problems: Vec<ConfigurationError>,
        variables: &[(&str, &Setting)],
    ) -> Vec<ConfigurationError> {
        let named = |problem: ConfigurationError| {
            let known = variables.iter().find(|(option, setting)| {
                *option == problem.variable && self.find(setting).is_some()
            });
            let Some((option, setting)) = known else {
                return problem;
            };
            let variable = self.variable(setting);
            let text = problem.problem.strip_prefix(option);
            let text = text.map(|rest| format!("{variable}{rest}"));
            ConfigurationError::new(variable, text.unwrap_or(problem.problem))
        };
        problems.into_iter().map(named).collect()
    }

    /// Refuses variables that look like ours and are not among `known`: unknown names under our
    /// families or under the named cache, and near-misses of any known name. So are known ones
    /// whose values are no text.
    #[must_use]
    pub fn unknown(&self, known: &[&Setting]) -> Vec<ConfigurationError> {
        let own_family = self.scope.as_ref().map(|scope| format!("{FAMILY}{scope}_"));
        let mut names: Vec<String> = known.iter().map(|known| known.name.to_owned()).collect();
        if let Some(scope) = &self.scope {
            names.extend(known.iter().map(|known| known.scoped(scope)));
        }
        let mut problems: Vec<_> = self
            .unreadable
            .iter()
            .filter(|name| names.contains(name))
            .map(|name| ConfigurationError::new(name, format!("{name} is not UTF-8 text")))
            .collect();
        for name in self.pairs.keys() {
            if names.contains(name) || is_scoped_form(name, known) {
                continue;
            }
            let ours = is_ours(name)
                || own_family
                    .as_ref()
                    .is_some_and(|family| name.starts_with(family));
            let Some((distance, nearest)) = nearest(name, &names) else {
                continue;
            };
            if ours || distance <= NEAR {
                let problem = format!("{name} is not a setting; did you mean {nearest}?");
                problems.push(ConfigurationError::new(name.as_str(), problem));
            }
        }
        problems
    }

    fn value(&self, name: &str) -> Option<&str> {
        let value = self.pairs.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("scope", &self.scope)
            .field("names", &self.pairs.keys())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("scoped", &self.scoped)
            .finish_non_exhaustive()
    }
}

/// `value` if there are no problems, all of them otherwise.
///
/// # Errors
///
/// The problems.
pub fn settle<T>(value: T, problems: Vec<ConfigurationError>) -> Result<T, ConfigurationErrors> {
    if problems.is_empty() {
        return Ok(value);
    }
    Err(ConfigurationErrors(problems))
}

/// The candidate that `text` most likely meant, if it is close enough to one to be a slip.
#[must_use]
pub fn did_you_mean<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(&text, candidate), *candidate))
        .min()
        .filter(|(distance, _)| *distance <= NEAR)
        .map(|(_, candidate)| candidate)
}

/// Words as a sentence lists them: `memory, redis or dynamodb`.
#[must_use]
pub fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn is_ours(name: &str) -> bool {
    FAMILIES.iter().any(|family| name.starts_with(family))
}

fn nearest<'a>(name: &str, names: &'a [String]) -> Option<(usize, &'a str)> {
    let upper = name.to_ascii_uppercase();
    names
        .iter()
        .map(|known| (strsim::osa_distance(&upper, known), known.as_str()))
        .min()
}

/// Whether `name` is `CACHE_<anything>_<setting>`: the setting of some named cache, and none of
/// this one's business.
fn is_scoped_form(name: &str, known: &[&Setting]) -> bool {
    let Some(rest) = name.strip_prefix(FAMILY) else {
        return false;
    };
    known.iter().any(|setting| {
        setting
            .name
            .strip_prefix(FAMILY)
            .and_then(|tail| rest.strip_suffix(tail))
            .is_some_and(|scope| {
                scope.len() > 1 && scope.ends_with('_') && !is_ours(&format!("{FAMILY}{scope}"))
            })
    })
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return None,
    };
    let count: usize = digits.parse().ok()?;
    count.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Setting = Setting {
        name: "CACHE_REDIS_TIMEOUT",
        meaning: "",
        accepts: "",
        default: "",
        secret: false,
    };
    const PASSWORD: Setting = Setting {
        name: "CACHE_REDIS_PASSWORD",
        secret: true,
        ..TIMEOUT
    };
    const TYPE: Setting = Setting {
        name: "CACHE_STORAGE_TYPE",
        ..TIMEOUT
    };
    const KNOWN: &[&Setting] = &[&TIMEOUT, &PASSWORD, &TYPE];

    fn texts(problems: &[ConfigurationError]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bad_duration_is_named_with_examples() {
        for text in ["5 parsecs", "500", "-1s", "0s", "99999999999999999999s"] {
            let settings = Settings::from_pairs([(TIMEOUT.name, text)]);
            let mut problems = Vec::new();
            assert_eq!(settings.duration(&TIMEOUT, &mut problems), None);
            let expected = format!("CACHE_REDIS_TIMEOUT={text:?} is not a duration; try 500ms, 2s");
            assert_eq!(texts(&problems), [expected]);
        }
    }

    #[test]
    fn a_secret_is_never_quoted() {
        let settings = Settings::from_pairs([(PASSWORD.name, "hunter2")]);
        let problem = settings.refused(&PASSWORD, "hunter2", "is refused");
        assert_eq!(problem.to_string(), "CACHE_REDIS_PASSWORD is refused");
        assert!(!format!("{problem:?} {settings:?}").contains("hunter2"));
    }

    #[test]
    fn a_url_in_the_wrong_variable_is_not_quoted() {
        let url = "redis://app:hunter2@host";
        let problem = Settings::default().refused(&TYPE, url, "is not a storage");
        assert_eq!(problem.to_string(), "CACHE_STORAGE_TYPE is not a storage");
        assert!(!format!("{problem:?}").contains("hunter2"));
    }

    #[test]
    fn problems_with_options_name_the_variable_they_came_from() {
        let problems = || {
            let problem = ConfigurationError::new("the timeout", "the timeout is too long");
            vec![problem]
        };
        let variables = [("the timeout", &TIMEOUT)];
        let set = Settings::from_pairs([(TIMEOUT.name, "2h")]);
        let named = set.naming(problems(), &variables);
        assert_eq!(texts(&named), ["CACHE_REDIS_TIMEOUT is too long"]);
        assert_eq!(named[0].variable, TIMEOUT.name);
        let unset = Settings::default().naming(problems(), &variables);
        assert_eq!(unset, problems());
    }

    #[test]
    fn a_named_cache_reads_its_own_setting_first() {
        let settings = Settings::from_pairs([
            ("CACHE_REDIS_TIMEOUT", "1s"),
            ("CACHE_GEO_REDIS_TIMEOUT", "2s"),
        ]);
        let mut problems = Vec::new();
        assert_eq!(
            settings.duration(&TIMEOUT, &mut problems),
            Some(Duration::from_secs(1))
        );
        let geo = settings.named("geo").unwrap();
        assert_eq!(
            geo.duration(&TIMEOUT, &mut problems),
            Some(Duration::from_secs(2))
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn names_that_collide_with_a_family_are_refused() {
        for name in ["redis", "STORAGE", "", "geo/eu", "naïve"] {
            assert!(Settings::default().named(name).is_err(), "{name}");
        }
        assert!(Settings::default().named("geo-eu").is_ok());
    }

    #[test]
    fn unknown_names_of_our_families_and_near_misses_are_refused() {
        let settings = Settings::from_pairs([
            ("CACHE_REDIS_TIMEUOT", ""),
            ("CACHE_REDIS_FLUX", ""),
            ("CACHE_FALLBACK", ""),
            ("CACHE_REDIS_STORAGE_TYPE", ""),
            ("CACHE_STORGE_TYPE", ""),
            ("CAHCE_STORAGE_TYPE", ""),
            ("cache_storage_type", ""),
        ]);
        let problems = settings.unknown(KNOWN);
        assert_eq!(problems.len(), 7, "{problems:?}");
        let texts = texts(&problems);
        assert!(texts.contains(
            &"CACHE_REDIS_TIMEUOT is not a setting; did you mean CACHE_REDIS_TIMEOUT?".to_owned()
        ));
    }

    #[test]
    fn other_variables_are_somebody_elses() {
        let settings = Settings::from_pairs([
            ("CACHE_CONTROL", "no-store"),
            ("CACHE_DIR", "/tmp"),
            ("PATH", "/bin"),
            ("CACHE_A_REDIS_TIMEOUT", "1s"),
            ("CACHE_GEO_REDIS_TIMEOUT", "1s"),
        ]);
        assert_eq!(settings.unknown(KNOWN), []);
        let geo = settings.named("GEO").unwrap();
        assert_eq!(geo.unknown(KNOWN), []);
    }

    #[test]
    fn unknown_names_of_the_named_cache_are_refused() {
        let settings = Settings::from_pairs([("CACHE_GEO_REDIS_TIME", "1s")]);
        assert_eq!(settings.unknown(KNOWN), []);
        assert_eq!(settings.named("GEO").unwrap().unknown(KNOWN).len(), 1);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("512 KiB"), Some(512 << 10));
        assert_eq!(parse_bytes("10"), Some(10));
        for text in ["", "0", "MiB", "-1", "1.5MiB", "1MB", "99999999999GiB", "ü"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(did_you_mean("redsi", &["memory", "redis"]), Some("redis"));
        assert_eq!(did_you_mean("Redis", &["memory", "redis"]), Some("redis"));
        assert_eq!(did_you_mean("postgres", &["memory", "redis"]), None);
        assert_eq!(
            any_of(&["memory", "redis", "dynamodb"]),
            "memory, redis or dynamodb"
        );
    }
}
