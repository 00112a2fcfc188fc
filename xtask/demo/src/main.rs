//! The demo: 95,607 recorded requests of a shop through sessions, geolocation, rate limits and
//! a response cache.
//!
//! What is recorded and what is made up is in `docs/demo.md`.

#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to its user"
)]

mod backend;
mod origin;
#[cfg(feature = "outage")]
mod outage;
mod report;
mod shop;
mod tally;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_core::millis;
use cache_factory::CacheStorageFactory;
use cache_tests::{Request, Trace};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use lexopt::prelude::*;

use crate::backend::Backends;
use crate::shop::{Shop, ShopCaches};
use crate::tally::Tally;

/// How many requests are served at a time.
const WORKERS: usize = 64;

/// How many threads serve them, so that results of different machines can be compared.
const THREADS: usize = 2;

/// How long closing may take.
const SHUTDOWN: Duration = millis(300);

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match Flags::parse(lexopt::Parser::from_env()).and_then(|flags| run(&flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Flags {
    storage: String,
    requests: usize,
    #[cfg(feature = "outage")]
    outage: Option<outage::Outage>,
    /// Where pictures go.
    #[cfg(feature = "outage")]
    output: std::path::PathBuf,
}

impl Flags {
    fn parse(mut parser: lexopt::Parser) -> Result<Self> {
        let mut flags = Self {
            storage: "memory".to_owned(),
            requests: usize::MAX,
            #[cfg(feature = "outage")]
            outage: None,
            #[cfg(feature = "outage")]
            output: "target/outage".into(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("storage") => flags.storage = parser.value()?.string()?,
                #[cfg(feature = "outage")]
                Long("outage") => {
                    flags.outage = Some(outage::Outage::parse(&parser.value()?.string()?)?);
                }
                #[cfg(feature = "outage")]
                Long("output") => flags.output = parser.value()?.into(),
                Long("requests") => flags.requests = parser.value()?.parse()?,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(flags)
    }
}

fn run(flags: &Flags) -> Result {
    #[cfg(feature = "outage")]
    if let Some(outage) = flags.outage {
        return runtime()?.block_on(outage::run(outage, flags.output.clone()));
    }
    let requests: Vec<_> = Trace::web12().requests().take(flags.requests).collect();
    let backends = Backends::start(&flags.storage)?;
    println!(
        "Replaying {} requests of the trace web12, {WORKERS} at a time, cached in {}.",
        report::thousands(requests.len()),
        backends.description()
    );
    let (tally, took) = runtime()?.block_on(replay(&backends, requests))?;
    print!("{}", report::Report::new(tally, &backends.tiers(), took));
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(THREADS).enable_all().build()?)
}

/// Serves the requests in order, as many at a time as there are workers.
async fn replay(backends: &Backends, requests: Vec<Request>) -> Result<(Tally, Duration)> {
    backends.prepare().await?;
    let settings = backends.settings();
    let caches = ShopCaches {
        common: CacheStorageFactory::from_settings(settings.clone())?,
        places: CacheStorageFactory::from_settings(settings.clone().named("geo")?)?,
        responses: CacheStorageFactory::from_settings(settings.named("response")?)?,
    };
    caches.warm_up().await?;

    let progress = progress_bar(requests.len());
    let shop = Arc::new(Shop::new(&caches)?);
    let queue = Arc::new(Queue::new(requests));
    let start = Instant::now();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let worker = work(Arc::clone(&queue), Arc::clone(&shop), progress.clone());
            tokio::spawn(worker)
        })
        .collect();
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(worker.await??);
    }
    let took = start.elapsed();
    shop.note_origin(&mut tally);
    progress.finish_and_clear();

    caches.shutdown(SHUTDOWN).await?;
    Ok((tally, took))
}

async fn work(queue: Arc<Queue>, shop: Arc<Shop>, progress: ProgressBar) -> Result<Tally> {
    let mut tally = Tally::default();
    while let Some(request) = queue.next() {
        shop.serve(request, &mut tally).await?;
        progress.inc(1);
    }
    Ok(tally)
}

/// Requests in order, each for one worker.
struct Queue {
    requests: Vec<Request>,
    position: AtomicUsize,
}

impl Queue {
    fn new(requests: Vec<Request>) -> Self {
        Self {
            requests,
            position: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> Option<Request> {
        self.next_numbered().map(|(_, request)| request)
    }

    /// The next request and its place, from 0.
    fn next_numbered(&self) -> Option<(usize, Request)> {
        let position = self.position.fetch_add(1, Ordering::Relaxed);
        let request = self.requests.get(position).copied()?;
        Some((position, request))
    }
}

/// A bar on the terminal; nothing where the output is not one.
fn progress_bar(requests: usize) -> ProgressBar {
    let template = "{wide_bar} {human_pos} of {human_len} requests, {rate}/s, {eta} left";
    let bar = ProgressBar::new(u64::try_from(requests).unwrap_or(u64::MAX));
    let Ok(style) = ProgressStyle::with_template(template) else {
        return bar;
    };
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // What cannot be written is not shown.
        _ = write!(text, "{:.0}", state.per_sec());
    };
    bar.with_style(style.with_key("rate", rate))
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_served_once() {
        let requests: Vec<_> = Trace::web12().requests().take(3_000).collect();
        let backends = Backends::start("memory").unwrap();
        let (tally, took) = runtime()
            .unwrap()
            .block_on(replay(&backends, requests))
            .unwrap();
        for use_case in [&tally.sessions, &tally.places, &tally.responses] {
            assert_eq!(use_case.operations, 3_000);
            assert_eq!(use_case.reads(), 3_000, "each answer is counted once");
            assert!(use_case.hits() > 0);
            assert!(use_case.asked >= use_case.loaded);
        }
        assert_eq!(tally.limits.calls.len(), 3_000);
        assert!(tally.sessions.absent > 0, "some visitors are nobody");
        let report = report::Report::new(tally, &backends.tiers(), took).to_string();
        assert!(report.contains("responses"), "{report}");
    }
}
