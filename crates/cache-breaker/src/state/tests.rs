//! One test a rule, with plain moments.

use super::*;

const DEADLINE: Duration = Duration::from_millis(120);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn options() -> BreakerOptions {
    BreakerOptions::default().with_jitter(0.0)
}

fn machine(options: &BreakerOptions) -> Machine {
    Machine::new(options, 7)
}

fn ticket(machine: &mut Machine, now: Duration) -> Ticket {
    match machine.admit(now) {
        Admission::Admitted(ticket) => ticket,
        Admission::Rejected { .. } => panic!("rejected at {now:?}"),
    }
}

/// A call that takes no time.
fn call(machine: &mut Machine, now: Duration, outcome: Outcome) -> Option<Transition> {
    let ticket = ticket(machine, now);
    machine.settle(now, ticket, outcome)
}

fn rejected(machine: &mut Machine, now: Duration) -> Option<Duration> {
    match machine.admit(now) {
        Admission::Admitted(ticket) => panic!("admitted at {now:?} with {ticket:?}"),
        Admission::Rejected { retry_after, .. } => retry_after,
    }
}

/// Opens a closed machine at `now` by two timeouts, and says for how long.
fn trip(machine: &mut Machine, now: Duration) -> Duration {
    call(machine, now, Outcome::Timeout);
    let change = call(machine, now, Outcome::Timeout).unwrap();
    change.open_for.unwrap()
}

#[test]
fn two_timeouts_in_a_row_open() {
    let mut machine = machine(&options());
    assert_eq!(call(&mut machine, ms(0), Outcome::Timeout), None);
    let change = call(&mut machine, ms(1), Outcome::Timeout).unwrap();
    assert_eq!((change.from, change.to), (State::Closed, State::Open));
    assert_eq!(change.reason, Reason::Timeout);
    assert_eq!(change.open_for, Some(ms(1000)));
    assert_eq!(rejected(&mut machine, ms(501)), Some(ms(500)));
}

#[test]
fn three_failures_in_a_row_open_and_timeouts_count_among_them() {
    for last in [Outcome::Failure, Outcome::Timeout] {
        let mut machine = machine(&options());
        for _ in 0..2 {
            assert_eq!(call(&mut machine, ms(0), Outcome::Failure), None);
        }
        let change = call(&mut machine, ms(0), last).unwrap();
        assert_eq!(change.reason, Reason::Failure);
    }
}

#[test]
fn a_success_ends_a_row_and_a_neutral_call_or_a_throttle_does_not() {
    let mut machine = machine(&options());
    call(&mut machine, ms(0), Outcome::Timeout);
    call(&mut machine, ms(0), Outcome::Success);
    assert_eq!(call(&mut machine, ms(0), Outcome::Timeout), None);
    call(&mut machine, ms(0), Outcome::Neutral);
    call(&mut machine, ms(0), Outcome::Throttled);
    assert!(call(&mut machine, ms(0), Outcome::Timeout).is_some());
}

#[test]
fn failures_far_apart_are_no_row() {
    let mut machine = machine(&options());
    call(&mut machine, ms(0), Outcome::Timeout);
    assert_eq!(call(&mut machine, ms(10_001), Outcome::Timeout), None);
    assert!(call(&mut machine, ms(20_001), Outcome::Timeout).is_some());
}

#[test]
fn calls_stuck_in_one_stall_count_once() {
    let mut machine = machine(&options().with_window(ms(10_000), 1000));
    let stuck: Vec<_> = (0..64).map(|_| ticket(&mut machine, ms(0))).collect();
    for ticket in stuck {
        assert_eq!(machine.settle(DEADLINE, ticket, Outcome::Timeout), None);
    }
    assert_eq!(machine.counts(DEADLINE).consecutive_timeouts, 1);
    let next = ticket(&mut machine, DEADLINE);
    assert!(machine.settle(ms(240), next, Outcome::Timeout).is_some());
}

#[test]
fn half_of_twenty_calls_open_and_nineteen_say_nothing() {
    let mut machine = machine(&options().with_consecutive_failures(100));
    for _ in 0..9 {
        call(&mut machine, ms(0), Outcome::Success);
    }
    for _ in 0..10 {
        assert_eq!(call(&mut machine, ms(0), Outcome::Failure), None);
    }
    let change = call(&mut machine, ms(0), Outcome::Throttled).unwrap();
    assert_eq!(change.reason, Reason::Rate);
}

