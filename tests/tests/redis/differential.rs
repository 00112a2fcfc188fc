//! Memory and Redis side by side: the same calls, the same answers.

use cache_core::{
    CacheKey, CacheStorage, ClearScope, CodecId, Condition, Entry, Expiry, NewEntry, Result,
    SystemClock, TimeLeft, Timestamp, Ttl, mins,
};
use cache_core::{Clock as _, days};
use cache_memory::MemoryCacheStorage;
use fastrand::Rng;

use crate::support::{patient_storage, server};

const STEPS: usize = 20_000;

const KEYS: [&str; 4] = ["p:a", "p:b", "q:*", "pp:c"];

const VALUES: [&[u8]; 14] = [
    b"1",
    b"-1",
    b"007",
    b"+1",
    b"",
    b"abc",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"9007199254740993",
    b"\xFF",
    b"\xFF\xCA",
    b"\xFF\xCA\x01\x1E\x00\x00aaaaaaaabbbbbbbbcccccccczz",
    b"\xFF\xCA\x02",
];

/// One call, to be made of each storage.
#[derive(Debug, Clone)]
enum Call {
    Set(CacheKey, NewEntry, Condition),
    SetMany(Vec<(CacheKey, NewEntry)>),
    Get(CacheKey),
    Lookup(CacheKey),
    GetMany(Vec<CacheKey>),
    Has(CacheKey),
    GetTtl(CacheKey),
    Expire(CacheKey, Ttl),
    ExpireNow(CacheKey),
    Increment(CacheKey, i64, Ttl),
    Delete(CacheKey),
    DeleteMany(Vec<CacheKey>),
    CompareAndDelete(CacheKey, &'static [u8]),
    Clear(&'static str),
}

#[tokio::test]
async fn memory_and_redis_answer_alike() {
    let server = server();
    let (memory, redis) = (MemoryCacheStorage::new(), patient_storage(&server));
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let mut history = Vec::new();
    for step in 0..STEPS {
        let call = call(&mut rng);
        history.push(call.clone());
        let expected = answer(&memory, call.clone()).await;
        let actual = answer(&redis, call).await;
        let recent = &history[history.len().saturating_sub(8)..];
        assert_eq!(
            actual, expected,
            "seed {seed}, step {step}, after {recent:#?}"
        );
    }
    let (memory, redis) = (memory.get_stats(), redis.get_stats());
    assert_eq!(
        (
            redis.hits,
            redis.misses,
            redis.writes,
            redis.deletes,
            redis.errors
        ),
        (
            memory.hits,
            memory.misses,
            memory.writes,
            memory.deletes,
            memory.errors
        ),
    );
}

fn call(rng: &mut Rng) -> Call {
    let key = key(rng);
    match rng.u8(..18) {
        0..5 => Call::Set(key, entry(rng), condition(rng)),
        5 => Call::SetMany(
            (0..rng.usize(..4))
                .map(|_| (self::key(rng), entry(rng)))
                .collect(),
        ),
        6 => Call::Get(key),
        7 => Call::Lookup(key),
        8 => Call::GetMany(keys(rng)),
        9 => Call::Has(key),
        10 => Call::GetTtl(key),
        11 => Call::Expire(key, ttl(rng)),
        12 => Call::ExpireNow(key),
        13 | 14 => {
            let delta = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53][rng.usize(..6)];
            Call::Increment(key, delta, ttl(rng))
        }
        15 => Call::Delete(key),
        16 => Call::CompareAndDelete(key, VALUES[rng.usize(..VALUES.len())]),
        _ if rng.bool() => Call::DeleteMany(keys(rng)),
        _ => Call::Clear(["p", "q", "pp:", "q:*"][rng.usize(..4)]),
    }
}

fn key(rng: &mut Rng) -> CacheKey {
    CacheKey::from(KEYS[rng.usize(..KEYS.len())])
}

fn keys(rng: &mut Rng) -> Vec<CacheKey> {
    (0..rng.usize(..5)).map(|_| key(rng)).collect()
}

fn ttl(rng: &mut Rng) -> Ttl {
    let long = |span| Ttl::new(span).expect("the span is a time to live");
    [long(mins(5)), Ttl::FOREVER, long(days(3000))][rng.usize(..3)]
}

fn entry(rng: &mut Rng) -> NewEntry {
    let mut entry = NewEntry::new(VALUES[rng.usize(..VALUES.len())], ttl(rng));
    if rng.u8(..3) == 0 {
        entry = entry
            .with_stale_for(mins(20))
            .expect("the budget is possible");
    }
    if rng.u8(..4) == 0 {
        let codecs = [
            CodecId::Json,
            CodecId::Postcard,
            CodecId::Bincode,
            CodecId::Raw,
        ];
        entry = entry.with_codec(codecs[rng.usize(..4)]);
    }
    if rng.u8(..5) == 0 {
        entry = entry.with_created_at(Timestamp::from_millis(rng.u64(1..)));
    }
    entry
}

fn condition(rng: &mut Rng) -> Condition {
    match rng.u8(..5) {
        0 | 1 => Condition::Always,
        2 => Condition::IfAbsent,
        3 => Condition::IfPresent,
        _ => Condition::IfEquals(VALUES[rng.usize(..VALUES.len())].into()),
    }
}

/// What a storage answers, in a form without the milliseconds that pass between two calls.
async fn answer(storage: &dyn CacheStorage, call: Call) -> String {
    match call {
        Call::Set(key, entry, condition) => told(storage.set(&key, entry, condition).await),
        Call::SetMany(entries) => all(storage.set_many(entries).await, told),
        Call::Get(key) => found(storage.get(&key).await, false),
        Call::Lookup(key) => found(storage.lookup(&key).await, true),
        Call::GetMany(keys) => all(storage.get_many(&keys).await, |read| found(read, false)),
        Call::Has(key) => told(storage.has(&key).await),
        Call::GetTtl(key) => told(storage.get_ttl(&key).await.map(|left| match left {
            TimeLeft::Remaining(left) => format!("{:.0}", left.as_secs_f64() / 60.0),
            left => format!("{left:?}"),
        })),
        Call::Expire(key, ttl) => told(storage.expire(&key, ttl).await),
        Call::ExpireNow(key) => told(storage.expire_now(&key).await),
        Call::Increment(key, delta, ttl) => {
            let counter = storage.increment(&key, delta, ttl).await;
            let rounded = |counter: cache_core::Counter| {
                let left = counter
                    .expires_in
                    .map(|left| (left.as_secs_f64() / 60.0).round());
                (counter.value, left)
            };
            told(counter.map(rounded))
        }
        Call::Delete(key) => told(storage.delete(&key).await),
        Call::DeleteMany(keys) => all(storage.delete_many(&keys).await, told),
        Call::CompareAndDelete(key, expected) => {
            told(storage.compare_and_delete(&key, expected).await)
        }
        Call::Clear(prefix) => {
            let scope = ClearScope::prefix(prefix).expect("the prefix is a key");
            told(storage.clear(&scope).await)
        }
    }
}

fn all<T>(outcomes: Vec<Result<T>>, tell: impl Fn(Result<T>) -> String) -> String {
    outcomes.into_iter().map(tell).collect::<Vec<_>>().join(" ")
}

fn told<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    format!("{:?}", outcome.map_err(|error| error.kind()))
}

fn found(read: Result<Option<Entry>>, with_deadlines: bool) -> String {
    let now = SystemClock::new().wall();
    let minutes = |expiry| match expiry {
        Expiry::At(end) => {
            let left = end.as_millis().abs_diff(now.as_millis());
            format!("{} {:.0}", end > now, left as f64 / 60_000.0)
        }
        expiry => format!("{expiry:?}"),
    };
    told(read.map(|found| {
        let entry = found?;
        let deadlines = if with_deadlines {
            [minutes(entry.expires_at), minutes(entry.stale_until)].join(", ")
        } else {
            entry.expires_at.is_past(now).to_string()
        };
        Some((entry.value, entry.codec, entry.created_at, deadlines))
    }))
}
