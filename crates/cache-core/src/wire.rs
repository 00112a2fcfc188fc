//! The stored form of entries on backends that keep one byte string a key.
//!
//! An entry without metadata is stored exactly as its value is, so that people and other languages
//! can read it. An entry with metadata, and any value that could be mistaken for one, gets a header
//! of 30 bytes in front:
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0  | 2 | `FF CA`; the first byte never occurs in UTF-8, so no text looks like a header |
//! | 2  | 1 | version, 1 |
//! | 3  | 1 | length of the whole header, 30 in version 1 |
//! | 4  | 1 | codec: 0 not recorded, 1 json, 2 postcard, 3 bincode, 4 raw, 5 absent |
//! | 5  | 1 | reserved, 0 |
//! | 6  | 8 | creation time in milliseconds since the Unix epoch, big endian; 0 not recorded |
//! | 14 | 8 | expiry, likewise; 0 never |
//! | 22 | 8 | end of the stale budget, likewise; 0 never |
//!
//! A header of a newer version is an error to read and is left alone. Golden files in
//! `tests/golden` freeze the format.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::clock::Timestamp;
use crate::entry::{CodecId, Entry, NewEntry};
use crate::ttl::Expiry;

/// What every header begins with.
pub const MAGIC: [u8; 2] = [0xFF, 0xCA];

/// The version this library writes, and the newest it reads.
pub const VERSION: u8 = 1;

/// The length of a version 1 header.
pub const HEADER_BYTES: usize = 30;

/// Where in the header the expiry stands, followed by the end of the stale budget.
pub const EXPIRY_OFFSET: usize = 14;

const NOT_RECORDED: u64 = 0;
const NEVER: u64 = 0;

/// Why stored bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A newer version of this library wrote the entry.
    #[error("the entry has format version {0}, this build reads up to {VERSION}")]
    NewerVersion(u8),
    /// The bytes begin like a header and are none.
    #[error("the entry has a damaged header")]
    Damaged,
}

/// The metadata in front of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The codec that wrote the value, if recorded.
    pub codec: Option<CodecId>,
    /// When the value was made, if recorded.
    pub created_at: Option<Timestamp>,
    /// When the entry stops being fresh.
    pub expires_at: Expiry,
    /// Until when it may be served as stale.
    pub stale_until: Expiry,
}

impl Header {
    /// Reads the header that `stored` begins with; none where the entry has no metadata.
    ///
    /// The first [`HEADER_BYTES`] of an entry are enough.
    ///
    /// # Errors
    ///
    /// A newer version, or bytes that begin like a header and are none.
    pub fn read(stored: &[u8]) -> Result<Option<Self>, WireError> {
        let Some(rest) = stored.strip_prefix(&MAGIC) else {
            return Ok(None);
        };
        let (&version, _) = rest.split_first().ok_or(WireError::Damaged)?;
        if version > VERSION {
            return Err(WireError::NewerVersion(version));
        }
        let header: &[u8; HEADER_BYTES] = stored.first_chunk().ok_or(WireError::Damaged)?;
        if version != VERSION || usize::from(header[3]) != HEADER_BYTES {
            return Err(WireError::Damaged);
        }
        let codec = match header[4] {
            0 => None,
            1 => Some(CodecId::Json),
            2 => Some(CodecId::Postcard),
            3 => Some(CodecId::Bincode),
            4 => Some(CodecId::Raw),
            5 => Some(CodecId::Absent),
            _ => return Err(WireError::Damaged),
        };
        let created_at = number(header, 6);
        Ok(Some(Self {
            codec,
            created_at: (created_at != NOT_RECORDED).then(|| Timestamp::from_millis(created_at)),
            expires_at: deadline(number(header, EXPIRY_OFFSET)),
            stale_until: deadline(number(header, EXPIRY_OFFSET + 8)),
        }))
    }
}

/// The stored form of `entry` if written at `now`, which is asked for only where it matters.
#[must_use]
pub fn encode(entry: NewEntry, now: impl FnOnce() -> Timestamp) -> Bytes {
    if !needs_header(&entry) {
        return entry.value;
    }
    let (expires_at, stale_until) = entry.deadlines(now());
    let mut stored = BytesMut::with_capacity(HEADER_BYTES + entry.value.len());
    stored.put_slice(&MAGIC);
    stored.put_u8(VERSION);
    stored.put_u8(HEADER_BYTES as u8);
    stored.put_u8(match entry.codec {
        None => 0,
        Some(CodecId::Json) => 1,
        Some(CodecId::Postcard) => 2,
        Some(CodecId::Bincode) => 3,
        Some(CodecId::Raw) => 4,
        Some(CodecId::Absent) => 5,
    });
    stored.put_u8(0);
    stored.put_u64(entry.created_at.map_or(NOT_RECORDED, Timestamp::as_millis));
    stored.put_u64(deadline_number(expires_at));
    stored.put_u64(deadline_number(stale_until));
    stored.put_slice(&entry.value);
    stored.freeze()
}

