//! Conditional writes.

use bytes::Bytes;
use cache_core::{CodecId, Condition, Expiry, NewEntry, Ttl};

use super::context::{Context, LONG, fresh, key, stale_for, ttl};
use super::theme;

fn equals(value: &'static str) -> Condition {
    Condition::IfEquals(Bytes::from_static(value.as_bytes()))
}

async fn set(t: &Context, entry: NewEntry, condition: Condition) -> bool {
    t.set(&key("k"), entry, condition)
        .await
        .expect("the storage writes")
}

theme! {
    "conditions"

    /// If absent: writes where nothing is.
    async fn if_absent_writes_over_nothing(t: &Context) {
        assert!(set(t, fresh("new"), Condition::IfAbsent).await);
        assert_eq!(t.value("k").await.expect("it was written"), "new");
        t.assert_left(t.time_left("k").await, LONG);
    }

    /// If absent: a fresh entry stays, its value, deadlines and metadata too.
    async fn if_absent_leaves_a_fresh_entry_alone(t: &Context) {
        t.put_entry(
            "k",
            NewEntry::new("old", Ttl::FOREVER).with_codec(CodecId::Raw),
        )
        .await;
        assert!(!set(t, fresh("new"), Condition::IfAbsent).await);
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.value, entry.expires_at),
            ("old".into(), Expiry::Never)
        );
        assert_eq!(entry.codec, Some(CodecId::Raw));
    }

    /// If absent: an expired entry counts as absent.
    async fn if_absent_writes_over_an_expired_entry(t: &Context) {
        t.put_expired("k", "old").await;
        assert!(set(t, fresh("new"), Condition::IfAbsent).await);
        assert_eq!(t.value("k").await.expect("it was written"), "new");
    }

    /// If absent: an expired entry counts as absent within its stale budget too, and is replaced.
    async fn if_absent_writes_over_a_stale_entry(t: &Context) {
        t.put_stale("k", "old").await;
        assert!(set(t, fresh("new"), Condition::IfAbsent).await);
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.value, entry.stale_until),
            ("new".into(), entry.expires_at)
        );
        assert!(t.is_fresh("k").await);
    }

    /// If absent: an entry with an empty value is present.
    async fn if_absent_respects_an_empty_value(t: &Context) {
        t.put("k", "").await;
        assert!(!set(t, fresh("new"), Condition::IfAbsent).await);
        assert_eq!(t.value("k").await.expect("nothing changed"), "");
    }

    /// If absent: an entry that was deleted or ended is absent.
    async fn if_absent_writes_over_what_was_ended(t: &Context) {
        t.put("k", "old").await;
        t.delete(&key("k")).await.expect("the storage deletes");
        assert!(set(t, fresh("second"), Condition::IfAbsent).await);
        t.expire_now(&key("k")).await.expect("the storage expires");
        assert!(set(t, fresh("third"), Condition::IfAbsent).await);
    }

    /// If absent: what it writes has its metadata.
    async fn if_absent_writes_metadata(t: &Context) {
        let entry = stale_for(fresh("v").with_codec(CodecId::Bincode), LONG);
        assert!(set(t, entry, Condition::IfAbsent).await);
        let entry = t.entry("k").await;
        assert_eq!(entry.codec, Some(CodecId::Bincode));
        t.assert_ends_in(entry.stale_until, 2 * LONG);
    }

    /// If present: writes over a fresh entry and replaces everything.
    async fn if_present_replaces_a_fresh_entry(t: &Context) {
        t.put_entry(
            "k",
            NewEntry::new("old", Ttl::FOREVER).with_codec(CodecId::Raw),
        )
        .await;
        assert!(set(t, fresh("new"), Condition::IfPresent).await);
        let entry = t.entry("k").await;
        assert_eq!((entry.value, entry.codec), ("new".into(), None));
        t.assert_ends_in(entry.expires_at, LONG);
    }

    /// If present: nothing comes of nothing.
    async fn if_present_creates_nothing(t: &Context) {
        assert!(!set(t, fresh("new"), Condition::IfPresent).await);
        assert!(t.is_absent("k").await);
    }

    /// If present: an expired entry is not present.
    async fn if_present_revives_no_expired_entry(t: &Context) {
        t.put_expired("k", "old").await;
        assert!(!set(t, fresh("new"), Condition::IfPresent).await);
        assert!(t.is_absent("k").await);
    }

    /// If present: a stale entry is not present, and stays as it is.
    async fn if_present_leaves_a_stale_entry_alone(t: &Context) {
        t.put_stale("k", "old").await;
        assert!(!set(t, fresh("new"), Condition::IfPresent).await);
        t.assert_stale("k", "old").await;
    }

    /// If equals: writes over exactly these bytes and replaces everything.
    async fn if_equals_replaces_an_equal_entry(t: &Context) {
        t.put_entry("k", NewEntry::new("old", Ttl::FOREVER)).await;
        assert!(set(t, fresh("new"), equals("old")).await);
        let entry = t.entry("k").await;
        assert_eq!(entry.value, "new");
        t.assert_ends_in(entry.expires_at, LONG);
    }

    /// If equals: any other value stays, however similar.
    async fn if_equals_leaves_another_value_alone(t: &Context) {
        t.put("k", "old").await;
        for similar in ["", "ol", "old ", "Old", "old\0", "new"] {
            assert!(!set(t, fresh("new"), equals(similar)).await, "{similar:?}");
        }
        assert_eq!(t.value("k").await.expect("nothing changed"), "old");
    }

    /// If equals: nothing equals no value, not even the empty one.
    async fn if_equals_creates_nothing(t: &Context) {
        assert!(!set(t, fresh("new"), equals("old")).await);
        assert!(!set(t, fresh("new"), equals("")).await);
        assert!(t.is_absent("k").await);
    }

    /// If equals: an expired entry equals nothing.
    async fn if_equals_revives_no_expired_entry(t: &Context) {
        t.put_expired("k", "old").await;
        assert!(!set(t, fresh("new"), equals("old")).await);
        assert!(t.is_absent("k").await);
    }

    /// If equals: a stale entry equals nothing, and stays as it is.
    async fn if_equals_leaves_a_stale_entry_alone(t: &Context) {
        t.put_stale("k", "old").await;
        assert!(!set(t, fresh("new"), equals("old")).await);
        t.assert_stale("k", "old").await;
    }

    /// If equals: metadata is not compared.
    async fn if_equals_compares_no_metadata(t: &Context) {
        t.put_entry("k", stale_for(fresh("old").with_codec(CodecId::Raw), LONG))
            .await;
        assert!(set(t, fresh("new"), equals("old")).await);
        assert!(
            set(
                t,
                fresh("newer").with_codec(CodecId::Postcard),
                equals("new")
            )
            .await
        );
        assert!(!set(t, fresh("newest"), equals("new")).await);
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.value, entry.codec),
            ("newer".into(), Some(CodecId::Postcard))
        );
    }

    /// If equals: an empty value equals the empty value only.
    async fn if_equals_compares_empty_values(t: &Context) {
        t.put("k", "").await;
        assert!(!set(t, fresh("new"), equals("\0")).await);
        assert!(set(t, fresh("new"), equals("")).await);
    }

    /// If equals: any bytes are compared as they are.
    async fn if_equals_compares_any_bytes(t: &Context) {
        let odd: [&'static [u8]; 4] = [b"\xff\xca\x01\x1e", b"\0\0", b"\r\n$-1", b"\xf0\x28"];
        for value in odd {
            t.put("k", value).await;
            assert!(!set(t, fresh("new"), Condition::IfEquals(value[1..].into())).await);
            assert!(set(t, fresh("new"), Condition::IfEquals(value.into())).await);
        }
    }

    /// If equals: the same value again starts its time to live anew.
    async fn if_equals_renews_a_lease(t: &Context) {
        t.put_entry("k", NewEntry::new("token", ttl(60 * LONG)))
            .await;
        assert!(set(t, fresh("token"), equals("token")).await);
        t.assert_left(t.time_left("k").await, LONG);
    }

    /// If equals: a counter equals its decimal text.
    async fn if_equals_compares_counters(t: &Context) {
        t.increment(&key("k"), 7, ttl(LONG))
            .await
            .expect("it counts");
        assert!(!set(t, fresh("0"), equals("8")).await);
        assert!(set(t, fresh("0"), equals("7")).await);
        assert_eq!(
            t.increment(&key("k"), 1, ttl(LONG))
                .await
                .expect("it counts")
                .value,
            1
        );
    }

    /// A conditional write is as long as it says.
    async fn a_conditional_write_expires(t: &Context) {
        let short = |value: &'static str| NewEntry::new(value, t.ttl(1));
        t.put("k", "old").await;
        assert!(set(t, short("a"), equals("old")).await);
        t.elapse(2).await;
        assert!(set(t, short("b"), Condition::IfAbsent).await);
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }
}
