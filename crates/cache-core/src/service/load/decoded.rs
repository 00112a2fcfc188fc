//! The first tier: values that this process keeps decoded.

use std::fmt;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::held::Held;
use crate::clock::Moment;
use crate::entry::ClearScope;
use crate::error::{ConfigurationError, TtlError};
use crate::key::CacheKey;
use crate::ttl::{Expiry, Ttl, secs};

/// Values that a service keeps decoded, and hands out without asking its storage or its codec; see
/// [`CacheServiceBuilder::decoded`](crate::CacheServiceBuilder::decoded).
///
/// A value stays for its time to live and at most for [`ttl_cap`](Self::ttl_cap), which is how
/// long this process may miss what another one writes. Writes of the same service, clones
/// included, are seen at once.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct DecodedOptions {
    max_entries: usize,
    max_bytes: usize,
    ttl_cap: Duration,
}

impl Default for DecodedOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl DecodedOptions {
    /// At most 10,000 values of 16 MiB together, for at most 5 s.
    pub fn new() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 16 * 1024 * 1024,
            ttl_cap: secs(5),
        }
    }

    /// The most values to keep.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// The most memory to use, by the length of the encoded values and an allowance of 128 bytes
    /// for each.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a value stays at most.
    pub fn ttl_cap(mut self, span: Duration) -> Self {
        self.ttl_cap = span;
        self
    }

    /// What is wrong with these options.
    pub(crate) fn problems(&self) -> Vec<ConfigurationError> {
        let mut problems = Vec::new();
        let mut refuse = |option: &str, text: String| {
            problems.push(ConfigurationError::new(option, format!("{option}: {text}")));
        };
        if self.max_entries == 0 {
            refuse("decoded max_entries", "zero keeps nothing".to_owned());
        }
        if self.max_bytes < ALLOWANCE {
            let text = format!("{} bytes hold no value", self.max_bytes);
            refuse("decoded max_bytes", text);
        }
        if let Err(error) = check_cap(self.ttl_cap) {
            refuse("decoded ttl_cap", error.to_string());
        }
        problems
    }
}

fn check_cap(span: Duration) -> Result<(), TtlError> {
    Ttl::new(span).map(drop)
}

/// What a value costs beside its bytes.
const ALLOWANCE: usize = 128;

/// The decoded values of one service.
pub(crate) struct Decoded {
    cache: Cache<CacheKey, Kept, Weight>,
    ttl_cap: Duration,
}

#[derive(Clone)]
struct Kept {
    held: Held,
    bytes: usize,
    since: Moment,
    span: Duration,
}

#[derive(Clone)]
struct Weight {
    /// What a value counts at least, so that the number of values is bounded with the bytes.
    least: usize,
}

impl Weighter<CacheKey, Kept> for Weight {
    fn weight(&self, key: &CacheKey, kept: &Kept) -> u64 {
        let bytes = key.as_str().len() + kept.bytes + ALLOWANCE;
        bytes.max(self.least) as u64
    }
}

impl Decoded {
    pub(crate) fn new(options: &DecodedOptions) -> Self {
        let least = options.max_bytes / options.max_entries;
        Self {
            cache: Cache::with_weighter(
                options.max_entries,
                options.max_bytes as u64,
                Weight { least },
            ),
            ttl_cap: options.ttl_cap,
        }
    }

    pub(super) fn get(&self, key: &CacheKey, now: impl FnOnce() -> Moment) -> Option<Held> {
        let kept = self.cache.get(key)?;
        if now().since(kept.since) < kept.span {
            return Some(kept.held);
        }
        self.cache.remove(key);
        None
    }

    /// Keeps a value that is fresh at `now`.
    pub(super) fn keep(&self, key: &CacheKey, held: &Held, bytes: usize, now: Moment) {
        let span = match held.expires_at {
            Expiry::At(end) => end.since(now.wall).min(self.ttl_cap),
            Expiry::Never => self.ttl_cap,
            // Nobody here knows how long that is.
            Expiry::AtServer => return,
        };
        let mut held = held.clone();
        held.tier = Some("decoded");
        let kept = Kept {
            held,
            bytes,
            since: now,
            span,
        };
        self.cache.insert(key.clone(), kept);
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        self.cache.remove(key);
    }

    pub(crate) fn forget_within(&self, scope: &ClearScope) {
        self.cache.retain(|key, _| !scope.contains(key.as_str()));
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded")
            .field("entries", &self.cache.len())
            .field("ttl_cap", &self.ttl_cap)
            .finish_non_exhaustive()
    }
}
