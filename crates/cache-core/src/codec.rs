//! How values become bytes and back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::CodecId;

#[cfg(feature = "raw")]
mod raw;

/// How a service turns values into bytes.
///
/// Each codec is a Cargo feature of `cache-core`; `json` is on by default. A value written with any
/// codec but JSON carries the codec's name, so that a service with another codec reports an error of
/// kind [`Serialization`](crate::ErrorKind::Serialization) instead of misreading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// JSON text (feature `json`, the default): readable at a console and by other languages.
    #[cfg(feature = "json")]
    Json,
    /// [postcard](https://docs.rs/postcard) (feature `postcard`): small and fast, with a specified
    /// format. The binary codec to choose. Not self-describing: types with `#[serde(untagged)]`,
    /// `flatten` or `skip_serializing_if` do not round-trip.
    #[cfg(feature = "postcard")]
    Postcard,
    /// [bincode](https://docs.rs/bincode) 2 in its standard configuration (feature `bincode`).
    /// The crate is no longer maintained (RUSTSEC-2025-0141): choose it for data that already uses
    /// it, and postcard otherwise. Not self-describing either.
    #[cfg(feature = "bincode")]
    Bincode,
    /// Bytes and strings as they are (feature `raw`): byte vectors, byte slices, strings and
    /// wrappers around one of these; other types are refused.
    #[cfg(feature = "raw")]
    Raw,
}

impl Codec {
    /// The codec's name beside stored values and in messages.
    #[must_use]
    pub fn id(self) -> CodecId {
        match self {
            #[cfg(feature = "json")]
            Self::Json => CodecId::Json,
            #[cfg(feature = "postcard")]
            Self::Postcard => CodecId::Postcard,
            #[cfg(feature = "bincode")]
            Self::Bincode => CodecId::Bincode,
            #[cfg(feature = "raw")]
            Self::Raw => CodecId::Raw,
        }
    }

    /// The codec of a service that names none: JSON, if it is compiled in.
    pub(crate) fn default_codec() -> Option<Self> {
        #[cfg(feature = "json")]
        return Some(Self::Json);
        #[cfg(not(feature = "json"))]
        None
    }

    /// What is recorded beside a value: JSON text speaks for itself.
    pub(crate) fn recorded_id(self) -> Option<CodecId> {
        Some(self.id()).filter(|id| *id != CodecId::Json)
    }

    /// Encodes `value`; the error says why not, without naming any part of the value.
    #[cfg_attr(
        not(any(
            feature = "json",
            feature = "postcard",
            feature = "bincode",
            feature = "raw"
        )),
        expect(unused_variables, reason = "no codec is compiled in")
    )]
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, String> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => scratch::encode(|buffer| {
                serde_json::to_writer(&mut *buffer, value).map_err(|error| json_reason(&error))
            }),
            #[cfg(feature = "postcard")]
            Self::Postcard => postcard::to_allocvec(value)
                .map(Bytes::from)
                .map_err(|error| error.to_string()),
            #[cfg(feature = "bincode")]
            Self::Bincode => bincode::serde::encode_to_vec(value, bincode::config::standard())
                .map(Bytes::from)
                .map_err(|_| "the value has no bincode form".to_owned()),
            #[cfg(feature = "raw")]
            Self::Raw => raw::encode(value).map(Bytes::from),
        }
    }

    /// Decodes all of `bytes`; the error says why not, without naming any part of the value.
    #[cfg_attr(
        not(any(
            feature = "json",
            feature = "postcard",
            feature = "bincode",
            feature = "raw"
        )),
        expect(unused_variables, reason = "no codec is compiled in")
    )]
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => serde_json::from_slice(bytes).map_err(|error| json_reason(&error)),
            #[cfg(feature = "postcard")]
            Self::Postcard => match postcard::take_from_bytes(bytes) {
                Ok((value, [])) => Ok(value),
                Ok(_) => Err(TRAILING.to_owned()),
                Err(error) => Err(error.to_string()),
            },
            #[cfg(feature = "bincode")]
            Self::Bincode => {
                match bincode::serde::decode_from_slice(bytes, bincode::config::standard()) {
                    Ok((value, read)) if read == bytes.len() => Ok(value),
                    Ok(_) => Err(TRAILING.to_owned()),
                    Err(_) => Err("the bytes do not fit the type".to_owned()),
                }
            }
            #[cfg(feature = "raw")]
            Self::Raw => raw::decode(bytes),
        }
    }
}