/// The entry behind its stored form. The deadlines of an entry without metadata are
/// [`Expiry::AtServer`].
///
/// # Errors
///
/// A newer version, or bytes that begin like a header and are none.
pub fn decode(mut stored: Bytes) -> Result<Entry, WireError> {
    let Some(header) = Header::read(&stored)? else {
        return Ok(Entry::new(stored, Expiry::AtServer));
    };
    let value = stored.split_off(HEADER_BYTES);
    Ok(Entry::new(value, header.expires_at)
        .with_stale_until(header.stale_until)
        .with_created_at(header.created_at)
        .with_codec(header.codec))
}

fn needs_header(entry: &NewEntry) -> bool {
    let has_stale_budget = entry.stale_for.is_some() && entry.ttl.as_duration().is_some();
    has_stale_budget
        || entry.created_at.is_some()
        || entry.codec.is_some()
        || entry.value.starts_with(&MAGIC)
}

fn number(header: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[offset..offset + 8]);
    u64::from_be_bytes(bytes)
}

fn deadline(number: u64) -> Expiry {
    if number == NEVER {
        return Expiry::Never;
    }
    Expiry::At(Timestamp::from_millis(number))
}

fn deadline_number(expiry: Expiry) -> u64 {
    match expiry {
        // The epoch itself would read as never.
        Expiry::At(end) => end.as_millis().max(1),
        Expiry::Never | Expiry::AtServer => NEVER,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ttl::{Ttl, mins, secs};

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn plain(value: &'static [u8]) -> NewEntry {
        NewEntry::new(value, Ttl::new(secs(60)).unwrap())
    }

    #[test]
    fn a_value_without_metadata_is_stored_as_it_is() {
        for value in [&b"{\"a\":1}"[..], b"", b"\xFF", b"\xFE\xCA\x01"] {
            assert_eq!(encode(plain(value), || NOW), value);
        }
    }

    #[test]
    fn whatever_looks_like_a_header_gets_one() {
        let value = b"\xFF\xCAanything";
        let stored = encode(plain(value), || NOW);
        assert_eq!(stored.len(), HEADER_BYTES + value.len());
        assert_eq!(decode(stored).unwrap().value, &value[..]);
    }

    #[test]
    fn metadata_comes_back() {
        let entry = plain(b"x")
            .with_stale_for(mins(5))
            .unwrap()
            .with_created_at(Timestamp::from_millis(7))
            .with_codec(CodecId::Postcard);
        let read = decode(encode(entry, || NOW)).unwrap();
        assert_eq!(read.value, "x");
        assert_eq!(read.expires_at, Expiry::At(NOW.after(secs(60))));
        assert_eq!(read.stale_until, Expiry::At(NOW.after(secs(360))));
        assert_eq!(read.created_at, Some(Timestamp::from_millis(7)));
        assert_eq!(read.codec, Some(CodecId::Postcard));
    }

    #[test]
    fn a_newer_version_is_refused_whatever_follows() {
        let result = decode(Bytes::from_static(b"\xFF\xCA\x02\x05z"));
        assert_eq!(result, Err(WireError::NewerVersion(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(stored in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(Bytes::from(stored));
        }

        #[test]
        fn cut_or_flipped_headers_never_panic(cut in 0usize..=31, at in 0usize..31, bit in 0u8..8) {
            let entry = plain(b"x").with_codec(CodecId::Raw);
            let mut stored = encode(entry, || NOW).to_vec();
            stored[at] ^= 1 << bit;
            stored.truncate(cut);
            let _ = decode(Bytes::from(stored));
        }

        #[test]
        fn every_value_round_trips(value in prop::collection::vec(any::<u8>(), 0..64), magic: bool) {
            let mut value = value;
            if magic {
                value.splice(0..0, MAGIC);
            }
            let entry = NewEntry::new(value.clone(), Ttl::FOREVER);
            prop_assert_eq!(decode(encode(entry, || NOW)).unwrap().value, value);
        }
    }
}
