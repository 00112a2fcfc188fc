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

mod trouble;

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
