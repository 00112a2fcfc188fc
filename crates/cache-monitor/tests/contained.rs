//! What goes wrong in a check or at the end stays there.

use std::sync::Arc;

use cache_core::{CacheStorage, Operation, millis, secs};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, Health, Mode, MonitorOptions};
use cache_testkit::chaos::{ChaosStorage, Plan};
use tokio::time::timeout;

fn lambda() -> (CacheMonitor, ChaosStorage) {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = CacheMonitor::builder(MemoryCacheStorage::new())
        .watch("memory", chaos.clone())
        .options(MonitorOptions::default().with_mode(Mode::Lambda))
        .build()
        .expect("the options are sound");
    (monitor, chaos)
}

#[tokio::test]
async fn a_check_that_no_call_carries_on_is_carried_on_by_who_asks() {
    let (monitor, chaos) = lambda();
    chaos.add(Plan::hang().on(Operation::Set).first(1));
    monitor.storage().ping().await.unwrap();
    assert_eq!(chaos.hung(), 1);
    chaos.release();
    let status = timeout(secs(8), monitor.check_now()).await.unwrap();
    assert_eq!(status.health, Health::Up);
}

#[tokio::test]
async fn a_panic_in_a_check_is_no_callers() {
    let (monitor, chaos) = lambda();
    chaos.add(Plan::panic().on(Operation::Set).first(1));
    for _ in 0..5 {
        let storage = Arc::clone(monitor.storage());
        let call = tokio::spawn(async move { storage.ping().await });
        call.await.expect("the call does not panic").unwrap();
    }
}

#[tokio::test]
async fn a_check_that_never_ends_keeps_nothing_alive() {
    let (monitor, chaos) = lambda();
    let memory = Arc::new(MemoryCacheStorage::new());
    chaos.add(Plan::hang());
    let watched = CacheMonitor::builder(Arc::clone(&memory))
        .watch("chaos", chaos.clone())
        .watch("memory", Arc::clone(&memory))
        .options(MonitorOptions::default().with_mode(Mode::Lambda))
        .build()
        .unwrap();
    watched.storage().ping().await.unwrap();
    assert_eq!(chaos.hung(), 1);
    drop((monitor, watched));
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[tokio::test]
async fn a_storage_that_panics_at_the_end_is_reported() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    chaos.add(Plan::panic().on(Operation::Shutdown));
    let monitor = CacheMonitor::over(chaos);
    let report = monitor.shutdown(millis(100)).await;
    assert!(report.into_result().is_err());
}
