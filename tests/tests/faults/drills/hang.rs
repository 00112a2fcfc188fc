//! The hang drill: Redis stops under load, with its connections open, and comes back.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_breaker::{BreakerHandle, BreakerOptions, BreakerStorage, State};
use cache_core::{CacheService, ErrorKind, FallbackStorage, Observers, millis, mins, secs};
use cache_dynamo::{AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_monitor::{MeteredStorage, MetricsObserver};
use cache_redis::{RedisCacheStorage, RedisOptions};
use cache_testkit::servers::{DynamoDb, RedisServer};
use tokio::time::sleep;

use super::load::{Call, Load, TASKS, lateness, p99};
use super::{SLACK, alive, alone, long_or, until};
use crate::stacked::{Measured, Meter, is, sockets_to};

/// How long Redis does not answer.
const HUNG: Duration = long_or(secs(30), secs(6));

/// What callers saw, and when what happened.
struct Drill {
    calls: Vec<Call>,
    hung: Instant,
    opened: Instant,
    returned: Instant,
    /// How many calls were let through while the breaker was open.
    probes: usize,
    /// What the machine may have added to the time of any call; nothing in the long form.
    added: Duration,
}

impl Drill {
    async fn of_stack(stack: &Measured, server: &RedisServer) -> Self {
        let breaker = stack.breaker().expect("Redis stands behind one");
        Self::of(&stack.service(), (&stack.meter, breaker), server, 2).await
    }

    /// Hangs the server for a while under load, and checks what does not depend on the stack,
    /// which may keep so many connections, each with its task, for the next time.
    async fn of(
        service: &CacheService,
        (meter, breaker): (&Meter, &BreakerHandle),
        server: &RedisServer,
        kept: usize,
    ) -> Self {
        let load = Load::on(service).await;
        let (tasks, sockets) = (alive(), sockets_to(server.port()));
        server.pause().expect("the server runs");
        let hung = Instant::now();
        until(|| is_open(breaker)).await;
        let opened = Instant::now();
        // The hang itself: nothing else ends it.
        sleep(HUNG.saturating_sub(hung.elapsed())).await;
        let probes = ["read", "write"].map(|lane| probes(meter, lane));
        server.resume().expect("the server is there");
        let returned = Instant::now();
        back(meter, &load).await;
        let ended = Instant::now();
        let now = (alive(), sockets_to(server.port()));
        let calls = load.end().await;

        let (opening, back) = (opened - hung, ended - returned);
        let most = millis(250) + SLACK + added(&calls, hung..=opened);
        assert!(opening <= most, "open after {opening:?}, {most:?} at most");
        let added = added(&calls, hung..=ended);
        assert!(probes.iter().all(|probes| *probes <= 10), "{probes:?}");
        assert!(back <= secs(6) + SLACK + added, "back after {back:?}");
        assert!(now.0 <= tasks + kept, "{} tasks, {tasks} before", now.0);
        assert!(now.1 <= sockets + 1, "{} sockets, {sockets} before", now.1);
        Self {
            calls,
            hung,
            opened,
            returned,
            probes: usize::try_from(probes.iter().sum::<u64>()).unwrap_or(usize::MAX),
            added,
        }
    }

    /// How many calls may be slow, and how slow.
    fn holds_up_few(&self) {
        let most = if cfg!(feature = "drills") {
            80
        } else {
            self.asked()
        };
        let slow = self.calls.iter();
        let slow = slow.filter(|call| call.took > millis(100) + self.added);
        let slow: Vec<_> = slow
            .map(|call| (call.began - self.hung, call.took))
            .collect();
        let (count, opened) = (slow.len(), self.opened - self.hung);
        assert!(
            count <= most,
            "{count} slow calls, {most} at most, open after {opened:?}: {slow:?}"
        );
        let slowest = self.calls.iter().map(|call| call.took).max();
        assert!(slowest <= Some(self.most(millis(150))), "{slowest:?}");
    }

    /// How many calls may have asked the server while it hung: those that were under way or begun
    /// before the breaker had opened, and probes. However long a busy machine takes to open it,
    /// nobody else may wait.
    fn asked(&self) -> usize {
        let waited = |call: &&Call| {
            let is_over = call.began + call.took < self.hung;
            call.began <= self.opened && !is_over
        };
        self.calls.iter().filter(waited).count() + self.probes
    }

    /// What a caller may see of this time on this machine.
    fn most(&self, time: Duration) -> Duration {
        time + SLACK + self.added
    }

    /// What was called while the breaker was open, or probed.
    fn while_open(&self) -> impl Iterator<Item = &Call> {
        let open = self.opened..self.returned;
        self.calls
            .iter()
            .filter(move |call| open.contains(&call.began))
    }
}

/// As long as a busy machine is known to have kept callers from calling within this time, it may
/// have kept others from answering. Nothing in the long form, which is for a machine that is not.
fn added(calls: &[Call], time: RangeInclusive<Instant>) -> Duration {
    if cfg!(feature = "drills") {
        return Duration::ZERO;
    }
    lateness(calls, time)
}

/// Whether a lane is open. Through a fallback one may be enough: what it missed has to be deleted
/// before anything else is sent, so the other is asked nothing.
fn is_open(breaker: &BreakerHandle) -> bool {
    ["read", "write"]
        .iter()
        .any(|lane| is(breaker, lane, State::Open))
}

fn probes(meter: &Meter, lane: &str) -> u64 {
    let labels = [("breaker", "redis"), ("lane", lane)];
    meter.count("cache_breaker_probe_total", &labels)
}

/// Waits until Redis answers 99 of 100 calls.
async fn back(meter: &Meter, load: &Load) {
    let turned_away = || meter.count("cache_breaker_rejected_total", &[("breaker", "redis")]);
    loop {
        let (calls, before) = (load.calls().len(), turned_away());
        sleep(millis(250)).await;
        let calls = (load.calls().len() - calls) as u64;
        if (turned_away() - before) * 100 <= calls {
            return;
        }
    }
}

fn is_measured(meter: &Meter) {
    let changes = |labels: &[_]| meter.count("cache_breaker_transitions_total", labels);
    let opened = changes(&[("from", "closed"), ("to", "open"), ("reason", "timeout")]);
    assert!((1..=2).contains(&opened), "once a lane: {opened}");
    assert_eq!(changes(&[("to", "closed")]), opened);
    assert!(meter.count("cache_timeouts_total", &[("backend", "redis")]) > 0);
}

#[test]
fn row_2_a_hang_under_load_costs_callers_nothing_where_there_is_a_fallback() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::else_memory(server.port());
        let drill = Drill::of_stack(&stack, &server).await;
        let failed: Vec<_> = drill.calls.iter().filter(|c| c.error.is_some()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        drill.holds_up_few();
        let open = p99(drill.while_open());
        assert!(open <= drill.most(millis(12)), "{open:?} through memory");
        is_measured(&stack.meter);
        let fallback = [
            ("from", "redis"),
            ("to", "memory"),
            ("reason", "breaker_open"),
        ];
        assert!(stack.has("cache_fallback_total", &fallback));
    })
}

