//! What is particular to the storage in memory; what it shares with all others is tested by the
//! contract suite.

use std::time::Duration;

use cache_core::{
    CacheKey, CacheStorage, ClearScope, CodecId, Condition, ErrorKind, Expiry, ManualClock,
    NewEntry, TimeLeft, Ttl, hours, secs,
};
use cache_memory::{MemoryCacheStorage, MemoryOptions};

fn minute() -> Ttl {
    Ttl::new(secs(60)).expect("a minute is a time to live")
}

fn key(text: &str) -> CacheKey {
    CacheKey::from(text)
}

async fn put(storage: &MemoryCacheStorage, name: &str, value: &str) {
    let entry = NewEntry::new(value.to_owned(), minute());
    let written = storage.set(&key(name), entry, Condition::Always).await;
    assert!(written.expect("the entry is in order"));
}

/// Runs `work` on eight threads at once and returns what each made of it.
fn on_eight_threads<R: Send>(work: impl AsyncFn(usize) -> R + Sync) -> Vec<R> {
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let run = |number| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                block_on(work(number))
            })
        };
        let threads: Vec<_> = (0..8).map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| thread.join();
        threads
            .into_iter()
            .map(join)
            .map(|made| made.expect("no thread panics"))
            .collect()
    })
}

fn block_on<R>(work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .expect("a runtime without drivers needs nothing")
        .block_on(work)
}

#[test]
fn shows_itself_in_one_word() {
    let storage = MemoryCacheStorage::new();
    assert_eq!(format!("{storage:?}"), "Memory");
    assert_eq!(storage.info().backend, "memory");
}

