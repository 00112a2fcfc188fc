//! The reference: what was written, loaded and answered, and whether that was right.

use std::time::Duration;

use cache_core::{CacheError, ErrorKind, LoadStatus, Loaded};

use super::steps::{ABSENT, FRESH, Outcome, SHORT, STALE, THROTTLE, Wishes, Write};

/// Defaults are numbers of their own.
pub(super) const DEFAULTS: u64 = 1_000_000;

/// Everything that happened, in the order of its ticks.
#[derive(Default)]
pub(super) struct World {
    tick: u64,
    /// Since the beginning.
    pub(super) now: Duration,
    /// When an outage of the storage last began or ended.
    disturbed: u64,
    is_out: bool,
    /// Whether a caller has left since the last pause, so that its load may be about to end.
    has_just_left: bool,
    /// The last load whose value is known to be stored: when it was called, when that was known.
    newest: Option<(usize, u64)>,
    /// Whether anything has hung in the storage, which may last until the end.
    has_hung: bool,
    calls: Vec<Call>,
    pub(super) loads: Vec<Load>,
    writes: Vec<Written>,
    values: Vec<Vec<Making>>,
    throttled: Option<Throttled>,
    pub(super) problem: Option<String>,
}

struct Call {
    wishes: Wishes,
    began: u64,
    at: Duration,
    is_over: bool,
}

pub(super) struct Load {
    caller: usize,
    invoked: u64,
    pub(super) is_live: bool,
    /// The value that was shown to it.
    shown: Option<u64>,
    outcome: Option<(Outcome, Duration)>,
}

struct Written {
    kind: Write,
    at: Duration,
    began: u64,
    acknowledged: Option<u64>,
}

/// One way in which a value came to be the value of the key.
struct Making {
    by: Maker,
    /// The latest time at which it may have been stored.
    at: Duration,
    /// Whether it was stored at once.
    is_exact: bool,
    fresh: Duration,
    stale: Duration,
}

#[derive(Clone, Copy)]
enum Maker {
    Load(usize),
    Set(usize),
}

/// A load that failed and was answered with a stale value.
struct Throttled {
    since: Duration,
    tick: u64,
    stale_end: Duration,
}

