//! How a shutdown went.

use std::time::{Duration, Instant};

use crate::error::{CacheError, Result};

/// How a shutdown went.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls that were under way and ended by themselves within the budget.
    pub drained: u64,
    /// Calls that were cut off when the budget was used up; their callers got a `Closed` error.
    pub cancelled: u64,
    /// How long it took.
    pub took: Duration,
    /// The first trouble a storage had while closing. It is closed all the same.
    pub error: Option<CacheError>,
}

impl ShutdownReport {
    /// The report of closing a storage without waiting for anybody.
    pub async fn of(closing: impl Future<Output = Result<()>>) -> Self {
        let start = Instant::now();
        let error = closing.await.err();
        Self {
            error,
            took: start.elapsed(),
            ..Self::default()
        }
    }

    /// The report as a result, for callers who want to hear of trouble only.
    ///
    /// # Errors
    ///
    /// The trouble that a storage had while closing.
    pub fn into_result(self) -> Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