#[test]
fn impossible_options_are_refused_together() {
    let options = MemoryOptions::default()
        .with_max_entries(0)
        .with_max_bytes(1_000)
        .with_max_value_bytes(1_001);
    let error = MemoryCacheStorage::with_options(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.message(),
        "max_entries is 0, at least 1 is needed | \
         max_value_bytes is 1001, which does not fit in max_bytes, which is 1000"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_displaces_nothing() {
    let options = MemoryOptions::default().with_max_bytes(1_000);
    let storage = MemoryCacheStorage::with_options(options).unwrap();
    assert_eq!(storage.info().max_value_bytes, 1_000);
    put(&storage, "a", "1").await;
    let before = storage.get_stats();
    // The value alone, and the value with its key and its place.
    for length in [1_001, 1_000 - 256] {
        let entry = NewEntry::new(vec![0; length], minute());
        let refused = storage
            .set(&key("a"), entry, Condition::Always)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        assert!(
            refused.to_string().starts_with("memory set \"a\": "),
            "{refused}"
        );
    }
    let long = key(&"k".repeat(744));
    let refused = storage.increment(&long, 1, minute()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    let after = storage.get_stats();
    assert_eq!((after.entries, after.bytes), (before.entries, before.bytes));
    assert_eq!(storage.get(&key("a")).await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn a_small_value_does_not_hold_on_to_the_buffer_it_was_cut_from() {
    let storage = MemoryCacheStorage::new();
    let buffer = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let entry = NewEntry::new(buffer.slice(..10), minute());
    storage
        .set(&key("a"), entry, Condition::Always)
        .await
        .unwrap();
    assert!(buffer.is_unique());
}

#[test]
fn no_increment_is_lost() {
    let storage = MemoryCacheStorage::new();
    on_eight_threads(async |_| {
        for _ in 0..5_000 {
            storage.increment(&key("n"), 1, minute()).await.unwrap();
        }
    });
    let counter = block_on(storage.increment(&key("n"), 0, minute())).unwrap();
    assert_eq!(counter.value, 40_000);
}

#[test]
fn of_conditional_writes_that_exclude_each_other_one_succeeds() {
    let clock = ManualClock::new();
    let storage = MemoryCacheStorage::with_clock(clock.clone());
    let winners = |condition: Condition| {
        let won = on_eight_threads(async |number| {
            let entry = NewEntry::new(number.to_string(), minute());
            let written = storage.set(&key("k"), entry, condition.clone()).await;
            written.unwrap()
        });
        won.iter().filter(|won| **won).count()
    };
    for _ in 0..50 {
        assert_eq!(winners(Condition::IfAbsent), 1);
        block_on(put(&storage, "k", "token"));
        assert_eq!(winners(Condition::IfEquals("token".into())), 1);
        clock.advance(secs(60));
    }
}

#[tokio::test]
async fn neither_a_clock_set_back_nor_a_frozen_one_prolongs_a_life() {
    for disturb in [
        |clock: &ManualClock| {
            clock.set_back(hours(10));
            clock.advance(secs(60));
        },
        |clock: &ManualClock| clock.freeze(secs(60)),
    ] {
        let clock = ManualClock::new();
        let storage = MemoryCacheStorage::with_clock(clock.clone());
        put(&storage, "a", "1").await;
        disturb(&clock);
        assert!(!storage.has(&key("a")).await.unwrap());
        assert_eq!(storage.get_ttl(&key("a")).await.unwrap(), TimeLeft::Missing);
        assert_eq!(storage.get(&key("a")).await.unwrap(), None);
        assert_eq!(storage.get_stats().entries, Some(0), "the read dropped it");
    }
}

#[tokio::test]
async fn a_stale_entry_is_read_and_otherwise_absent() {
    let clock = ManualClock::new();
    let storage = MemoryCacheStorage::with_clock(clock.clone());
    let a = key("a");
    let entry = NewEntry::new("7", minute())
        .with_stale_for(secs(30))
        .unwrap();
    storage.set(&a, entry, Condition::Always).await.unwrap();
    let refused = storage.increment(&a, 1, minute()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotACounter);
    assert!(storage.expire_now(&a).await.unwrap());
    assert!(!storage.expire_now(&a).await.unwrap());
    assert!(!storage.expire(&a, Ttl::FOREVER).await.unwrap());
    assert!(!storage.has(&a).await.unwrap());
    let stale = storage.get(&a).await.unwrap().unwrap();
    let now = storage.info().clock.wall();
    assert_eq!(stale.expires_at, Expiry::At(now));
    assert_eq!(stale.stale_until, Expiry::At(now.after(secs(30))));
    let counter = storage.increment(&a, 5, minute()).await.unwrap();
    assert_eq!((counter.value, counter.expires_in), (5, Some(secs(60))));
    assert!(storage.expire_now(&a).await.unwrap());
    assert_eq!(storage.get_stats().entries, Some(0));
}

#[tokio::test]
async fn metadata_makes_a_number_no_counter() {
    let storage = MemoryCacheStorage::new();
    let now = storage.info().clock.wall();
    let plain = NewEntry::new("7", minute());
    for entry in [
        plain.clone().with_codec(CodecId::Json),
        plain.clone().with_created_at(now),
        plain.clone().with_stale_for(secs(1)).unwrap(),
    ] {
        storage
            .set(&key("n"), entry, Condition::Always)
            .await
            .unwrap();
        let refused = storage.increment(&key("n"), 1, minute()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotACounter);
    }
    storage
        .set(&key("n"), plain, Condition::Always)
        .await
        .unwrap();
    assert_eq!(
        storage
            .increment(&key("n"), 1, minute())
            .await
            .unwrap()
            .value,
        8
    );
}

#[tokio::test]
async fn clears_what_is_in_scope() {
    let storage = MemoryCacheStorage::new();
    for name in ["user:1", "user:2", "users:1", "user"] {
        put(&storage, name, "x").await;
    }
    let cleared = storage
        .clear(&ClearScope::prefix("user").unwrap())
        .await
        .unwrap();
    assert_eq!((cleared.deleted, cleared.complete), (2, true));
    let cleared = storage.clear(&ClearScope::everything()).await.unwrap();
    assert_eq!(cleared.deleted, 2);
    let stats = storage.get_stats();
    assert_eq!((stats.entries, stats.bytes), (Some(0), Some(0)));
}

#[test]
fn nothing_is_kept_past_a_shutdown() {
    for _ in 0..20 {
        let storage = MemoryCacheStorage::new();
        on_eight_threads(async |number| {
            if number == 0 {
                return storage.shutdown(Duration::ZERO).await.unwrap();
            }
            for item in 0..500 {
                let entry = NewEntry::new("x", minute());
                let name = CacheKey::from((number, item));
                if let Err(error) = storage.set(&name, entry, Condition::Always).await {
                    assert_eq!(error.kind(), ErrorKind::Closed);
                }
            }
        });
        let stats = storage.get_stats();
        assert_eq!((stats.entries, stats.bytes), (Some(0), Some(0)));
    }
}
