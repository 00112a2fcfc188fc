//! Writing and ending values.

use bytes::Bytes;
use serde::Serialize;

use super::{CacheService, SetOptions};
use crate::batch::BatchReport;
use crate::entry::{ClearScope, Cleared, Condition, Counter, NewEntry};
use crate::error::{CacheError, ErrorKind, Operation, Result, SerializationError};
use crate::key::CacheKey;
use crate::storage::check_length;
use crate::ttl::Ttl;

impl CacheService {
    /// Writes `value` under `key` for the service's time to live.
    ///
    /// # Errors
    ///
    /// `Key`, `TooLarge`, `Ttl` and `Serialization` before any I/O; `Configuration` where neither
    /// service nor call has a time to live; trouble of the storage, see
    /// [`may_have_happened`](CacheError::may_have_happened).
    pub async fn set<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
    ) -> Result<()> {
        self.set_with(key, value, SetOptions::new()).await.map(drop)
    }

    /// Writes `value` under `key` as `options` say; false where their condition does not hold.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_with<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
        options: SetOptions,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let condition = options.condition();
        let entry = self.entry(&key, value, &options)?;
        let _writing = self.writing(&key).await;
        self.inner().set(&key, entry, condition).await
    }

    /// Writes `value` under `key` for the service's time to live if nothing fresh is there, and
    /// says whether it did.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_if_absent<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        value: &T,
    ) -> Result<bool> {
        self.set_with(key, value, SetOptions::new().if_absent())
            .await
    }

    /// Replaces the fresh value under `key` by `new` if it is `expected`, for the service's time
    /// to live, and says whether it did.
    ///
    /// Compared are the encoded bytes: use types that always encode alike, which a `HashMap` does
    /// not, and random tokens where the same value may come back (see
    /// [`CacheStorage::set`](crate::CacheStorage::set) on repetition).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn compare_and_set<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        expected: &T,
        new: &T,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let expected = self.encode(&key, expected)?;
        let entry = self.entry(&key, new, &SetOptions::new())?;
        let condition = Condition::IfEquals(expected);
        let _writing = self.writing(&key).await;
        self.inner().set(&key, entry, condition).await
    }

    /// Deletes the fresh value under `key` if it is `expected`, and says whether it did. Compared
    /// are the encoded bytes.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn compare_and_delete<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<CacheKey> + Send,
        expected: &T,
    ) -> Result<bool> {
        let key = self.key(key);
        self.check(&key)?;
        let expected = self.encode(&key, expected)?;
        let _writing = self.writing(&key).await;
        self.inner().compare_and_delete(&key, &expected).await
    }

    /// Writes many values for the service's time to live.
    ///
    /// Not atomic, and one entry's failure does not keep the others from being written; see
    /// [`set_many_report`](Self::set_many_report) for each entry's outcome.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); the first entry that failed.
    pub async fn set_many<T: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (impl Into<CacheKey>, T)> + Send,
    ) -> Result<()> {
        self.set_many_report(entries).await.into_result()
    }

    /// Writes many values as [`set_many`](Self::set_many) and reports the outcome of each entry,
    /// in order.
    pub async fn set_many_report<T: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (impl Into<CacheKey>, T)> + Send,
    ) -> BatchReport {
        let mut outcomes = Vec::new();
        let mut positions = Vec::new();
        let mut encoded = Vec::new();
        let options = SetOptions::new();
        for (position, (key, value)) in entries.into_iter().enumerate() {
            let key = self.key(key);
            match self
                .check(&key)
                .and_then(|()| self.entry(&key, &value, &options))
            {
                Ok(entry) => {
                    outcomes.push(Ok(()));
                    positions.push(position);
                    encoded.push((key, entry));
                }
                Err(error) => outcomes.push(Err(error.with_operation(Operation::SetMany))),
            }
        }
        let keys: Vec<CacheKey> = encoded.iter().map(|(key, _)| key.clone()).collect();
        let _writing = self.writing_many(&keys).await;
        let written = self.inner().set_many(encoded).await;
        for (position, outcome) in positions.into_iter().zip(written) {
            outcomes[position] = outcome;
        }
        BatchReport::new(outcomes)
    }

    /// Deletes the value under `key`; true when a fresh one went.
    ///
    /// # Errors
    ///
    /// `Key` before any I/O; trouble of the storage.
    pub async fn delete(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().delete(&key).await
    }

    /// Deletes the values under `keys`, whether or not they are there.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete); the first key that failed. The others are deleted all the same.
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> Result<()> {
        self.delete_many_report(keys).await.into_result()
    }

    /// Deletes as [`delete_many`](Self::delete_many) and reports the outcome of each key, in order.
    pub async fn delete_many_report(
        &self,
        keys: impl IntoIterator<Item = impl Into<CacheKey>> + Send,
    ) -> BatchReport {
        let keys = self.keys(keys);
        let _writing = self.writing_many(&keys).await;
        BatchReport::new(self.inner().delete_many(&keys).await)
    }

    /// Gives the fresh value under `key` a new time to live from now; false where there is none.
    ///
    /// # Errors
    ///
    /// `Key` and `Ttl` before any I/O; trouble of the storage.
    pub async fn expire<L>(&self, key: impl Into<CacheKey> + Send, ttl: L) -> Result<bool>
    where
        L: TryInto<Ttl, Error: Into<CacheError>> + Send,
    {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().expire(&key, ttl).await
    }

    /// Ends the time to live of the value under `key` now, keeping its stale budget; false where
    /// there is no fresh value.
    ///
    /// # Errors
    ///
    /// `Key` before any I/O; trouble of the storage.
    pub async fn expire_now(&self, key: impl Into<CacheKey> + Send) -> Result<bool> {
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().expire_now(&key).await
    }

    /// Adds `delta` to the counter under `key`, atomically over all processes.
    ///
    /// A counter that is not there starts at zero and expires `ttl` later; an existing one keeps
    /// its expiry. Never repeated when the outcome of an attempt is unknown, so it may fail where
    /// other operations would not; [`may_have_happened`](CacheError::may_have_happened) then says
    /// whether it may have been counted.
    ///
    /// # Errors
    ///
    /// `Key` and `Ttl` before any I/O; `NotACounter`, `Overflow`, and trouble of the storage,
    /// whatever the policy.
    pub async fn increment<L>(
        &self,
        key: impl Into<CacheKey> + Send,
        delta: i64,
        ttl: L,
    ) -> Result<Counter>
    where
        L: TryInto<Ttl, Error: Into<CacheError>> + Send,
    {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let key = self.key(key);
        let _writing = self.writing(&key).await;
        self.inner().increment(&key, delta, ttl).await
    }

    /// Deletes everything below the service's prefix.
    ///
    /// # Errors
    ///
    /// `Key` for a service without a prefix: use [`clear_everything`](Self::clear_everything).
    /// Trouble of the storage.
    pub async fn clear(&self) -> Result<Cleared> {
        let prefix = self.shared.prefix.as_deref().unwrap_or_default();
        self.clear_scope(&ClearScope::prefix(prefix)?).await
    }

    /// Deletes everything below `prefix:` within the service: with keys such as `(user, "cart")`,
    /// `clear_prefix(user)` deletes all of one user's.
    ///
    /// # Errors
    ///
    /// `Key` for an empty prefix; trouble of the storage.
    pub async fn clear_prefix(&self, prefix: impl Into<CacheKey> + Send) -> Result<Cleared> {
        let scope = ClearScope::prefix(self.key(prefix).as_str())?;
        self.clear_scope(&scope).await
    }

    /// Deletes everything in the storage, whoever wrote it, other services' entries included.
    ///
    /// # Errors
    ///
    /// Trouble of the storage.
    pub async fn clear_everything(&self) -> Result<Cleared> {
        self.clear_scope(&ClearScope::everything()).await
    }

    async fn clear_scope(&self, scope: &ClearScope) -> Result<Cleared> {
        let _clearing = self.clearing(scope).await;
        self.inner().clear(scope).await
    }
}

