//! Random sequences of calls, writes and troubles over one key, judged by a reference that knows
//! nothing of flights.
//!
//! Each sequence comes from a number, its seed. One that goes wrong is cut down to the steps that
//! matter, and printed with its seed.

mod steps;
mod world;

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{
    CacheError, CacheService, DecodedOptions, ErrorKind, LoadContext, LoaderOutcome, ManualClock,
    Ttl, secs,
};
use cache_memory::MemoryCacheStorage;
use cache_testkit::chaos::{ChaosStorage, Plan};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use steps::{CALLS, FRESH, Outcome, SHORT, STALE, Step, Wishes, Write};
use world::{DEFAULTS, World};

/// How many sequences an ordinary run tries; `CACHE_MODEL_SEQUENCES` is for more.
const SEQUENCES: u64 = 10_000;

#[test]
fn no_sequence_breaks_a_promise() {
    check(false);
}

#[test]
fn no_sequence_breaks_a_promise_with_values_kept_decoded() {
    check(true);
}

fn check(decoded: bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let sequences = number("CACHE_MODEL_SEQUENCES").unwrap_or(SEQUENCES);
    let first = number("CACHE_MODEL_SEED").unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime starts");
    for seed in first..first + sequences {
        let steps = steps::draw(seed);
        if let Err(problem) = runtime.block_on(run(&steps, decoded)) {
            let (steps, problem) = shrink(steps, problem, |steps| {
                runtime.block_on(run(steps, decoded)).err()
            });
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}\n")).collect();
            let steps = steps.concat();
            assert_eq!(problem, "", "seed {seed}, decoded {decoded}:\n{steps}");
        }
    }
}

/// The steps without those that do not matter to the problem.
fn shrink(
    mut steps: Vec<Step>,
    mut problem: String,
    run: impl Fn(&[Step]) -> Option<String>,
) -> (Vec<Step>, String) {
    let mut position = steps.len();
    while position > 0 {
        position -= 1;
        let mut fewer = steps.clone();
        fewer.remove(position);
        if let Some(same) = run(&fewer) {
            (steps, problem) = (fewer, same);
            position = steps.len();
        }
    }
    (steps, problem)
}

/// One sequence on its way.
struct Run {
    clock: ManualClock,
    chaos: ChaosStorage,
    cache: CacheService,
    shared: Shared,
    calls: [Option<(usize, JoinHandle<()>)>; CALLS],
    writes: Vec<JoinHandle<()>>,
}

/// What the tasks of a sequence share.
#[derive(Clone, Default)]
struct Shared {
    world: Arc<Mutex<World>>,
    loaders: Arc<Mutex<Loaders>>,
}

/// The loaders under way, oldest first, and what lets them come back.
type Loaders = Vec<(usize, oneshot::Sender<Outcome>)>;

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaders(&self) -> MutexGuard<'_, Loaders> {
        self.loaders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(steps: &[Step], decoded: bool) -> Result<(), String> {
    let mut run = Run::new(decoded);
    for step in steps {
        run.take(step).await;
        let mut world = run.shared.world();
        if matches!(step, Step::Settle) {
            world.settles();
        }
        if let Some(problem) = world.problem.take() {
            return Err(problem);
        }
    }
    run.end().await
}

