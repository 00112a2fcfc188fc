//! Outcomes of batches.

use crate::error::{CacheError, Result};

/// The outcome of each entry of a batch, in the order of the batch.
#[derive(Debug, Clone)]
pub struct BatchReport {
    outcomes: Vec<Result<()>>,
}

/// The outcome of one entry of a batch.
#[derive(Debug, Clone, Copy)]
pub enum BatchOutcome<'a> {
    /// It was written or deleted.
    Done,
    /// It was not.
    Failed(&'a CacheError),
    /// It was or was not: the answer was lost.
    Unknown(&'a CacheError),
}

impl BatchReport {
    pub(crate) fn new(outcomes: Vec<Result<()>>) -> Self {
        Self { outcomes }
    }

    /// Each entry's outcome, in the order of the batch.
    pub fn outcomes(&self) -> impl ExactSizeIterator<Item = BatchOutcome<'_>> {
        self.outcomes.iter().map(|outcome| match outcome {
            Ok(()) => BatchOutcome::Done,
            Err(error) if error.may_have_happened() => BatchOutcome::Unknown(error),
            Err(error) => BatchOutcome::Failed(error),
        })
    }

    /// Whether every entry is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcomes.iter().all(Result::is_ok)
    }

    /// Nothing if every entry is done, the first error otherwise.
    ///
    /// # Errors
    ///
    /// The first error of the batch.
    pub fn into_result(self) -> Result<()> {
        self.outcomes.into_iter().collect()
    }
}
