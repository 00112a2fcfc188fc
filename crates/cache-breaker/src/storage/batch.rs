//! Batches: a verdict a server, one call in all.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;

use cache_core::{CacheError, CacheKey, Operation, Result, Shard};
use tokio::time::timeout;

use super::BreakerStorage;
use super::call::Call;
use super::lanes::{Pair, frees_memory};
use super::watched::{End, watched};
use crate::lane::Lane;
use crate::permit::{Permit, Rejected};
use crate::state::Outcome;
use crate::verdict::outcome_of_batch;

/// Which places of a batch are sent.
#[derive(Debug)]
pub(super) struct Selection(Option<Vec<usize>>);

impl Selection {
    /// Those items that are sent; without a copy if all are.
    pub(super) fn of<'a, T: Clone>(&self, items: &'a [T]) -> Cow<'a, [T]> {
        match &self.0 {
            None => Cow::Borrowed(items),
            Some(places) => places.iter().map(|place| items[*place].clone()).collect(),
        }
    }

    /// Those items that are sent.
    pub(super) fn take<T>(&self, items: Vec<T>) -> Vec<T> {
        let Some(places) = &self.0 else {
            return items;
        };
        let mut places = places.iter().peekable();
        let is_sent = |(place, item)| places.next_if_eq(&&place).map(|_| item);
        items.into_iter().enumerate().filter_map(is_sent).collect()
    }
}

/// Keys of one server, by their places in the batch, which rise.
struct Group {
    pair: Arc<Pair>,
    places: Vec<usize>,
}

/// A group that is sent, without a permit if nobody wants a verdict. `answers` are its places among
/// those sent; none where that is all.
struct Sent {
    permit: Option<Permit>,
    answers: Option<Vec<usize>>,
}

impl BreakerStorage {
    /// Runs a batch over `keys` through the lanes of all servers concerned; `send` sends what is
    /// selected of it.
    pub(super) async fn batch<T, F>(
        &self,
        operation: Operation,
        keys: &[CacheKey],
        send: impl FnOnce(Selection) -> F + Send,
    ) -> Vec<Result<T>>
    where
        T: Send,
        F: Future<Output = Vec<Result<T>>> + Send,
    {
        if keys.is_empty() || self.is_closed() {
            return send(Selection(None)).await;
        }
        let call = self.call(operation, None);
        let _turn = match self.turn_of_batch(call).await {
            Ok(turn) => turn,
            Err(error) => return all(keys, &error),
        };
        let groups = self.groups(keys);
        if let [group] = &groups[..] {
            return match admit(group.pair.lane(operation), operation) {
                Ok(permit) => {
                    self.run(call, keys, vec![sent(permit)], send(Selection(None)))
                        .await
                }
                Err(rejected) => all(keys, &call.rejected(rejected)),
            };
        }
        self.batch_of_several(call, keys, groups, send).await
    }

    async fn batch_of_several<T, F>(
        &self,
        call: Call<'_>,
        keys: &[CacheKey],
        groups: Vec<Group>,
        send: impl FnOnce(Selection) -> F + Send,
    ) -> Vec<Result<T>>
    where
        T: Send,
        F: Future<Output = Vec<Result<T>>> + Send,
    {
        let mut results: Vec<Option<Result<T>>> = keys.iter().map(|_| None).collect();
        let mut admitted = Vec::new();
        for group in groups {
            match admit(group.pair.lane(call.operation), call.operation) {
                Ok(permit) => admitted.push((permit, group.places)),
                Err(rejected) => {
                    let error = call.rejected(rejected);
                    for place in group.places {
                        results[place] = Some(Err(error.clone().with_key(&keys[place])));
                    }
                }
            }
        }
        let places: Vec<usize> = (0..keys.len())
            .filter(|place| results[*place].is_none())
            .collect();
        if places.is_empty() {
            return results.into_iter().flatten().collect();
        }
        let sent = admitted.into_iter().map(|(permit, own)| Sent {
            permit,
            answers: Some(among(&own, &places)),
        });
        let sent: Vec<_> = sent.collect();
        if places.len() == keys.len() {
            return self.run(call, keys, sent, send(Selection(None))).await;
        }
        let selection = Selection(Some(places.clone()));
        let asked = selection.of(keys);
        let mut answers = self
            .run(call, &asked, sent, send(selection))
            .await
            .into_iter();
        for place in places {
            results[place] = answers.next();
        }
        results.into_iter().flatten().collect()
    }

