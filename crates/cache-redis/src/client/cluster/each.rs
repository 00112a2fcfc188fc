//! Batches over many slots: one pipeline a server, then whatever came back again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cache_core::{CacheError, ErrorKind, Result};
use futures_util::future::join_all;
use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::super::BATCH;
use super::super::batch::{PerKey, refused, send};
use super::super::call::{Budget, Call, Repeat};
use super::super::link::Payload;
use super::super::node::Node;
use super::super::reply::array;
use super::super::shape::Expects;
use super::super::slots::{Redirect, slot_of};
use super::table::Table;
use super::{Cluster, is_outdated};
use crate::address::Address;

/// How often keys that were sent to the wrong server are sorted and sent again.
const ROUNDS: usize = 4;

/// What became of a batch so far.
struct Progress<const N: usize> {
    outcomes: Vec<Option<Result<[Value; N]>>>,
    /// Whether the write of a key may have been executed in an earlier round.
    may_have_run: Vec<bool>,
    /// For each position the last one with the same key, once anything has to be sent again.
    last_of_key: Option<Vec<usize>>,
    /// Positions that are not sent again, and those of the later writes that take their places.
    overtaken: Vec<(usize, usize)>,
}

/// What one round left to do.
#[derive(Default)]
struct Leftover {
    /// Keys whose slot has another server now.
    moved: Vec<usize>,
    /// Keys on their way to another server.
    asked: Vec<usize>,
    /// Keys whose server is in trouble.
    failed: Vec<(usize, Arc<Node>)>,
}

impl Cluster {
    /// Sends the commands of a batch, grouped by server, and returns the replies in order.
    ///
    /// All servers are asked at the same time. A key that its server redirects, or whose server
    /// was replaced meanwhile, is sent again; the others keep what they have.
    pub(in super::super) async fn each_key<B: PerKey<N>, const N: usize>(
        self: &Arc<Self>,
        batch: &B,
        budget: Budget,
    ) -> Vec<Result<[Value; N]>> {
        let mut progress = Progress {
            outcomes: (0..batch.count()).map(|_| None).collect(),
            may_have_run: vec![false; batch.count()],
            last_of_key: None,
            overtaken: Vec::new(),
        };
        let mut pending: Vec<_> = (0..batch.count()).collect();
        for _ in 0..ROUNDS {
            let leftover = self.round(batch, &pending, budget, &mut progress).await;
            let asked = progress.without_overtaken(batch, leftover.asked);
            self.ask_each(batch, &asked, budget, &mut progress).await;
            pending = leftover.moved;
            pending.extend(self.replaced(batch, leftover.failed, budget.deadline).await);
            pending = progress.without_overtaken(batch, pending);
            if pending.is_empty() || Instant::now() >= budget.deadline {
                break;
            }
        }
        progress.settle(|| self.uncovered())
    }

    /// Sends the pending keys once.
    async fn round<B: PerKey<N>, const N: usize>(
        self: &Arc<Self>,
        batch: &B,
        pending: &[usize],
        budget: Budget,
        progress: &mut Progress<N>,
    ) -> Leftover {
        let mut leftover = Leftover::default();
        if pending.is_empty() {
            return leftover;
        }
        let slots: Vec<_> = pending.iter().map(|at| slot_of(batch.key(*at))).collect();
        let covers = |table: &Table| slots.iter().all(|slot| table.owner(*slot).is_some());
        let table = match self.table_that(covers, budget.deadline).await {
            Ok(table) => table,
            Err(error) => {
                pending
                    .iter()
                    .for_each(|at| progress.note(*at, Err(error.clone())));
                return leftover;
            }
        };
        let mut groups: BTreeMap<&Address, (&Arc<Node>, Vec<usize>)> = BTreeMap::new();
        for (at, slot) in pending.iter().zip(&slots) {
            match table.owner(*slot) {
                Some(node) => {
                    let group = groups.entry(node.address()).or_insert((node, Vec::new()));
                    group.1.push(*at);
                }
                None => progress.note(*at, Err(self.uncovered())),
            }
        }
        let exchanges = groups
            .values()
            .map(|(node, positions)| send(node, batch, positions, budget));
        let answers = join_all(exchanges).await;
        for ((node, positions), answers) in groups.values().zip(answers) {
            for (at, answer) in positions.iter().zip(answers) {
                self.sort(*at, &answer, node, &mut leftover);
                progress.note(*at, answer);
            }
        }
        leftover
    }

