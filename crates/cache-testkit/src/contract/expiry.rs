//! The end of entries: asking for it, reaching it and moving it.

use std::time::Duration;

use cache_core::{CodecId, Expiry, NewEntry, TimeLeft, Timestamp, Ttl, millis};

use super::context::{Context, LONG, fresh, key, stale_for, ttl};
use super::theme;

async fn expire(t: &Context, ttl: Ttl) -> bool {
    t.expire(&key("k"), ttl).await.expect("the storage expires")
}

async fn expire_now(t: &Context) -> bool {
    t.expire_now(&key("k")).await.expect("the storage expires")
}

theme! {
    "expiry"

    /// An entry without a stale budget is absent once its time to live has passed.
    async fn an_expired_entry_is_absent(t: &Context) {
        t.put_expired("k", "v").await;
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

    /// An entry with metadata, but no stale budget, is absent once its time to live has passed.
    async fn an_expired_entry_with_metadata_is_absent(t: &Context) {
        let entry = NewEntry::new("v", t.ttl(1)).with_codec(CodecId::Raw);
        t.put_entry("k", entry).await;
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
        assert!(!t.is_fresh("k").await);
    }

    /// An entry is fresh until its time to live has passed, and not at that moment.
    async fn an_entry_ends_on_time(t: &Context) {
        let (last, moment) = (LONG - millis(1), millis(1));
        t.put("k", "v").await;
        t.put_entry("raw", fresh("v").with_codec(CodecId::Raw))
            .await;
        if !t.is_exact() {
            return assert!(t.is_fresh("k").await && t.is_fresh("raw").await);
        }
        t.elapse_span(last).await;
        assert!(t.is_fresh("k").await && t.is_fresh("raw").await);
        assert_eq!(t.time_left("k").await, TimeLeft::Remaining(moment));
        t.elapse_span(moment).await;
        assert!(t.is_absent("k").await && t.is_absent("raw").await);
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
    }

    /// An entry for ever does not expire.
    async fn an_entry_for_ever_does_not_expire(t: &Context) {
        t.put_entry("k", NewEntry::new("v", Ttl::FOREVER)).await;
        t.elapse(3).await;
        if t.is_exact() {
            t.elapse_span(100 * Ttl::MAX).await;
        }
        assert!(t.is_fresh("k").await);
        assert_eq!(t.time_left("k").await, TimeLeft::Forever);
    }

    /// There is a fresh entry after a write, and none before it or after a delete.
    async fn has_tells_fresh_entries(t: &Context) {
        assert!(!t.is_fresh("k").await);
        t.put("k", "").await;
        assert!(t.is_fresh("k").await);
        t.delete(&key("k")).await.expect("the storage deletes");
        assert!(!t.is_fresh("k").await);
    }

    /// There is no fresh entry once the time to live has passed.
    async fn has_ignores_an_expired_entry(t: &Context) {
        t.put_expired("k", "v").await;
        assert!(!t.is_fresh("k").await);
    }

    /// The time left is missing for a missing entry.
    async fn the_time_left_of_nothing_is_missing(t: &Context) {
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
        t.put("k", "v").await;
        t.delete(&key("k")).await.expect("the storage deletes");
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
    }

    /// The time left is missing for an expired entry.
    async fn the_time_left_of_an_expired_entry_is_missing(t: &Context) {
        t.put_expired("k", "v").await;
        assert_eq!(t.time_left("k").await, TimeLeft::Missing);
    }

    /// The time left is what is left of the time to live, the stale budget not included.
    async fn the_time_left_shrinks(t: &Context) {
        t.put("plain", "v").await;
        t.put_entry("budget", stale_for(fresh("v"), 60 * LONG))
            .await;
        t.assert_left(t.time_left("plain").await, LONG);
        t.elapse(2).await;
        for name in ["plain", "budget"] {
            let left = t.time_left(name).await;
            t.assert_left(left, LONG - t.ticks(2));
            let TimeLeft::Remaining(left) = left else {
                unreachable!("it was asserted")
            };
            assert!(left < LONG, "{left:?}");
        }
    }

    /// The time left is for ever for an entry that does not expire, with or without metadata.
    async fn the_time_left_is_for_ever(t: &Context) {
        let entry = NewEntry::new("v", Ttl::FOREVER);
        t.put_entry("plain", entry.clone()).await;
        t.put_entry("raw", entry.with_codec(CodecId::Raw)).await;
        assert_eq!(t.time_left("plain").await, TimeLeft::Forever);
        assert_eq!(t.time_left("raw").await, TimeLeft::Forever);
    }

    /// A fresh entry gets a longer time to live from now.
    async fn expire_lengthens(t: &Context) {
        t.put_entry("k", NewEntry::new("v", t.ttl(50))).await;
        assert!(expire(t, ttl(60 * LONG)).await);
        t.assert_left(t.time_left("k").await, 60 * LONG);
        t.assert_ends_in(t.entry("k").await.expires_at, 60 * LONG);
    }

    /// A fresh entry gets a shorter time to live from now.
    async fn expire_shortens(t: &Context) {
        t.put("k", "v").await;
        assert!(expire(t, t.ttl(1)).await);
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// A fresh entry with metadata gets a shorter time to live from now.
    async fn expire_shortens_with_metadata(t: &Context) {
        t.put_entry("k", fresh("v").with_codec(CodecId::Raw)).await;
        assert!(expire(t, t.ttl(1)).await);
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// A fresh entry is made to last for ever.
    async fn expire_makes_an_entry_last_for_ever(t: &Context) {
        t.put_entry("plain", NewEntry::new("v", t.ttl(50))).await;
        t.put_entry(
            "raw",
            NewEntry::new("v", t.ttl(50)).with_codec(CodecId::Raw),
        )
        .await;
        for name in ["plain", "raw"] {
            assert!(
                t.expire(&key(name), Ttl::FOREVER)
                    .await
                    .expect("the storage expires")
            );
            assert_eq!(t.time_left(name).await, TimeLeft::Forever);
            assert_eq!(t.entry(name).await.expires_at, Expiry::Never);
        }
        t.elapse(1).await;
        assert_eq!(t.entry("raw").await.codec, Some(CodecId::Raw));
    }

    /// An entry that lasted for ever gets an end.
    async fn expire_ends_what_was_for_ever(t: &Context) {
        let entry = NewEntry::new("v", Ttl::FOREVER);
        t.put_entry("plain", entry.clone()).await;
        t.put_entry("raw", entry.with_codec(CodecId::Raw)).await;
        for name in ["plain", "raw"] {
            assert!(
                t.expire(&key(name), ttl(LONG))
                    .await
                    .expect("the storage expires")
            );
            t.assert_left(t.time_left(name).await, LONG);
            t.assert_ends_in(t.entry(name).await.expires_at, LONG);
        }
    }

    /// A missing entry is not created by a new time to live.
    async fn expire_creates_nothing(t: &Context) {
        assert!(!expire(t, ttl(LONG)).await);
        assert!(!expire(t, Ttl::FOREVER).await);
        assert!(t.is_absent("k").await);
        assert!(!t.is_fresh("k").await);
    }

    /// An expired entry is not revived by a new time to live.
    async fn expire_revives_nothing(t: &Context) {
        t.put_expired("k", "v").await;
        assert!(!expire(t, ttl(LONG)).await);
        assert!(!expire(t, Ttl::FOREVER).await);
        assert!(t.is_absent("k").await);
    }

    /// Value and metadata stay under a new time to live.
    async fn expire_keeps_value_and_metadata(t: &Context) {
        let created_at = Timestamp::from_millis(1_234_567);
        let entry = fresh("value")
            .with_codec(CodecId::Bincode)
            .with_created_at(created_at);
        t.put_entry("k", entry).await;
        assert!(expire(t, ttl(2 * LONG)).await);
        let entry = t.entry("k").await;
        assert_eq!(entry.value, "value");
        assert_eq!(
            (entry.codec, entry.created_at),
            (Some(CodecId::Bincode), Some(created_at))
        );
        assert_eq!(entry.stale_until, entry.expires_at);
        t.assert_ends_in(entry.expires_at, 2 * LONG);
    }

    /// A value that begins like a header stays under a new time to live.
    async fn expire_keeps_a_value_that_looks_like_a_header(t: &Context) {
        let value = b"\xff\xca\x01\x1e and then thirty bytes or more of something";
        t.put("k", &value[..]).await;
        assert!(expire(t, ttl(2 * LONG)).await);
        let entry = t.entry("k").await;
        assert_eq!(
            (&*entry.value, entry.stale_until),
            (&value[..], entry.expires_at)
        );
        t.assert_ends_in(entry.expires_at, 2 * LONG);
    }

    /// A new time to live of a counter leaves it a counter.
    async fn expire_keeps_a_counter(t: &Context) {
        t.increment(&key("k"), 4, ttl(LONG))
            .await
            .expect("it counts");
        assert!(expire(t, ttl(60 * LONG)).await);
        let counter = t
            .increment(&key("k"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(counter.value, 5);
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), 60 * LONG);
    }

    /// An entry without a stale budget is gone when its time to live is ended.
    async fn expire_now_removes_an_entry(t: &Context) {
        for entry in [fresh("v"), fresh("v").with_codec(CodecId::Raw)] {
            t.put_entry("k", entry).await;
            assert!(expire_now(t).await);
            assert!(t.is_absent("k").await);
            assert!(!t.is_fresh("k").await);
            assert!(!expire_now(t).await);
        }
    }

    /// Ending the time to live of a missing or expired entry is false.
    async fn expire_now_of_nothing_is_false(t: &Context) {
        assert!(!expire_now(t).await);
        t.put_expired("k", "v").await;
        assert!(!expire_now(t).await);
        assert!(t.is_absent("k").await);
    }

    /// The time to live of an entry for ever can be ended.
    async fn expire_now_ends_what_was_for_ever(t: &Context) {
        t.put_entry("k", NewEntry::new("v", Ttl::FOREVER)).await;
        assert!(expire_now(t).await);
        assert!(t.is_absent("k").await);
    }

    /// The time to live of a counter can be ended; it then starts anew.
    async fn expire_now_ends_a_counter(t: &Context) {
        t.increment(&key("k"), 9, ttl(LONG))
            .await
            .expect("it counts");
        assert!(expire_now(t).await);
        let counter = t
            .increment(&key("k"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(counter.value, 1);
    }
}
