//! What a breaker and the whole stack around a storage cost.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_breaker::{Admission, BreakerOptions, BreakerStorage, Machine, Outcome as Ended};
use cache_core::{CacheStorage, FallbackStorage};
use cache_memory::MemoryCacheStorage;
use cache_monitor::{CacheMonitor, MeteredStorage, Metrics};
use cache_redis::{RedisCacheStorage, RedisOptions};

use crate::measure::{Contestant, Effort, Result, Side, Target, Verdict, median, race};
use crate::redis::runtime;
use crate::sides::{Bare, Ours};
use crate::visitors::{Job, Visitors};

pub(crate) fn run(port: u16, effort: Effort) -> Result<Vec<Verdict>> {
    let mut verdicts = machine(effort)?;
    verdicts.extend(stack(port, effort)?);
    Ok(verdicts)
}

/// How many calls a round of the pure machine makes.
const CALLS: u32 = 1_000_000;

fn machine(effort: Effort) -> Result<Vec<Verdict>> {
    let options = BreakerOptions::default();
    let admitted = median((0..effort.rounds).map(|_| {
        let mut machine = Machine::new(&options, 7);
        per_call(|now| {
            if let Admission::Admitted(ticket) = black_box(machine.admit(now)) {
                black_box(machine.settle(now, ticket, Ended::Success));
            }
        })
    }));
    let rejected = median((0..effort.rounds).map(|_| {
        let mut machine = Machine::new(&options, 7);
        machine.force_open(Duration::ZERO);
        per_call(|now| {
            black_box(machine.admit(now));
        })
    }));
    println!(
        "\nBreaker, the pure machine: admission and verdict {admitted:.1} ns, rejection {rejected:.1} ns"
    );
    Ok(vec![
        Verdict::new(
            "breaker: admission and verdict, ns",
            admitted,
            Target::AtMost(40.0),
        ),
        Verdict::new("breaker: rejection, ns", rejected, Target::AtMost(100.0)),
    ])
}

/// Nanoseconds a call, with a clock that moves 10 microseconds each time.
fn per_call(mut call: impl FnMut(Duration)) -> f64 {
    let began = Instant::now();
    for number in 0..CALLS {
        call(Duration::from_micros(10) * number);
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

/// Everything that the factory builds around Redis, its fallback being a storage in memory that is
/// never asked here.
fn whole_stack(port: u16) -> Result<Arc<dyn CacheStorage>> {
    let metrics = Metrics::global();
    let redis = RedisCacheStorage::new(RedisOptions::new("127.0.0.1", port))?;
    let redis = MeteredStorage::new(redis, metrics.clone());
    let redis = BreakerStorage::new(redis, BreakerOptions::default())?;
    let memory = MeteredStorage::new(MemoryCacheStorage::new(), metrics.clone());
    let stack = FallbackStorage::new(redis, memory);
    let monitor = CacheMonitor::builder(stack).metrics(metrics).build()?;
    Ok(Arc::clone(monitor.storage()))
}

fn stack(port: u16, effort: Effort) -> Result<Vec<Verdict>> {
    // A recorder that counts, as a service has one.
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    recorder.install()?;
    let visitors = Visitors::new();
    let runtime = runtime(1)?;
    let bare = runtime.block_on(Bare::connect(port, &visitors, Some(1024)))?;
    let ours = Ours::new(port, &visitors)?;
    let stack = Ours::over(whole_stack(port)?, &visitors)?;
    let mut writer = ours.clone();
    runtime.block_on(async {
        for number in 0..10 {
            writer.run(Job::SetMany, number).await?;
        }
        Result::<()>::Ok(())
    })?;
    println!("\nThe whole stack (service, fallback, breaker, metrics) on Redis, GET, one thread");
    let mut verdicts = Vec::new();
    for callers in [1, 64] {
        let sides = [
            Contestant::new("bare", &bare, Job::Get),
            Contestant::new("service on Redis", &ours, Job::Get),
            Contestant::new("whole stack", &stack, Job::Get),
        ];
        let outcomes = race(&runtime, effort, callers, &sides)?;
        for outcome in &outcomes {
            println!(
                "{:<20}{callers:>4} callers {:>9.0}/s, ratio to bare {:.3}, CPU {:.2} us",
                outcome.name, outcome.rate, outcome.rate_ratio, outcome.cpu
            );
        }
        if callers == 64 {
            let ratio = outcomes[2].rate_ratio / outcomes[1].rate_ratio;
            let what = "whole stack over the service, 64 callers: rate";
            verdicts.push(Verdict::new(what, ratio, Target::AtLeast(0.95)));
        }
    }
    let [bare, stack] = runtime.block_on(async {
        Result::<_>::Ok([p50s(bare, effort).await?, p50s(stack, effort).await?])
    })?;
    let added = stack - bare;
    println!("one caller, p50: bare {bare:.1} us, whole stack {stack:.1} us, added {added:.1} us");
    let what = "whole stack over a bare GET: p50 added, us";
    verdicts.push(Verdict::new(what, added, Target::AtMost(5.0)));
    Ok(verdicts)
}

/// The median time of a GET in microseconds, one after the other.
async fn p50s<S: Side<Job = Job>>(mut side: S, effort: Effort) -> Result<f64> {
    let mut calls = Vec::new();
    let end = Instant::now() + effort.slice * 4;
    let mut number = 0;
    while Instant::now() < end {
        let began = Instant::now();
        side.run(Job::Get, number).await?;
        calls.push(began.elapsed().as_secs_f64() * 1e6);
        number += 1;
    }
    Ok(median(calls.into_iter()))
}
