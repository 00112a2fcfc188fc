//! One entry as it is kept: the value, its metadata and how long it lives.

use std::time::Duration;

use bytes::Bytes;
use cache_core::bounded::Kept;
use cache_core::{CacheError, ErrorKind, Result, millis};
use cache_core::{CodecId, Entry, Expiry, Moment, NewEntry, TimeLeft, Timestamp, Ttl, counter};

/// A value with the moment of its write and the spans it lives for.
///
/// Spans and not deadlines, because a deadline belongs to one clock: the age of an entry is the
/// longer of what both clocks say, so that neither a wall clock set back nor a monotonic clock
/// frozen with its machine makes it live longer. Age and spans are whole milliseconds, which keeps
/// the deadlines told to readers the same from read to read.
///
/// Small, since a read of a large map is mostly the wait for its memory: what few entries have is
/// kept apart.
#[derive(Clone)]
pub(crate) struct Stored {
    value: Bytes,
    written: Written,
    /// Milliseconds from the write; `FOREVER`, which no age reaches, for one that never expires.
    fresh: u64,
    /// None for an entry as plain as a counter is.
    metadata: Option<Box<Metadata>>,
}

#[derive(Clone)]
struct Metadata {
    created_at: Option<Timestamp>,
    codec: Option<CodecId>,
    /// Milliseconds after the time to live; zero once the budget was dropped.
    stale: u64,
}

/// The moment of a write, in whole milliseconds and microseconds.
#[derive(Clone, Copy)]
struct Written {
    wall: Timestamp,
    monotonic: u64,
}

impl Written {
    fn at(now: Moment) -> Self {
        let monotonic = now.monotonic;
        Self {
            wall: now.wall,
            monotonic: monotonic.as_secs().saturating_mul(1_000_000)
                + u64::from(monotonic.subsec_micros()),
        }
    }

    fn moment(self) -> Moment {
        Moment {
            wall: self.wall,
            monotonic: Duration::from_micros(self.monotonic),
        }
    }
}

impl Kept for Stored {
    fn length(&self) -> usize {
        self.value.len()
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.age(now) < self.fresh
    }

    /// Whether the stale budget has ended too.
    fn is_gone(&self, now: Moment) -> bool {
        self.age(now) >= self.kept()
    }
}

const FOREVER: u64 = u64::MAX;

impl Stored {
    /// The value is copied: it may be a window onto a much larger buffer, which it would keep in
    /// memory and which no count of its bytes would show.
    pub(crate) fn new(entry: &NewEntry, now: Moment) -> Self {
        let stale = whole_millis(entry.stale_for.unwrap_or_default());
        let (fresh, stale) = spans(entry.ttl, stale);
        let (created_at, codec) = (entry.created_at, entry.codec);
        let is_plain = stale == 0 && codec.is_none() && created_at.is_none();
        let metadata = Metadata {
            created_at,
            codec,
            stale,
        };
        Self {
            value: Bytes::copy_from_slice(&entry.value),
            written: Written::at(now),
            fresh,
            metadata: (!is_plain).then(|| Box::new(metadata)),
        }
    }

