//! Leaving tiers out of single calls.

use std::sync::Arc;

use crate::error::{ConfigurationError, ConfigurationErrors, Result};

/// Which tiers a call leaves out; see [`CacheStorage::with_tiers`](crate::CacheStorage::with_tiers).
///
/// A tier left out of reads is not touched by a read at all, nor is anything promoted into it. A
/// tier left out of writes is left alone entirely: what it has under the key stays, old as it may
/// be, and other calls will read it. Defaults to leaving nothing out.
///
/// ```
/// use cache_core::TierAccess;
///
/// let access = TierAccess::new().skip_reads("memory").skip_writes("redis");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierAccess {
    reads: Vec<String>,
    writes: Vec<String>,
}

impl TierAccess {
    /// Leaves nothing out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves the tier of this name out of reads.
    #[must_use]
    pub fn skip_reads(mut self, tier: impl Into<String>) -> Self {
        self.reads.push(tier.into());
        self
    }

    /// Leaves the tier of this name out of writes.
    #[must_use]
    pub fn skip_writes(mut self, tier: impl Into<String>) -> Self {
        self.writes.push(tier.into());
        self
    }

    pub(crate) fn skips_reads(&self) -> bool {
        !self.reads.is_empty()
    }
}

/// What one view of a stack does with each tier, fastest first.
#[derive(Debug, Clone)]
pub(super) struct Access(Arc<[Uses]>);

#[derive(Debug, Clone, Copy)]
struct Uses {
    reads: bool,
    writes: bool,
}

impl Access {
    /// The use of all of so many tiers.
    pub(super) fn to_all(tiers: usize) -> Self {
        let uses = Uses {
            reads: true,
            writes: true,
        };
        Self(vec![uses; tiers].into())
    }

    pub(super) fn reads(&self, position: usize) -> bool {
        self.0[position].reads
    }

    pub(super) fn writes(&self, position: usize) -> bool {
        self.0[position].writes
    }

    /// This access, less what `skipped` leaves out of the tiers of these names.
    pub(super) fn without(&self, skipped: &TierAccess, names: &[&str]) -> Result<Self> {
        let mut problems = Vec::new();
        let mut uses = self.0.to_vec();
        for position in positions("skip_reads", &skipped.reads, names, &mut problems) {
            uses[position].reads = false;
        }
        for position in positions("skip_writes", &skipped.writes, names, &mut problems) {
            uses[position].writes = false;
        }
        if !uses.iter().any(|uses| uses.reads) {
            problems.push(all_skipped("skip_reads"));
        }
        if !uses.iter().any(|uses| uses.writes) {
            problems.push(all_skipped("skip_writes"));
        }
        if problems.is_empty() {
            return Ok(Self(uses.into()));
        }
        Err(ConfigurationErrors(problems).into())
    }
}

fn positions(
    option: &str,
    skipped: &[String],
    names: &[&str],
    problems: &mut Vec<ConfigurationError>,
) -> Vec<usize> {
    let mut found = Vec::new();
    for name in skipped {
        match names.iter().position(|tier| tier == name) {
            Some(position) => found.push(position),
            None => {
                let problem = format!(
                    "{option}: {name:?} is not a tier; expected {}",
                    names.join(", ")
                );
                problems.push(ConfigurationError::new(option, problem));
            }
        }
    }
    found
}

fn all_skipped(option: &str) -> ConfigurationError {
    ConfigurationError::new(option, format!("{option}: no tier is left"))
}