    /// Waits for the outcomes of `keys`, and settles every group by its own.
    async fn run<T: Send>(
        &self,
        call: Call<'_>,
        keys: &[CacheKey],
        mut sent: Vec<Sent>,
        outcomes: impl Future<Output = Vec<Result<T>>> + Send,
    ) -> Vec<Result<T>> {
        let mut outcomes = pin!(outcomes);
        let is_probe = |sent: &Sent| sent.permit.as_ref().is_some_and(Permit::is_probe);
        let probes = sent.iter().filter(|sent| is_probe(sent)).count();
        let is_all_probes = probes == sent.len();
        if probes > 0 && !is_all_probes {
            // The servers that are well may take the time that a batch takes.
            match timeout(self.patience(), &mut outcomes).await {
                Ok(results) => return self.settle(call, keys, sent, results),
                Err(_) => self.give_up(call, sent.iter_mut().filter(|sent| is_probe(sent))),
            }
        }
        let limit = is_all_probes.then(|| self.patience());
        let permits: Vec<_> = sent
            .iter()
            .filter_map(|sent| sent.permit.as_ref())
            .collect();
        // Where one group is sent whatever the breaker says, no opening ends the call.
        let watching = if permits.len() == sent.len() {
            &permits[..]
        } else {
            &[]
        };
        let end = watched(watching, limit, outcomes).await;
        match end {
            End::Answered(results) => self.settle(call, keys, sent, results),
            End::OutOfPatience => {
                self.give_up(call, sent.iter_mut());
                all(keys, &call.out_of_patience(self.patience()))
            }
            End::Opened => {
                let lane = sent
                    .iter()
                    .find_map(|sent| sent.permit.as_ref())
                    .map(Permit::lane);
                all(keys, &call.stopped(lane.and_then(Lane::retry_after)))
            }
        }
    }

    fn settle<T>(
        &self,
        call: Call<'_>,
        keys: &[CacheKey],
        sent: Vec<Sent>,
        mut results: Vec<Result<T>>,
    ) -> Vec<Result<T>> {
        for Sent { permit, answers } in sent {
            let Some(permit) = permit else { continue };
            let (outcome, error) = match &answers {
                None => outcome_of_batch(results.iter()),
                Some(places) => {
                    outcome_of_batch(places.iter().filter_map(|place| results.get(*place)))
                }
            };
            permit.settle(outcome, error);
        }
        for key in keys.iter().skip(results.len()) {
            results.push(Err(call.unanswered().with_key(key)));
        }
        results.truncate(keys.len());
        results
    }

    fn give_up<'a>(&self, call: Call<'_>, sent: impl Iterator<Item = &'a mut Sent>) {
        let error = call.out_of_patience(self.patience());
        for permit in sent.filter_map(|sent| sent.permit.take()) {
            permit.settle(Outcome::Timeout, Some(&error));
        }
    }

    /// The keys by server.
    fn groups(&self, keys: &[CacheKey]) -> Vec<Group> {
        let mut shards: Vec<(Option<Shard>, Vec<usize>)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            let shard = self.inner().shard(key);
            match shards.iter_mut().find(|(known, _)| *known == shard) {
                Some((_, places)) => places.push(place),
                None => shards.push((shard, vec![place])),
            }
        }
        let group = |(shard, places): (Option<Shard>, _)| Group {
            pair: self.lanes().of(shard.as_ref()),
            places,
        };
        shards.into_iter().map(group).collect()
    }
}

/// Whether a group may go, and if nobody wants its verdict, without a permit.
fn admit(lane: &Arc<Lane>, operation: Operation) -> Result<Option<Permit>, Rejected> {
    if lane.is_full() && frees_memory(operation) {
        return Ok(None);
    }
    Arc::clone(lane).admit().map(Some)
}

fn sent(permit: Option<Permit>) -> Sent {
    Sent {
        permit,
        answers: None,
    }
}

/// Where `own` places are among `places`; both rise.
fn among(own: &[usize], places: &[usize]) -> Vec<usize> {
    let position = |place| places.partition_point(|other| other < place);
    own.iter().map(position).collect()
}

fn all<T>(keys: &[CacheKey], error: &CacheError) -> Vec<Result<T>> {
    let failed = |key| Err(error.clone().with_key(key));
    keys.iter().map(failed).collect()
}
