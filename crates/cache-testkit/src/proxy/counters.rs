//! What went through a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What went through a [`FaultProxy`](super::FaultProxy) so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that the client has not closed and the proxy has not ended. A close that is
    /// behind bytes not read yet, as in a stall, is not noticed.
    pub open: u64,
    /// Bytes delivered to the server.
    pub bytes_up: u64,
    /// Bytes delivered to clients, the proxy's own replies included.
    pub bytes_down: u64,
    /// Bytes of requests that were thrown away.
    pub lost_up: u64,
    /// Bytes of replies that were thrown away.
    pub lost_down: u64,
    /// How often something happened that happens once or once a connection: a cut, a corrupted
    /// byte, a duplicate, a half-close; and the proxy's own replies.
    pub fired: u64,
}

/// The counters, for those who count and those who wait.
#[derive(Debug)]
pub(super) struct Tally(watch::Sender<Counters>);

impl Tally {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Counters::default()))
    }

    pub(super) fn now(&self) -> Counters {
        *self.0.borrow()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counters)) {
        self.0.send_modify(change);
    }

    /// Waits until `condition` holds. It is called without a lock.
    pub(super) async fn wait_for(&self, mut condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut changes = self.0.subscribe();
        loop {
            let now = *changes.borrow_and_update();
            if condition(&now) {
                return now;
            }
            changes
                .changed()
                .await
                .expect("the sender lives as long as the tally");
        }
    }
}

/// One connection that counts as open until it is closed or dropped.
#[derive(Debug)]
pub(super) struct Open {
    tally: Arc<Tally>,
    is_closed: AtomicBool,
}

impl Open {
    pub(super) fn new(tally: &Arc<Tally>) -> Self {
        tally.change(|counters| {
            counters.accepted += 1;
            counters.open += 1;
        });
        Self {
            tally: Arc::clone(tally),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn close(&self) {
        if !self.is_closed.swap(true, Ordering::AcqRel) {
            self.tally.change(|counters| counters.open -= 1);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
    }
}
