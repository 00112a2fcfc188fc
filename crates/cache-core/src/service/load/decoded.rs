//! The first tier: values that this process keeps decoded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::held::{AnyValue, Held};
use crate::bounded::{Change, Kept, Table};
use crate::clock::{Moment, Timestamp};
use crate::entry::ClearScope;
use crate::error::ConfigurationError;
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

    /// The most memory to use, by the length of the keys and of the encoded values and an
    /// allowance of 256 bytes for each.
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
        if self.max_bytes < LEAST_BYTES {
            let text = format!("{} bytes hold no value", self.max_bytes);
            refuse("decoded max_bytes", text);
        }
        if let Err(error) = Ttl::new(self.ttl_cap) {
            refuse("decoded ttl_cap", error.to_string());
        }
        problems
    }
}

/// Less than this has no room for any value.
const LEAST_BYTES: usize = 512;

/// The decoded values of one service, by their keys without its prefix: so a hit needs no key of
/// its own.
pub(crate) struct Decoded {
    prefix: Option<Arc<str>>,
    table: Table<Value>,
    ttl_cap: u64,
}

/// A decoded value. Small, since reading it is most of what a hit costs.
struct Value {
    value: AnyValue,
    bytes: usize,
    /// Both clocks when it was kept, and for how long that was; in milliseconds.
    wall: u64,
    monotonic: u64,
    span: u64,
    /// As in the storage; zero for never.
    expires_at: u64,
    /// As in the storage; zero where it is not known.
    created_at: u64,
}

impl Kept for Value {
    fn length(&self) -> usize {
        self.bytes
    }

    fn is_fresh(&self, now: Moment) -> bool {
        let monotonic = millis_of(now).saturating_sub(self.monotonic);
        let wall = now.wall.as_millis().saturating_sub(self.wall);
        monotonic.max(wall) < self.span
    }

    fn is_gone(&self, now: Moment) -> bool {
        !self.is_fresh(now)
    }
}

fn millis_of(now: Moment) -> u64 {
    let monotonic = now.monotonic;
    monotonic.as_secs() * 1000 + u64::from(monotonic.subsec_millis())
}

impl Value {
    fn held(&self) -> Held {
        let expires_at = match self.expires_at {
            0 => Expiry::Never,
            end => Expiry::At(Timestamp::from_millis(end)),
        };
        let created_at = Some(self.created_at).filter(|created_at| *created_at > 0);
        Held {
            value: Arc::clone(&self.value),
            expires_at,
            stale_until: expires_at,
            created_at: created_at.map(Timestamp::from_millis),
            tier: Some("decoded"),
        }
    }

    /// Whether more than this fraction of its time to live has passed.
    fn is_due(&self, fraction: f64, now: Moment) -> bool {
        self.held().is_due(fraction, || now.wall)
    }
}

impl Decoded {
    pub(crate) fn new(options: &DecodedOptions, prefix: Option<Arc<str>>) -> Self {
        let cap = options.ttl_cap.as_millis();
        Self {
            prefix,
            table: Table::new(options.max_entries, options.max_bytes),
            ttl_cap: u64::try_from(cap).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn get(&self, key: &CacheKey, now: Moment) -> Option<Held> {
        let held = |value: &Value| value.is_fresh(now).then(|| value.held());
        self.table.read(self.short(key), now, held)
    }

    /// The value alone of a key without the prefix, if it is of this type and not due for a refresh.
    pub(super) fn value<T: Send + Sync + 'static>(
        &self,
        key: &str,
        eager: Option<f64>,
        now: Moment,
    ) -> Option<Arc<T>> {
        self.table.read(key, now, |value| {
            let is_due = eager.is_some_and(|fraction| value.is_due(fraction, now));
            if is_due || !value.is_fresh(now) {
                return None;
            }
            Arc::clone(&value.value).downcast().ok()
        })
    }

    /// Keeps a value that is fresh at `now`, if there is room for it.
    pub(super) fn keep(&self, key: &CacheKey, held: &Held, bytes: usize, now: Moment) {
        let (span, expires_at) = match held.expires_at {
            Expiry::At(end) => {
                let left = end.as_millis().saturating_sub(now.wall.as_millis());
                (left.min(self.ttl_cap), end.as_millis())
            }
            Expiry::Never => (self.ttl_cap, 0),
            // Nobody here knows how long that is.
            Expiry::AtServer => return self.forget(key),
        };
        if self.table.check_fits(self.short(key), bytes).is_err() {
            return self.forget(key);
        }
        let value = Value {
            value: Arc::clone(&held.value),
            bytes,
            wall: now.wall.as_millis(),
            monotonic: millis_of(now),
            span,
            expires_at,
            created_at: held.created_at.map_or(0, Timestamp::as_millis),
        };
        let store = |_: Option<&Value>| Ok((Change::Store(value), ()));
        let stored = self.table.change(&self.short(key).into(), now, store);
        // It fails where the decision does, and this one does not.
        drop(stored);
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        self.table.remove(self.short(key));
    }

    pub(crate) fn forget_within(&self, scope: &ClearScope) {
        self.table.remove_all(|key| match &self.prefix {
            Some(prefix) => scope.contains(&format!("{prefix}:{key}")),
            None => scope.contains(key),
        });
    }

    /// The key without the prefix.
    fn short<'k>(&self, key: &'k CacheKey) -> &'k str {
        let whole = key.as_str();
        let Some(prefix) = self.prefix.as_deref() else {
            return whole;
        };
        let short = whole.strip_prefix(prefix);
        short
            .and_then(|short| short.strip_prefix(':'))
            .unwrap_or(whole)
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}
