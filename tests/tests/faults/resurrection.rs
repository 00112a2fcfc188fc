//! Nothing is resurrected: random sequences of writes, deletes, outages and recoveries over Redis with
//! DynamoDB to fall back to.

use std::collections::HashSet;
use std::sync::Arc;

use cache_aws::{AwsCredentials, CredentialsSource};
use cache_breaker::{BreakerOptions, BreakerStorage};
use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, ErrorKind, FallbackStorage, NewEntry, Ttl,
    millis, mins,
};
use cache_dynamo::{DynamoDbCacheStorage, DynamoDbOptions};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::chaos::{ChaosStorage, Plan};
use cache_testkit::servers::{DynamoDb, RedisServer};
use tokio::task::JoinSet;

/// How many sequences are tried.
#[cfg(not(feature = "drills"))]
const SEQUENCES: u64 = 600;
#[cfg(feature = "drills")]
const SEQUENCES: u64 = 10_000;

/// How many are under way at a time.
const TASKS: u64 = 16;

const STEPS: u32 = 30;
const KEYS: u32 = 3;

/// What must never be read again, per key.
#[derive(Default)]
struct Model {
    written: [Vec<String>; KEYS as usize],
    gone: HashSet<String>,
}

impl Model {
    /// All values of a key but `kept` were overwritten or deleted, and the caller was told so.
    fn settle(&mut self, key: usize, kept: Option<&str>) {
        let old = self.written[key]
            .iter()
            .filter(|value| Some(value.as_str()) != kept);
        self.gone.extend(old.cloned());
    }
}

/// One stack over the real servers, whose layers can be taken away for it alone.
struct Stack {
    storage: FallbackStorage,
    layers: [ChaosStorage; 2],
}

impl Stack {
    fn new(
        redis: &Arc<RedisCacheStorage>,
        dynamodb: &Arc<DynamoDbCacheStorage>,
        journal: usize,
    ) -> Self {
        let redis = ChaosStorage::new(Arc::clone(redis));
        let dynamodb = ChaosStorage::new(Arc::clone(dynamodb));
        // Opens and probes within milliseconds, so that a sequence meets every state.
        let options = BreakerOptions::default().with_open_for(millis(1), millis(4));
        let guarded = |layer: &ChaosStorage| {
            BreakerStorage::new(layer.clone(), options.clone()).expect("the options are sound")
        };
        let storage = FallbackStorage::builder(guarded(&redis))
            .then(guarded(&dynamodb))
            .journal_capacity(journal)
            .build()
            .expect("the options are sound");
        Self {
            storage,
            layers: [redis, dynamodb],
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_or_overwritten_never_comes_back() {
    let server = RedisServer::start().expect("redis-server starts");
    let table = DynamoDb::start().expect("the emulator starts");
    let redis = RedisOptions::new("127.0.0.1", server.port());
    let redis = Arc::new(RedisCacheStorage::new(redis).expect("the options are sound"));
    let options = DynamoDbOptions::new("cache")
        .with_region("eu-central-1")
        .with_endpoint(table.endpoint())
        .with_credentials(CredentialsSource::fixed(AwsCredentials::new(
            "test", "test",
        )));
    let dynamodb = Arc::new(DynamoDbCacheStorage::new(options).expect("the options are sound"));
    dynamodb.create_table().await.expect("the table is made");

    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (redis, dynamodb) = (Arc::clone(&redis), Arc::clone(&dynamodb));
        tasks.spawn(async move {
            for seed in (task..SEQUENCES).step_by(TASKS as usize) {
                sequence(seed, &redis, &dynamodb).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no sequence resurrects anything");
    }
}

async fn sequence(seed: u64, redis: &Arc<RedisCacheStorage>, dynamodb: &Arc<DynamoDbCacheStorage>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let journal = if random.bool() { 1 } else { 50_000 };
    let stack = Stack::new(redis, dynamodb, journal);
    let mut model = Model::default();
    for step in 0..STEPS {
        let number = random.usize(..KEYS as usize);
        let key = CacheKey::from(format!("{seed}:{number}"));
        match random.u8(..10) {
            0..3 => {
                let value = format!("{seed}.{step}");
                model.written[number].push(value.clone());
                let entry = NewEntry::new(value.clone(), Ttl::new(mins(5)).expect("five minutes"));
                let set = stack.storage.set(&key, entry, Condition::Always).await;
                if set.is_ok() {
                    model.settle(number, Some(&value));
                }
            }
            3..5 => {
                if stack.storage.delete(&key).await.is_ok() {
                    model.settle(number, None);
                }
            }
            5..8 => {
                if let Ok(Some(entry)) = stack.storage.get(&key).await {
                    let value = String::from_utf8_lossy(&entry.value).into_owned();
                    assert!(
                        !model.gone.contains(&value),
                        "seed {seed}, step {step}: {value} was gone and is back"
                    );
                }
            }
            8 => break_layer(&mut random, &stack),
            _ => {
                for layer in &stack.layers {
                    layer.end_outage();
                }
                // Long enough for the breakers to let probes through.
                tokio::time::sleep(millis(4)).await;
            }
        }
    }
}

/// One layer refuses, loses its replies after having done what was asked, or does so now and then.
fn break_layer(random: &mut fastrand::Rng, stack: &Stack) {
    let layer = &stack.layers[random.usize(..2)];
    let refused = CacheError::new(ErrorKind::Connection, "connection refused");
    let lost = CacheError::new(ErrorKind::Timeout, "no answer").with_may_have_happened(true);
    layer.start_outage(match random.u8(..3) {
        0 => Plan::fail(refused),
        1 => Plan::fail_after(lost),
        _ => Plan::fail_after(lost).every(random.u64(2..4)),
    });
}
