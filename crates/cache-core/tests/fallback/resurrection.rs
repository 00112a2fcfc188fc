//! Random sequences against a model: nothing that was deleted or overwritten comes back.

use std::collections::HashSet;
use std::sync::Arc;

use cache_core::{
    CacheError, CacheKey, CacheStorage, ClearScope, Condition, ErrorKind, FallbackStorage,
    ManualClock, NewEntry, Ttl, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};

const SEQUENCES: u64 = 10_000;
const STEPS: u32 = 40;
const KEYS: usize = 3;

/// What must never be read again.
#[derive(Default)]
struct Model {
    written: [Vec<String>; KEYS],
    gone: HashSet<String>,
    next: u64,
}

impl Model {
    fn new_value(&mut self, key: usize) -> String {
        self.next += 1;
        let value = format!("v{}", self.next);
        self.written[key].push(value.clone());
        value
    }

    /// Everything under the key but `kept` was overwritten or deleted, and that was acknowledged.
    fn settle(&mut self, key: usize, kept: Option<&str>) {
        let old = self.written[key].iter();
        let old = old.filter(|value| Some(value.as_str()) != kept);
        self.gone.extend(old.cloned());
    }

    fn check(&self, found: Option<&[u8]>, context: &str) {
        let Some(found) = found else {
            return;
        };
        let value = String::from_utf8_lossy(found);
        assert!(!self.gone.contains(&*value), "{context}: {value} is back");
    }
}

struct Stack {
    storage: Arc<dyn CacheStorage>,
    layers: Vec<ChaosStorage>,
    clock: ManualClock,
}

impl Stack {
    fn new(random: &mut fastrand::Rng) -> Self {
        let clock = ManualClock::new();
        let layer = || ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
        let layers: Vec<_> = (0..random.usize(2..4)).map(|_| layer()).collect();
        let mut builder = FallbackStorage::builder(layers[0].clone())
            .journal_capacity(if random.bool() { 1 } else { 1_000 });
        for layer in &layers[1..] {
            builder = builder.then(layer.clone());
        }
        if random.u8(..4) == 0 {
            builder = builder.write_all();
        }
        let storage = builder.build().expect("the options are sound");
        Self {
            storage: Arc::new(storage),
            layers,
            clock,
        }
    }

    fn break_one(&self, random: &mut fastrand::Rng) {
        let refused = CacheError::new(ErrorKind::Connection, "connection refused");
        let lost = CacheError::new(ErrorKind::Timeout, "no answer").with_may_have_happened(true);
        let layer = &self.layers[random.usize(..self.layers.len())];
        layer.start_outage(match random.u8(..3) {
            0 => Plan::fail(refused),
            1 => Plan::fail_after(lost),
            _ => Plan::fail_after(lost).every(random.u64(2..4)),
        });
    }

    fn mend_one(&self, random: &mut fastrand::Rng) {
        self.layers[random.usize(..self.layers.len())].end_outage();
    }
}

fn entry(value: &str) -> NewEntry {
    let ttl = Ttl::new(mins(30)).expect("half an hour");
    NewEntry::new(value.to_owned(), ttl)
}

#[test]
fn what_was_deleted_or_overwritten_never_comes_back() {
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
    for layer in &stack.layers {
        layer.end_outage();
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

fn key(number: usize) -> CacheKey {
    CacheKey::from(format!("k{number}"))
}

async fn write(stack: &Stack, model: &mut Model, number: usize, random: &mut fastrand::Rng) {
    let value = model.new_value(number);
    let is_written = match random.u8(..5) {
        0 => {
            let others = random.usize(..KEYS);
            let other = model.new_value(others);
            let entries = vec![(key(others), entry(&other)), (key(number), entry(&value))];
            let outcomes = stack.storage.set_many(entries).await;
            if outcomes[0].is_ok() && others != number {
                model.settle(others, Some(&other));
            }
            outcomes[1].is_ok()
        }
        1 => {
            let present = Condition::IfPresent;
            let written = stack
                .storage
                .set(&key(number), entry(&value), present)
                .await;
            written.is_ok_and(|is_written| is_written)
        }
        2 => {
            let absent = Condition::IfAbsent;
            let written = stack.storage.set(&key(number), entry(&value), absent).await;
            written.is_ok_and(|is_written| is_written)
        }
        _ => {
            let always = Condition::Always;
            let written = stack.storage.set(&key(number), entry(&value), always).await;
            written.is_ok()
        }
    };
    if is_written {
        model.settle(number, Some(&value));
    }
}

async fn end(stack: &Stack, model: &mut Model, number: usize, random: &mut fastrand::Rng) {
    let storage = &stack.storage;
    match random.u8(..6) {
        0 => {
            let others = random.usize(..KEYS);
            let outcomes = storage.delete_many(&[key(number), key(others)]).await;
            for (number, outcome) in [number, others].into_iter().zip(outcomes) {
                if outcome.is_ok() {
                    model.settle(number, None);
                }
            }
        }
        1 => {
            if storage.expire_now(&key(number)).await.is_ok() {
                model.settle(number, None);
            }
        }
        2 => {
            let ttl = Ttl::new(mins(random.u64(1..10))).expect("minutes");
            // It changes no value; what matters is that it revives none.
            _ = storage.expire(&key(number), ttl).await;
        }
        3 => {
            let Some(last) = model.written[number].last().cloned() else {
                return;
            };
            let deleted = storage
                .compare_and_delete(&key(number), last.as_bytes())
                .await;
            if deleted.is_ok_and(|is_deleted| is_deleted) {
                model.settle(number, None);
            }
        }
        4 => {
            let cleared = storage.clear(&ClearScope::everything()).await;
            if cleared.is_ok_and(|cleared| cleared.complete) {
                (0..KEYS).for_each(|number| model.settle(number, None));
            }
        }
        _ => {
            if storage.delete(&key(number)).await.is_ok() {
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
    let storage = &stack.storage;
    match random.u8(..3) {
        0 => {
            let keys: Vec<_> = (0..KEYS).map(key).collect();
            for found in storage
                .get_many(&keys)
                .await
                .into_iter()
                .flatten()
                .flatten()
            {
                model.check(Some(&found.value), context);
            }
        }
        1 => {
            if let Ok(Some(found)) = storage.lookup(&key(number)).await {
                model.check(Some(&found.value), context);
            }
        }
        _ => {
            if let Ok(Some(found)) = storage.get(&key(number)).await {
                model.check(Some(&found.value), context);
            }
        }
    }
}
