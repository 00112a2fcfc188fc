//! Tiers in the making.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::tier::Tier;
use super::{Shared, TieredStorage};
use crate::error::{ConfigurationError, ConfigurationErrors, Result};
use crate::fills::Fills;
use crate::layer::{Front, Layer};
use crate::observer::Observers;
use crate::storage::{CacheStorage, StorageInfo};
use crate::ttl::Ttl;

/// Tiers in the making; see [`TieredStorage::builder`].
#[derive(Debug)]
#[must_use]
pub struct TieredBuilder {
    tiers: Vec<(Arc<dyn CacheStorage>, TierOptions)>,
    counters_in: Option<String>,
    journal_capacity: usize,
    observers: Observers,
}

/// How one tier behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TierOptions {
    /// What the tier is called. Defaults to the name of its backend.
    pub name: Option<&'static str>,
    /// The longest that this tier calls an entry fresh, and the longest that it keeps it as stale
    /// after that: 1 ms to ten years. It bounds how long the writes of other processes stay unseen.
    /// Defaults to none.
    pub ttl_cap: Option<Duration>,
}

impl TierOptions {
    /// Calls the tier `name`.
    #[must_use]
    pub fn with_name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// Keeps entries in the tier for at most `cap`.
    #[must_use]
    pub fn with_ttl_cap(mut self, cap: Duration) -> Self {
        self.ttl_cap = Some(cap);
        self
    }
}

impl TieredBuilder {
    pub(super) fn new() -> Self {
        Self {
            tiers: Vec::new(),
            counters_in: None,
            journal_capacity: TieredStorage::JOURNAL_CAPACITY,
            observers: Observers::none(),
        }
    }

    /// Adds a tier that is slower than those that are there, with the default options.
    pub fn tier(self, storage: impl CacheStorage) -> Self {
        self.tier_with(storage, TierOptions::default())
    }

    /// Adds a tier that is slower than those that are there.
    pub fn tier_with(mut self, storage: impl CacheStorage, options: TierOptions) -> Self {
        self.tiers.push((Arc::new(storage), options));
        self
    }

    /// Which tier has the counters and decides about conditional writes. Defaults to the last.
    ///
    /// Use the keys of conditional writes for nothing else if that is not the last one: no other
    /// tier gets such entries. Of two deletes of an ordinary entry at the same time both may then say
    /// that there was one.
    pub fn counters_in(mut self, tier: impl Into<String>) -> Self {
        self.counters_in = Some(tier.into());
        self
    }

    /// How many keys each tier's journal holds, at least one. Defaults to 50,000 keys.
    pub fn journal_capacity(mut self, keys: usize) -> Self {
        self.journal_capacity = keys;
        self
    }

    /// Who is told of tiers that were skipped and of journals that were given up. Defaults to
    /// nobody.
    pub fn observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// The storage.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything that is wrong: fewer than two tiers, two of one name, an
    /// impossible cap, a journal without room, counters in a tier that is not there.
    pub fn build(self) -> Result<TieredStorage> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, problem: String| {
            let problem = format!("{option}: {problem}");
            problems.push(ConfigurationError::new(option, problem));
        };
        if self.tiers.len() < 2 {
            refuse("tier", "a stack of tiers needs two of them".to_owned());
        }
        let names = self.names();
        let mut seen = HashSet::new();
        for name in names.iter().filter(|name| !seen.insert(**name)) {
            let problem = format!("two tiers are called {name:?}; give one another name");
            refuse("name", problem);
        }
        let counters_in = match &self.counters_in {
            None => names.len().saturating_sub(1),
            Some(wanted) => names
                .iter()
                .position(|name| name == wanted)
                .unwrap_or_else(|| {
                    let expected = names.join(", ");
                    let problem = format!("{wanted:?} is not a tier; expected {expected}");
                    refuse("counters_in", problem);
                    0
                }),
        };
        if self.journal_capacity == 0 {
            refuse("journal_capacity", "0 is not at least 1".to_owned());
        }
        let mut caps = Vec::new();
        for (_, options) in &self.tiers {
            match options.ttl_cap.map(Ttl::new).transpose() {
                Ok(cap) => caps.push(cap),
                Err(error) => refuse("ttl_cap", error.to_string()),
            }
        }
        if problems.is_empty() {
            return Ok(self.finish(&names, counters_in, caps));
        }
        Err(ConfigurationErrors(problems).into())
    }

    fn names(&self) -> Vec<&'static str> {
        let name = |(storage, options): &(Arc<dyn CacheStorage>, TierOptions)| {
            options.name.unwrap_or(storage.info().backend)
        };
        self.tiers.iter().map(name).collect()
    }

    fn finish(
        self,
        names: &[&'static str],
        counters_in: usize,
        caps: Vec<Option<Ttl>>,
    ) -> TieredStorage {
        let info = self.info(counters_in);
        let capacity = self.journal_capacity;
        let storages = self.tiers.into_iter().map(|(storage, _)| storage);
        let tiers: Vec<Tier> = storages
            .zip(names.iter().zip(caps))
            .map(|(storage, (name, cap))| {
                let layer = Layer::new(storage, capacity).key_by_key();
                Tier::new(name, cap, layer)
            })
            .collect();
        TieredStorage {
            access: Access::to_all(tiers.len()),
            shared: Arc::new(Shared {
                tiers,
                front: Front::new(info),
                counters_in,
                observers: self.observers,
                fills: Fills::new(),
            }),
        }
    }

    /// What the last tier says of itself, with the keys and times that all tiers take. Values that
    /// are too large for a faster tier are kept in the others.
    fn info(&self, counters_in: usize) -> StorageInfo {
        let of = |position: usize| self.tiers[position].0.info();
        let mut info = of(self.tiers.len() - 1).clone();
        for (storage, _) in &self.tiers {
            info.narrow(storage.info());
        }
        info.max_value_bytes = info.max_value_bytes.min(of(counters_in).max_value_bytes);
        info
    }
}
