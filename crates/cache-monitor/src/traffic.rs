//! The calls under way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts calls under way, refuses new ones once closed, and cuts off those that take too long.
///
/// Count and end are changed in one order for everybody (`SeqCst`): either a call sees the end, or
/// whoever ends sees the call.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    in_flight: AtomicU64,
    is_closed: AtomicBool,
    is_cut: AtomicBool,
    cancelled: AtomicU64,
    cut: Notify,
    idle: Notify,
}

/// One call under way; it has ended when this is dropped.
pub(crate) struct Passage<'a>(&'a Traffic);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.is_closed() {
            self.0.idle.notify_waiters();
        }
    }
}

impl Traffic {
    /// Lets a call in, unless it is too late.
    pub(crate) fn enter(&self) -> Option<Passage<'_>> {
        // Counted before it is looked whether it is too late, so that none slips through between.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let passage = Passage(self);
        (!self.is_closed()).then_some(passage)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Waits until no call is under way.
    pub(crate) async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Cuts off every call that is still waiting.
    pub(crate) fn cut_off(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.notify_waiters();
    }

    /// Waits until calls are cut off; this one is then counted.
    pub(crate) async fn until_cut_off(&self) {
        // What calls are told while they are cut off reaches this future from here on, polled or not.
        let cut = self.cut.notified();
        if !self.is_cut.load(Ordering::Acquire) {
            cut.await;
        }
        self.cancelled.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Acquire)
    }
}
