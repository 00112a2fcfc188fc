//! Trouble of the storage, bytes that are none, and code of the application that panics.

use super::*;

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
