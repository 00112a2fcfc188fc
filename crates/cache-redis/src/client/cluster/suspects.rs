//! Servers in trouble that the map of slots still names.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::super::node::Node;
use super::table::Table;

/// How long after its last failure a server is suspected. A failover takes tens of seconds in a
/// managed cluster; after that somebody has met the trouble again, or nobody wants its keys.
const SUSPECTED_FOR: Duration = Duration::from_secs(60);

/// How many servers are suspected at most.
const MOST_SUSPECTS: usize = 64;

/// Servers that calls have failed at.
///
/// While one of them has slots, the map is read again in passing by calls to other servers, so that
/// a promotion is known although nobody calls the dead server any more: a breaker sees to that.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<Vec<Suspect>>);

#[derive(Debug)]
struct Suspect {
    node: Weak<Node>,
    since: Instant,
}

impl Suspects {
    pub(super) fn add(&self, node: &Arc<Node>, now: Instant) {
        let mut suspects = self.lock();
        let is_node = |suspect: &Suspect| std::ptr::eq(suspect.node.as_ptr(), Arc::as_ptr(node));
        suspects.retain(|suspect| !is_node(suspect));
        if suspects.len() < MOST_SUSPECTS {
            suspects.push(Suspect {
                node: Arc::downgrade(node),
                since: now,
            });
        }
    }

    /// Whether a suspect still has slots by `table` and has not been heard of since. The others are
    /// forgotten.
    pub(super) fn have_slots(&self, table: &Table, now: Instant) -> bool {
        let suspects = std::mem::take(&mut *self.lock());
        let (left, _): (Vec<_>, Vec<_>) = suspects
            .into_iter()
            .partition(|suspect| suspect.is_left(table, now));
        let have_slots = !left.is_empty();
        // Those added meanwhile stay too.
        self.lock().extend(left);
        have_slots
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Suspect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Suspect {
    fn is_left(&self, table: &Table, now: Instant) -> bool {
        let Some(node) = self.node.upgrade() else {
            return false;
        };
        let age = now.saturating_duration_since(self.since);
        let is_owner = table.nodes().iter().any(|owner| Arc::ptr_eq(owner, &node));
        let was_heard = node.silence().is_some_and(|silence| silence < age);
        age < SUSPECTED_FOR && is_owner && !was_heard
    }
}
