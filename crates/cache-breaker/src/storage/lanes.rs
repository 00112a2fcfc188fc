//! The lanes of a storage: two for each server, a bounded number of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cache_core::{Operation, Shard};

use crate::lane::{Command, Context, Lane};
use crate::options::BreakerOptions;
use crate::snapshot::Snapshot;

/// More servers than a cluster has; beyond it, those go that were asked longest ago.
pub(super) const MOST_SHARDS: usize = 256;

/// All lanes of a storage.
#[derive(Debug)]
pub(super) struct Lanes {
    context: Context,
    options: BreakerOptions,
    /// For keys that no server in particular answers for, and for calls without a key.
    default: Arc<Pair>,
    known: RwLock<Known>,
    /// How often a server was asked for.
    asked: AtomicU64,
}

/// What a server has: a server that refuses writes may still answer reads.
#[derive(Debug)]
pub(super) struct Pair {
    read: Arc<Lane>,
    write: Arc<Lane>,
    /// The number of the time it was last asked for, among those of all servers.
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    pairs: HashMap<Shard, Arc<Pair>>,
    /// What was last said to all lanes, and holds for later ones too.
    command: Option<Command>,
}

impl Lanes {
    pub(super) fn new(context: Context, options: BreakerOptions) -> Self {
        Self {
            default: Arc::new(Pair::new(None, &context, &options, None)),
            known: RwLock::default(),
            asked: AtomicU64::new(0),
            context,
            options,
        }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn options(&self) -> &BreakerOptions {
        &self.options
    }

    /// The lane of `operation` on one server.
    pub(super) fn lane(&self, shard: Option<&Shard>, operation: Operation) -> Arc<Lane> {
        match shard {
            None => Arc::clone(self.default.lane(operation)),
            Some(_) => Arc::clone(self.of(shard).lane(operation)),
        }
    }

    /// The lanes of one server.
    pub(super) fn of(&self, shard: Option<&Shard>) -> Arc<Pair> {
        let Some(shard) = shard else {
            return Arc::clone(&self.default);
        };
        // Only the order counts, and to count is cheaper than to read a clock.
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let known = self.known().pairs.get(shard).map(Arc::clone);
        let pair = known.unwrap_or_else(|| self.meet(shard));
        pair.used.fetch_max(number, Ordering::Relaxed);
        pair
    }

    /// Tells all lanes, present and future.
    pub(super) fn obey(&self, command: Command) {
        self.known_mut().command = (command != Command::Automatic).then_some(command);
        for pair in self.pairs() {
            pair.read.obey(command);
            pair.write.obey(command);
        }
    }

    /// How all lanes stand: those without a server first, then by server.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let pairs = self.pairs();
        let lanes = pairs.iter().flat_map(|pair| [&pair.read, &pair.write]);
        let mut snapshots: Vec<_> = lanes.map(|lane| lane.snapshot()).collect();
        snapshots.sort_by(|one, other| one.shard.cmp(&other.shard));
        snapshots
    }

    fn meet(&self, shard: &Shard) -> Arc<Pair> {
        let mut known = self.known_mut();
        let Known { pairs, command } = &mut *known;
        if let Some(pair) = pairs.get(shard) {
            return Arc::clone(pair);
        }
        if pairs.len() >= MOST_SHARDS {
            forget_longest_unused(pairs);
        }
        let pair = Pair::new(Some(shard), &self.context, &self.options, *command);
        let pair = Arc::new(pair);
        pairs.insert(shard.clone(), Arc::clone(&pair));
        pair
    }

    fn pairs(&self) -> Vec<Arc<Pair>> {
        let mut pairs = vec![Arc::clone(&self.default)];
        pairs.extend(self.known().pairs.values().map(Arc::clone));
        pairs
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pair {
    fn new(
        shard: Option<&Shard>,
        context: &Context,
        options: &BreakerOptions,
        command: Option<Command>,
    ) -> Self {
        let lane = |name| {
            let lane = Lane::new(name, shard.cloned(), context.clone(), options, command);
            Arc::new(lane)
        };
        Self {
            read: lane("read"),
            write: lane("write"),
            used: AtomicU64::new(0),
        }
    }

    /// The lane that `operation` belongs to.
    pub(super) fn lane(&self, operation: Operation) -> &Arc<Lane> {
        if operation.is_write() {
            &self.write
        } else {
            &self.read
        }
    }
}

/// Whether an operation only frees memory, which a server that has none left still does.
pub(super) fn frees_memory(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Delete
            | Operation::DeleteMany
            | Operation::CompareAndDelete
            | Operation::Expire
            | Operation::ExpireNow
    )
}

fn forget_longest_unused(pairs: &mut HashMap<Shard, Arc<Pair>>) {
    let used = |pair: &Pair| pair.used.load(Ordering::Relaxed);
    let longest_unused = pairs.iter().min_by_key(|(_, pair)| used(pair));
    if let Some(shard) = longest_unused.map(|(shard, _)| shard.clone()) {
        pairs.remove(&shard);
    }
}

#[cfg(test)]
mod tests {
    use cache_core::{ManualClock, Observers};

    use super::*;
    use crate::state::State;

    fn lanes(clock: &ManualClock) -> Lanes {
        let context = Context {
            name: "test".into(),
            clock: Arc::new(clock.clone()),
            observers: Observers::none(),
        };
        Lanes::new(context, BreakerOptions::default())
    }

    fn shard(number: usize) -> Shard {
        Shard::new(format!("10.0.0.{number}:6379"))
    }

    #[test]
    fn the_longest_unused_servers_are_forgotten() {
        let lanes = lanes(&ManualClock::new());
        let first = lanes.of(Some(&shard(0)));
        for number in 1..MOST_SHARDS {
            lanes.of(Some(&shard(number)));
        }
        assert!(Arc::ptr_eq(&first, &lanes.of(Some(&shard(0)))));
        let second = lanes.of(Some(&shard(2)));
        lanes.of(Some(&shard(MOST_SHARDS)));
        assert_eq!(lanes.pairs().len(), MOST_SHARDS + 1);
        assert!(Arc::ptr_eq(&first, &lanes.of(Some(&shard(0)))));
        assert!(Arc::ptr_eq(&second, &lanes.of(Some(&shard(2)))));
        assert!(!lanes.known().pairs.contains_key(&shard(1)));
    }

    #[test]
    fn a_server_met_later_obeys_too() {
        let lanes = lanes(&ManualClock::new());
        lanes.of(Some(&shard(1)));
        lanes.obey(Command::ForceOpen);
        lanes.of(Some(&shard(2)));
        let states: Vec<_> = lanes.snapshots().iter().map(|one| one.state).collect();
        assert_eq!(states, [State::ForcedOpen; 6]);
        lanes.obey(Command::Automatic);
        lanes.of(Some(&shard(3)));
        let snapshots = lanes.snapshots();
        assert!(snapshots.iter().all(|one| one.state == State::Closed));
        let lanes: Vec<_> = snapshots.iter().map(|one| one.lane).collect();
        assert_eq!(lanes[..4], ["read", "write", "read", "write"]);
    }
}
