//! More keys than one request takes.

use cache_core::{CacheKey, CacheStorage, NewEntry};

use crate::support::{Table, entry, minute};

#[tokio::test]
async fn ten_thousand_keys_with_duplicates_are_written_read_and_deleted() {
    let table = Table::new().await;
    let storage = &table.storage;
    let distinct: Vec<_> = (0..5_000)
        .map(|n| CacheKey::from(format!("k:{n}")))
        .collect();
    // Every key twice, far apart: the second value counts.
    let entries = |round: &str| -> Vec<(CacheKey, NewEntry)> {
        let write = |key: &CacheKey| {
            (
                key.clone(),
                NewEntry::new(format!("{round}{key}"), minute()),
            )
        };
        distinct.iter().map(write).collect()
    };
    let written = storage
        .set_many([entries("first "), entries("")].concat())
        .await;
    assert_eq!(written.len(), 10_000);
    assert!(written.iter().all(Result::is_ok));
    let keys = [distinct.clone(), distinct.iter().rev().cloned().collect()].concat();
    let read = storage.get_many(&keys).await;
    assert_eq!(read.len(), 10_000);
    for (key, read) in keys.iter().zip(read) {
        let entry = read.expect("the server reads").expect("it was written");
        assert_eq!(entry.value, key.as_str());
    }
    let deleted = storage.delete_many(&keys).await;
    assert_eq!(deleted.len(), 10_000);
    assert!(deleted.iter().all(Result::is_ok));
    let read = storage.get_many(&distinct).await;
    assert!(
        read.into_iter()
            .all(|read| read.is_ok_and(|entry| entry.is_none()))
    );
}

#[tokio::test]
async fn what_one_answer_does_not_hold_is_asked_for_again() {
    let table = Table::new().await;
    let keys: Vec<_> = (0..45).map(|n| CacheKey::from(format!("k:{n}"))).collect();
    // 18 MB for one request's keys: an answer holds 16.
    let value = vec![b'v'; 400_000];
    let entries = keys.iter().map(|key| (key.clone(), entry(value.clone())));
    let written = table.storage.set_many(entries.collect()).await;
    assert!(written.iter().all(Result::is_ok));
    for read in table.storage.get_many(&keys).await {
        let entry = read.expect("the server reads").expect("it was written");
        assert_eq!(entry.value.len(), value.len());
    }
}

#[tokio::test]
async fn text_that_grows_when_it_is_sent_still_fits() {
    let table = Table::new().await;
    // Each control character is six when it is sent: 16.5 MB, where a request holds 16.
    let value = "\u{1}".repeat(110_000);
    let keys: Vec<_> = (0..25).map(|n| CacheKey::from(format!("k:{n}"))).collect();
    let entries = keys.iter().map(|key| (key.clone(), entry(value.clone())));
    let written = table.storage.set_many(entries.collect()).await;
    assert!(written.iter().all(Result::is_ok), "{:?}", written[0]);
}