#[test]
fn throttles_count_in_the_rate_only() {
    let mut machine = machine(&options());
    for _ in 0..19 {
        assert_eq!(call(&mut machine, ms(0), Outcome::Throttled), None);
    }
    let change = call(&mut machine, ms(0), Outcome::Throttled).unwrap();
    assert_eq!(change.reason, Reason::Rate);
}

#[test]
fn calls_leave_the_window() {
    let mut machine = machine(&options());
    for _ in 0..19 {
        call(&mut machine, ms(0), Outcome::Throttled);
    }
    assert_eq!(call(&mut machine, ms(10_000), Outcome::Throttled), None);
    assert_eq!(machine.counts(ms(10_000)).calls, 1);
}

#[test]
fn mostly_slow_calls_open_successes_too() {
    let mut machine = machine(&options().with_slow_after(ms(60)));
    for call in 0..20 {
        let start = ms(call * 100);
        let took = if call < 4 { ms(59) } else { ms(60) };
        let ticket = ticket(&mut machine, start);
        let change = machine.settle(start + took, ticket, Outcome::Success);
        assert_eq!(
            change.map(|change| change.reason),
            (call == 19).then_some(Reason::Slow)
        );
    }
}

#[test]
fn a_dropped_call_counts_as_slow_if_it_was_and_else_not_at_all() {
    let mut machine = machine(&options().with_slow_after(ms(60)));
    for call in 0..20 {
        let ticket = ticket(&mut machine, ms(0));
        assert_eq!(machine.abandon(ms(0), ticket), None, "{call}");
    }
    assert_eq!(machine.counts(ms(0)), Counts::default());
    for call in 0..20 {
        let ticket = ticket(&mut machine, ms(call * 60));
        let change = machine.abandon(ms(call * 60 + 60), ticket);
        assert_eq!(
            change.map(|change| change.reason),
            (call == 19).then_some(Reason::Slow)
        );
    }
}

#[test]
fn wrong_configuration_opens_at_once_and_for_longer() {
    let mut machine = machine(&options());
    let mut now = ms(0);
    for seconds in [5, 10, 20, 30, 30] {
        let change = call(&mut machine, now, Outcome::Configuration).unwrap();
        assert_eq!(change.reason, Reason::Configuration);
        assert_eq!(change.open_for, Some(ms(seconds * 1000)));
        now += ms(seconds * 1000);
    }
}

#[test]
fn one_failed_probe_opens_again_for_twice_as_long() {
    let mut machine = machine(&options());
    let mut now = ms(0) + trip(&mut machine, ms(0));
    for seconds in [2, 4, 5, 5] {
        let change = call(&mut machine, now, Outcome::Failure).unwrap();
        assert_eq!((change.from, change.to), (State::HalfOpen, State::Open));
        assert_eq!(change.open_for, Some(ms(seconds * 1000)));
        now += ms(seconds * 1000);
    }
}

#[test]
fn two_successful_probes_close() {
    let mut machine = machine(&options());
    trip(&mut machine, ms(0));
    let first = ticket(&mut machine, ms(1000));
    assert!(first.is_probe());
    let change = first.transition().unwrap();
    assert_eq!(
        (change.to, change.reason),
        (State::HalfOpen, Reason::Elapsed)
    );
    assert_eq!(machine.settle(ms(1001), first, Outcome::Success), None);
    let second = ticket(&mut machine, ms(1001));
    assert_eq!(second.transition(), None);
    let change = machine.settle(ms(1002), second, Outcome::Success).unwrap();
    assert_eq!((change.to, change.reason), (State::Closed, Reason::Probe));
    assert_eq!(machine.reason(), Some(Reason::Timeout));
    assert!(!ticket(&mut machine, ms(1002)).is_probe());
}

#[test]
fn one_probe_goes_at_a_time_and_its_lease_ends() {
    let mut machine = machine(&options());
    trip(&mut machine, ms(0));
    let stuck = ticket(&mut machine, ms(1000));
    assert_eq!(rejected(&mut machine, ms(1400)), Some(ms(600)));
    assert!(machine.is_rejecting(ms(1999)) && !machine.is_rejecting(ms(2000)));
    let next = ticket(&mut machine, ms(2000));
    assert_eq!(machine.settle(ms(2000), stuck, Outcome::Failure), None);
    assert_eq!(machine.state(), State::HalfOpen);
    assert!(machine.settle(ms(2001), next, Outcome::Failure).is_some());
}

