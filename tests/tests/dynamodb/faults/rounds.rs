//! Thousands of batches against a server that fails in every way it can.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::{CacheError, CacheKey, CacheStorage, millis, secs};
use cache_dynamo::DynamoDbCacheStorage;
use cache_testkit::servers::{Answer, Request};
use fastrand::Rng;

use super::model::{Model, keys};
use super::speed::quiet;
use super::stub::{Stub, whole_text};
use crate::support::{SLACK, entry, storage, timed};

/// How many rounds run at a time.
const LANES: usize = 25;

/// How many rounds share a server and its storages.
const TERM: usize = 25;

/// The whole of a batch where the server may be slow.
const SHORT: Duration = millis(200);

/// How long after its deadline a batch may end.
const GRACE: Duration = millis(50);

/// The whole of a batch that has to succeed.
const LONG: Duration = secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_batches_lose_double_and_misreport_nothing() {
    batches_lose_double_and_misreport_nothing(10_000).await;
}

#[cfg(feature = "drills")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_batches_lose_double_and_misreport_nothing() {
    batches_lose_double_and_misreport_nothing(200_000).await;
}

async fn batches_lose_double_and_misreport_nothing(rounds: usize) {
    let seed = fastrand::u64(..);
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| tokio::spawn(run_lane(seed.wrapping_add(lane as u64), rounds / LANES)))
        .collect();
    let mut tally = Tally::default();
    for lane in lanes {
        let lane = lane.await;
        assert!(lane.is_ok(), "seed {seed}");
        tally.add(&lane.unwrap_or_default());
    }
    // Rounds in which everything failed would prove nothing.
    assert!(tally.done > 10 * tally.failed, "{tally:?}, seed {seed}");
    assert!(
        tally.failed > 0 && tally.unknown > 0,
        "{tally:?}, seed {seed}"
    );
}

async fn run_lane(seed: u64, rounds: usize) -> Tally {
    let mut rng = Rng::with_seed(seed);
    let mut tally = Tally::default();
    for term in 0..rounds.div_ceil(TERM) {
        let _shared = quiet().read().await;
        let lane = Lane::start();
        for round in term * TERM..rounds.min((term + 1) * TERM) {
            tally.add(&lane.round(rng.u64(..), round).await);
        }
    }
    tally
}

/// How many keys of all rounds were answered or written, failed, and may or may not be written.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    failed: usize,
    unknown: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }

    fn count<T>(&mut self, outcome: &Result<T, CacheError>) {
        match outcome {
            Ok(_) => self.done += 1,
            Err(error) if error.may_have_happened() => self.unknown += 1,
            Err(_) => self.failed += 1,
        }
    }
}

/// How a server treats the requests of one round.
#[derive(Debug, Default)]
struct Mischief {
    seed: u64,
    is_harsh: bool,
    /// How often each key has been the first one of a request, and how often in a row such a
    /// request has failed since.
    history: HashMap<String, (u32, u32)>,
}

impl Mischief {
    fn answer(&mut self, request: &Request, model: &mut Model) -> Answer {
        let first = keys(request).swap_remove(0);
        let mut hasher = DefaultHasher::new();
        first.hash(&mut hasher);
        let (seen, failures) = self.history.entry(first).or_default();
        *seen += 1;
        let mut rng = Rng::with_seed(self.seed ^ hasher.finish().wrapping_add(u64::from(*seen)));
        // A call is attempted three times, so it survives two failures.
        let fault = match rng.u32(..100) {
            45.. if *failures < 2 && !self.is_harsh => rng.u32(45..92),
            45.. if self.is_harsh => rng.u32(45..100),
            _ => rng.u32(..45),
        };
        *failures = if fault < 70 { 0 } else { *failures + 1 };
        match fault {
            0..20 => model.answer(request),
            20..30 => model.answer(request).then_close(),
            30..45 => model.answer(request).after(millis(rng.u64(..5))),
            45..65 => model.answer_some(request, |_| rng.bool()),
            65..70 => model.answer_some(request, |_| false),
            70..78 => Answer::error(400, "ProvisionedThroughputExceededException"),
            78..82 => Answer::error(500, "InternalServerError"),
            82..85 => executed(request, model, Answer::error(500, "InternalServerError")),
            85..88 => Answer::reset(),
            88..92 => executed(request, model, Answer::reset()),
            92..94 => model.answer(request).then_hang_up(),
            94..96 => model.answer(request).reset_after(rng.usize(..300)),
            96..98 => model.answer(request).after(SHORT * rng.u32(1..10) / 8),
            _ => model.answer_some(request, |_| rng.bool()).then_hang_up(),
        }
    }
}