#[test]
fn row_2_a_hang_under_load_is_misses_where_there_is_no_fallback() {
    alone(async {
        let server = RedisServer::start().unwrap();
        let stack = Measured::alone(server.port());
        let drill = Drill::of_stack(&stack, &server).await;
        for call in &drill.calls {
            let Some(error) = &call.error else { continue };
            // A write that went nowhere says so, whatever reads take trouble for.
            assert!(call.is_write, "{error}");
            assert!(call.began + millis(250) > drill.hung, "{error}");
            let kinds = [ErrorKind::Timeout, ErrorKind::Rejected];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        drill.holds_up_few();
        let reads = drill.while_open().filter(|call| !call.is_write);
        let open = p99(reads);
        assert!(open <= drill.most(millis(1)), "{open:?} to a miss");
        is_measured(&stack.meter);
        assert!(stack.has("cache_degraded_total", &[("reason", "breaker_open")]));
    })
}

/// What the emulator of a debug build makes a caller wait under the same load, the slowest
/// hundredth left out; none in the long form, which asks for the time itself.
async fn usual(table: &Arc<DynamoDbCacheStorage>) -> Duration {
    if cfg!(feature = "drills") {
        return Duration::ZERO;
    }
    let service = CacheService::builder(Arc::clone(table)).prefix("usual");
    let service = service.ttl(mins(10)).build();
    let load = Load::on(&service.expect("prefix and time to live are sound")).await;
    p99(&load.end().await)
}

/// The emulator of a debug build takes its time, which is not what is asked here: its patience is
/// one that nothing reaches.
#[test]
fn row_2_a_hang_under_load_costs_callers_nothing_where_dynamodb_is_the_fallback() {
    alone(async {
        let (server, emulator) = (RedisServer::start().unwrap(), DynamoDb::start().unwrap());
        let (metrics, meter) = Meter::new();
        let observers = Observers::new(MetricsObserver::new(metrics.clone()));
        let options = RedisOptions::new("127.0.0.1", server.port());
        let options = options.with_observers(observers.clone());
        let redis = RedisCacheStorage::new(options).unwrap();
        let redis = MeteredStorage::new(redis, metrics.clone());
        let redis = BreakerStorage::new(redis, BreakerOptions::default()).unwrap();
        let redis = redis.with_observers(observers.clone());
        let breaker = redis.handle();

        let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter1"));
        let options = DynamoDbOptions::new("cache")
            .with_region("eu-west-1")
            .with_endpoint(emulator.endpoint())
            .with_credentials(credentials)
            .with_attempt_timeout(secs(5))
            .with_timeout(secs(10));
        let table = DynamoDbCacheStorage::new(options).unwrap();
        table.create_table().await.unwrap();
        let table = Arc::new(table);
        let usual = usual(&table).await;
        let table = MeteredStorage::new(table, metrics);
        let stack = FallbackStorage::builder(redis).then(table);
        let stack = stack.observers(observers).build().unwrap();
        let service = CacheService::builder(stack).prefix("drill").ttl(mins(10));
        let service = service.build().unwrap();

        // A caller that finds no connection free has one made, and takes another's if that is free
        // first: each may leave one behind besides its own.
        let kept = 2 * TASKS + 2;
        let drill = Drill::of(&service, (&meter, &breaker), &server, kept).await;
        let failed: Vec<_> = drill.calls.iter().filter(|c| c.error.is_some()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        let open = p99(drill.while_open());
        let most = drill.most(millis(12)) + usual;
        assert!(open <= most, "{open:?} through DynamoDB, {usual:?} usually");
        is_measured(&meter);
        let fallback = [("from", "redis"), ("to", "dynamodb")];
        assert!(meter.count("cache_fallback_total", &fallback) > 0);
        let asked = [("backend", "dynamodb"), ("outcome", "ok")];
        assert!(meter.count("cache_ops_total", &asked) > 0);
    });
}
