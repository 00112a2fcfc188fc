//! Reading, fastest tier first.

use futures_util::future::BoxFuture;

use super::TieredStorage;
use super::search::Search;
use crate::entry::Entry;
use crate::error::{Operation, Result};
use crate::key::CacheKey;
use crate::layer::FirstError;
use crate::storage::CacheStorage;
use crate::ttl::TimeLeft;

/// One of the two ways to read many keys.
type AskMany =
    for<'k> fn(&'k dyn CacheStorage, &'k [CacheKey]) -> BoxFuture<'k, Vec<Result<Option<Entry>>>>;

impl TieredStorage {
    /// Reads one entry, its deadline too if it `must_know` it.
    pub(super) async fn read(&self, key: &CacheKey, must_know: bool) -> Result<Option<Entry>> {
        let operation = if must_know {
            Operation::Lookup
        } else {
            Operation::Get
        };
        self.check_key(operation, key)?;
        let mut search = Search::new(self, key);
        for position in self.fastest_first() {
            let with_deadline = search.prepare() || must_know;
            let answer = self.ask(position, key, with_deadline).await;
            if let Some(entry) = search.take(position, answer) {
                self.promote(&entry, &search).await;
                return Ok(Some(entry));
            }
        }
        search.conclude()
    }

    async fn ask(
        &self,
        position: usize,
        key: &CacheKey,
        with_deadline: bool,
    ) -> Result<Option<Entry>> {
        let layer = &self.tier(position).layer;
        layer.ready(std::slice::from_ref(key)).await?;
        let found = if with_deadline {
            layer.storage().lookup(key).await?
        } else {
            layer.storage().get(key).await?
        };
        Ok(layer.judged(key, found))
    }

    /// Reads many entries, their deadlines too if it `must_know` them: each tier is asked once for
    /// all that is still open.
    pub(super) async fn read_each(
        &self,
        keys: &[CacheKey],
        must_know: bool,
    ) -> Vec<Result<Option<Entry>>> {
        let operation = if must_know {
            Operation::LookupMany
        } else {
            Operation::GetMany
        };
        let mut outcomes: Vec<_> = keys
            .iter()
            .map(|key| self.check_key(operation, key).map(|()| None))
            .collect();
        let is_sound = |place: &usize| outcomes[*place].is_ok();
        let mut open: Vec<(usize, Search<'_>)> = (0..keys.len())
            .filter(is_sound)
            .map(|place| (place, Search::new(self, &keys[place])))
            .collect();
        for position in self.fastest_first() {
            let (found, still_open) = self.ask_many(position, open, keys, must_know).await;
            self.promote_each(&found).await;
            for (place, entry, _) in found {
                outcomes[place] = Ok(Some(entry));
            }
            open = still_open;
            if open.is_empty() {
                break;
            }
        }
        for (place, search) in open {
            outcomes[place] = search.conclude();
        }
        outcomes
    }

    /// Asks one tier for what is open; returns what was found, and what is open still.
    async fn ask_many<'a>(
        &self,
        position: usize,
        mut open: Vec<(usize, Search<'a>)>,
        keys: &[CacheKey],
        must_know: bool,
    ) -> (Vec<(usize, Entry, Search<'a>)>, Vec<(usize, Search<'a>)>) {
        let asked: Vec<CacheKey> = open.iter().map(|(place, _)| keys[*place].clone()).collect();
        let mut with_deadline = must_know;
        for (_, search) in &mut open {
            with_deadline |= search.prepare();
        }
        let ask: AskMany = if with_deadline {
            |storage, keys| storage.lookup_many(keys)
        } else {
            |storage, keys| storage.get_many(keys)
        };
        let layer = &self.tier(position).layer;
        let answers = match layer.ready(&asked).await {
            Ok(()) => ask(layer.storage(), &asked).await,
            Err(error) => vec![Err(error); asked.len()],
        };
        let mut found = Vec::new();
        let mut still_open = Vec::new();
        for ((place, mut search), answer) in open.into_iter().zip(answers) {
            let answer = answer.map(|found| layer.judged(&keys[place], found));
            match search.take(position, answer) {
                Some(entry) => found.push((place, entry, search)),
                None => still_open.push((place, search)),
            }
        }
        (found, still_open)
    }

    /// Whether a tier has a fresh entry, as far as the last tier has been heard.
    pub(super) async fn has_anywhere(&self, key: &CacheKey) -> Result<bool> {
        self.check_key(Operation::Has, key)?;
        let mut failed = FirstError::default();
        let (mut has_truth, mut lacks_truth) = (false, false);
        for position in self.fastest_first() {
            let layer = &self.tier(position).layer;
            let answer = match layer.ready(std::slice::from_ref(key)).await {
                Ok(()) => layer.has(key).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(true) => return Ok(true),
                Ok(false) => has_truth |= position == self.last(),
                Err(error) => {
                    self.skipped(position, &error);
                    lacks_truth |= position == self.shared.counters_in;
                    failed.note(error);
                }
            }
        }
        if has_truth && !lacks_truth {
            return Ok(false);
        }
        failed.into_result(false)
    }

    /// What is left according to the slowest tier that can say.
    pub(super) async fn time_left(&self, key: &CacheKey) -> Result<TimeLeft> {
        self.check_key(Operation::GetTtl, key)?;
        let mut failed = FirstError::default();
        let positions: Vec<_> = self.fastest_first().collect();
        for position in positions.into_iter().rev() {
            let layer = &self.tier(position).layer;
            let answer = match layer.ready(std::slice::from_ref(key)).await {
                Ok(()) => layer.time_left(key).await,
                Err(error) => Err(error),
            };
            // A tier in between has nothing of its own but counters.
            let is_truth = position == self.last() && position == self.shared.counters_in;
            match answer {
                Ok(TimeLeft::Missing) if is_truth => return Ok(TimeLeft::Missing),
                Ok(TimeLeft::Missing) => {}
                Ok(time_left) => return Ok(time_left),
                Err(error) => {
                    self.skipped(position, &error);
                    failed.note(error);
                }
            }
        }
        failed.into_result(TimeLeft::Missing)
    }

    /// The tiers that this view reads.
    fn fastest_first(&self) -> impl Iterator<Item = usize> + Send + '_ {
        (0..self.shared.tiers.len()).filter(|position| self.access.reads(*position))
    }
}
