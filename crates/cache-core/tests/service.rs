//! The typed service over the memory storage, with time moved by hand.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cache_core::{
    BatchOutcome, CacheError, CacheKey, CacheService, CacheStorage, ClearScope, Cleared, Codec,
    CodecId, Condition, Counter, DisabledStorage, Entry, ErrorKind, Event, LookupStatus,
    ManualClock, NewEntry, Observer, Observers, OnTrouble, Result, SerializationError, SetOptions,
    StorageInfo, StorageStats, TimeLeft, Ttl, millis, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use std::error::Error as _;
use std::time::Duration;

type Memory = Arc<MemoryCacheStorage>;

fn memory() -> (ManualClock, Memory) {
    let clock = ManualClock::new();
    let storage = Arc::new(MemoryCacheStorage::with_clock(clock.clone()));
    (clock, storage)
}

fn service(storage: &Memory) -> CacheService {
    CacheService::builder(Arc::clone(storage))
        .prefix("t")
        .ttl(mins(1))
        .build()
        .expect("the service is sound")
}

#[tokio::test]
async fn values_come_back_until_their_time_is_over() {
    let (clock, storage) = memory();
    let cache = service(&storage);
    cache.set("k", &vec![1, 2]).await.unwrap();
    assert_eq!(cache.get::<Vec<i32>>("k").await.unwrap(), Some(vec![1, 2]));
    clock.advance(secs(59));
    assert!(cache.has("k").await.unwrap());
    assert_eq!(
        cache.get_ttl("k").await.unwrap(),
        TimeLeft::Remaining(secs(1))
    );
    clock.advance(secs(1));
    assert_eq!(cache.get::<Vec<i32>>("k").await.unwrap(), None);
    assert_eq!(cache.get_ttl("k").await.unwrap(), TimeLeft::Missing);
}

#[tokio::test]
async fn null_and_absent_are_different() {
    let (_, storage) = memory();
    let cache = service(&storage);
    cache.set("k", &None::<u8>).await.unwrap();
    assert_eq!(cache.get::<Option<u8>>("k").await.unwrap(), Some(None));
    assert_eq!(cache.get::<Option<u8>>("other").await.unwrap(), None);
}

#[tokio::test]
async fn keys_lie_below_the_prefix() {
    let (_, storage) = memory();
    let cache = service(&storage);
    cache.set(("a:b", 7), &1).await.unwrap();
    let key = CacheKey::from("t:a%3Ab:7");
    assert_eq!(storage.get(&key).await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn bad_keys_are_refused_by_every_method() {
    let (_, storage) = memory();
    let cache = service(&storage);
    let long = "k".repeat(1024 - 2);
    cache.set(&long, &1).await.unwrap();
    for key in ["", "a\nb", &format!("{long}k")] {
        let kinds = [
            cache.get::<u8>(key).await.unwrap_err().kind(),
            cache.get_many::<u8>([key]).await.unwrap_err().kind(),
            cache.lookup::<u8>(key).await.unwrap_err().kind(),
            cache.set(key, &1).await.unwrap_err().kind(),
            cache.set_many([(key, 1)]).await.unwrap_err().kind(),
            cache.set_if_absent(key, &1).await.unwrap_err().kind(),
            cache.compare_and_set(key, &1, &2).await.unwrap_err().kind(),
            cache.compare_and_delete(key, &1).await.unwrap_err().kind(),
            cache.delete(key).await.unwrap_err().kind(),
            cache.delete_many([key]).await.unwrap_err().kind(),
            cache.has(key).await.unwrap_err().kind(),
            cache.expire(key, secs(1)).await.unwrap_err().kind(),
            cache.expire_now(key).await.unwrap_err().kind(),
            cache.get_ttl(key).await.unwrap_err().kind(),
            cache.increment(key, 1, secs(1)).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Key; 15], "{key:?}");
    }
    assert_eq!(storage.get_stats().entries, Some(1));
}

#[tokio::test]
async fn impossible_times_to_live_are_refused() {
    let (_, storage) = memory();
    let cache = service(&storage);
    for ttl in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::MAX,
        mins(u64::MAX),
    ] {
        let options = SetOptions::new().ttl(ttl);
        let kinds = [
            cache.set_with("k", &1, options).await.unwrap_err().kind(),
            cache.expire("k", ttl).await.unwrap_err().kind(),
            cache.increment("k", 1, ttl).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Ttl; 3], "{ttl:?}");
        let built = CacheService::builder(Arc::clone(&storage)).ttl(ttl).build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Configuration);
    }
    assert_eq!(storage.get_stats().entries, Some(0));
}

