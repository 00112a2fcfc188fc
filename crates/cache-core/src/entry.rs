//! What storages take and give back.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::{CacheError, TtlError};
use crate::ttl::{Expiry, Ttl};

/// The codec that wrote a value, as it is recorded beside the value.
///
/// JSON text is the default and is not recorded, so that people and other languages can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecId {
    /// JSON text.
    Json,
    /// postcard 1.
    Postcard,
    /// bincode 2 with its standard configuration.
    Bincode,
    /// Bytes as they are.
    Raw,
    /// No value: a loader said that there is nothing under the key.
    Absent,
}

impl CodecId {
    /// The name of the codec, as it appears in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Postcard => "postcard",
            Self::Bincode => "bincode",
            Self::Raw => "raw",
            Self::Absent => "absent",
        }
    }
}

/// A value on its way into a storage.
///
/// Made by [`NewEntry::new`]; the metadata is optional, and a value without any is stored exactly
/// as its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEntry {
    /// The encoded value.
    pub value: Bytes,
    /// How long it is fresh.
    pub ttl: Ttl,
    /// How long after that it may still be served as stale. Defaults to none. Without effect on an
    /// entry that does not expire.
    pub stale_for: Option<Duration>,
    /// When the value was made, if that is worth keeping. Defaults to none.
    pub created_at: Option<Timestamp>,
    /// The codec that wrote the value, if it is to be recorded. Defaults to none.
    pub codec: Option<CodecId>,
}

impl NewEntry {
    /// A value that is fresh for `ttl`, without metadata.
    #[must_use]
    pub fn new(value: impl Into<Bytes>, ttl: Ttl) -> Self {
        Self {
            value: value.into(),
            ttl,
            stale_for: None,
            created_at: None,
            codec: None,
        }
    }

    /// A value that is never fresh, and stale for `span` from the beginning: whoever asks whether
    /// an entry is there finds none, and only reads see it.
    ///
    /// # Errors
    ///
    /// Shorter than a millisecond, or longer than ten years.
    pub fn stale(value: impl Into<Bytes>, span: Duration) -> Result<Self, TtlError> {
        Self::new(value, Ttl::SPENT).with_stale_for(span)
    }

    /// Lets the value be served as stale for `span` after its time to live.
    ///
    /// # Errors
    ///
    /// Shorter than a millisecond, or longer than ten years together with the time to live.
    pub fn with_stale_for(mut self, span: Duration) -> Result<Self, TtlError> {
        Ttl::new(span)?;
        if let Some(fresh) = self.ttl.as_duration() {
            Ttl::new(fresh.saturating_add(span))?;
        }
        self.stale_for = Some(span);
        Ok(self)
    }

    /// Keeps when the value was made. The Unix epoch itself counts as not known.
    #[must_use]
    pub fn with_created_at(mut self, created_at: Timestamp) -> Self {
        self.created_at = Some(created_at);
        self
    }

    /// Records the codec that wrote the value.
    #[must_use]
    pub fn with_codec(mut self, codec: CodecId) -> Self {
        self.codec = Some(codec);
        self
    }

    /// How long a backend keeps the value: time to live and stale budget; none for ever.
    #[must_use]
    pub fn kept_for(&self) -> Option<Duration> {
        let fresh = self.ttl.as_duration()?;
        Some(fresh.saturating_add(self.stale_for.unwrap_or_default()))
    }

    /// When the value expires and until when it may be served as stale, if written at `now`.
    #[must_use]
    pub fn deadlines(&self, now: Timestamp) -> (Expiry, Expiry) {
        let until = self
            .kept_for()
            .map_or(Expiry::Never, |span| Expiry::At(now.after(span)));
        (self.ttl.expiry(now), until)
    }
}

/// A value as a storage gives it back: fresh, or within its stale budget.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The encoded value.
    pub value: Bytes,
    /// When it stops being fresh. The service judges by this.
    pub expires_at: Expiry,
    /// Until when it may be served as stale; the same as `expires_at` without a stale budget.
    /// Storages never return an entry past this point.
    pub stale_until: Expiry,
    /// When the value was made, if its writer kept that.
    pub created_at: Option<Timestamp>,
    /// The codec that wrote the value, if its writer recorded it.
    pub codec: Option<CodecId>,
    /// The tier that answered; none from a storage without tiers.
    pub tier: Option<&'static str>,
}

