//! Health, calls under way, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_breaker::{BreakerOptions, BreakerStorage, State};
use cache_core::{
    CacheError, CacheKey, CacheStorage, Condition, ErrorKind, ManualClock, NewEntry, Operation,
    Result, Ttl, millis, mins, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, Health, Metrics, Mode, MonitorOptions, Phase, names};
use cache_testkit::chaos::{ChaosStorage, Plan};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// What a loaded machine may need on top of a bound.
const SLACK: Duration = millis(500);

fn recorder() -> (Metrics, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    (Metrics::to(Arc::new(recorder)), snapshotter)
}

/// What was counted under this name with this label since the last look.
fn counted(snapshotter: &Snapshotter, name: &str, label: (&str, &str)) -> u64 {
    let all = snapshotter.snapshot().into_vec();
    let counts = all.into_iter().filter_map(|(key, _, _, value)| {
        let key = key.key();
        let has_label = key.labels().any(|one| (one.key(), one.value()) == label);
        match value {
            DebugValue::Counter(count) if key.name() == name && has_label => Some(count),
            _ => None,
        }
    });
    counts.sum()
}

fn refused() -> CacheError {
    CacheError::new(ErrorKind::Connection, "connection refused").with_code("refused")
}

fn quick() -> MonitorOptions {
    MonitorOptions::default()
        .with_mode(Mode::Server)
        .with_timeout(millis(50))
        .with_retries(0)
}

async fn set(storage: &dyn CacheStorage, key: &str) -> Result<bool> {
    let entry = NewEntry::new("v", Ttl::new(mins(1))?);
    storage
        .set(&CacheKey::from(key), entry, Condition::Always)
        .await
}

fn watching(chaos: &ChaosStorage, metrics: Metrics) -> CacheMonitor {
    let monitor = CacheMonitor::builder(chaos.clone()).watch("memory", chaos.clone());
    let monitor = monitor.options(quick()).metrics(metrics).build();
    monitor.expect("the options are sound")
}

#[tokio::test]
async fn each_step_of_a_check_is_reported() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let (metrics, snapshotter) = recorder();
    let monitor = watching(&chaos, metrics);
    assert_eq!(monitor.status().health, Health::Unknown);
    let status = monitor.check_now().await;
    assert_eq!(status.health, Health::Up);
    assert_eq!(
        counted(&snapshotter, names::HEALTH_PROBE_TOTAL, ("result", "ok")),
        3
    );

    // A full server: writes fail, reads and deletes do not.
    let full = CacheError::new(ErrorKind::Overloaded, "out of memory").with_code("oom");
    chaos.add(Plan::fail(full).on(Operation::Set));
    let status = monitor.check_now().await;
    assert_eq!(status.health, Health::Degraded);
    assert_eq!(status.backends[0].write.code, Some("oom"));
    assert!(status.backends[0].read.is_ok() && status.backends[0].delete.is_ok());
    assert_eq!(
        counted(&snapshotter, names::HEALTH_PROBE_TOTAL, ("result", "oom")),
        1
    );

    chaos.start_outage(Plan::hang());
    let (began, status) = (Instant::now(), monitor.check_now().await);
    assert_eq!(status.health, Health::Down);
    assert_eq!(status.backends[0].read.code, Some("timeout"));
    assert!(began.elapsed() < millis(150) + SLACK);
}

#[tokio::test]
async fn a_probe_is_deleted_and_a_failed_check_repeated() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = CacheMonitor::builder(chaos.clone())
        .watch("memory", chaos.clone())
        .options(quick().with_retries(2))
        .build()
        .unwrap();
    chaos.add(Plan::fail(refused()).on(Operation::Set).first(2));
    assert_eq!(monitor.check_now().await.health, Health::Up);
    assert_eq!(chaos.calls_of(Operation::Set), 3);
    assert_eq!(chaos.get_stats().entries, Some(0));
}

