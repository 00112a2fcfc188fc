//! Who is told that a load failed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::CacheError;
use crate::key::CacheKey;

/// A load that failed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LoadFailure<'a> {
    /// The key, with the prefix of its service.
    pub key: &'a CacheKey,
    /// What went wrong.
    pub error: &'a CacheError,
    /// Whether nobody waited for it, so that no caller was told.
    pub background: bool,
}

/// The hook of a service.
#[derive(Clone)]
pub(crate) struct FailureHook(Arc<dyn Fn(&LoadFailure<'_>) + Send + Sync>);

impl FailureHook {
    pub(crate) fn new(hook: impl Fn(&LoadFailure<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    /// Calls the hook; false if it panicked.
    pub(crate) fn call(&self, failure: &LoadFailure<'_>) -> bool {
        catch_unwind(AssertUnwindSafe(|| (self.0)(failure))).is_ok()
    }
}

impl fmt::Debug for FailureHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}
