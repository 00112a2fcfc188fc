//! How much a memory storage holds.

use std::sync::Arc;

use cache_core::settings::{FAMILIES, Setting, Settings, settle};
use cache_core::{Clock, ConfigurationError, Result, StorageInfo, SystemClock};

/// How much a [`MemoryCacheStorage`](crate::MemoryCacheStorage) holds, and by which clock.
///
/// ```
/// use cache_memory::{MemoryCacheStorage, MemoryOptions};
///
/// let options = MemoryOptions::default()
///     .with_max_entries(10_000)
///     .with_max_bytes(16 * 1024 * 1024);
/// let storage = MemoryCacheStorage::with_options(options)?;
/// # Ok::<(), cache_core::CacheError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The most entries, at least one. Small ones reach this bound, large ones that of `max_bytes`.
    /// Defaults to 100,000 entries.
    pub max_entries: usize,
    /// The most bytes of all entries: keys, values, and 256 bytes for the place of each.
    /// Defaults to 64 MiB.
    pub max_bytes: usize,
    /// The longest value in bytes, at most `max_bytes`. Defaults to 1 MiB, or to `max_bytes` where
    /// that is less.
    pub max_value_bytes: Option<usize>,
    /// The clock by which entries expire. Defaults to the system's.
    pub clock: Arc<dyn Clock>,
}

const FAMILY: &str = "CACHE_MEMORY_";

/// More than any machine holds, and short enough to be read in a message.
const MOST_ENTRIES: usize = 1_000_000_000;

const MAX_ENTRIES: Setting = Setting {
    name: "CACHE_MEMORY_MAX_ENTRIES",
    meaning: "The most entries that are held in memory.",
    accepts: "a whole number from 1 to 1000000000",
    default: "100000",
    secret: false,
};

const MAX_BYTES: Setting = Setting {
    name: "CACHE_MEMORY_MAX_BYTES",
    meaning: "The most bytes held in memory: keys, values, and 256 bytes an entry.",
    accepts: "a size such as `65536`, `512KiB`",
    default: "64MiB",
    secret: false,
};

const MAX_VALUE_BYTES: Setting = Setting {
    name: "CACHE_MEMORY_MAX_VALUE_BYTES",
    meaning: "The longest value; longer ones are refused.",
    accepts: "a size, at most `CACHE_MEMORY_MAX_BYTES`",
    default: "1MiB, or `CACHE_MEMORY_MAX_BYTES` where that is less",
    secret: false,
};

impl MemoryOptions {
    /// The environment variables that [`from_settings`](Self::from_settings) reads.
    pub const SETTINGS: &[&Setting] = &[&MAX_ENTRIES, &MAX_BYTES, &MAX_VALUE_BYTES];

    /// Options from the variables of this process, the defaults where a variable is not set.
    ///
    /// # Errors
    ///
    /// `Configuration` with every problem: a value that is not accepted, values that contradict
    /// each other, an unknown variable that begins with `CACHE_MEMORY_`.
    pub fn from_env() -> Result<Self> {
        Self::from_own_settings(&Settings::from_env())
    }

    /// Options from `settings`; what is wrong with them is added to `problems`.
    ///
    /// Unknown variables are for the caller to refuse, who knows which others there are.
    #[must_use]
    pub fn from_settings(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> Self {
        let mut options = Self::default();
        if let Some(entries) = settings.number(&MAX_ENTRIES, (1, MOST_ENTRIES), problems) {
            options.max_entries = entries;
        }
        if let Some(bytes) = settings.bytes(&MAX_BYTES, problems) {
            options.max_bytes = bytes;
        }
        options.max_value_bytes = settings.bytes(&MAX_VALUE_BYTES, problems);
        if let Some(bytes) = options.max_value_bytes
            && bytes > options.max_bytes
        {
            let value = settings
                .find(&MAX_VALUE_BYTES)
                .map_or("", |found| found.value);
            let complaint = format!(
                "does not fit in {}, which is {} bytes",
                settings.variable(&MAX_BYTES),
                options.max_bytes
            );
            problems.push(settings.refused(&MAX_VALUE_BYTES, value, &complaint));
        }
        options
    }

    /// Sets the most entries.
    #[must_use]
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Sets the most bytes of all entries.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the longest value in bytes.
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Sets the clock by which entries expire.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The longest value, once the default is settled.
    pub(crate) fn longest_value(&self) -> usize {
        self.max_value_bytes
            .unwrap_or(StorageInfo::MAX_VALUE_BYTES.min(self.max_bytes))
    }

    /// All contradictions of options made in code.
    pub(crate) fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        for (option, value) in [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
        ] {
            if value == 0 {
                let problem = format!("{option} is 0, at least 1 is needed");
                problems.push(ConfigurationError::new(option, problem).with_value("0"));
            }
        }
        let longest = self.longest_value();
        if longest > self.max_bytes {
            let problem = format!(
                "max_value_bytes is {longest}, which does not fit in max_bytes, which is {}",
                self.max_bytes
            );
            let problem = ConfigurationError::new("max_value_bytes", problem);
            problems.push(problem.with_value(longest.to_string()));
        }
        problems
    }

