//! Random sequences against a model: nothing comes back, and nothing lives longer than promised.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cache_core::{CacheStorage as _, ClearScope, Clock as _, TieredStorage, Timestamp, mins};

use super::*;

const SEQUENCES: u64 = 10_000;
const STEPS: u32 = 40;
const KEYS: usize = 3;

/// What must never be read again, and until when the rest may be.
#[derive(Default)]
struct Model {
    written: [Vec<String>; KEYS],
    gone: HashSet<String>,
    /// What is stale at best.
    ended: HashSet<String>,
    ends: HashMap<String, Timestamp>,
    next: u64,
}

impl Model {
    fn new_value(&mut self, number: usize, end: Timestamp) -> String {
        self.next += 1;
        let value = format!("v{}", self.next);
        self.written[number].push(value.clone());
        self.ends.insert(value.clone(), end);
        value
    }

    /// Everything under the key but `kept` was overwritten or deleted, and that was acknowledged.
    fn settle(&mut self, number: usize, kept: Option<&str>) {
        let old = self.written[number].iter();
        let old = old.filter(|value| Some(value.as_str()) != kept);
        self.gone.extend(old.cloned());
    }

    fn check(&self, number: usize, found: Option<&Entry>, now: Timestamp, context: &str) {
        let Some(found) = found else {
            return;
        };
        let value = text(found);
        assert!(
            self.written[number].contains(&value),
            "{context}: {value} was never written"
        );
        assert!(!self.gone.contains(&value), "{context}: {value} is back");
        assert!(now < self.ends[&value], "{context}: {value} is too old");
        let is_fresh = !found.expires_at.is_past(now);
        let has_ended = self.ended.contains(&value);
        assert!(!is_fresh || !has_ended, "{context}: {value} is fresh again");
    }
}

struct Stack {
    storage: TieredStorage,
    tiers: Vec<ChaosStorage>,
    clock: ManualClock,
}

impl Stack {
    fn new(random: &mut fastrand::Rng) -> Self {
        let clock = ManualClock::new();
        let tiers: Vec<_> = (0..random.usize(2..4)).map(|_| tier(&clock)).collect();
        let capacity = if random.bool() { 1 } else { 1_000 };
        let mut builder = TieredStorage::builder().journal_capacity(capacity);
        for (tier, name) in tiers.iter().zip(["first", "second", "third"]) {
            let mut options = named(name);
            if random.bool() {
                options = options.with_ttl_cap(secs(random.u64(1..90)));
            }
            builder = builder.tier_with(tier.clone(), options);
        }
        if random.u8(..4) == 0 {
            builder = builder.counters_in("first");
        }
        Self {
            storage: builder.build().expect("the options are sound"),
            tiers,
            clock,
        }
    }

    fn break_one(&self, random: &mut fastrand::Rng) {
        let tier = &self.tiers[random.usize(..self.tiers.len())];
        tier.start_outage(match random.u8(..3) {
            0 => refused(),
            1 => lost(),
            _ => lost().every(random.u64(2..4)),
        });
    }

    fn mend_one(&self, random: &mut fastrand::Rng) {
        self.tiers[random.usize(..self.tiers.len())].end_outage();
    }
}

#[test]
fn what_was_deleted_or_overwritten_never_comes_back_and_nothing_outlives_its_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime starts");
    runtime.block_on(async {
        for seed in 0..SEQUENCES {
            sequence(seed).await;
        }
    });
}

async fn sequence(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let stack = Stack::new(&mut random);
    let mut model = Model::default();
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        let number = random.usize(..KEYS);
        match random.u8(..16) {
            0..4 => write(&stack, &mut model, number, &mut random).await,
            4..7 => end(&stack, &mut model, number, &mut random).await,
            7..12 => read(&stack, &model, number, &mut random, &context).await,
            12..14 => stack.break_one(&mut random),
            14 => stack.mend_one(&mut random),
            _ => stack.clock.advance(secs(random.u64(1..90))),
        }
    }
    for tier in &stack.tiers {
        tier.end_outage();
    }
    for number in 0..KEYS {
        read(
            &stack,
            &model,
            number,
            &mut random,
            &format!("seed {seed}, end"),
        )
        .await;
    }
}

fn numbered(number: usize) -> CacheKey {
    CacheKey::from(format!("k{number}"))
}

