//! Batches.

use cache_core::{CodecId, ErrorKind, NewEntry, Ttl};

use super::context::{Context, LONG, assert_done, fresh, key, kinds, numbered, stale_for, values};
use super::theme;

/// More than any server takes in one request.
const MANY: usize = 2_500;

theme! {
    "batches"

    /// A batch of no keys has no outcomes.
    async fn an_empty_batch_has_no_outcomes(t: &Context) {
        assert!(t.get_many(&[]).await.is_empty());
        assert!(t.lookup_many(&[]).await.is_empty());
        assert!(t.set_many(Vec::new()).await.is_empty());
        assert!(t.delete_many(&[]).await.is_empty());
    }

    /// One outcome a key, in the order of the keys.
    async fn outcomes_are_in_the_order_of_the_keys(t: &Context) {
        for name in ["c", "a", "b"] {
            t.put(name, name.to_owned()).await;
        }
        let keys = ["b", "missing", "c", "a", "nothing"].map(key);
        let expected = [Some("b"), None, Some("c"), Some("a"), None];
        let expected = expected.map(|value| value.map(bytes::Bytes::from));
        assert_eq!(values(t.get_many(&keys).await), expected);
        assert_eq!(values(t.lookup_many(&keys).await), expected);
    }

    /// A key named twice is answered twice.
    async fn a_key_named_twice_is_answered_twice(t: &Context) {
        t.put("a", "v").await;
        let keys = ["a", "b", "a", "a", "b"].map(key);
        let found = |read: Vec<_>| read.iter().map(Option::is_some).collect::<Vec<_>>();
        let expected = [true, false, true, true, false];
        assert_eq!(found(values(t.get_many(&keys).await)), expected);
        assert_eq!(found(values(t.lookup_many(&keys).await)), expected);
    }

    /// A batch of one is a batch.
    async fn a_batch_of_one_is_a_batch(t: &Context) {
        assert_done(&t.set_many(vec![(key("a"), fresh("v"))]).await, 1);
        assert_eq!(values(t.get_many(&[key("a")]).await), [Some("v".into())]);
        assert_done(&t.delete_many(&[key("a")]).await, 1);
        assert_eq!(values(t.get_many(&[key("a")]).await), [None]);
    }

    /// Any number of keys can be written, read and deleted: the storage splits by itself.
    async fn batches_have_any_size(t: &Context) {
        let keys = numbered("many", MANY);
        let entries = keys
            .iter()
            .map(|key| (key.clone(), fresh(key.as_str().to_owned())));
        assert_done(&t.set_many(entries.collect()).await, MANY);
        for read in [t.get_many(&keys).await, t.lookup_many(&keys).await] {
            for (key, value) in keys.iter().zip(values(read)) {
                assert_eq!(value.expect("it was written"), key.as_str());
            }
        }
        assert_done(&t.delete_many(&keys).await, MANY);
        assert!(values(t.get_many(&keys).await).iter().all(Option::is_none));
    }

    /// A batch of large values is written and read.
    async fn batches_have_any_weight(t: &Context) {
        let size = t.info().max_value_bytes.min(1024 * 1024);
        let keys = numbered("heavy", 8);
        let entry = |number: usize| fresh(vec![u8::try_from(number).unwrap_or_default(); size]);
        let entries = keys.iter().cloned().enumerate();
        let entries = entries.map(|(number, key)| (key, entry(number)));
        assert_done(&t.set_many(entries.collect()).await, 8);
        for (number, value) in values(t.get_many(&keys).await).into_iter().enumerate() {
            assert!(
                value.expect("it was written") == entry(number).value,
                "number {number}"
            );
        }
    }

    /// A refused key fails alone in a batch of reads.
    async fn a_refused_key_fails_alone_in_reads(t: &Context) {
        t.put("a", "a").await;
        t.put("z", "z").await;
        let keys = ["a", "", "missing", "b\n", "z"].map(key);
        let refused = Some(ErrorKind::Key);
        let expected = [None, refused, None, refused, None];
        for mut outcomes in [t.get_many(&keys).await, t.lookup_many(&keys).await] {
            assert_eq!(kinds(&outcomes), expected);
            let last = outcomes
                .pop()
                .expect("one outcome a key")
                .expect("it is no refused key");
            assert_eq!(last.expect("it was written").value, "z");
        }
    }

    /// A refused key fails alone in a batch of writes.
    async fn a_refused_key_fails_alone_in_writes(t: &Context) {
        let names = ["\u{7f}", "a", "", "z"];
        let entries = names.map(|name| (key(name), fresh("v"))).to_vec();
        let refused = Some(ErrorKind::Key);
        assert_eq!(
            kinds(&t.set_many(entries).await),
            [refused, None, refused, None]
        );
        assert!(t.is_fresh("a").await && t.is_fresh("z").await);
    }

    /// A refused key fails alone in a batch of deletes.
    async fn a_refused_key_fails_alone_in_deletes(t: &Context) {
        t.put("a", "v").await;
        t.put("z", "v").await;
        let outcomes = t.delete_many(&["a", "", "z"].map(key)).await;
        assert_eq!(kinds(&outcomes), [None, Some(ErrorKind::Key), None]);
        assert!(t.is_absent("a").await && t.is_absent("z").await);
    }

    /// A batch of refused keys only is refused entry by entry.
    async fn a_batch_of_refused_keys_is_refused_one_by_one(t: &Context) {
        let keys = ["", "\n", ""].map(key);
        let refused = [Some(ErrorKind::Key); 3];
        assert_eq!(kinds(&t.get_many(&keys).await), refused);
        assert_eq!(kinds(&t.lookup_many(&keys).await), refused);
        assert_eq!(kinds(&t.delete_many(&keys).await), refused);
        let entries = keys.map(|key| (key, fresh("v"))).to_vec();
        assert_eq!(kinds(&t.set_many(entries).await), refused);
    }

    /// Refused keys in a large batch move no other key's outcome.
    async fn refused_keys_move_no_outcome_in_a_large_batch(t: &Context) {
        let mut keys = numbered("many", MANY);
        for position in [0, 999, 1000, MANY - 1] {
            keys[position] = key("");
        }
        let entries = keys
            .iter()
            .map(|key| (key.clone(), fresh(key.as_str().to_owned())));
        let is_refused = |kind: &Option<ErrorKind>| *kind == Some(ErrorKind::Key);
        let written = kinds(&t.set_many(entries.collect()).await);
        assert_eq!(written.iter().filter(|kind| is_refused(kind)).count(), 4);
        let outcomes = t.get_many(&keys).await;
        assert_eq!(outcomes.len(), MANY);
        for (key, outcome) in keys.iter().zip(outcomes) {
            let Ok(entry) = outcome else {
                assert!(key.check().is_err(), "{key}");
                continue;
            };
            assert_eq!(entry.expect("it was written").value, key.as_str());
        }
    }

    /// A key named twice in a batch of writes keeps the last value and its metadata.
    async fn the_last_of_a_key_named_twice_stays(t: &Context) {
        let entries = vec![
            (
                key("a"),
                stale_for(fresh("first").with_codec(CodecId::Raw), LONG),
            ),
            (key("b"), fresh("other")),
            (key("a"), NewEntry::new("second", Ttl::FOREVER)),
            (key("a"), fresh("third")),
        ];
        assert_done(&t.set_many(entries).await, 4);
        let entry = t.entry("a").await;
        assert_eq!((entry.value, entry.codec), ("third".into(), None));
        t.assert_ends_in(entry.expires_at, LONG);
        assert_eq!(t.value("b").await.expect("it was written"), "other");
    }

    /// A key named twice in a large batch keeps the last value, wherever the storage splits.
    async fn the_last_of_a_key_named_twice_stays_in_a_large_batch(t: &Context) {
        let mut entries = Vec::with_capacity(2 * MANY);
        for round in ["first", "last"] {
            let keys = numbered("many", MANY);
            entries.extend(keys.into_iter().map(|key| (key, fresh(round))));
        }
        assert_done(&t.set_many(entries).await, 2 * MANY);
        let read = values(t.get_many(&numbered("many", MANY)).await);
        assert!(read.iter().all(|value| value.as_deref() == Some(b"last")));
    }

    /// A key named twice, the last time with a value too large, keeps the value before.
    async fn a_refused_last_value_leaves_the_one_before(t: &Context) {
        let limit = t.info().max_value_bytes;
        if limit > 8 * 1024 * 1024 {
            return;
        }
        let entries = vec![
            (key("a"), fresh("small")),
            (key("a"), fresh(vec![0; limit + 1])),
        ];
        let outcomes = t.set_many(entries).await;
        assert_eq!(kinds(&outcomes), [None, Some(ErrorKind::TooLarge)]);
        assert_eq!(t.value("a").await.expect("it was written"), "small");
    }

    /// Each entry of a batch has its own time to live and metadata.
    async fn each_entry_of_a_batch_has_its_own_metadata(t: &Context) {
        let entries = vec![
            (key("short"), NewEntry::new("v", t.ttl(1))),
            (key("long"), fresh("v")),
            (key("ever"), NewEntry::new("v", Ttl::FOREVER)),
            (key("stale"), stale_for(NewEntry::new("v", t.ttl(1)), LONG)),
            (key("raw"), fresh("v").with_codec(CodecId::Raw)),
        ];
        assert_done(&t.set_many(entries).await, 5);
        t.elapse(2).await;
        assert!(t.is_absent("short").await);
        assert!(t.is_fresh("long").await && t.is_fresh("ever").await);
        t.assert_stale("stale", "v").await;
        assert_eq!(t.entry("raw").await.codec, Some(CodecId::Raw));
        assert_eq!(t.entry("long").await.codec, None);
    }

    /// A batch of reads returns fresh and stale entries and no expired ones.
    async fn a_batch_of_reads_returns_no_expired_entry(t: &Context) {
        t.put("fresh", "fresh").await;
        t.put_entry("stale", stale_for(NewEntry::new("stale", t.ttl(1)), LONG))
            .await;
        t.put_expired("expired", "expired").await;
        let keys = ["expired", "fresh", "stale"].map(key);
        let expected = [None, Some("fresh".into()), Some("stale".into())];
        assert_eq!(values(t.get_many(&keys).await), expected);
        assert_eq!(values(t.lookup_many(&keys).await), expected);
    }

    /// A batch of reads reads counters.
    async fn a_batch_of_reads_reads_counters(t: &Context) {
        t.increment(&key("n"), -12, super::context::ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(
            values(t.get_many(&[key("n"), key("n")]).await)[1],
            Some("-12".into())
        );
    }
}