    fn from_own_settings(settings: &Settings) -> Result<Self> {
        let mut problems = Vec::new();
        let options = Self::from_settings(settings, &mut problems);
        // To this crate alone the variables of other backends are unknown, but they are not wrong.
        let is_others = |variable: &str| {
            let mut others = FAMILIES.iter().filter(|family| **family != FAMILY);
            others.any(|family| variable.starts_with(family))
        };
        let unknown = settings.unknown(Self::SETTINGS).into_iter();
        problems.extend(unknown.filter(|problem| !is_others(&problem.variable)));
        Ok(settle(options, problems)?)
    }
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            max_entries: 100_000,
            max_bytes: 64 * 1024 * 1024,
            max_value_bytes: None,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_core::{ErrorKind, settings};

    use super::*;

    fn read<const N: usize>(pairs: [(&str, &str); N]) -> Result<MemoryOptions> {
        MemoryOptions::from_own_settings(&Settings::from_pairs(pairs))
    }

    #[test]
    fn the_described_defaults_are_the_defaults() {
        let default = MemoryOptions::default();
        assert_eq!(MAX_ENTRIES.default, default.max_entries.to_string());
        assert_eq!(MAX_BYTES.default, "64MiB");
        assert_eq!(default.max_bytes, 64 << 20);
        assert_eq!(default.longest_value(), 1 << 20);
        assert!(default.problems().is_empty());
        assert!(MAX_ENTRIES.accepts.ends_with(&MOST_ENTRIES.to_string()));
    }

    #[test]
    fn reads_what_is_set() {
        let options = read([
            ("CACHE_MEMORY_MAX_ENTRIES", "5"),
            ("CACHE_MEMORY_MAX_BYTES", "32KiB"),
            ("CACHE_MEMORY_MAX_VALUE_BYTES", "1000"),
        ])
        .unwrap();
        assert_eq!(options.max_entries, 5);
        assert_eq!(options.max_bytes, 32 << 10);
        assert_eq!(options.longest_value(), 1000);
        assert_eq!(read([]).unwrap().max_entries, 100_000);
    }

    #[test]
    fn a_small_storage_takes_small_values() {
        let options = read([("CACHE_MEMORY_MAX_BYTES", "32KiB")]).unwrap();
        assert_eq!(options.longest_value(), 32 << 10);
        assert!(options.problems().is_empty());
    }

    #[test]
    fn reports_every_problem_at_once() {
        let error = read([
            ("CACHE_MEMORY_MAX_ENTRIES", "0"),
            ("CACHE_MEMORY_MAX_BYTES", "64KiB"),
            ("CACHE_MEMORY_MAX_VALUE_BYTES", "1MiB"),
            ("CACHE_MEMORY_MAX_KEYS", "7"),
            ("CACHE_MEMROY_MAX_BYTES", "7"),
        ])
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let expected = [
            "CACHE_MEMORY_MAX_ENTRIES=\"0\" is not a whole number from 1 to 1000000000",
            "CACHE_MEMORY_MAX_VALUE_BYTES=\"1MiB\" does not fit in CACHE_MEMORY_MAX_BYTES, \
             which is 65536 bytes",
            "CACHE_MEMORY_MAX_KEYS is not a setting; did you mean CACHE_MEMORY_MAX_BYTES?",
            "CACHE_MEMROY_MAX_BYTES is not a setting; did you mean CACHE_MEMORY_MAX_BYTES?",
        ];
        assert_eq!(error.message(), expected.join(" | "));
    }

    #[test]
    fn leaves_the_variables_of_others_alone() {
        for family in settings::FAMILIES
            .iter()
            .filter(|family| **family != FAMILY)
        {
            assert!(read([(&*format!("{family}MAX_BYTES"), "?")]).is_ok());
        }
        assert!(read([("CACHE_CONTROL", "no-store")]).is_ok());
    }
}