/// A time to live, and the stale budget after it, if any.
fn spans(random: &mut fastrand::Rng) -> (Duration, Option<Duration>) {
    let fresh = secs(random.u64(1..300));
    (fresh, random.bool().then(|| secs(random.u64(1..60))))
}

/// A value of its own, as an entry and by itself.
fn new_entry(
    stack: &Stack,
    model: &mut Model,
    number: usize,
    random: &mut fastrand::Rng,
) -> (NewEntry, String) {
    let (fresh, stale) = spans(random);
    let kept = fresh + stale.unwrap_or_default();
    let value = model.new_value(number, stack.clock.wall().after(kept));
    let mut entry = NewEntry::new(value.clone(), ttl(fresh));
    if let Some(stale) = stale {
        entry = entry.with_stale_for(stale).expect("the budget is short");
    }
    if random.bool() {
        entry = entry.with_created_at(stack.clock.wall());
    }
    (entry, value)
}

async fn write(stack: &Stack, model: &mut Model, number: usize, random: &mut fastrand::Rng) {
    let (entry, value) = new_entry(stack, model, number, random);
    let key = numbered(number);
    let written = match random.u8(..6) {
        0 => {
            let other = random.usize(..KEYS);
            let (first, first_value) = new_entry(stack, model, other, random);
            let entries = vec![(numbered(other), first), (key, entry)];
            let mut outcomes = stack.storage.set_many(entries).await;
            if outcomes[0].is_ok() && other != number {
                model.settle(other, Some(&first_value));
            }
            outcomes.remove(1).map(|()| true)
        }
        1 => stack.storage.set(&key, entry, Condition::IfPresent).await,
        2 => stack.storage.set(&key, entry, Condition::IfAbsent).await,
        _ => stack.storage.set(&key, entry, Condition::Always).await,
    };
    if matches!(written, Ok(true)) {
        model.settle(number, Some(&value));
    }
}

async fn end(stack: &Stack, model: &mut Model, number: usize, random: &mut fastrand::Rng) {
    let (storage, key) = (&stack.storage, numbered(number));
    match random.u8(..6) {
        0 => {
            let other = random.usize(..KEYS);
            let outcomes = storage.delete_many(&[key, numbered(other)]).await;
            for (number, outcome) in [number, other].into_iter().zip(outcomes) {
                if outcome.is_ok() {
                    model.settle(number, None);
                }
            }
        }
        1 => {
            let span = secs(random.u64(1..60));
            let moved = storage.expire(&key, ttl(span)).await;
            // The stale budget, at most a minute, counts from the new end.
            let end = stack.clock.wall().after(span + mins(1));
            for value in &model.written[number] {
                let known = model.ends.entry(value.clone()).or_insert(end);
                *known = match moved {
                    Ok(true) => end,
                    Ok(false) => *known,
                    Err(_) => end.max(*known),
                };
            }
        }
        2 => {
            let Some(last) = model.written[number].last().cloned() else {
                return;
            };
            let deleted = storage.compare_and_delete(&key, last.as_bytes()).await;
            if matches!(deleted, Ok(true)) {
                model.settle(number, None);
            }
        }
        3 => {
            let cleared = storage.clear(&ClearScope::everything()).await;
            if cleared.is_ok_and(|cleared| cleared.complete) {
                (0..KEYS).for_each(|number| model.settle(number, None));
            }
        }
        4 => {
            if storage.expire_now(&key).await.is_ok() {
                let ended = model.written[number].iter().cloned();
                model.ended.extend(ended);
            }
        }
        _ => {
            if storage.delete(&key).await.is_ok() {
                model.settle(number, None);
            }
        }
    }
}

async fn read(
    stack: &Stack,
    model: &Model,
    number: usize,
    random: &mut fastrand::Rng,
    context: &str,
) {
    let (storage, now) = (&stack.storage, stack.clock.wall());
    match random.u8(..3) {
        0 => {
            let keys: Vec<_> = (0..KEYS).map(numbered).collect();
            let found = storage.get_many(&keys).await;
            for (number, found) in found.into_iter().enumerate() {
                model.check(number, found.unwrap_or(None).as_ref(), now, context);
            }
        }
        1 => {
            let found = storage.lookup(&numbered(number)).await;
            model.check(number, found.unwrap_or(None).as_ref(), now, context);
        }
        _ => {
            let found = storage.get(&numbered(number)).await;
            model.check(number, found.unwrap_or(None).as_ref(), now, context);
        }
    }
}
