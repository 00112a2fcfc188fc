//! Many tasks and threads, and futures that are dropped.

use std::sync::Arc;

use cache_core::{CacheStorage, Condition, ErrorKind, NewEntry, TierAccess, Ttl};

use super::context::{Context, LONG, fresh, key, numbered, poll_at_most, race, ttl, values};
use super::theme;

const CONTENDERS: usize = 8;

const ROUNDS: usize = 20;

/// How many contenders were told that they did it.
fn winners(outcomes: Vec<cache_core::Result<bool>>) -> usize {
    let won = outcomes
        .into_iter()
        .map(|outcome| outcome.expect("the storage answers"));
    won.filter(|&won| won).count()
}

/// Lets all contenders write to one key under `condition`, each its own value.
async fn race_to_set(t: &Context, condition: &Condition) -> usize {
    let outcomes = race(CONTENDERS, |number| {
        let (storage, condition) = (Arc::clone(&t.storage), condition.clone());
        async move {
            storage
                .set(&key("k"), fresh(number.to_string()), condition)
                .await
        }
    });
    winners(outcomes.await)
}

async fn take_lock(storage: &dyn CacheStorage, token: &str) -> bool {
    let entry = fresh(token.to_owned());
    let taken = storage.set(&key("lock"), entry, Condition::IfAbsent).await;
    taken.expect("the storage writes")
}

