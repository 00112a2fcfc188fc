//! Reading values.

use serde::de::{DeserializeOwned, IntoDeserializer as _};

use super::{CacheService, OnTrouble, is_trouble};
use crate::clock::Timestamp;
use crate::codec::Codec;
use crate::entry::{CodecId, Entry};
use crate::error::{CacheError, Operation, Result, SerializationError};
use crate::key::CacheKey;
use crate::lookup::{Lookup, LookupStatus};
use crate::observer::Event;
use crate::ttl::TimeLeft;

impl CacheService {
    /// The fresh value under `key`, or none.
    ///
    /// # Errors
    ///
    /// `Key` and `Closed` always; everything else, `Serialization` included, unless the policy
    /// reads trouble as a miss.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Option<T>> {
        let key = self.key(key);
        let read = self.inner().get(&key).await;
        let lookup = self.judge(&key, read, Operation::Get, || self.now())?;
        Ok(lookup.into_fresh())
    }

    /// The value under `key`, fresh or within its stale budget, or none. Reads only: nothing is
    /// loaded or stored.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_stale<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Option<T>> {
        let key = self.key(key);
        let read = self.inner().get(&key).await;
        let lookup: Lookup<T> = self.judge(&key, read, Operation::Get, || self.now())?;
        Ok(lookup.value)
    }

    /// The fresh value under `key`, or `default`, which is not stored.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_or_default<T: DeserializeOwned + Send>(
        &self,
        key: impl Into<CacheKey> + Send,
        default: T,
    ) -> Result<T> {
        Ok(self.get(key).await?.unwrap_or(default))
    }

    /// The fresh values under `keys`, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the first key in trouble fails the call.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Result<Vec<Option<T>>> {
        let keys = self.keys(keys);
        let read = self.inner().get_many(&keys).await;
        let now = self.now();
        keys.iter()
            .zip(read)
            .map(|(key, read)| {
                let lookup = self.judge(key, read, Operation::GetMany, || now)?;
                Ok(lookup.into_fresh())
            })
            .collect()
    }

    /// The value under `key`, stale ones included, with its circumstances.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn lookup<T: DeserializeOwned>(
        &self,
        key: impl Into<CacheKey> + Send,
    ) -> Result<Lookup<T>> {
        let key = self.key(key);
        let read = self.inner().lookup(&key).await;
        self.judge(&key, read, Operation::Lookup, || self.now())
    }

    /// The values under `keys`, in their order, with their circumstances; one outcome a key.
    ///
    /// # Errors
    ///
    /// Per key as [`get`](Self::get).
    pub async fn lookup_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Vec<Result<Lookup<T>>> {
        let keys = self.keys(keys);
        let read = self.inner().lookup_many(&keys).await;
        let now = self.now();
        keys.iter()
            .zip(read)
            .map(|(key, read)| self.judge(key, read, Operation::LookupMany, || now))
            .collect()
    }

    /// Whether there is a fresh value under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); trouble read as a miss is `false`.
    pub async fn has(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let read = self.inner().has(&self.key(key)).await;
        self.tolerate(read, false)
    }

    /// What is left of the time to live of the value under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); trouble read as a miss is [`TimeLeft::Missing`].
    pub async fn get_ttl(&self, key: impl Into<CacheKey> + Send) -> Result<TimeLeft> {
        let read = self.inner().get_ttl(&self.key(key)).await;
        self.tolerate(read, TimeLeft::Missing)
    }
}

impl CacheService {
    /// Turns what the storage read into what the caller learns, and counts it.
    pub(super) fn judge<T: DeserializeOwned>(
        &self,
        key: &CacheKey,
        read: Result<Option<Entry>>,
        operation: Operation,
        now: impl Fn() -> Timestamp,
    ) -> Result<Lookup<T>> {
        let decoded = read.and_then(|found| {
            // That there is nothing may be stored too.
            let Some(entry) = found.filter(|entry| entry.codec != Some(CodecId::Absent)) else {
                return Ok(None);
            };
            let value = self.decode(key, &entry, operation)?;
            Ok(Some((value, entry)))
        });
        match decoded {
            Ok(Some((value, entry))) => {
                let lookup = Lookup::found(value, &entry, now);
                self.count(match lookup.status {
                    LookupStatus::Stale => |counters| &counters.stale,
                    _ => |counters| &counters.hits,
                });
                Ok(lookup)
            }
            Ok(None) => {
                self.count(|counters| &counters.misses);
                Ok(Lookup::absent())
            }
            Err(error) if self.reads_as_miss(&error) => Ok(Lookup::unknown(error)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        key: &CacheKey,
        entry: &Entry,
        operation: Operation,
    ) -> Result<T> {
        self.decoded_as(entry).map_err(|reason| {
            self.count(|counters| &counters.decode_errors);
            let event = Event::DecodeError { reason: "codec" };
            self.shared.observers.tell(&event);
            let bytes = Some(entry.value.len());
            let error =
                SerializationError::new::<T>(reason, key, self.shared.codec.id().as_str(), bytes);
            CacheError::from(error)
                .with_backend(self.inner().info().backend)
                .with_operation(operation)
        })
    }

    /// The value of an entry, or why it has none of this type.
    pub(super) fn decoded_as<T: DeserializeOwned>(&self, entry: &Entry) -> Result<T, String> {
        let codec = self.shared.codec;
        let own = codec.recorded_id();
        self.contained(|| match entry.codec {
            id if id == own => codec.decode(&entry.value),
            None => decode_unlabelled(codec, &entry.value),
            Some(id) if id == codec.id() => codec.decode(&entry.value),
            Some(other) => Err(format!(
                "the value was written with codec {}",
                other.as_str()
            )),
        })
    }

    pub(super) fn tolerate<T>(&self, read: Result<T>, miss: T) -> Result<T> {
        match read {
            Err(error) if self.reads_as_miss(&error) => Ok(miss),
            read => read,
        }
    }

    /// Whether the policy reads `error` as a miss; if so, it is counted and told.
    pub(super) fn reads_as_miss(&self, error: &CacheError) -> bool {
        let is_miss = self.shared.on_trouble == OnTrouble::Miss && is_trouble(error.kind());
        if is_miss {
            self.is_degraded(error);
        }
        is_miss
    }
}

/// A value that records no codec: JSON text, a counter, or somebody else's bytes. A binary codec
/// would misread text without noticing, so it takes counters only.
fn decode_unlabelled<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, String> {
    if matches!(codec.id(), CodecId::Json | CodecId::Raw) {
        return codec.decode(bytes);
    }
    let counter = crate::counter::parse(bytes)
        .ok_or_else(|| "the value was not written with this codec".to_owned())?;
    let counter: serde::de::value::I64Deserializer<serde::de::value::Error> =
        counter.into_deserializer();
    T::deserialize(counter).map_err(|_| "the counter does not fit the type".to_owned())
}
