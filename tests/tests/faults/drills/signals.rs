//! The end of a process under load: it is asked to end, and killed half a second later.
//!
//! The library installs no handler of signals. The process does here what `docs/lambda.md` has a
//! function do: it hands over what it has measured, ends the stack within 300 ms, and exits.

use std::os::unix::process::ExitStatusExt as _;
use std::process::exit;
use std::time::{Duration, Instant};

use cache_core::millis;
use cache_testkit::servers::RedisServer;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::load::Load;
use super::{SLACK, alone, until};
use crate::processes::{End, Process, part};
use crate::stacked::Measured;

/// What a process that was asked to end gives its calls.
const BUDGET: Duration = millis(300);

/// When it is killed.
const KILLED_AFTER: Duration = millis(500);

/// What a process measures last, and how it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Redis, else memory.
    ElseMemory,
    /// Redis alone, waited for longer than a process has left.
    Patient,
    /// Redis, else memory; goes on when it is asked to end.
    Deaf,
}

impl Part {
    const ALL: [Self; 3] = [Self::ElseMemory, Self::Patient, Self::Deaf];

    /// The part that this process plays, and where its Redis is.
    fn of_process() -> Option<(Self, u16)> {
        let told = part()?;
        let (name, port) = told.split_once(' ')?;
        let mut all = Self::ALL.into_iter();
        let part = all.find(|part| format!("{part:?}") == name)?;
        Some((part, port.parse().ok()?))
    }

    fn stack(self, port: u16) -> Measured {
        let patient = [
            ("CACHE_REDIS_ATTEMPT_TIMEOUT", "5s"),
            ("CACHE_REDIS_TIMEOUT", "10s"),
            ("CACHE_BREAKER_PATIENCE", "10s"),
        ];
        match self {
            Self::ElseMemory | Self::Deaf => Measured::else_memory(port),
            Self::Patient => Measured::of_redis(port, &patient),
        }
    }

    /// Serves until it is asked to end, and ends this process.
    fn play(self, port: u16) -> ! {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("the system has a runtime left");
        runtime.block_on(async {
            let mut asked = signal(SignalKind::terminate()).expect("signals can be had");
            let stack = self.stack(port);
            let load = Load::on(&stack.service()).await;
            eprintln!("serves");
            tokio::select! {
                _ = asked.recv() => {}
                () = stuck(&stack) => {
                    asked.recv().await;
                }
            }
            tell(&stack);
            if self == Self::Deaf {
                std::future::pending::<()>().await;
            }
            let report = stack.caches.shutdown(BUDGET).await;
            tell(&stack);
            eprintln!("trouble {}", u8::from(report.error.is_some()));
            eprintln!("drained {}", report.drained);
            eprintln!("cancelled {}", report.cancelled);
            eprintln!("took {}", report.took.as_millis());
            drop(load);
        });
        exit(0)
    }
}

/// Returns when more calls are under way than could be while Redis answers.
async fn stuck(stack: &Measured) {
    // As long as the process serves: the parent gives up, not this.
    let mut pace = tokio::time::interval(millis(1));
    while stack.caches.monitor().in_flight() <= 16 {
        pace.tick().await;
    }
    eprintln!("stuck");
}

/// Hands over what was measured so far.
fn tell(stack: &Measured) {
    eprintln!("calls {}", stack.count("cache_ops_total", &[]));
    eprintln!("shutdowns {}", stack.count("cache_shutdown_total", &[]));
}

/// A process under load, and the server it asks.
struct Served {
    process: Process,
    server: RedisServer,
}

impl Served {
    fn by<T: Fn()>(test: T, part: Part) -> Self {
        let server = RedisServer::start().expect("redis-server starts");
        let part = format!("{part:?} {}", server.port());
        let mut process = Process::start(test, &part);
        process.says("serves");
        assert!(clients(&server) > 1, "it is connected");
        Self { process, server }
    }

    /// Stops the server, and returns when the process waits for it.
    fn hang(&mut self) {
        self.server.pause().expect("the server runs");
        self.process.says("stuck");
    }

    /// Asks the process to end, kills it half a second later, and returns when nothing of it is
    /// left in the server.
    async fn end(self) -> End {
        let Self { process, server } = self;
        let asked = Instant::now();
        process.terminate();
        let left = (KILLED_AFTER + SLACK).saturating_sub(asked.elapsed());
        let end = process.end_within(left);
        server.resume().expect("the server is there");
        until(|| clients(&server) == 1).await;
        end
    }
}

/// How many are connected to a server, whoever asks among them.
fn clients(server: &RedisServer) -> usize {
    let list = server.command(&["CLIENT", "LIST"]);
    let list = list.expect("the server answers");
    list.lines().filter(|line| !line.is_empty()).count()
}

/// What every process that ends by itself has done.
fn is_orderly(end: &End) {
    assert!(end.status.success(), "{end:?}");
    assert_eq!(end.number("trouble"), 0, "{end:?}");
    assert!(end.number("calls") > 0, "{end:?}");
    assert_eq!(end.number("shutdowns"), 1, "{end:?}");
    assert!(end.place("calls") < end.place("drained"), "measured first");
    let took = millis(end.number("took"));
    assert!(took <= BUDGET + millis(100) + SLACK, "{end:?}");
    let last = end.said.last().map(String::as_str);
    assert!(last.is_some_and(|last| last.starts_with("took")), "{end:?}");
}

#[test]
fn row_85_a_process_under_load_ends_before_it_is_killed() {
    if let Some((part, port)) = Part::of_process() {
        part.play(port);
    }
    alone(async {
        let test = row_85_a_process_under_load_ends_before_it_is_killed;
        let end = Served::by(test, Part::ElseMemory).end().await;
        is_orderly(&end);
        assert_eq!(end.number("cancelled"), 0, "Redis answers: {end:?}");
    });
}

#[test]
fn row_85_a_process_ends_before_it_is_killed_while_redis_hangs_behind_its_breaker() {
    if let Some((part, port)) = Part::of_process() {
        part.play(port);
    }
    alone(async {
        let test = row_85_a_process_ends_before_it_is_killed_while_redis_hangs_behind_its_breaker;
        let mut served = Served::by(test, Part::ElseMemory);
        served.hang();
        is_orderly(&served.end().await);
    });
}

#[test]
fn row_85_a_process_whose_calls_would_wait_longer_ends_before_it_is_killed() {
    if let Some((part, port)) = Part::of_process() {
        part.play(port);
    }
    alone(async {
        let test = row_85_a_process_whose_calls_would_wait_longer_ends_before_it_is_killed;
        let mut served = Served::by(test, Part::Patient);
        served.hang();
        let end = served.end().await;
        is_orderly(&end);
        assert!(end.number("cancelled") > 0, "they were cut off: {end:?}");
    });
}

/// What was measured is handed over before anything else, so that it is not lost with a process
/// that comes no further; and the kernel ends its connections.
#[test]
fn row_85_a_process_that_is_killed_leaves_its_measurements_and_nothing_in_redis() {
    if let Some((part, port)) = Part::of_process() {
        part.play(port);
    }
    alone(async {
        let test = row_85_a_process_that_is_killed_leaves_its_measurements_and_nothing_in_redis;
        let end = Served::by(test, Part::Deaf).end().await;
        assert_eq!(end.status.signal(), Some(9), "{end:?}");
        assert!(end.number("calls") > 0, "{end:?}");
        assert_eq!(end.number("shutdowns"), 0, "{end:?}");
        assert_eq!(end.place("drained"), None, "{end:?}");
    });
}
