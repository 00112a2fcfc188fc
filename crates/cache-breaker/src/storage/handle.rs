//! The breaker of a storage, without the storage.

use std::fmt;
use std::sync::Arc;

use super::lanes::Lanes;
use crate::lane::Command;
use crate::snapshot::Snapshot;

/// Shows and sets the breakers of a [`BreakerStorage`](crate::BreakerStorage), all lanes of all
/// servers at once. Cheap to clone; keeps no storage alive.
///
/// What is said holds for the servers of a cluster that are met later, too.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) lanes: Arc<Lanes>,
}

impl BreakerHandle {
    /// How each lane stands: those without a server first, then by server.
    #[must_use]
    pub fn breakers(&self) -> Vec<Snapshot> {
        self.lanes.snapshots()
    }

    /// Turns every call away until told otherwise.
    pub fn force_open(&self) {
        self.lanes.obey(Command::ForceOpen);
    }

    /// Lets every call through and goes on counting, until told otherwise.
    pub fn force_closed(&self) {
        self.lanes.obey(Command::ForceClosed);
    }

    /// Lets every call through and counts nothing, until told otherwise.
    pub fn disable(&self) {
        self.lanes.obey(Command::Disable);
    }

    /// Lets each lane decide by itself again, beginning closed.
    pub fn automatic(&self) {
        self.lanes.obey(Command::Automatic);
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle")
            .field("name", &self.lanes.context().name)
            .finish_non_exhaustive()
    }
}