impl Entry {
    /// An entry without stale budget and metadata.
    #[must_use]
    pub fn new(value: impl Into<Bytes>, expires_at: Expiry) -> Self {
        Self {
            value: value.into(),
            expires_at,
            stale_until: expires_at,
            created_at: None,
            codec: None,
            tier: None,
        }
    }

    /// Extends the entry by a stale budget that ends at `stale_until`.
    #[must_use]
    pub fn with_stale_until(mut self, stale_until: Expiry) -> Self {
        self.stale_until = stale_until;
        self
    }

    /// Says when the value was made.
    #[must_use]
    pub fn with_created_at(mut self, created_at: Option<Timestamp>) -> Self {
        self.created_at = created_at;
        self
    }

    /// Says which codec wrote the value.
    #[must_use]
    pub fn with_codec(mut self, codec: Option<CodecId>) -> Self {
        self.codec = codec;
        self
    }
}

/// When a single set takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Always.
    Always,
    /// Only where there is no fresh entry; an expired one, stale or not, counts as none.
    IfAbsent,
    /// Only where there is a fresh entry.
    IfPresent,
    /// Only where there is a fresh entry whose value is these bytes.
    IfEquals(Bytes),
}

/// A counter after an increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counter {
    /// The sum, this increment included.
    pub value: i64,
    /// How long until the counter starts anew; none for one that never does.
    pub expires_in: Option<Duration>,
}

impl Counter {
    /// A counter at `value` that lives for another `expires_in`.
    #[must_use]
    pub fn new(value: i64, expires_in: Option<Duration>) -> Self {
        Self { value, expires_in }
    }
}

/// What a clear did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cleared {
    /// How many entries were deleted.
    pub deleted: u64,
    /// Whether the whole range was covered. If not, the time allowed ran out; clear again.
    pub complete: bool,
}

impl Cleared {
    /// A clear that deleted this many entries and covered its range, or not.
    #[must_use]
    pub fn new(deleted: u64, complete: bool) -> Self {
        Self { deleted, complete }
    }
}

/// The range of keys that a clear deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearScope {
    /// Ends with a colon; empty for everything.
    prefix: String,
}

impl ClearScope {
    /// Every key that begins with `prefix` and a colon. One trailing colon of `prefix` is dropped,
    /// so `user` and `user:` are the same, and `users:1` belongs to neither.
    ///
    /// # Errors
    ///
    /// The prefix breaks a rule of [`CacheKey`](crate::CacheKey). An empty one is refused: use
    /// [`everything`](Self::everything).
    pub fn prefix(prefix: &str) -> Result<Self, CacheError> {
        let prefix = crate::key::checked_prefix(prefix)?;
        Ok(Self {
            prefix: format!("{prefix}:"),
        })
    }

    /// Every key of the storage, whoever wrote it.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            prefix: String::new(),
        }
    }

    /// What the keys begin with, its final colon included; none for everything.
    #[must_use]
    pub fn as_prefix(&self) -> Option<&str> {
        (!self.prefix.is_empty()).then_some(&*self.prefix)
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }

    /// This range below another prefix, which has no trailing colon.
    pub(crate) fn below(&self, prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}:{}", self.prefix),
        }
    }
}

/// What one process did through one storage since the storage was made. Reading it costs no I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StorageStats {
    /// Keys read and found, fresh or stale.
    pub hits: u64,
    /// Keys read and not found.
    pub misses: u64,
    /// Entries written, counters included. A set whose condition did not hold is none.
    pub writes: u64,
    /// Keys that deletes asked for and the backend acknowledged, found or not, and
    /// compare-and-deletes that took place.
    pub deletes: u64,
    /// Keys or calls that failed.
    pub errors: u64,
    /// Entries that went because the storage was full; only in memory.
    pub evictions: u64,
    /// Entries held now; none where counting them costs I/O.
    pub entries: Option<u64>,
    /// Bytes held now, keys and an allowance per entry included; none where counting costs I/O.
    pub bytes: Option<u64>,
}