/// A buffer that each thread uses again, so that a value is copied once, at its exact length,
/// instead of moving from buffer to larger buffer while it grows.
#[cfg(feature = "json")]
mod scratch {
    use std::cell::Cell;

    use bytes::Bytes;

    /// A longer buffer is not kept.
    const KEPT_BYTES: usize = 64 * 1024;

    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }

    /// What `write` writes. It may encode something itself, and then gets a buffer of its own.
    pub(super) fn encode<E>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
        let mut buffer = BUFFER.take();
        buffer.clear();
        let written = write(&mut buffer).map(|()| Bytes::copy_from_slice(&buffer));
        if buffer.capacity() <= KEPT_BYTES {
            BUFFER.set(buffer);
        }
        written
    }
}

#[cfg(any(feature = "postcard", feature = "bincode"))]
const TRAILING: &str = "bytes are left over behind the value";

/// What serde_json objects to, without its text: that may quote the value.
#[cfg(feature = "json")]
fn json_reason(error: &serde_json::Error) -> String {
    use serde_json::error::Category;

    let what = match error.classify() {
        Category::Io => "writing failed",
        Category::Syntax => "not JSON",
        Category::Data => "does not fit the type",
        Category::Eof => "ends too early",
    };
    if error.line() == 0 {
        return what.to_owned();
    }
    format!("{what} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;

    use super::*;

    fn structured() -> Vec<Codec> {
        vec![
            #[cfg(feature = "json")]
            Codec::Json,
            #[cfg(feature = "postcard")]
            Codec::Postcard,
            #[cfg(feature = "bincode")]
            Codec::Bincode,
        ]
    }

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        for codec in structured() {
            let bytes = codec.encode(value).unwrap();
            assert_eq!(&codec.decode::<T>(&bytes).unwrap(), value, "{codec:?}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Session {
        user: String,
        roles: Vec<String>,
        visits: BTreeMap<String, u64>,
        parent: Option<Box<Self>>,
    }

    #[test]
    fn every_kind_of_value_round_trips() {
        round_trip(&0u64);
        round_trip(&u64::MAX);
        round_trip(&i64::MIN);
        round_trip(&1.5f64);
        round_trip(&true);
        round_trip(&String::new());
        round_trip(&"ünïcödé \" \n \u{0}".to_owned());
        round_trip(&Vec::<u32>::new());
        round_trip(&vec![vec![1u8, 2], vec![]]);
        round_trip(&None::<u8>);
        round_trip(&Some(7u8));
        round_trip(&());
        let inner = Session {
            user: "a".into(),
            roles: vec![],
            visits: BTreeMap::new(),
            parent: None,
        };
        round_trip(&Session {
            user: "b".into(),
            roles: vec!["admin".into()],
            visits: BTreeMap::from([("home".into(), 3)]),
            parent: Some(Box::new(inner)),
        });
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        for codec in structured() {
            let mut bytes = codec.encode(&7u8).unwrap().to_vec();
            bytes.push(b'7');
            bytes.push(b'}');
            assert!(codec.decode::<u8>(&bytes).is_err(), "{codec:?}");
        }
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_errors_do_not_quote_the_value() {
        let reason = Codec::Json.decode::<u64>(b"\"secret\"").unwrap_err();
        assert_eq!(reason, "does not fit the type at line 1 column 8");
    }
}