#[test]
fn a_late_verdict_counts_while_no_other_probe_has_gone() {
    let mut machine = machine(&options());
    trip(&mut machine, ms(0));
    let late = ticket(&mut machine, ms(1000));
    assert!(machine.settle(ms(9000), late, Outcome::Timeout).is_some());
}

#[test]
fn a_probe_without_a_verdict_frees_its_lease() {
    for outcome in [None, Some(Outcome::Neutral), Some(Outcome::Throttled)] {
        let mut machine = machine(&options());
        trip(&mut machine, ms(0));
        let probe = ticket(&mut machine, ms(1000));
        let change = match outcome {
            None => machine.abandon(ms(1001), probe),
            Some(outcome) => machine.settle(ms(1001), probe, outcome),
        };
        assert_eq!(change, None);
        assert!(ticket(&mut machine, ms(1001)).is_probe());
    }
}

#[test]
fn a_verdict_of_an_older_generation_is_ignored() {
    let mut machine = machine(&options());
    let old: Vec<_> = (0..8).map(|_| ticket(&mut machine, ms(0))).collect();
    trip(&mut machine, ms(0));
    let probe = ticket(&mut machine, ms(1000));
    for (position, ticket) in old.into_iter().enumerate() {
        let outcome = [Outcome::Success, Outcome::Configuration][position % 2];
        assert_eq!(machine.settle(ms(1000), ticket, outcome), None);
    }
    assert_eq!(machine.state(), State::HalfOpen);
    machine.settle(ms(1000), probe, Outcome::Success);
}

/// Closes a machine that was opened at `now`, and says when.
fn recover(machine: &mut Machine, now: Duration) -> Duration {
    let now = now + ms(5000);
    call(machine, now, Outcome::Success);
    call(machine, now, Outcome::Success);
    assert_eq!(machine.state(), State::Closed);
    now
}

#[test]
fn a_relapse_goes_on_doubling_and_a_later_trip_begins_anew() {
    let mut machine = machine(&options());
    assert_eq!(trip(&mut machine, ms(0)), ms(1000));
    let closed = recover(&mut machine, ms(0));
    let relapse = closed + ms(60_000);
    assert_eq!(trip(&mut machine, relapse), ms(2000));
    let closed = recover(&mut machine, relapse);
    let later = closed + ms(60_001);
    assert_eq!(trip(&mut machine, later), ms(1000));
}

#[test]
fn forced_open_rejects_until_it_is_automatic_again() {
    let mut machine = machine(&options());
    let change = machine.force_open(ms(0)).unwrap();
    assert_eq!(
        (change.to, change.reason),
        (State::ForcedOpen, Reason::Manual)
    );
    assert_eq!(machine.force_open(ms(0)), None);
    assert_eq!(rejected(&mut machine, ms(1_000_000)), None);
    assert!(machine.is_rejecting(ms(1_000_000)));
    let change = machine.automatic(ms(1_000_000)).unwrap();
    assert_eq!(change.to, State::Closed);
    assert_eq!(machine.automatic(ms(1_000_000)), None);
}

#[test]
fn forced_closed_counts_and_disabled_does_not_and_neither_opens() {
    let mut machine = machine(&options());
    machine.force_closed(ms(0)).unwrap();
    for _ in 0..30 {
        assert_eq!(call(&mut machine, ms(0), Outcome::Failure), None);
    }
    call(&mut machine, ms(0), Outcome::Configuration);
    assert_eq!(machine.counts(ms(0)).failures, 30);
    machine.disable(ms(0)).unwrap();
    for _ in 0..30 {
        assert_eq!(call(&mut machine, ms(0), Outcome::Timeout), None);
    }
    assert_eq!(machine.counts(ms(0)), Counts::default());
    assert_eq!(machine.state(), State::Disabled);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut machine = machine(&options());
    let open_for = trip(&mut machine, ms(5000));
    assert_eq!(rejected(&mut machine, ms(0)), Some(open_for));
    let probe = ticket(&mut machine, ms(6000));
    assert!(machine.settle(ms(0), probe, Outcome::Failure).is_some());
}

#[test]
fn breakers_with_other_seeds_probe_at_other_times() {
    let opened = |seed| trip(&mut Machine::new(&BreakerOptions::default(), seed), ms(0));
    let spans: std::collections::HashSet<_> = (0..100).map(opened).collect();
    assert!(spans.len() > 90);
    assert!(
        spans
            .iter()
            .all(|span| *span > ms(799) && *span <= ms(1000))
    );
}