impl CacheService {
    pub(super) fn encode<T: Serialize + ?Sized>(&self, key: &CacheKey, value: &T) -> Result<Bytes> {
        let codec = self.shared.codec;
        let bytes = self.contained(|| codec.encode(value)).map_err(|reason| {
            let error = SerializationError::new::<T>(reason, key, codec.id().as_str(), None);
            CacheError::from(error).with_operation(Operation::Set)
        })?;
        check_length(&bytes, self.shared.max_value_bytes)
            .map_err(|error| error.with_operation(Operation::Set).with_key(key))?;
        Ok(bytes)
    }

    pub(super) fn entry<T: Serialize + ?Sized>(
        &self,
        key: &CacheKey,
        value: &T,
        options: &SetOptions,
    ) -> Result<NewEntry> {
        let shared = &self.shared;
        let ttl = match options.ttl_or_error()? {
            Some(ttl) => ttl,
            None => shared.ttl.ok_or_else(|| no_ttl(key))?,
        };
        let value = self.encode(key, value)?;
        // One draw an entry; without jitter none at all.
        let ttl = if shared.jitter > 0.0 {
            ttl.shortened(shared.jitter, fastrand::f64())
        } else {
            ttl
        };
        let mut entry = NewEntry::new(value, ttl);
        entry.codec = shared.codec.recorded_id();
        let stale_for = options.stale_budget().or(shared.stale_for);
        if let Some(stale_for) = stale_for {
            entry = entry.with_stale_for(stale_for)?;
        }
        if stale_for.is_some() || options.keeps_creation_time() {
            entry = entry.with_created_at(self.now());
        }
        Ok(entry)
    }
}

pub(super) fn no_ttl(key: &CacheKey) -> CacheError {
    let message = "neither the service nor the call has a time to live; give the builder \
                   one, such as .ttl(mins(15)), or Ttl::FOREVER";
    CacheError::new(ErrorKind::Configuration, message)
        .with_operation(Operation::Set)
        .with_key(key)
}