impl World {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn wrong(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    pub(super) fn outage(&mut self, is_out: bool) {
        self.is_out = is_out;
        self.disturbed = self.tick();
    }

    pub(super) fn hang(&mut self) {
        self.has_hung = true;
    }

    /// What has hung on its way into the storage gets there now.
    pub(super) fn go_on(&mut self) {
        if self.has_hung {
            let now = self.now;
            for making in self.values.iter_mut().flatten() {
                making.is_exact = false;
                making.at = now;
            }
        }
    }

    /// Whether the storage has worked since `tick`.
    fn is_sound_since(&self, tick: u64) -> bool {
        !self.has_hung && !self.is_out && self.disturbed < tick
    }

    pub(super) fn call_begins(&mut self, wishes: Wishes) -> usize {
        let (began, at) = (self.tick(), self.now);
        self.calls.push(Call {
            wishes,
            began,
            at,
            is_over: false,
        });
        self.calls.len() - 1
    }

    pub(super) fn call_leaves(&mut self, call: usize) {
        self.calls[call].is_over = true;
        self.has_just_left = true;
    }

    pub(super) fn write_begins(&mut self, kind: Write) -> (usize, u64) {
        let (began, at) = (self.tick(), self.now);
        self.writes.push(Written {
            kind,
            at,
            began,
            acknowledged: None,
        });
        let write = self.writes.len() - 1;
        if kind == Write::Set {
            return (write, self.makes(Maker::Set(write), at, (FRESH, STALE)));
        }
        (write, 0)
    }

    pub(super) fn write_ends(&mut self, write: usize, is_acknowledged: bool) {
        let tick = self.tick();
        self.writes[write].acknowledged = is_acknowledged.then_some(tick);
        self.throttled = None;
    }

    fn makes(&mut self, by: Maker, at: Duration, (fresh, stale): (Duration, Duration)) -> u64 {
        self.values.push(vec![Making {
            by,
            at,
            is_exact: true,
            fresh,
            stale,
        }]);
        self.values.len() as u64 - 1
    }

    /// A loader is called.
    pub(super) fn load_begins(&mut self, caller: usize, shown: Option<u64>) -> usize {
        let invoked = self.tick();
        // Calls from before a write and calls from after it load apart.
        let own = self.calls[caller].began;
        let overlaps = |load: &Load| {
            let began = own.min(self.calls[load.caller].began);
            load.is_live && !self.has_just_left && !self.was_written_since(began)
        };
        if let Some(other) = self.loads.iter().position(overlaps) {
            self.wrong(format!(
                "call {caller} loads while load {other} is under way"
            ));
        }
        self.check_throttle(caller);
        self.loads.push(Load {
            caller,
            invoked,
            is_live: true,
            shown,
            outcome: None,
        });
        self.loads.len() - 1
    }

    fn check_throttle(&mut self, caller: usize) {
        let Call { wishes, began, .. } = self.calls[caller];
        let holds = self.throttled.as_ref().is_some_and(|throttled| {
            began > throttled.tick
                && self.now < throttled.since + THROTTLE
                && self.now < throttled.stale_end
                && self.is_sound_since(throttled.tick)
        });
        if holds && !wishes.refreshes && !wishes.refuses_stale {
            self.wrong(format!("call {caller} loads within the throttle"));
        }
    }

    /// Whether a write was under way at `tick` or began after it.
    fn was_written_since(&self, tick: u64) -> bool {
        let since = |write: &Written| write.acknowledged.is_none_or(|ended| ended > tick);
        self.writes.iter().any(since)
    }

    /// A loader comes back; the number of its value.
    pub(super) fn load_ends(&mut self, load: usize, outcome: Outcome) -> u64 {
        let now = self.now;
        self.loads[load].outcome = Some((outcome, now));
        let by = Maker::Load(load);
        match outcome {
            Outcome::ValueFor => self.makes(by, now, (SHORT, SHORT)),
            Outcome::NotModified => {
                let shown = self.loads[load].shown.unwrap_or_default();
                if let Some(makings) = self.values.get_mut(shown as usize) {
                    makings.push(Making {
                        by,
                        at: now,
                        is_exact: true,
                        fresh: FRESH,
                        stale: STALE,
                    });
                }
                shown
            }
            _ => self.makes(by, now, (FRESH, STALE)),
        }
    }

    /// The future of a loader is gone, back or not.
    pub(super) fn load_is_gone(&mut self, load: usize) {
        self.loads[load].is_live = false;
        let fails = |(outcome, _)| {
            matches!(
                outcome,
                Outcome::Failed | Outcome::FailedWith | Outcome::Panic
            )
        };
        if self.loads[load]
            .outcome
            .is_some_and(|outcome| !fails(outcome))
        {
            self.throttled = None;
        }
    }

    pub(super) fn call_ends(&mut self, call: usize, answer: Result<Loaded<u64>, CacheError>) {
        self.calls[call].is_over = true;
        let wrong = match &answer {
            Ok(loaded) => self.judge(call, loaded).err(),
            Err(error) => self.judge_error(call, error).err(),
        };
        if let Some(wrong) = wrong {
            self.wrong(format!(
                "call {call}: {wrong}: {answer:?} at {:?}",
                self.now
            ));
        }
        if let Ok(loaded) = answer {
            self.note_throttle(&loaded);
            self.note_newest(call, &loaded);
        }
    }

    fn judge_error(&self, call: usize, error: &CacheError) -> Result<(), String> {
        if self.calls[call].wishes.has_default {
            return Err("a caller with a default has an error".to_owned());
        }
        match error.kind() {
            ErrorKind::Loader if error.to_string().contains("runtime") => {
                Err("the load is lost".to_owned())
            }
            ErrorKind::Loader | ErrorKind::Timeout => Ok(()),
            _ => Err("not an error that a load may have".to_owned()),
        }
    }

    fn judge(&self, call: usize, loaded: &Loaded<u64>) -> Result<(), String> {
        let wishes = self.calls[call].wishes;
        let is_stored = matches!(loaded.status, LoadStatus::Fresh | LoadStatus::Stale);
        if loaded.tier.is_some() != is_stored {
            return Err("the tier is wrong".to_owned());
        }
        let Some(value) = loaded.value.as_deref().copied() else {
            return self.judge_absent(call);
        };
        if value >= DEFAULTS {
            let own = DEFAULTS + call as u64;
            let is_own = value == own && wishes.has_default && loaded.status == LoadStatus::Default;
            return is_own
                .then_some(())
                .ok_or_else(|| "the default of another call".to_owned());
        }
        if loaded.status == LoadStatus::Stale && wishes.refuses_stale {
            return Err("stale where it is refused".to_owned());
        }
        if loaded.status == LoadStatus::Fresh && wishes.refreshes && loaded.trouble.is_none() {
            return Err("not refreshed".to_owned());
        }
        let makings = &self.values[value as usize];
        let mut wrong = Err("nobody made this value".to_owned());
        for making in makings {
            wrong = self.judge_making(call, loaded, &makings[0], making);
            if wrong.is_ok() {
                break;
            }
        }
        wrong
    }

    fn judge_making(
        &self,
        call: usize,
        loaded: &Loaded<u64>,
        first: &Making,
        making: &Making,
    ) -> Result<(), String> {
        let age = self.now - making.at;
        let is_stored = matches!(loaded.status, LoadStatus::Fresh | LoadStatus::Stale);
        match loaded.status {
            LoadStatus::Fresh if age >= making.fresh => return Err("older than fresh".to_owned()),
            LoadStatus::Stale if age >= making.fresh + making.stale => {
                return Err("older than its stale budget".to_owned());
            }
            LoadStatus::Fresh | LoadStatus::Stale if !self.may_be_stored(making) => {
                return Err("was not to be stored".to_owned());
            }
            LoadStatus::Fresh | LoadStatus::Stale
                if making.is_exact && loaded.age.is_some_and(|told| told != age) =>
            {
                return Err("of another age than told".to_owned());
            }
            LoadStatus::Loaded if matches!(making.by, Maker::Set(_)) => {
                return Err("loaded by nobody".to_owned());
            }
            _ => {}
        }
        let began = self.calls[call].began;
        if let (Some((newest, known)), Maker::Load(load)) = (self.newest, making.by)
            && is_stored
            && known < began
            && self.loads[load].invoked < self.loads[newest].invoked
            && !self.was_written_since(self.calls[self.loads[newest].caller].began)
        {
            return Err("older than what was stored since".to_owned());
        }
        for write in &self.writes {
            let Some(ended) = write.acknowledged.filter(|ended| *ended < began) else {
                continue;
            };
            let is_before = self.is_before(making, write, ended)
                || write.kind != Write::ExpireNow && self.is_before(first, write, ended);
            let may_be_stale = write.kind == Write::ExpireNow && loaded.status == LoadStatus::Stale;
            if is_before && !may_be_stale {
                return Err(format!("from before a {:?}", write.kind));
            }
        }
        Ok(())
    }

    fn may_be_stored(&self, making: &Making) -> bool {
        let Maker::Load(load) = making.by else {
            return true;
        };
        let outcome = self.loads[load].outcome.map(|(outcome, _)| outcome);
        matches!(
            outcome,
            Some(Outcome::Value | Outcome::ValueFor | Outcome::NotModified)
        )
    }

    /// Whether a write comes after the making.
    fn is_before(&self, making: &Making, write: &Written, ended: u64) -> bool {
        match making.by {
            Maker::Load(load) => self.loads[load].invoked < ended,
            Maker::Set(set) => {
                let set = &self.writes[set];
                set.acknowledged.is_some_and(|ended| ended < write.began)
            }
        }
    }

    fn judge_absent(&self, call: usize) -> Result<(), String> {
        let began = self.calls[call].began;
        let fits = |load: &Load| {
            let Some((Outcome::Absent, at)) = load.outcome else {
                return false;
            };
            let is_remembered = self.now < at + ABSENT || self.has_hung;
            let overtakes = |write: &Written| {
                write.kind != Write::ExpireNow
                    && write
                        .acknowledged
                        .is_some_and(|ended| ended < began && load.invoked < ended)
            };
            is_remembered && !self.writes.iter().any(overtakes)
        };
        let is_right = self.loads.iter().any(fits);
        is_right
            .then_some(())
            .ok_or_else(|| "nobody said that there is nothing".to_owned())
    }

    /// Notes a value that was loaded and stored. Who waits no longer than he wants to may have it
    /// before it is stored.
    fn note_newest(&mut self, call: usize, loaded: &Loaded<u64>) {
        let wishes = self.calls[call].wishes;
        let is_patient = wishes.soft.or(wishes.hard).or(wishes.deadline).is_none();
        if loaded.status != LoadStatus::Loaded || loaded.trouble.is_some() || !is_patient {
            return;
        }
        let value = loaded.value.as_deref().copied().unwrap_or_default();
        let making = self.values[value as usize].last();
        if let Some(making) = making.filter(|making| self.may_be_stored(making))
            && let Maker::Load(load) = making.by
        {
            self.newest = Some((load, self.tick()));
        }
    }

    /// Notes a failure that was answered with a stale value just now.
    fn note_throttle(&mut self, loaded: &Loaded<u64>) {
        let failed = |error: &CacheError| error.kind() == ErrorKind::Loader;
        if loaded.status != LoadStatus::Stale || !loaded.trouble.as_ref().is_some_and(failed) {
            return;
        }
        let value = loaded.value.as_deref().copied().unwrap_or_default();
        let Some(making) = self.values[value as usize].last() else {
            return;
        };
        let is_failure = |load: &&Load| {
            let outcome = load.outcome.map(|(outcome, at)| (outcome, at == self.now));
            matches!(
                outcome,
                Some((Outcome::Failed | Outcome::FailedWith | Outcome::Panic, true))
            )
        };
        // Of several that failed at once, nobody knows which it was.
        let mut failures = self.loads.iter().filter(is_failure);
        let (Some(load), None) = (failures.next(), failures.next()) else {
            return;
        };
        let began = self.calls[load.caller].began;
        if self.was_written_since(began) || !self.is_sound_since(began) {
            return;
        }
        let expired = self
            .writes
            .iter()
            .filter(|write| write.kind == Write::ExpireNow);
        let stale_end = expired
            .map(|write| write.at + STALE)
            .chain([making.at + making.fresh + making.stale])
            .min()
            .unwrap_or_default();
        let tick = self.tick();
        self.throttled = Some(Throttled {
            since: self.now,
            tick,
            stale_end,
        });
    }

    /// Everything has gone on as far as it gets: whoever's time is over has ended, and what was
    /// cancelled is gone.
    pub(super) fn settles(&mut self) {
        self.has_just_left = false;
        for (position, call) in self.calls.iter().enumerate() {
            let hard = call.wishes.hard.filter(|_| !self.has_hung);
            let end = [hard, call.wishes.deadline].into_iter().flatten().min();
            if !call.is_over && end.is_some_and(|end| self.now >= call.at + end) {
                let problem = format!("call {position} waits beyond its time");
                self.problem.get_or_insert(problem);
            }
        }
    }
}
