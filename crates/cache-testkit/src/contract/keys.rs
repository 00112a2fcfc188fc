//! Which keys are taken, and that they are told apart byte for byte.

use cache_core::{CacheKey, ClearScope, Condition};

use super::context::{Context, LONG, fresh, key, ttl};
use super::theme;

/// Keys that a server, a pattern language, a shell or a text format may take for something else.
const ODD_KEYS: &[&str] = &[
    "*",
    "?",
    "a*",
    "[a]",
    "[^a]",
    "a\\*",
    "\\",
    "\\\\",
    "\"",
    "'",
    "''",
    "`",
    "{",
    "}",
    "{}",
    "{a}",
    "{a}b",
    "a{b}",
    "{{a}}",
    ":",
    "::",
    "a:",
    ":a",
    "a::b",
    "a:b",
    "a%3Ab",
    "%",
    "%25",
    "%00",
    "\\x00",
    "\\0",
    "\\n",
    " ",
    "  ",
    " a",
    "a ",
    "a b",
    "a  b",
    "a",
    "A",
    "0",
    "00",
    "-1",
    "1e3",
    "null",
    "nil",
    "true",
    "/",
    "../a",
    "a/b",
    "#",
    "$",
    "$0",
    "+OK",
    "-ERR",
    "*1",
    "$3",
    "ä",
    "Ä",
    "ß",
    "ss",
    "日本",
    "🦀",
    "a🦀",
    "\u{a0}",
    "\u{200b}",
    "\u{feff}",
    "\u{202e}a",
    "\u{fffd}",
    "\u{10ffff}",
    "ﬁ",
    "fi",
];

/// A key in these many bytes.
fn long_key(bytes: usize) -> CacheKey {
    CacheKey::from("k".repeat(bytes))
}