#[tokio::test]
async fn no_write_without_a_time_to_live() {
    let (_, storage) = memory();
    let cache = CacheService::builder(Arc::clone(&storage)).build().unwrap();
    let error = cache.set("k", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let options = SetOptions::new().ttl(Ttl::FOREVER);
    assert!(cache.set_with("k", &1, options).await.unwrap());
    assert_eq!(cache.get_ttl("k").await.unwrap(), TimeLeft::Forever);
}

#[tokio::test]
async fn every_problem_of_a_builder_is_told_at_once() {
    let (_, storage) = memory();
    let error = CacheService::builder(storage)
        .prefix("a\nb")
        .ttl(Duration::ZERO)
        .stale_for(Duration::MAX)
        .jitter(1.5)
        .max_value_bytes(usize::MAX)
        .build()
        .unwrap_err();
    let text = error.to_string();
    for option in ["prefix", "ttl", "stale_for", "jitter", "max_value_bytes"] {
        assert!(text.contains(option), "{option} is missing in {text}");
    }
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_and_the_old_one_stays() {
    let (_, storage) = memory();
    let cache = CacheService::builder(Arc::clone(&storage))
        .ttl(mins(1))
        .max_value_bytes(10)
        .build()
        .unwrap();
    cache.set("k", "12345678").await.unwrap();
    let error = cache.set("k", "123456789").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(cache.get::<String>("k").await.unwrap().unwrap(), "12345678");
}

#[tokio::test]
async fn stale_values_are_shown_to_those_who_ask() {
    let (clock, storage) = memory();
    let cache = CacheService::builder(storage)
        .ttl(mins(1))
        .stale_for(mins(5))
        .build()
        .unwrap();
    cache.set("k", &1).await.unwrap();
    clock.advance(mins(2));
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    let lookup = cache.lookup::<i32>("k").await.unwrap();
    assert_eq!(
        (lookup.value, lookup.status),
        (Some(1), LookupStatus::Stale)
    );
    assert_eq!(lookup.age, Some(mins(2)));
    clock.advance(mins(4));
    let lookup = cache.lookup::<i32>("k").await.unwrap();
    assert_eq!((lookup.value, lookup.status), (None, LookupStatus::Absent));
    let stats = cache.get_stats();
    assert_eq!((stats.hits, stats.stale, stats.misses), (0, 2, 1));
}

#[tokio::test]
async fn expire_now_keeps_the_stale_value() {
    let (_, storage) = memory();
    let cache = CacheService::builder(storage)
        .ttl(mins(1))
        .stale_for(mins(5))
        .build()
        .unwrap();
    cache.set("k", &1).await.unwrap();
    assert!(cache.expire_now("k").await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    assert_eq!(cache.lookup::<i32>("k").await.unwrap().value, Some(1));
}

#[tokio::test]
async fn jitter_shortens_each_entry_by_itself() {
    let (_, storage) = memory();
    let cache = CacheService::builder(storage)
        .ttl(mins(100))
        .jitter(0.5)
        .build()
        .unwrap();
    let mut spans = Vec::new();
    for key in 0..50 {
        cache.set(key, &1).await.unwrap();
        let TimeLeft::Remaining(span) = cache.get_ttl(key).await.unwrap() else {
            panic!("the entry expires");
        };
        assert!(span >= mins(50) && span <= mins(100), "{span:?}");
        spans.push(span);
    }
    spans.sort();
    spans.dedup();
    assert!(spans.len() > 10, "the draws differ");
}

#[tokio::test]
async fn conditional_writes_compare_encoded_values() {
    let (_, storage) = memory();
    let cache = service(&storage);
    assert!(cache.set_if_absent("k", &1).await.unwrap());
    assert!(!cache.set_if_absent("k", &2).await.unwrap());
    assert!(!cache.compare_and_set("k", &2, &3).await.unwrap());
    assert!(cache.compare_and_set("k", &1, &3).await.unwrap());
    assert!(!cache.compare_and_delete("k", &1).await.unwrap());
    assert!(cache.compare_and_delete("k", &3).await.unwrap());
    let options = SetOptions::new().if_present();
    assert!(!cache.set_with("k", &1, options).await.unwrap());
}

#[tokio::test]
async fn counters_are_read_and_made_by_every_codec() {
    for codec in [Codec::Json, Codec::Postcard, Codec::Bincode] {
        let (_, storage) = memory();
        let cache = CacheService::builder(storage)
            .codec(codec)
            .ttl(mins(1))
            .build()
            .unwrap();
        let counter = cache.increment("n", 41, mins(2)).await.unwrap();
        assert_eq!((counter.value, counter.expires_in), (41, Some(mins(2))));
        assert_eq!(cache.get::<i64>("n").await.unwrap(), Some(41), "{codec:?}");
        assert_eq!(cache.get::<u8>("n").await.unwrap(), Some(41), "{codec:?}");
    }
    let (_, storage) = memory();
    let cache = service(&storage);
    cache.set("n", &i64::MAX).await.unwrap();
    let error = cache.increment("n", 1, mins(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overflow);
    assert_eq!(cache.get::<i64>("n").await.unwrap(), Some(i64::MAX));
    cache.set("n", "text").await.unwrap();
    let error = cache.increment("n", 1, mins(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotACounter);
}

#[tokio::test]
async fn codecs_do_not_misread_each_other() {
    let (_, storage) = memory();
    let build = |codec| {
        let builder = CacheService::builder(Arc::clone(&storage));
        builder.codec(codec).ttl(mins(1)).build().unwrap()
    };
    let codecs = [Codec::Json, Codec::Postcard, Codec::Bincode, Codec::Raw];
    for writer in codecs {
        build(writer).set("k", "alice").await.unwrap();
        for reader in codecs {
            let read = build(reader).get::<String>("k").await;
            if reader == writer {
                assert_eq!(read.unwrap().as_deref(), Some("alice"));
            } else if (writer, reader) == (Codec::Json, Codec::Raw) {
                assert_eq!(read.unwrap().as_deref(), Some("\"alice\""));
            } else {
                let error = read.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Serialization,
                    "{writer:?} {reader:?}"
                );
                assert!(error.source().unwrap().is::<SerializationError>());
            }
        }
    }
}

#[tokio::test]
async fn batches_answer_in_order_and_report_each_entry() {
    let (_, storage) = memory();
    let cache = service(&storage);
    let report = cache.set_many_report([("a", 1), ("", 2), ("c", 3)]).await;
    let outcomes: Vec<_> = report.outcomes().collect();
    assert!(matches!(
        outcomes[..],
        [
            BatchOutcome::Done,
            BatchOutcome::Failed(_),
            BatchOutcome::Done
        ]
    ));
    assert_eq!(report.into_result().unwrap_err().kind(), ErrorKind::Key);
    let values = cache.get_many::<i32>(["c", "b", "a", "c"]).await.unwrap();
    assert_eq!(values, [Some(3), None, Some(1), Some(3)]);
    assert!(
        cache
            .get_many::<i32>([] as [&str; 0])
            .await
            .unwrap()
            .is_empty()
    );
    cache.delete_many(["a", "b"]).await.unwrap();
    assert_eq!(
        cache.get_many::<i32>(["a", "c"]).await.unwrap(),
        [None, Some(3)]
    );
}

#[tokio::test]
async fn clear_needs_a_prefix_or_the_longer_name() {
    let (_, storage) = memory();
    let users = CacheService::builder(Arc::clone(&storage))
        .prefix("user")
        .ttl(mins(1));
    let users = users.build().unwrap();
    let all = CacheService::builder(storage).ttl(mins(1)).build().unwrap();
    users.set((1, "cart"), &1).await.unwrap();
    users.set((2, "cart"), &1).await.unwrap();
    all.set("users:1", &1).await.unwrap();
    assert_eq!(all.clear().await.unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(users.clear_prefix(1).await.unwrap().deleted, 1);
    assert!(users.clear().await.unwrap().complete);
    assert!(all.has("users:1").await.unwrap());
    all.clear_everything().await.unwrap();
    assert!(!all.has("users:1").await.unwrap());
}

#[tokio::test]
async fn a_disabled_cache_keeps_nothing() {
    let cache = CacheService::builder(DisabledStorage::new())
        .ttl(mins(1))
        .build()
        .unwrap();
    cache.set("k", &1).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    assert_eq!(cache.increment("n", 5, mins(1)).await.unwrap().value, 5);
    assert_eq!(cache.set("", &1).await.unwrap_err().kind(), ErrorKind::Key);
    cache.storage().shutdown(millis(1)).await.unwrap();
    assert_eq!(
        cache.get::<i32>("k").await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

/// A storage that fails every call with one error.
#[derive(Debug)]
struct Failing {
    error: CacheError,
    info: StorageInfo,
}

impl Failing {
    fn new(kind: ErrorKind) -> Self {
        Self {
            error: CacheError::new(kind, "broken"),
            info: StorageInfo::new("failing"),
        }
    }

    fn fail<T>(&self) -> Result<T> {
        Err(self.error.clone())
    }
}

#[async_trait]
impl CacheStorage for Failing {
    fn info(&self) -> &StorageInfo {
        &self.info
    }
    async fn get(&self, _: &CacheKey) -> Result<Option<Entry>> {
        self.fail()
    }
    async fn get_many(&self, keys: &[CacheKey]) -> Vec<Result<Option<Entry>>> {
        keys.iter().map(|_| self.fail()).collect()
    }
    async fn set(&self, _: &CacheKey, _: NewEntry, _: Condition) -> Result<bool> {
        self.fail()
    }
    async fn set_many(&self, entries: Vec<(CacheKey, NewEntry)>) -> Vec<Result<()>> {
        entries.iter().map(|_| self.fail()).collect()
    }
    async fn delete(&self, _: &CacheKey) -> Result<bool> {
        self.fail()
    }
    async fn delete_many(&self, keys: &[CacheKey]) -> Vec<Result<()>> {
        keys.iter().map(|_| self.fail()).collect()
    }
    async fn compare_and_delete(&self, _: &CacheKey, _: &[u8]) -> Result<bool> {
        self.fail()
    }
    async fn has(&self, _: &CacheKey) -> Result<bool> {
        self.fail()
    }
    async fn expire(&self, _: &CacheKey, _: Ttl) -> Result<bool> {
        self.fail()
    }
    async fn expire_now(&self, _: &CacheKey) -> Result<bool> {
        self.fail()
    }
    async fn get_ttl(&self, _: &CacheKey) -> Result<TimeLeft> {
        self.fail()
    }
    async fn increment(&self, _: &CacheKey, _: i64, _: Ttl) -> Result<Counter> {
        self.fail()
    }
    async fn clear(&self, _: &ClearScope) -> Result<Cleared> {
        self.fail()
    }
    fn get_stats(&self) -> StorageStats {
        StorageStats::default()
    }
    async fn ping(&self) -> Result<()> {
        self.fail()
    }
    async fn shutdown(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn trouble_is_an_error_by_default() {
    let cache = CacheService::builder(Failing::new(ErrorKind::Timeout)).ttl(mins(1));
    let cache = cache.build().unwrap();
    assert_eq!(
        cache.get::<u8>("k").await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert!(cache.lookup::<u8>("k").await.is_err());
}

#[tokio::test]
async fn trouble_reads_as_a_miss_where_that_is_the_policy() {
    let cache = CacheService::builder(Failing::new(ErrorKind::Connection))
        .ttl(mins(1))
        .on_trouble(OnTrouble::Miss)
        .build()
        .unwrap();
    assert_eq!(cache.get::<u8>("k").await.unwrap(), None);
    assert_eq!(
        cache.get_many::<u8>(["k", "l"]).await.unwrap(),
        [None, None]
    );
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.get_ttl("k").await.unwrap(), TimeLeft::Missing);
    let lookup = cache.lookup::<u8>("k").await.unwrap();
    assert_eq!(lookup.status, LookupStatus::Unknown);
    assert_eq!(lookup.trouble.unwrap().kind(), ErrorKind::Connection);
    assert_eq!(cache.get_stats().degraded, 6);
    assert_eq!(cache.get_stats().misses, 0);
    // Writes report, whatever the policy.
    assert!(cache.set("k", &1).await.is_err());
    assert!(cache.delete("k").await.is_err());
    assert!(cache.increment("k", 1, mins(1)).await.is_err());
    assert!(cache.set_if_absent("k", &1).await.is_err());
}

#[tokio::test]
async fn mistakes_and_shutdowns_are_errors_under_either_policy() {
    for kind in [ErrorKind::Key, ErrorKind::Closed, ErrorKind::Unsupported] {
        let cache = CacheService::builder(Failing::new(kind))
            .on_trouble(OnTrouble::Miss)
            .build()
            .unwrap();
        assert_eq!(cache.get::<u8>("k").await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn undecodable_bytes_are_trouble_and_left_alone() {
    let (_, storage) = memory();
    let strict = service(&storage);
    strict.set("k", "not a number").await.unwrap();
    let error = strict.get::<u8>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization);
    assert!(!error.to_string().contains("not a number"), "{error}");
    let lenient = CacheService::builder(Arc::clone(&storage))
        .prefix("t")
        .on_trouble(OnTrouble::Miss)
        .build()
        .unwrap();
    assert_eq!(lenient.get::<u8>("k").await.unwrap(), None);
    let stats = lenient.get_stats();
    assert_eq!((stats.degraded, stats.decode_errors), (1, 1));
    assert_eq!(
        strict.get::<String>("k").await.unwrap().unwrap(),
        "not a number"
    );
}

#[tokio::test]
async fn metadata_is_written_only_where_it_is_asked_for() {
    let (_, storage) = memory();
    service(&storage).set("plain", &1).await.unwrap();
    let rich = CacheService::builder(Arc::clone(&storage))
        .prefix("t")
        .codec(Codec::Postcard)
        .ttl(mins(1))
        .stale_for(mins(1))
        .build()
        .unwrap();
    rich.set("rich", &1).await.unwrap();
    let plain = storage.get(&"t:plain".into()).await.unwrap().unwrap();
    assert_eq!((plain.codec, plain.created_at), (None, None));
    assert_eq!(plain.expires_at, plain.stale_until);
    let rich = storage.get(&"t:rich".into()).await.unwrap().unwrap();
    assert_eq!(rich.codec, Some(CodecId::Postcard));
    assert!(rich.created_at.is_some());
    assert_ne!(rich.expires_at, rich.stale_until);
}

/// Keeps what it is told as text.
#[derive(Debug, Clone, Default)]
struct Recorded(Arc<Mutex<Vec<String>>>);

impl Recorded {
    /// What was told since the last call of this.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Recorded {
    fn observe(&self, event: &Event<'_>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(format!("{event:?}"));
    }
}

#[tokio::test]
async fn an_observer_is_told_of_misses_that_are_none_and_of_what_cannot_be_used() {
    let (_, storage) = memory();
    let recorded = Recorded::default();
    let observed = |on_trouble| {
        CacheService::builder(Arc::clone(&storage))
            .ttl(mins(1))
            .on_trouble(on_trouble)
            .observers(Observers::new(recorded.clone()))
            .build()
            .unwrap()
    };
    let (strict, lenient) = (observed(OnTrouble::Error), observed(OnTrouble::Miss));
    strict.set("k", "v").await.unwrap();
    assert_eq!(strict.get::<String>("k").await.unwrap().unwrap(), "v");
    assert_eq!(strict.get::<String>("l").await.unwrap(), None);
    assert!(recorded.take().is_empty(), "nothing went wrong");

    strict.get::<u32>("k").await.unwrap_err();
    let undecodable = "DecodeError { reason: \"codec\" }";
    assert_eq!(recorded.take(), [undecodable]);
    assert_eq!(lenient.get::<u32>("k").await.unwrap(), None);
    let degraded = "Degraded { reason: \"serialization\" }";
    assert_eq!(recorded.take(), [undecodable, degraded]);

    strict.set("a\nb", "v").await.unwrap_err();
    strict.compare_and_delete("", "v").await.unwrap_err();
    strict.set_many([("a\0", "v")]).await.unwrap_err();
    assert_eq!(recorded.take(), ["InvalidKey"; 3]);
}

/// A value whose own code panics while it is written or read.
struct Hostile;

impl serde::Serialize for Hostile {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        unreachable!("it panics on purpose, hunter2")
    }
}

impl<'de> serde::Deserialize<'de> for Hostile {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        unreachable!("it panics on purpose, hunter2")
    }
}

#[tokio::test]
async fn a_type_that_panics_has_no_form_in_bytes() {
    for codec in [Codec::Json, Codec::Postcard, Codec::Bincode, Codec::Raw] {
        let (_, storage) = memory();
        let recorded = Recorded::default();
        let observed = |on_trouble| {
            CacheService::builder(Arc::clone(&storage))
                .codec(codec)
                .ttl(mins(1))
                .on_trouble(on_trouble)
                .observers(Observers::new(recorded.clone()))
                .build()
                .unwrap()
        };
        let (strict, lenient) = (observed(OnTrouble::Error), observed(OnTrouble::Miss));
        strict.set("k", "v").await.unwrap();
        let written = strict.set("k", &Hostile).await.unwrap_err();
        let panicked = "Panicked { place: \"codec\" }";
        assert_eq!(recorded.take(), [panicked], "{codec:?}");
        let read = strict.get::<Hostile>("k").await.err().unwrap();
        let undecodable = "DecodeError { reason: \"codec\" }";
        assert_eq!(recorded.take(), [panicked, undecodable], "{codec:?}");
        for error in [written, read] {
            assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter"), "{text}");
        }
        assert!(lenient.get::<Hostile>("k").await.unwrap().is_none());
        let value = strict.get::<String>("k").await.unwrap();
        assert_eq!(value.as_deref(), Some("v"), "{codec:?}: it was left alone");
    }
}