#[tokio::test]
async fn checks_never_overlap() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = watching(&chaos, Metrics::global());
    chaos.add(Plan::hang().on(Operation::Set).first(1));
    let checks = (0..20).map(|_| monitor.check_now());
    let (results, ()) = tokio::join!(futures_util::future::join_all(checks), async {
        chaos.wait_until_hung(1).await;
        chaos.release();
    });
    assert!(results.iter().all(|status| status.health == Health::Up));
    assert_eq!(chaos.calls_of(Operation::Set), 1, "one result did for all");
}

#[tokio::test]
async fn a_breaker_that_opens_is_told_at_once() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let feed = cache_monitor::StatusFeed::new();
    let observer = cache_monitor::MetricsObserver::new(Metrics::global()).with_feed(feed.clone());
    let breaker = BreakerStorage::new(chaos.clone(), BreakerOptions::default()).unwrap();
    let breaker = breaker.with_observers(cache_core::Observers::new(observer));
    let handle = breaker.handle();
    let monitor = CacheMonitor::builder(breaker)
        .feed(feed)
        .breaker(handle)
        .build()
        .unwrap();
    let mut watcher = monitor.subscribe();
    watcher.mark_unchanged();
    chaos.start_outage(Plan::fail(refused()));
    for _ in 0..3 {
        assert!(monitor.storage().get(&CacheKey::from("k")).await.is_err());
    }
    tokio::time::timeout(
        secs(5),
        watcher.wait_for(|status| status.health == Health::Degraded),
    )
    .await
    .expect("the change is told")
    .unwrap();
    let open = |lane: &cache_monitor::BreakerStatus| lane.state == State::Open;
    assert!(monitor.status().breakers.iter().any(open));
}

#[tokio::test]
async fn a_lambda_checks_once_an_interval_alongside_a_call() {
    let clock = ManualClock::new();
    let chaos = ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
    let (metrics, snapshotter) = recorder();
    let monitor = CacheMonitor::builder(MemoryCacheStorage::new())
        .watch("memory", chaos.clone())
        .options(quick().with_mode(Mode::Lambda))
        .metrics(metrics)
        .clock(clock.clone())
        .build()
        .unwrap();
    monitor.start();
    assert_eq!(chaos.calls(), 0, "there is no task");
    for _ in 0..1_000 {
        clock.freeze(mins(10));
        // As between invocations: a task that never waits gets no time from the runtime's timers.
        tokio::task::yield_now().await;
        for _ in 0..3 {
            set(&**monitor.storage(), "k").await.unwrap();
        }
    }
    assert_eq!(chaos.calls_of(Operation::Set), 1_000, "once a thaw");
    assert_eq!(
        counted(&snapshotter, names::THAW_TOTAL, ("action", "freeze")),
        1_000
    );
}

#[tokio::test]
async fn a_check_that_hangs_delays_no_call_and_is_carried_on_by_the_next() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    chaos.start_outage(Plan::hang());
    let monitor = CacheMonitor::builder(MemoryCacheStorage::new())
        .watch("memory", chaos.clone())
        .options(quick().with_mode(Mode::Lambda).with_timeout(secs(1)))
        .build()
        .unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        set(&**monitor.storage(), "k").await.unwrap();
    }
    assert!(began.elapsed() < SLACK);
    assert_eq!(chaos.calls(), 1, "the one check hangs");
    chaos.end_outage();
    chaos.release();
    tokio::time::timeout(secs(5), async {
        while monitor.status().health != Health::Up {
            set(&**monitor.storage(), "k").await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the check is carried on");
}

#[tokio::test]
async fn a_server_checks_on_its_own_until_the_end() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = watching(&chaos, Metrics::global());
    monitor.start();
    monitor.start();
    chaos.wait_until_calls(3).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    assert_eq!(tasks.num_alive_tasks(), 1);
    drop(monitor);
    tokio::time::timeout(secs(5), async {
        while tasks.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the task ends with the last clone");
}

#[tokio::test]
async fn calls_under_way_are_drained_and_new_ones_refused() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let (metrics, snapshotter) = recorder();
    let monitor = watching(&chaos, metrics);
    chaos.add(Plan::hang().first(8));
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let storage = Arc::clone(monitor.storage());
            tokio::spawn(async move { set(&*storage, &number.to_string()).await })
        })
        .collect();
    chaos.wait_until_hung(8).await;
    let ending = tokio::spawn({
        let monitor = monitor.clone();
        async move { monitor.shutdown(secs(5)).await }
    });
    let mut watcher = monitor.subscribe();
    watcher
        .wait_for(|status| status.phase == Phase::Draining)
        .await
        .unwrap();
    let refused = set(&**monitor.storage(), "late").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert!(!refused.may_have_happened());
    chaos.release();
    let report = ending.await.unwrap();
    assert_eq!((report.drained, report.cancelled), (8, 0));
    for call in calls {
        assert!(call.await.unwrap().unwrap());
    }
    assert_eq!(
        counted(&snapshotter, names::SHUTDOWN_TOTAL, ("result", "drained")),
        1
    );
    assert_eq!(monitor.status().phase, Phase::Closed);
}