theme! {
    "keys"

    /// A storage refuses an empty key on every method.
    async fn an_empty_key_is_refused(t: &Context) {
        t.assert_every_method_refuses(&key("")).await;
    }

    /// A storage refuses a key longer than its limit on every method.
    async fn a_key_too_long_is_refused(t: &Context) {
        let limit = t.info().max_key_bytes;
        assert!(limit <= cache_core::MAX_KEY_BYTES);
        t.assert_every_method_refuses(&long_key(limit + 1)).await;
        t.assert_every_method_refuses(&long_key(100_000)).await;
    }

    /// The length of a key is counted in bytes, not characters.
    async fn length_is_counted_in_bytes(t: &Context) {
        let limit = t.info().max_key_bytes;
        let too_long = CacheKey::from("ü".repeat(limit / 2 + 1));
        t.assert_every_method_refuses(&too_long).await;
        let longest = CacheKey::from("ü".repeat(limit / 2));
        assert!(
            t.set(&longest, fresh("v"), Condition::Always)
                .await
                .expect("it fits")
        );
        assert!(t.has(&longest).await.expect("it fits"));
    }

    /// A storage refuses a key with a control character on every method.
    async fn control_characters_are_refused(t: &Context) {
        for character in [
            '\0', '\t', '\n', '\r', '\u{1b}', '\u{1f}', '\u{7f}', '\u{80}', '\u{9f}',
        ] {
            let name = format!("a{character}b");
            t.assert_every_method_refuses(&key(&name)).await;
        }
    }

    /// A refused key changes nothing.
    async fn a_refused_key_changes_nothing(t: &Context) {
        t.put("old", "old").await;
        for name in ["", "\n", "old\n", "\0old", &"k".repeat(2000)] {
            t.refusals(&key(name)).await;
        }
        assert_eq!(t.value("old").await.as_deref(), Some(&b"old"[..]));
        let cleared = t
            .clear(&ClearScope::everything())
            .await
            .expect("the storage clears");
        assert_eq!(cleared.deleted, 1);
    }

    /// The longest key is a key to every method.
    async fn the_longest_key_is_taken(t: &Context) {
        let longest = long_key(t.info().max_key_bytes);
        let name = longest.as_str();
        t.put(name, "v").await;
        assert_eq!(t.value(name).await.expect("it was written"), "v");
        assert!(t.is_fresh(name).await);
        assert!(t.expire(&longest, ttl(LONG)).await.expect("it fits"));
        t.assert_left(t.time_left(name).await, LONG);
        let keys = [longest.clone()];
        assert!(
            t.get_many(&keys)
                .await
                .remove(0)
                .expect("it fits")
                .is_some()
        );
        assert!(t.compare_and_delete(&longest, b"v").await.expect("it fits"));
        assert_eq!(
            t.increment(&longest, 2, ttl(LONG))
                .await
                .expect("it fits")
                .value,
            2
        );
        assert!(t.delete(&longest).await.expect("it fits"));
    }

    /// Two of the longest keys that differ in their last byte are two keys.
    async fn the_last_byte_of_the_longest_key_counts(t: &Context) {
        let stem = "k".repeat(t.info().max_key_bytes - 1);
        t.put(&format!("{stem}a"), "a").await;
        t.put(&format!("{stem}b"), "b").await;
        assert_eq!(
            t.value(&format!("{stem}a")).await.expect("it was written"),
            "a"
        );
        assert_eq!(
            t.value(&format!("{stem}b")).await.expect("it was written"),
            "b"
        );
    }

    /// Keys are bytes: no character has a meaning, and no two spellings are one key.
    async fn odd_keys_are_told_apart(t: &Context) {
        for name in ODD_KEYS {
            t.put(name, *name).await;
        }
        for name in ODD_KEYS {
            assert_eq!(t.value(name).await.expect("it was written"), *name);
        }
        for name in ODD_KEYS {
            assert!(
                t.delete(&key(name)).await.expect("the storage deletes"),
                "{name}"
            );
        }
    }

    /// Keys in a batch are bytes, too.
    async fn odd_keys_are_told_apart_in_batches(t: &Context) {
        let entries = ODD_KEYS.iter().map(|name| (key(name), fresh(*name)));
        super::context::assert_done(&t.set_many(entries.collect()).await, ODD_KEYS.len());
        let keys: Vec<_> = ODD_KEYS.iter().map(|name| key(name)).collect();
        let read = super::context::values(t.get_many(&keys).await);
        for (name, value) in ODD_KEYS.iter().zip(read) {
            assert_eq!(value.expect("it was written"), *name);
        }
        let (first, rest) = keys.split_at(1);
        super::context::assert_done(&t.delete_many(first).await, 1);
        let left = super::context::values(t.get_many(rest).await);
        assert!(
            left.iter().all(Option::is_some),
            "`*` deleted more than itself"
        );
    }

    /// Unicode is not normalised: the composed and the decomposed spelling are two keys.
    async fn unicode_is_not_normalised(t: &Context) {
        let (composed, decomposed) = ("\u{e9}", "e\u{301}");
        t.put(composed, "composed").await;
        assert!(t.is_absent(decomposed).await);
        t.put(decomposed, "decomposed").await;
        assert_eq!(t.value(composed).await.expect("it was written"), "composed");
        assert!(
            t.delete(&key(decomposed))
                .await
                .expect("the storage deletes")
        );
        assert!(t.is_fresh(composed).await);
    }

    /// Tuples whose parts are cut differently are two keys.
    async fn tuples_are_told_apart(t: &Context) {
        let (left, right) = (CacheKey::from(("a:b", "c")), CacheKey::from(("a", "b:c")));
        t.put(left.as_str(), "left").await;
        t.put(right.as_str(), "right").await;
        assert_eq!(
            t.value(left.as_str()).await.expect("it was written"),
            "left"
        );
        assert_eq!(
            t.value(right.as_str()).await.expect("it was written"),
            "right"
        );
    }

    /// A key that begins like another is another key.
    async fn a_key_that_begins_like_another_is_another(t: &Context) {
        t.put("user:1", "one").await;
        for name in ["user", "user:", "user:10", "user:1:", "user:01", "ser:1"] {
            assert!(t.is_absent(name).await, "{name}");
            assert!(
                !t.delete(&key(name)).await.expect("the storage deletes"),
                "{name}"
            );
        }
        assert!(t.is_fresh("user:1").await);
    }
}
