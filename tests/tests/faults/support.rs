//! What the rows of the matrix share.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{
    CacheError, CacheKey, CacheStorage, ErrorKind, Event, Observer, Observers, millis, secs,
};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::proxy::FaultProxy;
use cache_testkit::servers::{RedisServer, RedisServerBuilder};
pub(crate) use cache_tests::entries::{fetch, minute, put, timed};
use tokio::task::JoinHandle;

/// What one attempt on a connection that is there may take.
pub(crate) const ATTEMPT: Duration = millis(100);

/// What a new connection may take.
pub(crate) const CONNECT: Duration = millis(300);

/// What a busy machine needs to notice that a time is over.
pub(crate) const SLACK: Duration = millis(400);

/// How long a test waits for what has to come.
const PATIENCE: Duration = secs(10);

/// A server, a proxy in front of it, and a storage that knows only the proxy.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) storage: Arc<RedisCacheStorage>,
    pub(crate) proxy: FaultProxy,
    pub(crate) server: RedisServer,
    /// What the storage has told.
    pub(crate) told: Recorded,
}

impl Bench {
    /// With the default time limits, which are those of the matrix.
    pub(crate) async fn new() -> Self {
        Self::with(RedisServer::builder(), |options| options).await
    }

    /// With time limits that nothing reaches, for rows about what happens rather than when.
    pub(crate) async fn patient() -> Self {
        Self::with(RedisServer::builder(), patient).await
    }

    pub(crate) async fn with(
        server: RedisServerBuilder,
        options: impl FnOnce(RedisOptions) -> RedisOptions,
    ) -> Self {
        let server = server.start().expect("redis-server starts");
        let target = server.address().parse().expect("the address is one");
        let proxy = FaultProxy::start(target).await.expect("a port is free");
        let told = Recorded::default();
        let through = RedisOptions::new("127.0.0.1", proxy.address().port());
        let through = options(through.with_observers(told.observers()));
        let storage = RedisCacheStorage::new(through).expect("the options are sound");
        Self {
            storage: Arc::new(storage),
            proxy,
            server,
            told,
        }
    }

    /// Writes the value of a key and returns when it is there, so that there is a connection.
    pub(crate) async fn given(&self, key: &str) {
        eventually(async || put(&*self.storage, key, &value_of(key)).await.ok()).await;
    }

    /// Begins a call, and returns when the server or its host was sent all of it.
    pub(crate) async fn in_flight<T, F>(
        &self,
        call: impl FnOnce(Arc<RedisCacheStorage>) -> F,
    ) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let before = self.proxy.counters().bytes_up;
        let call = tokio::spawn(call(Arc::clone(&self.storage)));
        self.proxy
            .wait_for(|counters| counters.bytes_up > before)
            .await;
        call
    }

    /// Waits until the storage has told an event with all of these words.
    pub(crate) async fn tells(&self, words: &[&str]) {
        eventually(async || (self.told.times(words) > 0).then_some(())).await;
    }

    /// Whether the storage works, on the connection it has or on a new one, with right values.
    pub(crate) async fn recovers(&self) {
        eventually(async || {
            put(&*self.storage, "after", "it works").await.ok()?;
            fetch(&*self.storage, "after").await.ok()
        })
        .await
        .filter(|value| value == "it works")
        .expect("no other value was written");
    }

    /// What the server's data says, asked past proxy and storage.
    pub(crate) fn stored(&self, key: &str) -> String {
        self.server
            .command(&["GET", key])
            .expect("the server answers")
    }

    /// How often the server has refused a command with this word.
    pub(crate) fn refusals(&self, word: &str) -> u64 {
        let info = self
            .server
            .command(&["INFO", "errorstats"])
            .expect("the server answers");
        let prefix = format!("errorstat_{word}:count=");
        let count = info.lines().find_map(|line| line.strip_prefix(&prefix));
        count.map_or(0, |count| {
            count.trim().parse().expect("the count is a number")
        })
    }
}

/// Time limits that nothing reaches.
pub(crate) fn patient(options: RedisOptions) -> RedisOptions {
    options
        .with_connect_timeout(secs(5))
        .with_attempt_timeout(secs(5))
        .with_timeout(secs(10))
        .with_bulk_timeout(secs(10))
}

/// The value that every row writes under a key, so that a value of another key is found out.
pub(crate) fn value_of(key: &str) -> String {
    format!("the value of {key}")
}

/// Reads a key and says whether it had its own value; a wrong one fails the test.
pub(crate) async fn read(storage: &dyn CacheStorage, key: &str) -> Result<bool, CacheError> {
    let value = fetch(storage, key).await?;
    if let Some(value) = &value {
        assert_eq!(*value, value_of(key), "somebody else's value");
    }
    Ok(value.is_some())
}

/// Adds one to the counter `n`.
pub(crate) async fn count(storage: &dyn CacheStorage) -> Result<i64, CacheError> {
    let counter = storage.increment(&CacheKey::from("n"), 1, minute()).await?;
    Ok(counter.value)
}

/// The error of a call, which has to be of this kind and come within this time.
pub(crate) async fn error_within<T: Debug>(
    kind: ErrorKind,
    most: Duration,
    call: impl Future<Output = Result<T, CacheError>>,
) -> CacheError {
    let (outcome, took) = timed(call).await;
    let error = outcome.expect_err("the call cannot succeed");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(took < most + SLACK, "it took {took:?}: {error}");
    error
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("what has to come comes within 10 s")
}

/// Keeps what it is told as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<String>>>);

impl Recorded {
    /// A handle for storages and whatever else tells.
    pub(crate) fn observers(&self) -> Observers {
        Observers::new(self.clone())
    }

    /// How many events there were that look like this, as `Debug` shows them.
    pub(crate) fn count_of(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let events = self.events().clone();
        events.iter().filter(|event| is_meant(event)).count()
    }

    /// How many events had all of these words.
    pub(crate) fn times(&self, words: &[&str]) -> usize {
        self.count_of(|event| {
            let mut quoted = words.iter();
            quoted.all(|word| event.starts_with(word) || event.contains(&format!("{word:?}")))
        })
    }

    fn events(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Recorded {
    fn observe(&self, event: &Event<'_>) {
        self.events().push(format!("{event:?}"));
    }
}

#[test]
fn events_are_kept_in_the_words_of_debug() {
    let recorded = Recorded::default();
    let observers = recorded.observers();
    observers.tell(&Event::Retry { backend: "redis" });
    observers.tell(&Event::InvalidKey);
    let retries = |event: &str| event.starts_with("Retry") && event.contains("redis");
    assert_eq!(recorded.count_of(retries), 1);
    assert_eq!(recorded.count_of(|_| true), 2);
}