    pub(crate) fn counter(value: i64, ttl: Ttl, now: Moment) -> Self {
        Self {
            value: value.to_string().into(),
            written: Written::at(now),
            fresh: spans(ttl, 0).0,
            metadata: None,
        }
    }

    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }

    /// What is left of the time to live; none once it has passed.
    pub(crate) fn time_left(&self, now: Moment) -> Option<TimeLeft> {
        if self.fresh == FOREVER {
            return Some(TimeLeft::Forever);
        }
        let left = self.fresh.saturating_sub(self.age(now));
        (left > 0).then(|| TimeLeft::Remaining(millis(left)))
    }

    /// The entry as a reader gets it; none once it is gone.
    ///
    /// The deadlines are counted from the wall clock as it is now, even if it was set meanwhile, so
    /// that a reader who compares them with that clock comes to the same verdict.
    pub(crate) fn to_entry(&self, now: Moment) -> Option<Entry> {
        let age = self.age(now);
        if age >= self.kept() {
            return None;
        }
        let end = |span| {
            if span == FOREVER {
                return Expiry::Never;
            }
            let wall = now.wall.as_millis().saturating_add(span);
            Expiry::At(Timestamp::from_millis(wall.saturating_sub(age)))
        };
        let entry = Entry::new(self.value.clone(), end(self.fresh));
        Some(match &self.metadata {
            None => entry,
            Some(metadata) => entry
                .with_stale_until(end(self.kept()))
                .with_created_at(metadata.created_at)
                .with_codec(metadata.codec),
        })
    }

    /// This counter, `delta` further: the sum and the entry that holds it.
    pub(crate) fn incremented(&self, delta: i64) -> Result<(i64, Self)> {
        let Some(before) = counter::parse(&self.value).filter(|_| self.metadata.is_none()) else {
            let message = "the entry is not the decimal text of a 64-bit integer without metadata";
            return Err(CacheError::new(ErrorKind::NotACounter, message));
        };
        let Some(sum) = before.checked_add(delta) else {
            let message = format!("the sum with {delta} leaves the range of 64 bits");
            return Err(CacheError::new(ErrorKind::Overflow, message));
        };
        let value = sum.to_string().into();
        Ok((
            sum,
            Self {
                value,
                ..self.clone()
            },
        ))
    }

    /// This entry with `ttl` from now.
    pub(crate) fn renewed(&self, ttl: Ttl, now: Moment) -> Self {
        let (fresh, stale) = spans(ttl, self.stale());
        let mut renewed = self.clone();
        renewed.written = Written::at(now);
        renewed.fresh = fresh;
        if let Some(metadata) = &mut renewed.metadata {
            metadata.stale = stale;
        }
        renewed
    }

    /// This entry at the beginning of its stale budget; none without one.
    pub(crate) fn ended(&self, now: Moment) -> Option<Self> {
        (self.stale() > 0).then(|| Self {
            written: Written::at(now),
            fresh: 0,
            ..self.clone()
        })
    }

    fn stale(&self) -> u64 {
        self.metadata.as_ref().map_or(0, |metadata| metadata.stale)
    }

    fn kept(&self) -> u64 {
        self.fresh.saturating_add(self.stale())
    }

    fn age(&self, now: Moment) -> u64 {
        now.millis_since(self.written.moment()).min(FOREVER - 1)
    }
}

/// The fresh and the stale span. The stale budget of an entry that never expires has no effect and
/// is dropped.
fn spans(ttl: Ttl, stale: u64) -> (u64, u64) {
    match ttl.as_duration() {
        Some(fresh) => (whole_millis(fresh), stale),
        None => (FOREVER, 0),
    }
}

fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use cache_core::{Clock as _, ManualClock, hours, secs};

    use super::*;

    fn stored(fresh: u64, stale: u64, clock: &ManualClock) -> Stored {
        let mut entry = NewEntry::new("v", Ttl::new(secs(fresh)).unwrap());
        if stale > 0 {
            entry = entry.with_stale_for(secs(stale)).unwrap();
        }
        Stored::new(&entry, clock.now())
    }

    #[test]
    fn deadlines_agree_with_the_clock_however_it_was_set() {
        for set_back in [millis(0), millis(1), secs(30), hours(1), Duration::MAX] {
            let clock = ManualClock::new();
            let entry = stored(60, 60, &clock);
            clock.advance(secs(59));
            clock.set_back(set_back);
            let fresh = entry.to_entry(clock.now()).unwrap();
            assert!(!fresh.expires_at.is_past(clock.wall()), "{set_back:?}");
            clock.advance(secs(1));
            let stale = entry.to_entry(clock.now()).unwrap();
            assert!(stale.expires_at.is_past(clock.wall()), "{set_back:?}");
            assert!(!stale.stale_until.is_past(clock.wall()), "{set_back:?}");
            clock.advance(secs(60));
            assert_eq!(entry.to_entry(clock.now()), None);
        }
    }

    #[test]
    fn deadlines_stay_the_same_from_read_to_read() {
        let clock = ManualClock::new();
        let entry = stored(60, 30, &clock);
        let first = entry.to_entry(clock.now()).unwrap();
        assert_eq!(first.expires_at, Expiry::At(clock.wall().after(secs(60))));
        for _ in 0..80 {
            clock.advance(secs(1) + Duration::from_nanos(1));
            assert_eq!(entry.to_entry(clock.now()), Some(first.clone()));
        }
    }

    #[test]
    fn time_passes_while_the_machine_is_frozen() {
        let clock = ManualClock::new();
        let entry = stored(60, 0, &clock);
        clock.freeze(secs(60));
        assert!(!entry.is_fresh(clock.now()));
        assert!(entry.is_gone(clock.now()));
        assert_eq!(entry.time_left(clock.now()), None);
    }

    #[test]
    fn an_entry_that_never_expires_has_no_stale_budget() {
        let clock = ManualClock::new();
        let forever = stored(60, 60, &clock).renewed(Ttl::FOREVER, clock.now());
        assert!(forever.ended(clock.now()).is_none());
        let entry = forever.to_entry(clock.now()).unwrap();
        assert_eq!(entry.stale_until, Expiry::Never);
    }
}
