//! Unconditional writes: what they replace, and how large and long-lived a value may be.

use cache_core::{
    CodecId, Condition, ErrorKind, Expiry, NewEntry, TimeLeft, Timestamp, Ttl, millis,
};

use super::context::{Context, LONG, assert_done, fresh, key, kinds, refusal, stale_for, ttl};
use super::theme;

/// The largest value that these cases write; a storage that takes more is asked for no more.
const LARGE: usize = 8 * 1024 * 1024;

/// A value of this size that does not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..bytes).map(|_| next()).collect()
}

/// An entry with all metadata, that of `replacement` in nothing.
fn decorated(value: &'static str) -> NewEntry {
    let entry = NewEntry::new(value, ttl(60 * LONG));
    let entry = entry
        .with_codec(CodecId::Postcard)
        .with_created_at(Timestamp::from_millis(5));
    stale_for(entry, LONG)
}

theme! {
    "writes"

    /// An unconditional set writes, whatever is there, and says so.
    async fn a_set_says_that_it_wrote(t: &Context) {
        for _ in 0..2 {
            let written = t.set(&key("k"), fresh("v"), Condition::Always).await;
            assert!(written.expect("the storage writes"));
        }
    }

    /// A set replaces value, deadlines and metadata.
    async fn a_set_replaces_everything(t: &Context) {
        t.put_entry("k", decorated("old")).await;
        t.put("k", "new").await;
        let entry = t.entry("k").await;
        assert_eq!(entry.value, "new");
        assert_eq!((entry.codec, entry.created_at), (None, None));
        assert_eq!(entry.stale_until, entry.expires_at);
        t.assert_ends_in(entry.expires_at, LONG);
    }

    /// A set of many replaces values, deadlines and metadata.
    async fn a_set_of_many_replaces_everything(t: &Context) {
        t.put_entry("a", decorated("old")).await;
        t.put("b", "old").await;
        let entries = vec![(key("a"), fresh("new")), (key("b"), decorated("new"))];
        assert_done(&t.set_many(entries).await, 2);
        let (a, b) = (t.entry("a").await, t.entry("b").await);
        assert_eq!(
            (a.codec, a.created_at, a.stale_until),
            (None, None, a.expires_at)
        );
        t.assert_ends_in(a.expires_at, LONG);
        assert_eq!((b.codec, b.value), (Some(CodecId::Postcard), "new".into()));
        t.assert_ends_in(b.stale_until, 61 * LONG);
    }

    /// A set over an entry for ever gives it an end.
    async fn a_set_ends_what_was_for_ever(t: &Context) {
        t.put_entry("k", NewEntry::new("old", Ttl::FOREVER)).await;
        t.put("k", "new").await;
        t.assert_left(t.time_left("k").await, LONG);
    }

    /// A set for ever takes the end away.
    async fn a_set_for_ever_takes_the_end_away(t: &Context) {
        t.put_entry("k", NewEntry::new("old", t.ttl(1))).await;
        t.put_entry("k", NewEntry::new("new", Ttl::FOREVER)).await;
        t.elapse(2).await;
        assert_eq!(t.entry("k").await.expires_at, Expiry::Never);
    }

    /// A set starts the time to live anew.
    async fn a_set_starts_the_time_to_live_anew(t: &Context) {
        t.put_entry("k", NewEntry::new("old", t.ttl(1))).await;
        t.put("k", "new").await;
        t.elapse(2).await;
        assert_eq!(t.value("k").await.expect("it was written for long"), "new");
        t.put_entry("k", NewEntry::new("newer", t.ttl(1))).await;
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// A set over a stale entry makes a fresh one without its past.
    async fn a_set_replaces_a_stale_entry(t: &Context) {
        t.put_stale("k", "old").await;
        t.put("k", "new").await;
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.value, entry.stale_until),
            ("new".into(), entry.expires_at)
        );
        assert!(t.is_fresh("k").await);
    }

    /// A set over a counter replaces it, and so the other way round.
    async fn a_set_replaces_a_counter(t: &Context) {
        t.increment(&key("k"), 5, ttl(LONG))
            .await
            .expect("it counts");
        t.put_entry("k", decorated("text")).await;
        assert_eq!(t.value("k").await.expect("it was written"), "text");
        t.put("k", "40").await;
        assert_eq!(
            t.increment(&key("k"), 2, ttl(LONG))
                .await
                .expect("it counts")
                .value,
            42
        );
    }

    /// A value of the largest size is taken and comes back, with and without metadata.
    async fn the_largest_value_is_taken(t: &Context) {
        let value = noise(t.info().max_value_bytes.min(LARGE));
        t.put("plain", value.clone()).await;
        assert!(t.value("plain").await.expect("it was written") == value);
        let entry = fresh(value.clone()).with_codec(CodecId::Raw);
        t.put_entry("metadata", stale_for(entry, LONG)).await;
        let entry = t.entry("metadata").await;
        assert!(entry.value == value);
        assert_eq!(entry.codec, Some(CodecId::Raw));
    }

    /// A value longer than the limit is refused, and the old one stays.
    async fn a_value_too_large_is_refused(t: &Context) {
        let Some(size) = too_large(t) else { return };
        t.put("k", "old").await;
        let conditions = [
            Condition::Always,
            Condition::IfAbsent,
            Condition::IfPresent,
            Condition::IfEquals("old".into()),
        ];
        for condition in conditions {
            let error = refusal(t.set(&key("k"), fresh(vec![0; size]), condition).await);
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(!error.may_have_happened());
        }
        assert_eq!(t.value("k").await.expect("nothing changed"), "old");
        assert!(t.is_absent("other").await);
    }

    /// In a batch only the entry whose value is too long is refused.
    async fn a_value_too_large_in_a_batch_is_refused(t: &Context) {
        let Some(size) = too_large(t) else { return };
        t.put("b", "old").await;
        let entries = vec![
            (key("a"), fresh("new")),
            (key("b"), fresh(vec![0; size])),
            (key("c"), fresh("new")),
        ];
        let outcomes = t.set_many(entries).await;
        assert_eq!(kinds(&outcomes), [None, Some(ErrorKind::TooLarge), None]);
        assert_eq!(t.value("a").await.expect("it was written"), "new");
        assert_eq!(t.value("b").await.expect("nothing changed"), "old");
        assert_eq!(t.value("c").await.expect("it was written"), "new");
    }

    /// Values of every size up to the largest come back.
    async fn values_of_many_sizes_come_back(t: &Context) {
        let limit = t.info().max_value_bytes.min(LARGE);
        let sizes = (0..24).map(|bit| 1_usize << bit);
        for size in sizes
            .flat_map(|size| [size - 1, size, size + 1])
            .filter(|&size| size <= limit)
        {
            let value = noise(size);
            t.put("k", value.clone()).await;
            assert!(
                t.value("k").await.expect("it was written") == value,
                "{size} bytes"
            );
        }
    }

    /// The shortest time to live is one.
    async fn the_shortest_time_to_live_is_taken(t: &Context) {
        t.put_entry("k", NewEntry::new("v", ttl(millis(1)))).await;
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// The longest time to live is ten years and not for ever.
    async fn the_longest_time_to_live_is_taken(t: &Context) {
        t.put_entry("k", NewEntry::new("v", ttl(Ttl::MAX))).await;
        t.assert_left(t.time_left("k").await, Ttl::MAX);
        t.assert_ends_in(t.entry("k").await.expires_at, Ttl::MAX);
    }

    /// Time to live and stale budget together may be ten years.
    async fn the_longest_stale_budget_is_taken(t: &Context) {
        t.put_entry("k", stale_for(fresh("v"), Ttl::MAX - LONG))
            .await;
        let entry = t.entry("k").await;
        t.assert_ends_in(entry.expires_at, LONG);
        t.assert_ends_in(entry.stale_until, Ttl::MAX);
    }

    /// A time to live is kept to the millisecond, or to the resolution of the storage.
    async fn a_time_to_live_is_kept_exactly(t: &Context) {
        let span = LONG + millis(123);
        t.put_entry("k", NewEntry::new("v", ttl(span))).await;
        let TimeLeft::Remaining(left) = t.time_left("k").await else {
            unreachable!("the entry has a minute left");
        };
        t.assert_about(left, span);
        assert!(left <= span + t.info().ttl_resolution, "{left:?}");
    }
}

/// A size above the limit; none where the limit is out of reach.
fn too_large(t: &Context) -> Option<usize> {
    let limit = t.info().max_value_bytes;
    (limit <= LARGE).then_some(limit + 1)
}
