//! What reads give back.

use bytes::Bytes;
use cache_core::{CodecId, Condition, Expiry, NewEntry, Timestamp, Ttl};

use super::context::{Context, LONG, fresh, key, stale_for};
use super::theme;

/// A whole header as it is stored in front of values with metadata: codec raw, fresh and stale for
/// ever; and a value.
const HEADER: &[u8] =
    b"\xff\xca\x01\x1e\x04\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0inner";

theme! {
    "reads"

    /// A key that was never written is none.
    async fn a_missing_key_is_none(t: &Context) {
        assert!(
            t.get(&key("missing"))
                .await
                .expect("a miss is no error")
                .is_none()
        );
        assert!(
            t.lookup(&key("missing"))
                .await
                .expect("a miss is no error")
                .is_none()
        );
    }

    /// A key that was deleted is none.
    async fn a_deleted_key_is_none(t: &Context) {
        t.put("k", "v").await;
        t.delete(&key("k")).await.expect("the storage deletes");
        assert!(
            t.get(&key("k"))
                .await
                .expect("a miss is no error")
                .is_none()
        );
    }

    /// An entry is returned as it was written, byte for byte.
    async fn every_byte_comes_back(t: &Context) {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        t.put("all", all.clone()).await;
        assert_eq!(t.value("all").await.expect("it was written"), all);
        for byte in 0..=255_u8 {
            t.put("one", vec![byte]).await;
            assert_eq!(t.value("one").await.expect("it was written"), vec![byte]);
        }
    }

    /// An entry with an empty value is an entry.
    async fn an_empty_value_is_a_value(t: &Context) {
        t.put("k", "").await;
        assert_eq!(t.value("k").await.expect("it was written"), "");
        assert!(t.is_fresh("k").await);
        let read = t
            .get_many(&[key("k")])
            .await
            .remove(0)
            .expect("the storage reads");
        assert_eq!(read.expect("it was written").value, "");
    }

    /// An empty value keeps its metadata.
    async fn an_empty_value_has_metadata(t: &Context) {
        let entry = fresh("")
            .with_codec(CodecId::Raw)
            .with_created_at(Timestamp::from_millis(7));
        t.put_entry("k", stale_for(entry, LONG)).await;
        let entry = t.entry("k").await;
        assert_eq!(entry.value, "");
        assert_eq!(entry.codec, Some(CodecId::Raw));
        t.assert_ends_in(entry.stale_until, 2 * LONG);
    }

    /// A value that begins like a header of stored metadata comes back whole, without metadata.
    async fn a_value_that_looks_like_a_header_comes_back(t: &Context) {
        let values = [
            Bytes::from_static(b"\xff\xca"),
            Bytes::from_static(b"\xff\xca\x01"),
            Bytes::from_static(b"\xff\xca\x02 of a newer version"),
            Bytes::from_static(b"\xff"),
            Bytes::from_static(b"\xca\xff"),
            Bytes::from_static(HEADER),
        ];
        for value in values {
            t.put("k", value.clone()).await;
            let entry = t.entry("k").await;
            assert_eq!(entry.value, value);
            assert_eq!((entry.codec, entry.created_at), (None, None));
            assert_eq!(entry.stale_until, entry.expires_at);
            t.assert_ends_in(entry.expires_at, LONG);
        }
    }

    /// A value without a recorded codec reads back without one, and so for creation time.
    async fn nothing_recorded_reads_as_nothing(t: &Context) {
        t.put("k", "{}").await;
        let entry = t.entry("k").await;
        assert_eq!((entry.codec, entry.created_at), (None, None));
    }

    /// A recorded codec comes back.
    async fn the_codec_comes_back(t: &Context) {
        for codec in [
            CodecId::Json,
            CodecId::Postcard,
            CodecId::Bincode,
            CodecId::Raw,
        ] {
            t.put_entry("k", fresh("v").with_codec(codec)).await;
            let entry = t.get(&key("k")).await.expect("the storage reads");
            let entry = entry.expect("it was written");
            assert_eq!((entry.codec, entry.created_at), (Some(codec), None));
            assert_eq!(entry.value, "v");
        }
    }

    /// A recorded creation time comes back, whatever it is.
    async fn the_creation_time_comes_back(t: &Context) {
        for milliseconds in [1, 999, 1_767_225_600_123, 253_402_300_799_999] {
            let created_at = Timestamp::from_millis(milliseconds);
            t.put_entry("k", fresh("v").with_created_at(created_at))
                .await;
            let entry = t.get(&key("k")).await.expect("the storage reads");
            let entry = entry.expect("it was written");
            assert_eq!((entry.codec, entry.created_at), (None, Some(created_at)));
        }
    }

    /// All metadata comes back together, through every read.
    async fn all_metadata_comes_back(t: &Context) {
        let created_at = Timestamp::from_millis(1_700_000_000_001);
        let entry = fresh("v")
            .with_codec(CodecId::Postcard)
            .with_created_at(created_at);
        t.put_entry("k", stale_for(entry, LONG)).await;
        let keys = [key("k")];
        let reads = [
            t.get(&keys[0]).await,
            t.lookup(&keys[0]).await,
            t.get_many(&keys).await.remove(0),
            t.lookup_many(&keys).await.remove(0),
        ];
        for read in reads {
            let entry = read.expect("the storage reads").expect("it was written");
            assert_eq!(entry.value, "v");
            assert_eq!(entry.codec, Some(CodecId::Postcard));
            assert_eq!(entry.created_at, Some(created_at));
            t.assert_ends_in(entry.expires_at, LONG);
            t.assert_ends_in(entry.stale_until, 2 * LONG);
        }
    }

    /// The time to live ends that long after the write, and is known or left to the server.
    async fn a_plain_read_knows_the_deadline_or_leaves_it_to_the_server(t: &Context) {
        t.put("k", "v").await;
        let keys = [key("k")];
        for read in [t.get(&keys[0]).await, t.get_many(&keys).await.remove(0)] {
            let entry = read.expect("the storage reads").expect("it was written");
            if entry.expires_at != Expiry::AtServer {
                t.assert_ends_in(entry.expires_at, LONG);
            }
            assert_eq!(entry.stale_until, entry.expires_at);
        }
    }

    /// A lookup always knows the deadline.
    async fn a_lookup_knows_the_deadline(t: &Context) {
        t.put("k", "v").await;
        let entry = t.entry("k").await;
        t.assert_ends_in(entry.expires_at, LONG);
        assert_eq!(entry.stale_until, entry.expires_at);
    }

    /// A lookup of many keys always knows the deadlines.
    async fn a_lookup_of_many_knows_the_deadlines(t: &Context) {
        t.put("minute", "v").await;
        t.put_entry("hour", NewEntry::new("v", super::context::ttl(60 * LONG)))
            .await;
        t.put_entry("ever", NewEntry::new("v", Ttl::FOREVER)).await;
        let keys = [key("hour"), key("missing"), key("ever"), key("minute")];
        let outcomes = t.lookup_many(&keys).await;
        let read = |outcome: cache_core::Result<_>| outcome.expect("the storage reads");
        let entries: Vec<Option<cache_core::Entry>> = outcomes.into_iter().map(read).collect();
        let expiry = |position: usize| entries[position].as_ref().map(|entry| entry.expires_at);
        t.assert_ends_in(expiry(0).expect("it was written"), 60 * LONG);
        assert_eq!(expiry(1), None);
        assert_eq!(expiry(2), Some(Expiry::Never));
        t.assert_ends_in(expiry(3).expect("it was written"), LONG);
    }

    /// An entry for ever has no deadline.
    async fn an_entry_for_ever_never_ends(t: &Context) {
        t.put_entry("k", NewEntry::new("v", Ttl::FOREVER)).await;
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.expires_at, entry.stale_until),
            (Expiry::Never, Expiry::Never)
        );
    }

    /// An entry for ever keeps its metadata, and a stale budget is without effect on it.
    async fn an_entry_for_ever_has_metadata(t: &Context) {
        let entry = NewEntry::new("v", Ttl::FOREVER).with_codec(CodecId::Raw);
        t.put_entry("k", stale_for(entry, LONG)).await;
        let entry = t.entry("k").await;
        assert_eq!(
            (entry.expires_at, entry.stale_until),
            (Expiry::Never, Expiry::Never)
        );
        assert_eq!(entry.codec, Some(CodecId::Raw));
    }

    /// A read has no effect on the time to live.
    async fn a_read_prolongs_nothing(t: &Context) {
        t.put_entry("k", NewEntry::new("v", t.ttl(3))).await;
        t.elapse(2).await;
        let keys = [key("k")];
        t.get(&keys[0]).await.expect("the storage reads");
        t.lookup(&keys[0]).await.expect("the storage reads");
        t.get_many(&keys)
            .await
            .remove(0)
            .expect("the storage reads");
        t.has(&keys[0]).await.expect("the storage answers");
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// A key reads as its last write left it.
    async fn a_key_reads_as_last_written(t: &Context) {
        for round in 0..20 {
            t.put("k", format!("value {round}")).await;
            assert_eq!(
                t.value("k").await.expect("it was written"),
                format!("value {round}")
            );
            if round % 3 == 0 {
                t.delete(&key("k")).await.expect("the storage deletes");
                assert!(t.is_absent("k").await);
            }
        }
    }

    /// A value handed out before does not change when the key is written again.
    async fn a_value_in_hand_stays(t: &Context) {
        t.put("k", "first").await;
        let first = t.entry("k").await;
        t.set(&key("k"), fresh("other"), Condition::Always)
            .await
            .expect("the storage writes");
        t.delete(&key("k")).await.expect("the storage deletes");
        assert_eq!(first.value, "first");
    }

    /// The storage says what it is and which limits it has.
    async fn info_tells_the_limits(t: &Context) {
        let info = t.info();
        assert!(!info.backend.is_empty());
        assert!((1..=cache_core::MAX_KEY_BYTES).contains(&info.max_key_bytes));
        assert!(info.max_value_bytes > 0);
        assert!(!info.ttl_resolution.is_zero());
        assert!(!format!("{:?}", t.storage).is_empty());
    }

    /// A ping of a storage that works is answered.
    async fn ping_is_answered(t: &Context) {
        t.ping().await.expect("the storage works");
    }
}
