//! What a storage over several others shows of itself.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{CacheError, Operation, Result};
use crate::stats::StorageCounters;
use crate::storage::StorageInfo;

/// What it says about itself, what it has done, and whether it was shut down.
pub(crate) struct Front {
    pub(crate) info: StorageInfo,
    pub(crate) counters: StorageCounters,
    is_closed: AtomicBool,
}

impl Front {
    pub(crate) fn new(info: StorageInfo) -> Self {
        Self {
            info,
            counters: StorageCounters::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Refuses a call after a shutdown.
    pub(crate) fn refuse_closed(&self, operation: Operation) -> Result<()> {
        if self.is_closed() {
            return Err(CacheError::closed(self.info.backend, operation));
        }
        Ok(())
    }

    /// Refuses a call after a shutdown, which counts as an error.
    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        let outcome = self.refuse_closed(operation);
        self.counters.other(&outcome);
        outcome
    }

    /// The outcomes of a call for so many keys after a shutdown, each of which counts as an error.
    pub(crate) fn closed<T: Clone>(
        &self,
        operation: Operation,
        keys: usize,
    ) -> Option<Vec<Result<T>>> {
        let error = self.refuse_closed(operation).err()?;
        let outcomes = vec![Err(error); keys];
        outcomes
            .iter()
            .for_each(|outcome| self.counters.other(outcome));
        Some(outcomes)
    }
}