impl Run {
    fn new(decoded: bool) -> Self {
        let clock = ManualClock::new();
        let chaos = ChaosStorage::new(MemoryCacheStorage::with_clock(clock.clone()));
        let mut builder = CacheService::builder(chaos.clone())
            .prefix("t")
            .ttl(FRESH)
            .stale_for(STALE);
        if decoded {
            builder = builder.decoded(DecodedOptions::new().ttl_cap(secs(300)));
        }
        Self {
            clock,
            chaos,
            cache: builder.build().expect("the service is sound"),
            shared: Shared::default(),
            calls: [const { None }; CALLS],
            writes: Vec::new(),
        }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Call(wishes) => self.call(*wishes),
            Step::Drop(place) => self.leave(*place),
            Step::Release(place, outcome) => self.release(*place, *outcome),
            Step::Pass(span) => self.pass(*span).await,
            Step::Write(kind) => self.write(*kind),
            Step::Settle => settle().await,
            Step::Outage(true) => {
                self.shared.world().outage(true);
                let refused = CacheError::new(ErrorKind::Connection, "connection refused");
                self.chaos.start_outage(Plan::fail(refused));
            }
            Step::Outage(false) => {
                self.shared.world().outage(false);
                self.chaos.end_outage();
            }
            Step::Hang { after } => {
                self.shared.world().hang();
                let plan = if *after {
                    Plan::hang_after()
                } else {
                    Plan::hang()
                };
                self.chaos.add(plan.nth(1));
            }
            Step::GoOn => {
                self.shared.world().go_on();
                self.chaos.release();
            }
        }
    }

    fn call(&mut self, wishes: Wishes) {
        let is_free = |call: &Option<(usize, JoinHandle<()>)>| {
            call.as_ref().is_none_or(|(_, task)| task.is_finished())
        };
        let Some(place) = self.calls.iter().position(is_free) else {
            return;
        };
        let shared = self.shared.clone();
        let call = shared.world().call_begins(wishes);
        let cache = self.cache.clone();
        let task = tokio::spawn(async move {
            let options = wishes.options(DEFAULTS + call as u64);
            let loads = shared.clone();
            let loader = move |context| load(loads, call, context);
            let answer = cache.load("k", &options, loader).await;
            shared.world().call_ends(call, answer);
        });
        self.calls[place] = Some((call, task));
    }

    fn leave(&mut self, place: usize) {
        if let Some((call, task)) = self.calls[place].take() {
            self.shared.world().call_leaves(call);
            task.abort();
        }
    }

    fn release(&mut self, place: usize, outcome: Outcome) {
        let mut loaders = self.shared.loaders();
        loaders.retain(|(_, sender)| !sender.is_closed());
        if place < loaders.len() {
            // The loader may be dropped before it learns of it.
            let _ = loaders.remove(place).1.send(outcome);
        }
    }

    async fn pass(&self, span: Duration) {
        // What is ready is ready before that time.
        settle().await;
        self.clock.advance(span);
        self.shared.world().now += span;
        tokio::time::advance(span).await;
    }

    fn write(&mut self, kind: Write) {
        let shared = self.shared.clone();
        let cache = self.cache.clone();
        let (write, value) = shared.world().write_begins(kind);
        self.writes.push(tokio::spawn(async move {
            let written = match kind {
                Write::Set => cache.set("k", &value).await.map(drop),
                Write::Delete => cache.delete("k").await.map(drop),
                Write::ExpireNow => cache.expire_now("k").await.map(drop),
                Write::Clear => cache.clear().await.map(drop),
            };
            shared.world().write_ends(write, written.is_ok());
        }));
    }

    /// Lets everything come to its end; nothing is left behind.
    async fn end(mut self) -> Result<(), String> {
        self.chaos.forget_plans();
        self.chaos.end_outage();
        for place in 0..CALLS {
            self.leave(place);
        }
        // Twice: what hung in a read goes on to hang in a store.
        for _ in 0..2 {
            self.chaos.release();
            settle().await;
        }
        // Beyond the limit of loads that nobody waits for.
        self.pass(secs(31)).await;
        settle().await;
        let mut world = self.shared.world();
        if let Some(problem) = world.problem.take() {
            return Err(problem);
        }
        if let Some(load) = world.loads.iter().position(|load| load.is_live) {
            return Err(format!("load {load} never ends"));
        }
        if !self.writes.iter().all(JoinHandle::is_finished) {
            return Err("a write never ends".to_owned());
        }
        let told = format!("{:?}", self.cache);
        if !told.contains("keys_under_way: 0") {
            return Err(format!("something is left behind: {told}"));
        }
        Ok(())
    }
}

/// A loader that comes back as the sequence says.
async fn load(shared: Shared, call: usize, context: LoadContext<u64>) -> LoaderOutcome<u64> {
    let shown = context.stored.as_deref().copied();
    let load = shared.world().load_begins(call, shown);
    let _gone = Gone(shared.clone(), load);
    let (sender, receiver) = oneshot::channel();
    shared.loaders().push((load, sender));
    let outcome = receiver.await.unwrap_or(Outcome::Failed);
    let value = shared.world().load_ends(load, outcome);
    match outcome {
        Outcome::Value => LoaderOutcome::value(value),
        Outcome::ValueFor => LoaderOutcome::Value {
            value,
            ttl: Ttl::new(SHORT).ok(),
            stale_for: Some(SHORT),
        },
        Outcome::DoNotStore => LoaderOutcome::DoNotStore(value),
        Outcome::Absent => LoaderOutcome::Absent,
        Outcome::NotModified => LoaderOutcome::NotModified,
        Outcome::Failed => LoaderOutcome::failed("the source is down"),
        Outcome::FailedWith => LoaderOutcome::FailedWith {
            error: "the source is down".into(),
            value,
        },
        // Without the message of a panic, which a hundred thousand would drown the test in.
        Outcome::Panic => resume_unwind(Box::new("the loader panics")),
    }
}

/// Tells that a loader is gone.
struct Gone(Shared, usize);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.world().load_is_gone(self.1);
    }
}

/// Lets every task go on until nothing is left to do.
async fn settle() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}
