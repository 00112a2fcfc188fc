//! The recorder of the process, alone in a process of its own.

use cache_core::{CacheKey, CacheStorage};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{MeteredStorage, Metrics};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[tokio::test]
async fn a_recorder_that_is_installed_late_hears_of_all_that_follows() {
    let storage = MeteredStorage::new(MemoryCacheStorage::new(), Metrics::global());
    let key = CacheKey::from("a");
    storage.get(&key).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    assert!(recorder.install().is_ok());
    storage.get(&key).await.unwrap();
    storage.get(&key).await.unwrap();
    let entries = snapshotter.snapshot().into_vec();
    assert_eq!(entries.len(), 2);
    let counted = |(.., value): &(_, _, _, DebugValue)| *value == DebugValue::Counter(2);
    assert!(entries.iter().any(counted));
}
