//! Whether the map of slots is out of date, and why.

use std::sync::atomic::{AtomicU8, Ordering};

/// Why the map of slots is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reason {
    /// There is none yet.
    Start = 1,
    /// A server says that a slot has moved.
    Moved,
    /// A server is in trouble.
    Unreachable,
    /// Anything else that the map does not explain.
    Doubt,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Moved => "moved",
            Self::Unreachable => "unreachable",
            Self::Doubt => "doubt",
        }
    }
}

/// The doubt about the map of slots, with its latest reason.
#[derive(Debug, Default)]
pub(super) struct Doubts(AtomicU8);

impl Doubts {
    pub(super) fn note(&self, reason: Reason) {
        self.0.store(reason as u8, Ordering::Release);
    }

    /// Whether there is doubt.
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Ends the doubt and says what it was about.
    pub(super) fn take(&self) -> Option<Reason> {
        match self.0.swap(0, Ordering::AcqRel) {
            0 => None,
            1 => Some(Reason::Start),
            2 => Some(Reason::Moved),
            3 => Some(Reason::Unreachable),
            _ => Some(Reason::Doubt),
        }
    }
}
