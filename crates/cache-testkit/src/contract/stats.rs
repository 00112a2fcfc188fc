//! What the storage counts.

use cache_core::{Condition, NewEntry, StorageStats};

use super::context::{Context, LONG, fresh, key, stale_for, ttl};
use super::theme;

/// Hits, misses and errors since `before`.
fn reads_since(t: &Context, before: StorageStats) -> (u64, u64, u64) {
    let now = t.get_stats();
    (
        now.hits - before.hits,
        now.misses - before.misses,
        now.errors - before.errors,
    )
}

theme! {
    "stats"

    /// A fresh storage has done nothing.
    async fn a_fresh_storage_has_done_nothing(t: &Context) {
        let stats = t.get_stats();
        assert_eq!((stats.hits, stats.misses, stats.writes), (0, 0, 0));
        assert_eq!((stats.deletes, stats.errors, stats.evictions), (0, 0, 0));
    }

    /// A key read counts as a hit or a miss.
    async fn a_key_read_counts(t: &Context) {
        t.put("k", "v").await;
        let before = t.get_stats();
        for name in ["k", "missing", "k", "k"] {
            t.get(&key(name)).await.expect("the storage reads");
        }
        assert_eq!(reads_since(t, before), (3, 1, 0));
    }

    /// A key looked up counts as a hit or a miss, once.
    async fn a_key_looked_up_counts_once(t: &Context) {
        t.put("k", "v").await;
        let before = t.get_stats();
        t.lookup(&key("k")).await.expect("the storage reads");
        t.lookup(&key("missing")).await.expect("the storage reads");
        t.lookup_many(&["k", "missing", "k"].map(key)).await;
        assert_eq!(reads_since(t, before), (3, 2, 0));
    }

    /// Each key of a batch counts by itself, also one named twice.
    async fn each_key_of_a_batch_counts(t: &Context) {
        t.put("a", "v").await;
        t.put("b", "v").await;
        let before = t.get_stats();
        t.get_many(&["a", "missing", "b", "a", "nothing"].map(key))
            .await;
        assert_eq!(reads_since(t, before), (3, 2, 0));
    }

    /// Each refused key counts as an error.
    async fn each_refused_key_counts_as_an_error(t: &Context) {
        t.put("a", "v").await;
        let before = t.get_stats();
        t.get(&key("")).await.expect_err("the key is refused");
        t.get_many(&["a", "", "missing", "\n"].map(key)).await;
        assert_eq!(reads_since(t, before), (1, 1, 3));
    }

    /// A refused write counts as an error and not as a write.
    async fn a_refused_write_counts_as_an_error(t: &Context) {
        let before = t.get_stats();
        let outcome = t.set(&key(""), fresh("v"), Condition::Always).await;
        outcome.expect_err("the key is refused");
        t.delete(&key("")).await.expect_err("the key is refused");
        let now = t.get_stats();
        assert_eq!(now.errors - before.errors, 2);
        assert_eq!((now.writes, now.deletes), (before.writes, before.deletes));
    }

    /// An expired entry counts as a miss, a stale one as a hit.
    async fn a_stale_entry_counts_as_a_hit(t: &Context) {
        t.put_entry("stale", stale_for(NewEntry::new("v", t.ttl(1)), LONG))
            .await;
        t.put_expired("expired", "v").await;
        let before = t.get_stats();
        t.get(&key("stale")).await.expect("the storage reads");
        t.get(&key("expired")).await.expect("the storage reads");
        assert_eq!(reads_since(t, before), (1, 1, 0));
    }

    /// Each entry written counts, counters included.
    async fn each_entry_written_counts(t: &Context) {
        let before = t.get_stats().writes;
        t.put("a", "v").await;
        t.set_many(vec![(key("b"), fresh("v")), (key("c"), fresh("v"))])
            .await;
        t.increment(&key("n"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(t.get_stats().writes - before, 4);
    }

    /// A set whose condition did not hold is no write.
    async fn a_condition_that_did_not_hold_is_no_write(t: &Context) {
        let before = t.get_stats();
        let conditions = [
            Condition::IfPresent,
            Condition::IfEquals("v".into()),
            Condition::IfAbsent,
        ];
        for condition in conditions {
            t.set(&key("k"), fresh("v"), condition)
                .await
                .expect("the storage writes");
        }
        let now = t.get_stats();
        assert_eq!((now.writes - before.writes, now.errors), (1, before.errors));
    }

    /// A delete with a condition counts when it took place.
    async fn a_compare_and_delete_counts_when_it_took_place(t: &Context) {
        t.put("k", "token").await;
        let before = t.get_stats();
        let expected: [&[u8]; 3] = [b"other", b"token", b"token"];
        for expected in expected {
            t.compare_and_delete(&key("k"), expected)
                .await
                .expect("the storage deletes");
        }
        let now = t.get_stats();
        assert_eq!(
            (now.deletes - before.deletes, now.errors),
            (1, before.errors)
        );
    }

    /// Each key deleted counts, whether or not it was there.
    async fn each_key_deleted_counts(t: &Context) {
        t.put("a", "v").await;
        let before = t.get_stats().deletes;
        t.delete(&key("a")).await.expect("the storage deletes");
        t.delete(&key("a")).await.expect("the storage deletes");
        t.delete_many(&["a", "b", "c"].map(key)).await;
        assert_eq!(t.get_stats().deletes - before, 5);
    }
}
