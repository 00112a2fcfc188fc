//! What a call is, and the errors it may end with here.

use std::time::Duration;

use cache_core::{CacheError, CacheKey, ErrorKind, Operation};

use crate::permit::Rejected;
use crate::verdict::{SATURATED, STOPPED};

/// The code of the error of a call that took too long.
const PATIENCE: &str = "patience";

/// What a call is, for errors to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) backend: &'static str,
    pub(super) operation: Operation,
    pub(super) key: Option<&'a CacheKey>,
}

impl Call<'_> {
    /// The breaker is open, so it was not sent.
    pub(super) fn rejected(self, rejected: Rejected) -> CacheError {
        self.told(CacheError::from(rejected))
    }

    /// Too many others are under way, so it was not sent.
    pub(super) fn saturated(self) -> CacheError {
        let message = "too many calls are under way";
        self.told(CacheError::new(ErrorKind::Overloaded, message).with_code(SATURATED))
    }

    /// It was sent, and not answered within `limit`.
    pub(super) fn out_of_patience(self, limit: Duration) -> CacheError {
        let message = format!("no answer within {}ms", limit.as_millis());
        let error = CacheError::new(ErrorKind::Timeout, message)
            .with_code(PATIENCE)
            .with_may_have_happened(self.operation.is_write());
        self.told(error)
    }

    /// It was sent, and the breaker opened before there was an answer. A read may as well not have
    /// been sent; of a write nobody knows.
    pub(super) fn stopped(self, retry_after: Option<Duration>) -> CacheError {
        let message = "the breaker opened while the call was under way";
        let error = if self.operation.is_write() {
            CacheError::new(ErrorKind::Timeout, message).with_may_have_happened(true)
        } else {
            CacheError::new(ErrorKind::Rejected, message)
        };
        self.told(error.with_code(STOPPED).with_retry_after(retry_after))
    }

    /// The storage inside left a key of a batch without an outcome.
    pub(super) fn unanswered(self) -> CacheError {
        let message = "the storage gave no outcome for this key";
        let error = CacheError::new(ErrorKind::Backend, message)
            .with_may_have_happened(self.operation.is_write());
        self.told(error)
    }

    fn told(self, error: CacheError) -> CacheError {
        let error = error
            .with_backend(self.backend)
            .with_operation(self.operation);
        match self.key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }
}
