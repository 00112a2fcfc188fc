//! What a storage with plans keeps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{CacheKey, Operation};
use tokio::sync::watch;

use super::plan::{Call, Plan};

/// Plans in force and calls seen.
#[derive(Debug)]
pub(super) struct State {
    plans: Mutex<Plans>,
    seen: watch::Sender<Seen>,
    /// Renewed to let everything go that hangs.
    releases: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Plans {
    outage: Option<Arc<Plan>>,
    others: Vec<Arc<Plan>>,
}

/// Calls seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) of: HashMap<Operation, u64>,
    pub(super) struck: u64,
    pub(super) hung: u64,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            plans: Mutex::default(),
            seen: watch::Sender::default(),
            releases: watch::Sender::default(),
        }
    }

    pub(super) fn add(&self, plan: Plan) {
        self.lock().others.push(Arc::new(plan));
    }

    pub(super) fn forget_all(&self) {
        let forgotten = std::mem::take(&mut self.lock().others);
        // Outside of the lock: conditions may own something that has its own ideas of dropping.
        drop(forgotten);
    }

    pub(super) fn set_outage(&self, plan: Option<Plan>) {
        let plan = plan.map(Arc::new);
        let before = std::mem::replace(&mut self.lock().outage, plan);
        drop(before);
    }

    /// Counts a call, and finds the plan that strikes it.
    pub(super) fn strike(&self, operation: Operation, keys: Vec<CacheKey>) -> Option<Arc<Plan>> {
        let mut number = 0;
        self.seen.send_modify(|seen| {
            seen.calls += 1;
            *seen.of.entry(operation).or_default() += 1;
            number = seen.calls;
        });
        let call = Call {
            number,
            operation,
            keys,
        };
        let plan = self
            .in_force()
            .into_iter()
            .find(|plan| plan.strikes(&call))?;
        self.seen.send_modify(|seen| seen.struck += 1);
        Some(plan)
    }

    pub(super) fn release(&self) {
        self.releases.send_replace(());
    }

    /// Returns when everything that hangs is let go.
    pub(super) async fn hang(&self) {
        let mut releases = self.releases.subscribe();
        let _hung = Hung::new(&self.seen);
        releases
            .changed()
            .await
            .expect("the sender lives as long as the state");
    }

    pub(super) fn seen<T>(&self, what: impl FnOnce(&Seen) -> T) -> T {
        what(&self.seen.borrow())
    }

    pub(super) async fn wait_for(&self, condition: impl FnMut(&Seen) -> bool) {
        self.seen
            .subscribe()
            .wait_for(condition)
            .await
            .expect("the sender lives as long as the state");
    }

    /// A copy, for conditions are not asked under the lock.
    fn in_force(&self) -> Vec<Arc<Plan>> {
        let plans = self.lock();
        plans.outage.iter().chain(&plans.others).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that counts as hung until it is dropped.
struct Hung<'a>(&'a watch::Sender<Seen>);

impl<'a> Hung<'a> {
    fn new(seen: &'a watch::Sender<Seen>) -> Self {
        seen.send_modify(|seen| seen.hung += 1);
        Self(seen)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.hung -= 1);
    }
}
