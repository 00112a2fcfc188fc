//! The table holds its bounds, keeps what is read, and counts right.

use std::collections::HashSet;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::ttl::secs;

/// So many bytes for a while.
struct Parcel {
    length: usize,
    written: Moment,
    ttl: std::time::Duration,
}

impl Kept for Parcel {
    fn length(&self) -> usize {
        self.length
    }

    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.written) < self.ttl
    }

    fn is_gone(&self, now: Moment) -> bool {
        !self.is_fresh(now)
    }
}

const ROOM: usize = 1 << 40;

impl Table<Parcel> {
    fn put(&self, key: &str, length: usize, ttl: u64, now: Moment) {
        let parcel = Parcel {
            length,
            written: now,
            ttl: secs(ttl),
        };
        let store = |_: Option<&Parcel>| Ok((Change::Store(parcel), ()));
        self.change(&key.into(), now, store)
            .expect("the table takes it");
    }

    fn hit(&self, key: &str, now: Moment) -> bool {
        let fresh = |parcel: &Parcel| parcel.is_fresh(now).then_some(());
        self.read(key, now, fresh).is_some()
    }

    fn delete(&self, key: &str, now: Moment) {
        let remove = |_: Option<&Parcel>| Ok((Change::Remove, ()));
        self.change(&key.into(), now, remove)
            .expect("nothing refuses it");
    }

    /// What is counted is what is there, and every entry has exactly one record. Takes the
    /// queues apart, so the table is of no use afterwards.
    fn check(self) {
        assert!(!self.is_over());
        assert_eq!(self.entries(), self.map.len());
        let costs = self
            .map
            .iter()
            .map(|slot| cost(slot.key(), slot.stored.length()));
        assert_eq!(self.bytes(), costs.sum::<usize>());
        let mut queues = self.queues();
        let mut owners = HashSet::new();
        while let Some((record, _)) = queues.pop(0) {
            let slot = self.map.get(&*record.key);
            if slot.is_some_and(|slot| slot.generation == record.generation) {
                assert!(owners.insert(record.key));
            }
        }
        assert_eq!(owners.len(), self.entries());
    }
}

#[test]
fn never_holds_more_entries_than_allowed() {
    let now = ManualClock::new().now();
    for most in [1, 2, 10, 100] {
        let table = Table::new(most, ROOM);
        for number in 0..1_000 {
            table.put(&number.to_string(), 1, 60, now);
            assert!(table.entries() <= most);
            assert!(table.hit(&number.to_string(), now), "the newest stays");
        }
        assert_eq!(table.evictions(), 1_000 - most as u64);
        table.check();
    }
}

#[test]
fn never_holds_more_bytes_than_allowed() {
    let now = ManualClock::new().now();
    let most = 20_000;
    let table = Table::new(ROOM, most);
    fastrand::seed(1);
    for _ in 0..5_000 {
        let key = fastrand::u8(..).to_string();
        // Overwrites grow and shrink entries.
        table.put(&key, fastrand::usize(..10_000), 60, now);
        assert!(table.bytes() <= most);
    }
    table.put("whole", most - cost("whole", 0), 60, now);
    assert!(table.hit("whole", now));
    assert_eq!(table.entries(), 1);
    table.check();
}

#[test]
fn an_entry_among_hot_ones_displaces_one_after_a_bounded_search() {
    let now = ManualClock::new().now();
    let table = Table::new(1_000, ROOM);
    for number in 0..1_000 {
        table.put(&number.to_string(), 1, 60, now);
    }
    for number in 0..3_000 {
        assert!(table.hit(&(number % 1_000).to_string(), now));
    }
    table.put("new", 1, 60, now);
    assert_eq!(table.queues().len(), 1_000);
    table.check();
}

#[test]
fn a_scan_does_not_displace_what_is_read() {
    let now = ManualClock::new().now();
    let table = Table::new(1_000, ROOM);
    for number in 0..800 {
        table.put(&number.to_string(), 1, 60, now);
        assert!(table.hit(&number.to_string(), now));
    }
    for number in 0..10_000 {
        table.put(&format!("scan:{number}"), 1, 60, now);
    }
    let kept = (0..800).filter(|number| table.hit(&number.to_string(), now));
    // A few go at the beginning, when no more than so many may be spared at a time.
    assert!(kept.count() > 760);
}

#[test]
fn keeps_what_a_skewed_traffic_asks_for() {
    let now = ManualClock::new().now();
    let table = Table::new(1_000, ROOM);
    let weights: Vec<f64> = (1..=10_000)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    fastrand::seed(2);
    let mut hits = 0;
    for _ in 0..100_000 {
        let drawn = fastrand::f64() * weights.last().unwrap();
        let key = weights
            .partition_point(|weight| *weight < drawn)
            .to_string();
        if table.hit(&key, now) {
            hits += 1;
        } else {
            table.put(&key, 1, 60, now);
        }
    }
    // Always holding the thousand most frequent keys would give 0.76, LRU gives 0.65.
    assert!(hits > 69_000, "{hits}");
}

#[test]
fn records_stay_in_proportion_to_the_entries() {
    let now = ManualClock::new().now();
    let table = Table::new(ROOM, ROOM);
    for number in 0..100_000 {
        let key = (number % 10).to_string();
        table.put(&key, 1, 60, now);
        table.delete(&key, now);
        assert!(table.queues().len() <= 70);
    }
    for number in 0..10_000 {
        table.put(&number.to_string(), 1, 60, now);
    }
    table.remove_all(|_| true);
    assert_eq!(table.queues().len(), 0);
    table.check();
}

#[test]
fn expired_entries_that_nobody_reads_go_with_further_writes() {
    for overwriting in [false, true] {
        let clock = ManualClock::new();
        let table = Table::new(ROOM, ROOM);
        for number in 0..1_000 {
            table.put(&number.to_string(), 1, 1 + number % 2, clock.now());
        }
        clock.advance(secs(2));
        for number in 0..1_000 {
            let key = if overwriting { 0 } else { number };
            table.put(&format!("new:{key}"), 1, 60, clock.now());
        }
        assert_eq!(table.entries(), if overwriting { 1 } else { 1_000 });
        assert!(table.queues().len() <= 2 * table.entries() + 64);
        assert_eq!(table.evictions(), 0);
        table.check();
    }
}

#[test]
fn an_expired_entry_goes_before_a_live_one_is_evicted() {
    let clock = ManualClock::new();
    let table = Table::new(10, ROOM);
    for number in 0..10 {
        table.put(&number.to_string(), 1, 1, clock.now());
    }
    clock.advance(secs(1));
    for number in 10..20 {
        table.put(&number.to_string(), 1, 1, clock.now());
    }
    assert!((10..20).all(|number| table.hit(&number.to_string(), clock.now())));
    assert_eq!(table.evictions(), 0);
}

#[test]
fn counts_stay_right_under_contention() {
    let clock = ManualClock::new();
    let table = Table::new(100, 50_000);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (table, clock) = (&table, &clock);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..20_000 {
                    let key = random.u8(..).to_string();
                    let now = clock.now();
                    match random.u32(..200) {
                        0 => clock.advance(secs(1)),
                        1 => drop(table.remove_all(|key| key.starts_with('1'))),
                        2..50 => table.delete(&key, now),
                        50..100 => table.put(&key, random.usize(..2_000), 1, now),
                        _ => drop(table.hit(&key, now)),
                    }
                }
            });
        }
    });
    table.check();
}
