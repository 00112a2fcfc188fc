//! Which entry goes when the storage is full: S3-FIFO, after Yang et al., SOSP 2023.
//!
//! New keys enter a small queue of a tenth of the entries. What was read there at least once moves
//! to the main queue, the rest goes, so that a scan passes through without displacing anything. The
//! main queue gives an entry one more round for each of up to three reads. Keys that left the small
//! queue are remembered by their hash for a while and enter the main queue if they come again.
//!
//! Chosen over LRU because a read then moves nothing: it writes one byte, and none once the entry
//! is known to be hot. This module is bookkeeping alone; it locks nothing and knows no entries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A place in a queue. It belongs to the entry of its key that has the same generation; if there is
/// none the entry was deleted meanwhile, and the record dangles until it is met or compacted away.
pub(super) struct Record {
    pub(super) key: Arc<str>,
    pub(super) generation: u64,
}

/// The queue that a record was taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Main,
}

/// How often an entry was read since it was last judged, up to three.
#[derive(Default)]
pub(super) struct Reads(AtomicU8);

impl Reads {
    const MOST: u8 = 3;

    /// Notes a read. Two at once may count as one, which is cheaper than being exact and as good.
    pub(super) fn note(&self) {
        let reads = self.0.load(Ordering::Relaxed);
        if reads < Self::MOST {
            self.0.store(reads + 1, Ordering::Relaxed);
        }
    }

    /// Whether the entry at the head of `queue` earned another round, which uses up what earned it.
    pub(super) fn spare(&self, queue: Queue) -> bool {
        let reads = self.0.load(Ordering::Relaxed);
        let left = match queue {
            Queue::Small => 0,
            Queue::Main => reads.saturating_sub(1),
        };
        self.0.store(left, Ordering::Relaxed);
        reads > 0
    }
}

/// The order in which entries are judged.
#[derive(Default)]
pub(super) struct Queues {
    small: VecDeque<Record>,
    main: VecDeque<Record>,
    /// Hashes of keys evicted from the small queue, each at the one place its hash names; zero is
    /// empty. Grows with the number of entries.
    ghosts: Vec<u64>,
    /// Where `look` goes on.
    cursor: usize,
}

impl Queues {
    /// Dangling records that are always tolerated, so that small caches do not compact at each turn.
    const SLACK: usize = 64;

    /// Takes in a new entry whose key hashes to `hash`.
    pub(super) fn admit(&mut self, record: Record, hash: u64) {
        if self.forget(hash) {
            self.main.push_back(record);
        } else {
            self.small.push_back(record);
        }
    }

    /// Takes the record to judge next out of a cache of `entries`.
    pub(super) fn pop(&mut self, entries: usize) -> Option<(Record, Queue)> {
        let small_share = (entries / 10).max(1);
        if self.small.len() > small_share || self.main.is_empty() {
            self.small.pop_front().map(|record| (record, Queue::Small))
        } else {
            self.main.pop_front().map(|record| (record, Queue::Main))
        }
    }

    /// Gives a record another round.
    pub(super) fn spare(&mut self, record: Record) {
        self.main.push_back(record);
    }

    /// Remembers a key evicted from the small queue of a cache of `entries`.
    pub(super) fn remember(&mut self, hash: u64, entries: usize) {
        if self.ghosts.len() < entries.max(1) {
            let grown = vec![0; entries.max(1).next_power_of_two()];
            let ghosts = std::mem::replace(&mut self.ghosts, grown);
            for hash in ghosts.into_iter().filter(|hash| *hash != 0) {
                let place = self.place(hash);
                self.ghosts[place] = hash;
            }
        }
        let place = self.place(hash | 1);
        self.ghosts[place] = hash | 1;
    }

    /// The next record of an endless round over all of them. Records that move meanwhile may be
    /// met early or late, but none is passed over in every round.
    pub(super) fn look(&mut self) -> Option<&Record> {
        // Main first: new entries then arrive behind the cursor's way and shift nothing before it.
        let position = if self.cursor < self.len() {
            self.cursor
        } else {
            0
        };
        self.cursor = position + 1;
        let main = self.main.len();
        self.main
            .get(position)
            .or_else(|| self.small.get(position - main))
    }

    /// Drops dangling records once they outnumber the `entries`, so that the cost of a compaction
    /// is spread over the deletes that made it necessary.
    pub(super) fn compact(&mut self, entries: usize, belongs: impl Fn(&Record) -> bool) {
        if self.len() <= entries.saturating_mul(2).saturating_add(Self::SLACK) {
            return;
        }
        for queue in [&mut self.small, &mut self.main] {
            queue.retain(&belongs);
            queue.shrink_to(queue.len().saturating_mul(2));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// Whether the key of this hash was remembered, and no longer is.
    fn forget(&mut self, hash: u64) -> bool {
        if self.ghosts.is_empty() {
            return false;
        }
        let place = self.place(hash | 1);
        let remembered = self.ghosts[place] == hash | 1;
        if remembered {
            self.ghosts[place] = 0;
        }
        remembered
    }

    fn place(&self, hash: u64) -> usize {
        // The upper half, since the lowest bit is always set.
        (hash >> 32) as usize & (self.ghosts.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record {
            key: number.to_string().into(),
            generation: number,
        }
    }

    fn hash(number: u64) -> u64 {
        number << 32
    }

    #[test]
    fn an_evicted_key_that_comes_again_enters_the_main_queue_once() {
        let mut queues = Queues::default();
        queues.remember(hash(7), 100);
        for number in [7, 7, 8] {
            queues.admit(record(number), hash(number));
        }
        assert_eq!((queues.main.len(), queues.small.len()), (1, 2));
    }

    #[test]
    fn ghosts_grow_with_the_entries_and_keep_what_they_know() {
        let mut queues = Queues::default();
        for entries in 1..=1000 {
            queues.remember(hash(entries), entries as usize);
        }
        assert_eq!(queues.ghosts.len(), 1024);
        assert!((513..=1000).all(|number| queues.forget(hash(number))));
    }

    #[test]
    fn the_small_queue_is_judged_once_it_holds_more_than_a_tenth() {
        let mut queues = Queues::default();
        for number in 0..3 {
            queues.small.push_back(record(number));
            queues.main.push_back(record(number));
        }
        let mut pop = |entries| queues.pop(entries).map(|(_, queue)| queue == Queue::Small);
        assert_eq!(pop(20), Some(true));
        assert_eq!(pop(20), Some(false));
        assert_eq!(pop(0), Some(true));
        assert_eq!(
            [pop(0), pop(0), pop(0)],
            [Some(false), Some(false), Some(true)]
        );
        assert_eq!(pop(0), None);
    }

    #[test]
    fn reads_earn_one_move_to_main_and_three_rounds_there() {
        let reads = Reads::default();
        for _ in 0..9 {
            reads.note();
        }
        assert_eq!(
            [(); 4].map(|()| reads.spare(Queue::Main)),
            [true, true, true, false]
        );
        reads.note();
        reads.note();
        assert_eq!([(); 2].map(|()| reads.spare(Queue::Small)), [true, false]);
    }

    #[test]
    fn a_round_meets_every_record() {
        let mut queues = Queues::default();
        for number in 0..5 {
            queues.admit(record(number), hash(number));
        }
        for number in 5..7 {
            queues.spare(record(number));
        }
        let mut met: Vec<u64> = (0..7).map(|_| queues.look().unwrap().generation).collect();
        met.sort_unstable();
        assert_eq!(met, [0, 1, 2, 3, 4, 5, 6]);
    }
}