    /// Decides whether a key has to be sent again.
    fn sort<const N: usize>(
        &self,
        at: usize,
        answer: &Result<[Value; N]>,
        node: &Arc<Node>,
        leftover: &mut Leftover,
    ) {
        let replies = match answer {
            Ok(replies) => replies,
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout) {
                    leftover.failed.push((at, Arc::clone(node)));
                }
                return;
            }
        };
        let redirect = Redirect::in_replies(replies, node.address());
        if let Some(redirect) = &redirect {
            self.tell_redirect(redirect);
        }
        match redirect {
            Some(Redirect::Moved(slot, address)) => {
                self.moved(slot, &address);
                leftover.moved.push(at);
            }
            Some(Redirect::Ask(_)) => leftover.asked.push(at),
            None if replies.iter().any(is_outdated) => {
                leftover.failed.push((at, Arc::clone(node)));
            }
            None => {}
        }
    }

    /// Sends keys that are on their way one by one.
    async fn ask_each<B: PerKey<N>, const N: usize>(
        self: &Arc<Self>,
        batch: &B,
        asked: &[usize],
        budget: Budget,
        progress: &mut Progress<N>,
    ) {
        let one = async |at: usize| {
            let mut commands = Pipeline::with_capacity(N);
            batch.push(at, &mut commands);
            let call = Call {
                payload: &Payload::Pipeline(commands),
                expects: Expects::Each(N, B::SHAPES),
                repeat: Repeat::Same,
                is_write: B::IS_WRITE,
                budget: budget.anew(),
            };
            let reply = self.call(batch.key(at), call).await?;
            array(reply)
        };
        for some in asked.chunks(BATCH) {
            let answers = join_all(some.iter().map(|at| one(*at))).await;
            for (at, answer) in some.iter().zip(answers) {
                progress.note(*at, answer);
            }
        }
    }

    /// Those of the failed keys whose slot has another server now.
    async fn replaced<B: PerKey<N>, const N: usize>(
        &self,
        batch: &B,
        failed: Vec<(usize, Arc<Node>)>,
        deadline: Instant,
    ) -> Vec<usize> {
        if failed.is_empty() {
            return Vec::new();
        }
        failed.iter().for_each(|(_, node)| self.suspect(node));
        self.reread(deadline).await;
        let Some(table) = self.known_table() else {
            return Vec::new();
        };
        let is_replaced = |(at, node): &(usize, Arc<Node>)| {
            let owner = table.owner(slot_of(batch.key(*at)));
            owner.is_some_and(|owner| !Arc::ptr_eq(owner, node))
        };
        failed
            .into_iter()
            .filter(is_replaced)
            .map(|(at, _)| at)
            .collect()
    }
}

impl<const N: usize> Progress<N> {
    fn note(&mut self, at: usize, answer: Result<[Value; N]>) {
        if answer.as_ref().is_err_and(CacheError::may_have_happened) {
            self.may_have_run[at] = true;
        }
        self.outcomes[at] = Some(answer);
    }

    /// Of several writes under one key only the last is sent again: it may have been done already,
    /// and an earlier one must not follow it.
    fn without_overtaken<B: PerKey<N>>(
        &mut self,
        batch: &B,
        mut positions: Vec<usize>,
    ) -> Vec<usize> {
        if !B::IS_WRITE || positions.is_empty() {
            return positions;
        }
        let last_of_key = self.last_of_key.get_or_insert_with(|| last_of_key(batch));
        positions.retain(|at| {
            let last = last_of_key[*at];
            if last != *at {
                self.overtaken.push((*at, last));
            }
            last == *at
        });
        positions
    }

    /// The outcome of every key. A redirect that is left over in the end is trouble.
    fn settle(mut self, uncovered: impl Fn() -> CacheError) -> Vec<Result<[Value; N]>> {
        for (at, later) in std::mem::take(&mut self.overtaken) {
            self.outcomes[at] = self.outcomes[later].clone();
            self.may_have_run[at] |= self.may_have_run[later];
        }
        let nowhere = Address::new("", 0);
        let settled = |(outcome, may_have_run): (Option<Result<[Value; N]>>, bool)| {
            let outcome = outcome.unwrap_or_else(|| Err(uncovered()));
            let refusal = match outcome {
                Ok(replies) => match refused(&replies) {
                    Some(_) if Redirect::in_replies(&replies, &nowhere).is_some() => uncovered(),
                    Some(error) if may_have_run => error,
                    _ => return Ok(replies),
                },
                Err(error) => error,
            };
            if may_have_run {
                return Err(refusal.with_may_have_happened(true));
            }
            Err(refusal)
        };
        self.outcomes
            .into_iter()
            .zip(self.may_have_run)
            .map(settled)
            .collect()
    }
}

/// For each position of a batch the last one with the same key.
fn last_of_key<B: PerKey<N>, const N: usize>(batch: &B) -> Vec<usize> {
    let last: HashMap<_, _> = (0..batch.count()).map(|at| (batch.key(at), at)).collect();
    let last_of = |at| last.get(batch.key(at)).copied().unwrap_or(at);
    (0..batch.count()).map(last_of).collect()
}
