//! Deleting, with and without a condition.

use cache_core::{CodecId, NewEntry, Ttl};

use super::context::{Context, LONG, assert_done, fresh, key, numbered, stale_for, ttl};
use super::theme;

async fn delete(t: &Context) -> bool {
    t.delete(&key("k")).await.expect("the storage deletes")
}

async fn compare_and_delete(t: &Context, expected: &[u8]) -> bool {
    let deleted = t.compare_and_delete(&key("k"), expected).await;
    deleted.expect("the storage deletes")
}

theme! {
    "deletes"

    /// A delete is true when a fresh entry went, and the entry is gone.
    async fn a_delete_is_true_when_a_fresh_entry_went(t: &Context) {
        t.put("k", "v").await;
        assert!(delete(t).await);
        assert!(t.is_absent("k").await);
        assert!(!t.is_fresh("k").await);
    }

    /// Deleting what is not there is false and no error.
    async fn deleting_nothing_is_no_error(t: &Context) {
        assert!(!delete(t).await);
        t.put("k", "v").await;
        assert!(delete(t).await);
        assert!(!delete(t).await);
    }

    /// Deleting an expired entry is false.
    async fn deleting_an_expired_entry_is_false(t: &Context) {
        t.put_expired("k", "v").await;
        assert!(!delete(t).await);
    }

    /// Deleting a stale entry is false, and removes it.
    async fn deleting_a_stale_entry_removes_it(t: &Context) {
        t.put_stale("k", "v").await;
        assert!(!delete(t).await);
        assert!(t.is_absent("k").await);
    }

    /// Deleting a fresh entry with a stale budget leaves nothing stale.
    async fn a_deleted_entry_is_not_stale(t: &Context) {
        t.put_entry("k", stale_for(NewEntry::new("v", t.ttl(1)), LONG))
            .await;
        delete(t).await;
        t.elapse(2).await;
        assert!(t.is_absent("k").await);
    }

    /// Entries of every kind can be deleted.
    async fn every_kind_of_entry_is_deleted(t: &Context) {
        t.put_entry("k", NewEntry::new("v", Ttl::FOREVER)).await;
        assert!(delete(t).await);
        t.put("k", "").await;
        assert!(delete(t).await);
        t.put_entry("k", fresh("v").with_codec(CodecId::Raw)).await;
        assert!(delete(t).await);
        t.increment(&key("k"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert!(delete(t).await);
        assert!(t.is_absent("k").await);
    }

    /// A delete touches its own key only.
    async fn a_delete_touches_its_own_key_only(t: &Context) {
        for name in ["k", "k:1", "kk", "K"] {
            t.put(name, "v").await;
        }
        assert!(delete(t).await);
        assert!(t.is_fresh("k:1").await && t.is_fresh("kk").await && t.is_fresh("K").await);
    }

    /// A key can be written again after a delete, without its past.
    async fn a_deleted_key_can_be_written_again(t: &Context) {
        t.put_entry("k", stale_for(fresh("old").with_codec(CodecId::Raw), LONG))
            .await;
        delete(t).await;
        t.put("k", "new").await;
        let entry = t.entry("k").await;
        assert_eq!((entry.value, entry.codec), ("new".into(), None));
        assert_eq!(entry.stale_until, entry.expires_at);
    }

    /// Deleting many keys is done for each, whether or not it was there.
    async fn deleting_many_is_done_for_each(t: &Context) {
        t.put("a", "v").await;
        t.put("b", "v").await;
        t.put("c", "v").await;
        let keys = ["a", "missing", "b"].map(key);
        assert_done(&t.delete_many(&keys).await, 3);
        assert!(t.is_absent("a").await && t.is_absent("b").await);
        assert!(t.is_fresh("c").await);
    }

    /// Deleting many keys takes duplicates.
    async fn deleting_many_takes_duplicates(t: &Context) {
        t.put("a", "v").await;
        assert_done(&t.delete_many(&["a", "a", "b", "a"].map(key)).await, 4);
        assert!(t.is_absent("a").await);
    }

    /// Deleting many keys takes any number of which few are there.
    async fn deleting_many_takes_any_number(t: &Context) {
        let keys = numbered("k", 2_500);
        for number in [0, 1_234, 2_499] {
            t.put(keys[number].as_str(), "v").await;
        }
        assert_done(&t.delete_many(&keys).await, 2_500);
        for number in [0, 1_234, 2_499] {
            assert!(t.is_absent(keys[number].as_str()).await);
        }
    }

    /// Deleting many keys removes stale entries too.
    async fn deleting_many_removes_stale_entries(t: &Context) {
        t.put_stale("k", "v").await;
        assert_done(&t.delete_many(&[key("k")]).await, 1);
        assert!(t.is_absent("k").await);
    }

    /// A delete with a condition is true when the value was the one expected, and it is gone.
    async fn compare_and_delete_deletes_an_equal_value(t: &Context) {
        t.put("k", "token").await;
        assert!(compare_and_delete(t, b"token").await);
        assert!(t.is_absent("k").await);
        assert!(!compare_and_delete(t, b"token").await);
    }

    /// A delete with a condition leaves any other value alone.
    async fn compare_and_delete_leaves_another_value_alone(t: &Context) {
        t.put("k", "token").await;
        let similar: [&[u8]; 5] = [b"", b"toke", b"token ", b"Token", b"token\0"];
        for expected in similar {
            assert!(!compare_and_delete(t, expected).await, "{expected:?}");
        }
        assert_eq!(t.value("k").await.expect("nothing changed"), "token");
        t.assert_left(t.time_left("k").await, LONG);
    }

    /// A delete with a condition of a missing key is false.
    async fn compare_and_delete_of_nothing_is_false(t: &Context) {
        assert!(!compare_and_delete(t, b"token").await);
        assert!(!compare_and_delete(t, b"").await);
        t.put_expired("k", "token").await;
        assert!(!compare_and_delete(t, b"token").await);
    }

    /// A delete with a condition leaves a stale entry alone.
    async fn compare_and_delete_leaves_a_stale_entry_alone(t: &Context) {
        t.put_stale("k", "token").await;
        assert!(!compare_and_delete(t, b"token").await);
        t.assert_stale("k", "token").await;
    }

    /// A delete with a condition compares value bytes, not metadata.
    async fn compare_and_delete_compares_no_metadata(t: &Context) {
        t.put_entry(
            "k",
            stale_for(fresh("token").with_codec(CodecId::Raw), LONG),
        )
        .await;
        assert!(!compare_and_delete(t, b"other").await);
        assert!(compare_and_delete(t, b"token").await);
        assert!(t.is_absent("k").await);
    }

    /// A delete with a condition compares any bytes as they are.
    async fn compare_and_delete_compares_any_bytes(t: &Context) {
        let odd: [&'static [u8]; 5] = [b"", b"\xff\xca\x01", b"\0", b"\r\n", b"\x80\xff"];
        for value in odd {
            t.put("k", value).await;
            assert!(!compare_and_delete(t, b"other").await);
            assert!(compare_and_delete(t, value).await, "{value:?}");
        }
    }

    /// A delete with a condition deletes a counter by its decimal text.
    async fn compare_and_delete_deletes_a_counter(t: &Context) {
        t.increment(&key("k"), 10, ttl(LONG))
            .await
            .expect("it counts");
        assert!(!compare_and_delete(t, b"1").await);
        assert!(compare_and_delete(t, b"10").await);
    }
}
