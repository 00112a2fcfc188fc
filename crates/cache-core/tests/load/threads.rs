//! Loads on several threads and runtimes.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::{DecodedOptions, LoadOptions, LoaderOutcome, Operation};
use cache_testkit::chaos::Plan;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::{Fixture, poll_once};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build();
    runtime.expect("a runtime starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_value_from_before_his_own_delete() {
    let t = Fixture::with(|builder| builder.decoded(DecodedOptions::new()));
    let version = Arc::new(AtomicU64::new(0));
    let tasks = (0..4).map(|task| {
        let (cache, version) = (t.cache.clone(), Arc::clone(&version));
        tokio::spawn(async move {
            let options = match task {
                0 => LoadOptions::builder().refresh().build(),
                1 => LoadOptions::builder().eager_refresh(0.01).build(),
                _ => Ok(LoadOptions::default()),
            };
            let options = options.expect("the options are sound");
            for _ in 0..500 {
                let changed = version.fetch_add(1, Ordering::SeqCst) + 1;
                cache.delete("k").await.expect("memory deletes it");
                for _ in 0..3 {
                    let version = Arc::clone(&version);
                    let load = cache.get_or_load_with("k", &options, |_| async move {
                        tokio::task::yield_now().await;
                        LoaderOutcome::value(version.load(Ordering::SeqCst))
                    });
                    let value = *load.await.expect("the loader succeeds");
                    assert!(value >= changed, "{value} is from before {changed}");
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(format!("{:?}", t.cache).contains("keys_under_way: 0"));
}

#[test]
fn who_waits_on_another_runtime_loads_when_the_first_one_ends() {
    let t = Fixture::new();
    let (first, second) = (runtime(), runtime());
    let (begins, begun) = oneshot::channel();
    let cache = t.cache.clone();
    first.spawn(async move {
        let loader = |_| async move {
            let _ = begins.send(());
            pending::<LoaderOutcome<u64>>().await
        };
        cache.get_or_load("k", loader).await
    });
    let value = second.block_on(async {
        begun.await.unwrap();
        let load = t
            .cache
            .get_or_load("k", |_| async { LoaderOutcome::value(2u64) });
        let mut load = Box::pin(load);
        assert!(poll_once(&mut load).await.is_pending());
        first.shutdown_background();
        *load.await.unwrap()
    });
    assert_eq!(value, 2);
    assert!(format!("{:?}", t.cache).contains("keys_under_way: 0"));
}

#[tokio::test]
async fn a_storage_that_panics_while_it_stores_takes_nothing_from_the_callers() {
    let t = Fixture::new();
    t.chaos.add(Plan::panic().on(Operation::Set).nth(1));
    let load = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(1u64) });
    assert_eq!(*load.await.unwrap(), 1);
    assert!(format!("{:?}", t.cache).contains("keys_under_way: 0"));
}