/// Executes a request whose answer is lost.
fn executed(request: &Request, model: &mut Model, instead: Answer) -> Answer {
    model.execute(request);
    instead
}

/// A server, and two storages over it.
#[derive(Debug)]
struct Lane {
    stub: Stub,
    mischief: Arc<Mutex<Mischief>>,
    patient: DynamoDbCacheStorage,
    hasty: DynamoDbCacheStorage,
}

impl Lane {
    fn start() -> Self {
        let mischief = Arc::new(Mutex::new(Mischief::default()));
        let script = Arc::clone(&mischief);
        let stub = Stub::start(move |request, model| {
            let mut mischief = script.lock().unwrap_or_else(PoisonError::into_inner);
            mischief.answer(request, model)
        });
        let within = |whole| storage(stub.options().with_bulk_timeout(whole));
        Self {
            patient: within(LONG),
            hasty: within(SHORT),
            mischief,
            stub,
        }
    }

    /// One batch. In three rounds of four the server does what the storage must make good, in the
    /// fourth whatever it likes.
    async fn round(&self, seed: u64, number: usize) -> Tally {
        let mut rng = Rng::with_seed(seed);
        let is_harsh = rng.u32(..4) == 0;
        *self.mischief.lock().unwrap_or_else(PoisonError::into_inner) = Mischief {
            seed,
            is_harsh,
            history: HashMap::new(),
        };
        let mut round = Round::new(&mut rng, number, seed);
        for key in round.before.keys() {
            self.stub.model().insert(key, &round.before[key]);
        }
        let (storage, whole) = match is_harsh {
            true => (&self.hasty, SHORT),
            false => (&self.patient, LONG),
        };
        let plain = tokio::spawn(timed(tokio::time::sleep(whole)));
        let (_, took) = timed(round.run(storage, &mut rng)).await;
        if took > whole + GRACE {
            // No later than a plain timer on the same busy machine.
            let (_, plain) = plain.await.expect("a timer does not panic");
            assert!(
                took < plain + GRACE + SLACK,
                "{took:?}, {plain:?}, {round:?}"
            );
        } else {
            plain.abort();
        }
        round.check(&self.stub.model());
        if !is_harsh {
            let tally = &round.tally;
            assert_eq!(tally.failed + tally.unknown, 0, "{round:?}");
        }
        round.tally
    }
}

/// One batch: its keys, and what has to be in the table before and after. No other round has the
/// same keys, so what a server executes after the end of its round disturbs no other.
struct Round {
    seed: u64,
    keys: Vec<CacheKey>,
    before: BTreeMap<String, String>,
    kind: Kind,
    tally: Tally,
    /// What a write said of each key, and what the key then holds if it was executed.
    written: Vec<(String, Result<(), CacheError>, Option<String>)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    Write,
    Delete,
}

