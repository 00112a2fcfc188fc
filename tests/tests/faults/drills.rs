//! Drills: trouble under load, through whole stacks.
//!
//! The usual form of each takes seconds. With the feature `drills` they take as long as trouble
//! does, and are held to the times themselves: for a machine that does nothing else.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cache_core::{millis, secs};
use tokio::runtime::{Builder, Handle};
use tokio::time::{interval, timeout};

mod demoted;
mod hang;
mod load;
mod loading;
mod outages;
mod shutdown;
mod signals;

/// What a busy machine may add to each time.
const SLACK: Duration = if cfg!(feature = "drills") {
    Duration::ZERO
} else {
    millis(100)
};

/// One duration for the long form, the other for the usual one.
const fn long_or(long: Duration, usual: Duration) -> Duration {
    if cfg!(feature = "drills") {
        long
    } else {
        usual
    }
}

/// Runs a drill on a runtime of its own, one drill at a time: each measures what its load sees.
fn alone(drill: impl Future<Output = ()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // One that failed is no reason for others to.
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the system has a runtime left");
    runtime.block_on(drill);
    drop(turn);
}

/// Asks every millisecond until it is so, and leaves the processors to the load.
async fn until(mut is_so: impl FnMut() -> bool) {
    let asking = async {
        let mut pace = interval(millis(1));
        while !is_so() {
            pace.tick().await;
        }
    };
    let asked = timeout(secs(20), asking).await;
    asked.expect("what has to come comes within 20 s");
}

/// The tasks of this drill.
fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