#[tokio::test]
async fn calls_that_never_end_are_cut_off_within_the_budget() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = watching(&chaos, Metrics::global());
    chaos.start_outage(Plan::hang());
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let storage = Arc::clone(monitor.storage());
            tokio::spawn(async move { set(&*storage, &number.to_string()).await })
        })
        .collect();
    chaos.wait_until_hung(8).await;
    let began = Instant::now();
    let report = monitor.shutdown(millis(300)).await;
    assert!(began.elapsed() >= millis(300) && began.elapsed() < millis(320) + SLACK);
    assert_eq!((report.drained, report.cancelled), (0, 8));
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(
            error.may_have_happened(),
            "a write that was cut off may have happened"
        );
    }
    assert_eq!(monitor.in_flight(), 0);
    let again = Instant::now();
    let same = monitor.clone().shutdown(secs(60)).await;
    assert_eq!((same.cancelled, same.took), (report.cancelled, report.took));
    assert!(again.elapsed() < SLACK);
}

#[tokio::test]
async fn a_storage_that_does_not_close_is_not_waited_for() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = watching(&chaos, Metrics::global());
    chaos.add(Plan::hang().on(Operation::Shutdown));
    let began = Instant::now();
    let report = monitor.shutdown(millis(100)).await;
    assert!(began.elapsed() < millis(100) + SLACK);
    assert_eq!(report.into_result().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_shutdown_dropped_half_way_is_brought_to_its_end_by_the_next() {
    let chaos = ChaosStorage::new(MemoryCacheStorage::new());
    let monitor = watching(&chaos, Metrics::global());
    chaos.add(Plan::hang().first(1));
    let storage = Arc::clone(monitor.storage());
    let call = tokio::spawn(async move { set(&*storage, "k").await });
    chaos.wait_until_hung(1).await;
    let dropped = tokio::time::timeout(millis(20), monitor.shutdown(secs(60))).await;
    assert!(dropped.is_err());
    assert!(set(&**monitor.storage(), "late").await.is_err());
    chaos.release();
    assert!(call.await.unwrap().unwrap());
    let report = monitor.shutdown(secs(5)).await;
    assert_eq!(report.cancelled, 0);
    assert_eq!(monitor.status().phase, Phase::Closed);
}

#[tokio::test]
async fn an_open_breaker_of_the_monitors_own_reads_as_nothing() {
    let monitor = CacheMonitor::over(MemoryCacheStorage::new());
    let work = async || {
        monitor
            .execute_with_circuit_breaker(async { Ok(Some(1)) })
            .await
    };
    assert_eq!(work().await.unwrap(), Some(1));
    for _ in 0..3 {
        let failed =
            monitor.execute_with_circuit_breaker(async { Err::<Option<i32>, _>(refused()) });
        assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Connection);
    }
    assert_eq!(work().await.unwrap(), None);
}

#[test]
fn absurd_options_are_refused() {
    for options in [
        quick().with_interval(millis(10)),
        quick().with_timeout(secs(0)),
        quick().with_timeout(mins(10)),
        quick().with_retries(100),
    ] {
        let built = CacheMonitor::builder(MemoryCacheStorage::new())
            .options(options)
            .build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Configuration);
    }
}

#[test]
fn a_monitor_needs_no_runtime_to_be_built_and_dropped() {
    drop(CacheMonitor::over(MemoryCacheStorage::new()));
}