impl Round {
    fn new(rng: &mut Rng, number: usize, seed: u64) -> Self {
        // Mostly a few keys, sometimes hundreds.
        let length = 1 + (399.0 * rng.f64().powi(24)) as usize;
        let distinct = rng.usize(1..=length);
        let keys: Vec<_> = (0..length)
            .map(|_| CacheKey::from(format!("{number}:{}", rng.usize(..distinct))))
            .collect();
        let known = keys.iter().filter(|_| rng.bool());
        let before = known.map(|key| (key.to_string(), format!("old {key}")));
        Self {
            seed,
            before: before.collect(),
            kind: [Kind::Read, Kind::Write, Kind::Delete][rng.usize(..3)],
            keys,
            tally: Tally::default(),
            written: Vec::new(),
        }
    }

    async fn run(&mut self, storage: &DynamoDbCacheStorage, rng: &mut Rng) {
        match self.kind {
            Kind::Read => self.read(storage).await,
            Kind::Write => self.write(storage, rng).await,
            Kind::Delete => {
                let outcomes = storage.delete_many(&self.keys).await;
                self.note(outcomes, |_| None);
            }
        }
    }

    async fn read(&mut self, storage: &DynamoDbCacheStorage) {
        let outcomes = storage.get_many(&self.keys).await;
        assert_eq!(outcomes.len(), self.keys.len(), "{self:?}");
        for (key, outcome) in self.keys.iter().zip(outcomes) {
            self.tally.count(&outcome);
            match outcome {
                Ok(entry) => {
                    let value = entry.map(|entry| entry.value);
                    let expected = self.before.get(key.as_str()).map(String::as_bytes);
                    assert_eq!(value.as_deref(), expected, "{key} of {self:?}");
                }
                Err(error) => check_error(&error, false),
            }
        }
    }

    async fn write(&mut self, storage: &DynamoDbCacheStorage, rng: &mut Rng) {
        let value = |key: &CacheKey| format!("new {key} {}", "v".repeat(rng.usize(..100)));
        let values: Vec<_> = self.keys.iter().map(value).collect();
        let entries = self
            .keys
            .iter()
            .cloned()
            .zip(values.iter().map(|value| entry(value.as_str())));
        let outcomes = storage.set_many(entries.collect()).await;
        // Of several values under one key the last one counts.
        let last: HashMap<_, _> = self
            .keys
            .iter()
            .map(CacheKey::to_string)
            .zip(values)
            .collect();
        self.note(outcomes, |key| last.get(key).cloned());
    }

    fn note(
        &mut self,
        outcomes: Vec<Result<(), CacheError>>,
        after: impl Fn(&str) -> Option<String>,
    ) {
        assert_eq!(outcomes.len(), self.keys.len(), "{self:?}");
        for (key, outcome) in self.keys.iter().zip(outcomes) {
            self.tally.count(&outcome);
            if let Err(error) = &outcome {
                check_error(error, true);
            }
            let key = key.to_string();
            let after = after(&key);
            self.written.push((key, outcome, after));
        }
    }

    /// Compares what was said with what is in the table.
    fn check(&self, model: &Model) {
        for (key, outcome, after) in &self.written {
            let (value, before) = (model.value(key), self.before.get(key).map(String::as_str));
            let was_written = model.writes(key) > 0;
            match outcome {
                Ok(()) => assert!(was_written, "{key} was lost in {self:?}"),
                Err(error) if error.may_have_happened() => {}
                Err(_) => assert!(!was_written, "{key} was written all the same in {self:?}"),
            }
            let expected = if was_written {
                after.as_deref()
            } else {
                before
            };
            assert_eq!(value, expected, "{key} of {self:?}");
        }
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, kind, keys) = (self.seed, self.kind, self.keys.len());
        let tally = &self.tally;
        write!(f, "{kind:?} of {keys} keys, seed {seed}, {tally:?}")
    }
}

#[track_caller]
fn check_error(error: &CacheError, is_write: bool) {
    assert!(error.is_transient(), "{error:?}");
    assert!(is_write || !error.may_have_happened(), "{error:?}");
    assert!(!whole_text(error).contains("hunter"), "{error:?}");
}
