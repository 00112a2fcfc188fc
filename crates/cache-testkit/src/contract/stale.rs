//! Entries past their time to live, within their stale budget.

use std::time::Duration;

use bytes::Bytes;
use cache_core::{CodecId, Condition, Expiry, NewEntry, TimeLeft, Timestamp, Ttl, millis};

use super::context::{Context, LONG, fresh, key, stale_for, ttl};
use super::theme;

async fn expire(t: &Context, ttl: Ttl) -> bool {
    t.expire(&key("k"), ttl).await.expect("the storage expires")
}

async fn expire_now(t: &Context) -> bool {
    t.expire_now(&key("k")).await.expect("the storage expires")
}

/// A marker, as a load writes it that found nothing.
fn never_fresh(span: Duration) -> NewEntry {
    let entry = NewEntry::stale("v", span).expect("the span is sound");
    entry.with_codec(CodecId::Absent)
}

theme! {
    "stale"

    /// A fresh entry with a stale budget says when it stops being fresh and when it ends.
    async fn a_fresh_entry_tells_both_ends(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), 3 * LONG)).await;
        let entry = t.get(&key("k")).await.expect("the storage reads");
        let entry = entry.expect("it was written");
        t.assert_ends_in(entry.expires_at, LONG);
        t.assert_ends_in(entry.stale_until, 4 * LONG);
    }

    /// Every read returns a stale entry, and says since when it is stale.
    async fn every_read_returns_a_stale_entry(t: &Context) {
        t.put_stale("k", "v").await;
        let keys = [key("k")];
        let reads = [
            t.get(&keys[0]).await,
            t.lookup(&keys[0]).await,
            t.get_many(&keys).await.remove(0),
            t.lookup_many(&keys).await.remove(0),
        ];
        for read in reads {
            let entry = read.expect("the storage reads").expect("it is stale");
            assert_eq!(entry.value, "v");
            assert!(entry.expires_at.is_past(t.now()), "{entry:?}");
            t.assert_ends_in(entry.stale_until, LONG - t.ticks(1));
        }
    }

    /// A stale entry keeps its metadata.
    async fn a_stale_entry_keeps_its_metadata(t: &Context) {
        let created_at = Timestamp::from_millis(77);
        let entry = NewEntry::new("v", t.ttl(1))
            .with_codec(CodecId::Raw)
            .with_created_at(created_at);
        t.put_entry("k", stale_for(entry, LONG)).await;
        t.elapse(2).await;
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.codec, entry.created_at),
            (Some(CodecId::Raw), Some(created_at))
        );
    }

    /// An entry is returned until its stale budget ends and never later.
    async fn a_stale_entry_ends_with_its_budget(t: &Context) {
        t.put_entry("k", stale_for(NewEntry::new("v", t.ttl(1)), t.ticks(1)))
            .await;
        t.elapse(3).await;
        assert!(t.is_absent("k").await);
        assert!(
            t.lookup(&key("k"))
                .await
                .expect("a miss is no error")
                .is_none()
        );
        assert!(
            t.get_many(&[key("k")])
                .await
                .remove(0)
                .expect("a miss is no error")
                .is_none()
        );
    }

    /// A stale budget ends at its moment, not before it and not after.
    async fn a_stale_budget_ends_on_time(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), LONG)).await;
        if !t.is_exact() {
            return assert!(t.is_fresh("k").await);
        }
        t.elapse_span(LONG - millis(1)).await;
        assert!(t.is_fresh("k").await);
        t.elapse_span(millis(1)).await;
        assert!(!t.is_fresh("k").await);
        t.assert_stale("k", "v").await;
        t.elapse_span(LONG - millis(1)).await;
        t.assert_stale("k", "v").await;
        t.elapse_span(millis(1)).await;
        assert!(t.is_absent("k").await);
    }

    /// A stale entry is not there for those who ask whether it is.
    async fn has_ignores_a_stale_entry(t: &Context) {
        t.put_stale("k", "v").await;
        assert!(!t.is_fresh("k").await);
        t.assert_stale("k", "v").await;
    }

    /// The time left is missing for a stale entry.
    async fn the_time_left_of_a_stale_entry_is_missing(t: &Context) {
        t.put_stale("k", "v").await;
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
    }

    /// A stale entry is not revived by a new time to live, and stays stale.
    async fn expire_revives_no_stale_entry(t: &Context) {
        t.put_stale("k", "v").await;
        assert!(!expire(t, ttl(60 * LONG)).await);
        assert!(!expire(t, Ttl::FOREVER).await);
        t.assert_stale("k", "v").await;
        t.assert_ends_in(t.entry("k").await.stale_until, LONG - t.ticks(1));
    }

    /// Ending the time to live of a stale entry is false, and does not start its budget again.
    async fn expire_now_leaves_a_stale_entry_alone(t: &Context) {
        t.put_stale("k", "v").await;
        let before = t.entry("k").await;
        assert!(!expire_now(t).await);
        assert_eq!(t.entry("k").await, before);
    }

    /// The stale budget keeps its length under a new time to live and counts from the new end.
    async fn expire_moves_the_stale_budget(t: &Context) {
        let created_at = Timestamp::from_millis(77);
        let entry = fresh("v")
            .with_codec(CodecId::Raw)
            .with_created_at(created_at);
        t.put_entry("k", stale_for(entry, 3 * LONG)).await;
        assert!(expire(t, ttl(10 * LONG)).await);
        let entry = t.entry("k").await;
        t.assert_ends_in(entry.expires_at, 10 * LONG);
        t.assert_ends_in(entry.stale_until, 13 * LONG);
        assert_eq!(
            (entry.codec, entry.created_at),
            (Some(CodecId::Raw), Some(created_at))
        );
        t.assert_left(t.time_left("k").await, 10 * LONG);
    }

    /// An entry whose time to live was shortened goes stale with its full budget.
    async fn expire_makes_an_entry_go_stale_sooner(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), LONG)).await;
        assert!(expire(t, t.ttl(1)).await);
        t.elapse(2).await;
        t.assert_stale("k", "v").await;
        assert!(!t.is_fresh("k").await);
        let budget = LONG - t.ticks(1);
        t.assert_ends_in(t.entry("k").await.stale_until, budget);
    }

    /// The stale budget ends with its length after a shortened time to live.
    async fn expire_ends_the_stale_budget_too(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), t.ticks(1))).await;
        assert!(expire(t, t.ttl(1)).await);
        t.elapse(3).await;
        assert!(t.is_absent("k").await);
    }

    /// The stale budget is dropped from an entry made to last for ever.
    async fn expire_for_ever_drops_the_stale_budget(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), LONG)).await;
        assert!(expire(t, Ttl::FOREVER).await);
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.expires_at, entry.stale_until),
            (Expiry::Never, Expiry::Never)
        );
        assert!(expire(t, t.ttl(1)).await);
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// An entry whose time to live is ended goes stale with its full budget from now.
    async fn expire_now_starts_the_stale_budget(t: &Context) {
        let created_at = Timestamp::from_millis(77);
        let entry = NewEntry::new("v", ttl(60 * LONG)).with_codec(CodecId::Raw);
        t.put_entry("k", stale_for(entry.with_created_at(created_at), LONG))
            .await;
        assert!(expire_now(t).await);
        t.assert_stale("k", "v").await;
        let entry = t.entry("k").await;
        t.assert_ends_in(entry.stale_until, LONG);
        assert_eq!(
            (entry.codec, entry.created_at),
            (Some(CodecId::Raw), Some(created_at))
        );
        assert!(!t.is_fresh("k").await);
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
    }

    /// An entry whose time to live was ended is gone after its stale budget.
    async fn expire_now_ends_with_the_stale_budget(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), t.ticks(1))).await;
        assert!(expire_now(t).await);
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// A stale budget is without effect on an entry for ever, also when its time to live is ended.
    async fn an_entry_for_ever_has_no_stale_budget(t: &Context) {
        t.put_entry("k", stale_for(NewEntry::new("v", Ttl::FOREVER), LONG))
            .await;
        assert!(expire_now(t).await);
        assert!(t.is_absent("k").await);
    }

    /// An entry that is never fresh is seen by reads alone: to those who ask for a fresh entry
    /// there is none, and a conditional write replaces it.
    async fn an_entry_that_is_never_fresh_is_seen_by_reads_alone(t: &Context) {
        t.put_entry("k", never_fresh(LONG)).await;
        t.assert_stale("k", "v").await;
        let entry = t.get(&key("k")).await.expect("the storage reads");
        let entry = entry.expect("it was written");
        assert_eq!((entry.value, entry.codec), (Bytes::from("v"), Some(CodecId::Absent)));
        assert!(entry.expires_at.is_past(t.now()), "{:?}", entry.expires_at);
        t.assert_ends_in(entry.stale_until, LONG);
        assert!(!t.is_fresh("k").await);
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
        assert!(!expire(t, ttl(60 * LONG)).await && !expire_now(t).await);
        for condition in [Condition::IfPresent, Condition::IfEquals(Bytes::from("v"))] {
            let written = t.set(&key("k"), fresh("w"), condition).await;
            assert!(!written.expect("the storage writes"));
        }
        let deleted = t.compare_and_delete(&key("k"), b"v").await;
        assert!(!deleted.expect("the storage deletes"));
        t.assert_stale("k", "v").await;
        let written = t.set(&key("k"), fresh("w"), Condition::IfAbsent).await;
        assert!(written.expect("the storage writes"));
        assert_eq!(t.value("k").await, Some(Bytes::from("w")));
        assert!(t.is_fresh("k").await);
    }

    /// A delete of an entry that is never fresh removes it and finds nothing.
    async fn a_delete_of_an_entry_that_is_never_fresh_finds_nothing(t: &Context) {
        t.put_entry("k", never_fresh(LONG)).await;
        let deleted = t.delete(&key("k")).await;
        assert!(!deleted.expect("the storage deletes"));
        assert!(t.is_absent("k").await);
    }

    /// A counter starts anew over an entry that is never fresh.
    async fn a_counter_replaces_an_entry_that_is_never_fresh(t: &Context) {
        t.put_entry("k", never_fresh(LONG)).await;
        let counter = t.increment(&key("k"), 5, ttl(LONG)).await;
        assert_eq!(counter.expect("the storage counts").value, 5);
        assert!(t.is_fresh("k").await);
    }

    /// An entry that is never fresh is gone after its span.
    async fn an_entry_that_is_never_fresh_ends_with_its_span(t: &Context) {
        t.put_entry("k", never_fresh(t.ticks(1))).await;
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// An entry without a stale budget is never stale.
    async fn without_a_budget_nothing_is_stale(t: &Context) {
        t.put_entry("plain", NewEntry::new("v", t.ttl(1))).await;
        let entry = NewEntry::new("v", t.ttl(1)).with_created_at(Timestamp::from_millis(1));
        t.put_entry("created", entry).await;
        t.elapse(2).await;
        assert!(t.is_absent("plain").await && t.is_absent("created").await);
    }
}
