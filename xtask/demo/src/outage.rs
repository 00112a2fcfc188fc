//! `--outage`: Redis goes away in the middle of the traffic, and comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache_core::{millis, secs};
use cache_factory::{CacheStorageFactory, Caches};
use cache_tests::{Request, Trace};
use tokio::time::{Instant, sleep, sleep_until};

use crate::shop::{Shop, ShopCaches};
use crate::tally::Tally;
use crate::{Queue, Result, SHUTDOWN, WORKERS};

mod chart;
mod servers;
mod svg;
mod timeline;

pub(crate) use servers::Outage;

use servers::Servers;
use timeline::{Phase, Timeline};

/// How many requests begin a second.
const RATE: u32 = 500;

/// How long one column of the chart is.
const COLUMN: Duration = millis(500);

/// When Redis goes away, when it comes back, and when the replay ends.
const GONE_AT: Duration = secs(6);
const BACK_AT: Duration = secs(16);
const END: Duration = secs(26);

/// Replays the trace at a steady rate through an outage and shows what became of it.
pub(crate) async fn run(outage: Outage, output: PathBuf) -> Result {
    let mut servers = Servers::start(outage).await?;
    let caches = CacheStorageFactory::from_settings(servers.settings())?;
    caches.warm_up().await?;
    println!(
        "{RATE} requests a second of the trace web12, {WORKERS} at most at a time, through\n  {:?}",
        caches.storage()
    );
    println!("{}", outage.announcement(GONE_AT, BACK_AT));

    let timeline = replay(&caches, &mut servers).await?;
    let report = caches.shutdown(SHUTDOWN).await;

    print!("{}", chart::Chart::new(&timeline));
    println!(
        "Shut down in {} ms: {} calls drained, {} cut off.",
        report.took.as_millis(),
        report.drained,
        report.cancelled
    );
    std::fs::create_dir_all(&output)?;
    let path = output.join(format!("{}.svg", outage.as_str()));
    std::fs::write(&path, svg::Svg::new(&timeline, outage).to_string())?;
    println!("The same as a picture: {}", path.display());
    Ok(())
}

async fn replay(caches: &Caches, servers: &mut Servers) -> Result<Timeline> {
    let shop = Arc::new(Shop::new(&ShopCaches::all(caches))?.letting_uncounted_pass());
    let start = Instant::now();
    let timeline = Arc::new(Timeline::new(start, COLUMN, END));
    let requests = (END.as_secs_f64() * f64::from(RATE)) as usize;
    let requests: Vec<_> = Trace::web12().requests().take(requests).collect();
    let queue = Arc::new(Queue::new(requests));
    let is_over = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn(watch_breaker(
        caches.clone(),
        Arc::clone(&timeline),
        Arc::clone(&is_over),
    ));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (queue, shop) = (Arc::clone(&queue), Arc::clone(&shop));
            tokio::spawn(work(queue, shop, Arc::clone(&timeline), start))
        })
        .collect();

    sleep_until(start + GONE_AT).await;
    servers.take_away()?;
    timeline.enter(Phase::Outage);
    sleep_until(start + BACK_AT).await;
    servers.bring_back()?;
    timeline.enter(Phase::After);
    for worker in workers {
        worker.await?;
    }
    is_over.store(true, Ordering::Release);
    sampler.await?;
    let timeline = Arc::into_inner(timeline);
    timeline.ok_or_else(|| "the timeline is still in use".into())
}

/// Serves requests as they fall due.
async fn work(queue: Arc<Queue>, shop: Arc<Shop>, timeline: Arc<Timeline>, start: Instant) {
    while let Some((number, request)) = queue.next_numbered() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        sleep_until(start + secs(1) * number / RATE).await;
        serve(&shop, request, &timeline).await;
    }
}

async fn serve(shop: &Shop, request: Request, timeline: &Timeline) {
    let mut tally = Tally::default();
    let outcome = shop.serve(request, &mut tally).await;
    timeline.note(tally, outcome.err());
}

/// Notes the state of the breaker around Redis, often enough for every column.
async fn watch_breaker(caches: Caches, timeline: Arc<Timeline>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Acquire) {
        if let Some(breaker) = caches.breakers().next() {
            timeline.note_breaker(&breaker.breakers());
        }
        sleep(COLUMN / 10).await;
    }
}