theme! {
    "sharing"

    /// A storage behind two pointers is one storage.
    async fn a_storage_behind_two_pointers_is_one(t: &Context) {
        let first: Arc<dyn CacheStorage> = Arc::new(Arc::clone(&t.storage));
        let second = Arc::clone(&t.storage);
        first
            .set(&key("k"), fresh("v"), Condition::Always)
            .await
            .expect("the storage writes");
        assert!(second.has(&key("k")).await.expect("the storage answers"));
        let lookup = first.lookup(&key("k")).await.expect("the storage reads");
        let expected = second.lookup(&key("k")).await.expect("the storage reads");
        assert_eq!(
            lookup.map(|entry| entry.value),
            expected.map(|entry| entry.value)
        );
        assert!(second.delete(&key("k")).await.expect("the storage deletes"));
        assert!(!first.has(&key("k")).await.expect("the storage answers"));
        assert_eq!(first.info().backend, second.info().backend);
        assert_eq!(first.info().max_key_bytes, second.info().max_key_bytes);
        assert_eq!(first.get_stats(), second.get_stats());
    }

    /// A view without some tiers shares everything with the storage, and what has no tiers has no
    /// views.
    async fn a_view_of_tiers_shares_everything(t: &Context) {
        let access = TierAccess::new();
        let view = t.with_tiers(&access).expect("nothing is left out");
        let unknown = t.with_tiers(&access.skip_reads("no such tier"));
        let Some(view) = view else {
            assert!(unknown.expect("there are no names to know").is_none());
            return;
        };
        let error = unknown.expect_err("no tier is called so");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        view.set(&key("k"), fresh("v"), Condition::Always)
            .await
            .expect("the view writes");
        assert!(t.delete(&key("k")).await.expect("the storage deletes"));
        assert!(!view.has(&key("k")).await.expect("the view answers"));
        assert_eq!(view.get_stats(), t.get_stats());
    }

    /// Concurrent increments are all counted, each once.
    async fn concurrent_increments_are_all_counted(t: &Context) {
        let mut sums: Vec<_> = race(CONTENDERS, |_| {
            let storage = Arc::clone(&t.storage);
            async move {
                let mut sums = Vec::with_capacity(ROUNDS);
                for _ in 0..ROUNDS {
                    let counter = storage.increment(&key("n"), 1, ttl(LONG)).await;
                    sums.push(counter.expect("it counts").value);
                }
                sums
            }
        })
        .await
        .concat();
        sums.sort_unstable();
        let total = i64::try_from(CONTENDERS * ROUNDS).expect("the numbers are small");
        assert_eq!(sums, (1..=total).collect::<Vec<_>>());
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// Of several concurrent writes if absent exactly one succeeds.
    async fn one_concurrent_write_if_absent_succeeds(t: &Context) {
        for _ in 0..ROUNDS {
            assert_eq!(race_to_set(t, &Condition::IfAbsent).await, 1);
            t.delete(&key("k")).await.expect("the storage deletes");
        }
    }

    /// Of several concurrent writes if absent over a stale entry exactly one succeeds.
    async fn one_concurrent_write_over_a_stale_entry_succeeds(t: &Context) {
        t.put_stale("k", "old").await;
        assert_eq!(race_to_set(t, &Condition::IfAbsent).await, 1);
    }

    /// Of several concurrent writes if equal exactly one succeeds.
    async fn one_concurrent_write_if_equal_succeeds(t: &Context) {
        for _ in 0..ROUNDS {
            t.put("k", "old").await;
            assert_eq!(race_to_set(t, &Condition::IfEquals("old".into())).await, 1);
        }
    }

    /// The value of the one that succeeded is the value that stays.
    async fn the_winner_of_concurrent_writes_stays(t: &Context) {
        for _ in 0..ROUNDS {
            let outcomes = race(CONTENDERS, |number| {
                let storage = Arc::clone(&t.storage);
                let entry = fresh(number.to_string());
                async move { storage.set(&key("k"), entry, Condition::IfAbsent).await }
            });
            let won = |outcome: cache_core::Result<bool>| outcome.expect("the storage answers");
            let winner = outcomes
                .await
                .into_iter()
                .position(won)
                .expect("one succeeds");
            assert_eq!(
                t.value("k").await.expect("one succeeded"),
                winner.to_string()
            );
            t.delete(&key("k")).await.expect("the storage deletes");
        }
    }

    /// Of several concurrent deletes of one entry exactly one is told that it did it.
    async fn one_concurrent_delete_is_true(t: &Context) {
        for _ in 0..ROUNDS {
            t.put("k", "v").await;
            let outcomes = race(CONTENDERS, |_| {
                let storage = Arc::clone(&t.storage);
                async move { storage.delete(&key("k")).await }
            });
            assert_eq!(winners(outcomes.await), 1);
        }
    }

    /// Of several concurrent deletes with a condition exactly one succeeds.
    async fn one_concurrent_compare_and_delete_succeeds(t: &Context) {
        for _ in 0..ROUNDS {
            t.put("k", "token").await;
            let outcomes = race(CONTENDERS, |_| {
                let storage = Arc::clone(&t.storage);
                async move { storage.compare_and_delete(&key("k"), b"token").await }
            });
            assert_eq!(winners(outcomes.await), 1);
        }
    }

    /// A lock by write-if-absent and compare-and-delete is held by one at a time.
    async fn a_lock_is_held_by_one_at_a_time(t: &Context) {
        race(4, |number| {
            let storage = Arc::clone(&t.storage);
            async move {
                let token = format!("token {number}");
                for _ in 0..5 {
                    while !take_lock(&*storage, &token).await {
                        tokio::task::yield_now().await;
                    }
                    let held = storage.increment(&key("held"), 1, ttl(LONG)).await;
                    assert_eq!(held.expect("it counts").value, 1);
                    storage
                        .increment(&key("held"), -1, ttl(LONG))
                        .await
                        .expect("it counts");
                    let released = storage
                        .compare_and_delete(&key("lock"), token.as_bytes())
                        .await;
                    assert!(released.expect("the storage deletes"), "it was ours");
                }
            }
        })
        .await;
    }

    /// No caller ever receives the answer to another caller's question.
    async fn answers_are_never_crossed(t: &Context) {
        let keys = numbered("k", 64);
        let entries = keys
            .iter()
            .map(|key| (key.clone(), fresh(key.as_str().to_owned())));
        super::context::assert_done(&t.set_many(entries.collect()).await, 64);
        race(CONTENDERS, |number| {
            let (storage, keys) = (Arc::clone(&t.storage), keys.clone());
            async move {
                for round in 0..100 {
                    let key = &keys[(number * 7 + round * 13) % keys.len()];
                    let entry = storage.get(key).await.expect("the storage reads");
                    assert_eq!(entry.expect("it was written").value, key.as_str());
                }
            }
        })
        .await;
    }

    /// Concurrent writes leave one of the values, whole.
    async fn concurrent_writes_leave_a_whole_value(t: &Context) {
        race(CONTENDERS, |number| {
            let storage = Arc::clone(&t.storage);
            async move {
                let value = number.to_string().repeat(10_000);
                for _ in 0..ROUNDS {
                    let entry = fresh(value.clone());
                    storage
                        .set(&key("k"), entry, Condition::Always)
                        .await
                        .expect("it writes");
                    let entry = storage.get(&key("k")).await.expect("it reads");
                    let entry = entry.expect("it was written");
                    assert_eq!(entry.value.len(), 10_000);
                    assert!(entry.value.iter().all(|byte| *byte == entry.value[0]));
                }
            }
        })
        .await;
    }

    /// A dropped read has no effect, on others neither.
    async fn a_dropped_read_has_no_effect(t: &Context) {
        let keys = numbered("k", 10);
        let entries = keys
            .iter()
            .map(|key| (key.clone(), fresh(key.as_str().to_owned())));
        super::context::assert_done(&t.set_many(entries.collect()).await, 10);
        for round in 0..60 {
            let (dropped, asked) = (&keys[round % 10], &keys[(round + 1) % 10]);
            let polls = 1 + u32::try_from(round % 3).expect("the number is small");
            poll_at_most(polls, t.get(dropped)).await;
            poll_at_most(polls, t.get_many(&keys)).await;
            poll_at_most(polls, t.lookup(dropped)).await;
            let entry = t.get(asked).await.expect("the storage reads");
            assert_eq!(entry.expect("it was written").value, asked.as_str());
        }
        assert!(values(t.get_many(&keys).await).iter().all(Option::is_some));
    }

    /// A dropped write has happened or not, and nothing between.
    async fn a_dropped_write_has_happened_or_not(t: &Context) {
        for polls in 1..=3 {
            t.put_entry("k", NewEntry::new("old", Ttl::FOREVER)).await;
            poll_at_most(polls, t.set(&key("k"), fresh("new"), Condition::Always)).await;
            t.put("other", "other").await;
            let entry = t.entry("k").await;
            if entry.value == "old" {
                assert_eq!(entry.expires_at, cache_core::Expiry::Never);
            } else {
                assert_eq!(entry.value, "new");
                t.assert_ends_in(entry.expires_at, LONG);
            }
            assert_eq!(t.value("other").await.expect("it was written"), "other");
        }
    }

    /// A dropped increment has counted once or not at all.
    async fn a_dropped_increment_counts_at_most_once(t: &Context) {
        for polls in 1..=3 {
            let name = format!("n{polls}");
            poll_at_most(polls, t.increment(&key(&name), 1, ttl(LONG))).await;
            let counter = t
                .increment(&key(&name), 10, ttl(LONG))
                .await
                .expect("it counts");
            assert!([10, 11].contains(&counter.value), "{counter:?}");
            t.assert_left(t.time_left(&name).await, LONG);
        }
    }

    /// A future that was never polled does nothing.
    async fn a_future_never_polled_does_nothing(t: &Context) {
        t.put("k", "old").await;
        drop(t.set(&key("k"), fresh("new"), Condition::Always));
        drop(t.delete(&key("k")));
        drop(t.expire_now(&key("k")));
        drop(t.shutdown(LONG));
        assert_eq!(t.value("k").await.expect("nothing changed"), "old");
    }
}
