//! Clearing.

use cache_core::{CacheKey, ClearScope, Cleared, CodecId, NewEntry, Ttl};

use super::context::{Context, LONG, assert_done, fresh, key, numbered, stale_for, ttl, values};
use super::theme;

/// Clears what is below `prefix`, all of it.
async fn clear(t: &Context, prefix: &str) -> u64 {
    let scope = ClearScope::prefix(prefix).expect("cases use possible prefixes");
    complete(t.clear(&scope).await)
}

async fn clear_everything(t: &Context) -> u64 {
    complete(t.clear(&ClearScope::everything()).await)
}

#[track_caller]
fn complete(outcome: cache_core::Result<Cleared>) -> u64 {
    let cleared = outcome.expect("the storage clears");
    assert!(cleared.complete, "a minute is enough");
    cleared.deleted
}

async fn put_all(t: &Context, names: &[&str]) {
    let entries = names.iter().map(|name| (key(name), fresh("v"))).collect();
    assert_done(&t.set_many(entries).await, names.len());
}

async fn assert_left(t: &Context, names: &[&str]) {
    for name in names {
        assert!(t.is_fresh(name).await, "{name:?} is gone");
    }
}

async fn assert_gone(t: &Context, names: &[&str]) {
    for name in names {
        assert!(t.is_absent(name).await, "{name:?} is still there");
    }
}

theme! {
    "clear"

    /// Everything below the prefix is gone, and counted; the rest stays.
    async fn a_clear_deletes_what_is_below_the_prefix(t: &Context) {
        put_all(t, &["user:1", "user:2", "user:2:name", "team:1", "other"]).await;
        assert_eq!(clear(t, "user").await, 3);
        assert_gone(t, &["user:1", "user:2", "user:2:name"]).await;
        assert_left(t, &["team:1", "other"]).await;
    }

    /// Clearing `user` never clears `users`, nor the key `user` itself.
    async fn a_clear_respects_the_colon(t: &Context) {
        let others = [
            "user", "users", "users:1", "userX:1", "user1:", "us:er:1", "a:user:1", "User:1",
        ];
        put_all(t, &others).await;
        put_all(t, &["user:1", "user:"]).await;
        assert_eq!(clear(t, "user").await, 2);
        assert_left(t, &others).await;
    }

    /// One trailing colon of a prefix makes no difference; a second one is part of it.
    async fn a_trailing_colon_makes_no_difference(t: &Context) {
        put_all(t, &["user:1", "user::1", "users:1"]).await;
        assert_eq!(clear(t, "user::").await, 1);
        assert_left(t, &["user:1", "users:1"]).await;
        assert_eq!(clear(t, "user:").await, 1);
        assert_left(t, &["users:1"]).await;
    }

    /// A prefix may have several parts.
    async fn a_clear_takes_a_longer_prefix(t: &Context) {
        put_all(t, &["a:b:1", "a:b:c:2", "a:c:1", "a:bb:1", "a:1"]).await;
        assert_eq!(clear(t, "a:b").await, 2);
        assert_left(t, &["a:c:1", "a:bb:1", "a:1"]).await;
    }

    /// Characters that a server's pattern language knows have no special meaning in a prefix.
    async fn a_prefix_is_no_pattern(t: &Context) {
        let innocent = [
            "a:1", "ab:1", "abc:1", "b:1", "^:1", "]:1", "a-c:1", "\\:1", "x*y:1",
        ];
        put_all(t, &innocent).await;
        for prefix in [
            "*", "a*", "?", "a?", "[ab]", "[^x]", "[a-c]", "\\*", "\\a", "[", "a[", "**",
        ] {
            assert_eq!(clear(t, prefix).await, 0, "{prefix}");
            let name = format!("{prefix}:1");
            t.put(&name, "v").await;
            assert_eq!(clear(t, prefix).await, 1, "{prefix}");
            assert_gone(t, &[&name]).await;
        }
        assert_left(t, &innocent).await;
    }

    /// Characters that a server's pattern language knows have no special meaning in keys.
    async fn keys_with_pattern_characters_are_cleared(t: &Context) {
        let inside = [
            "p:*", "p:?", "p:[a]", "p:\\", "p:]", "p:a*b", "p:{x}", "p: ", "p:\"", "p:日本",
        ];
        put_all(t, &inside).await;
        put_all(t, &["q:*", "*", "?:*"]).await;
        assert_eq!(clear(t, "p").await, inside.len() as u64);
        assert_gone(t, &inside).await;
        assert_left(t, &["q:*", "*", "?:*"]).await;
    }

    /// A prefix in any script, with spaces, quotes and braces is taken literally.
    async fn odd_prefixes_are_taken_literally(t: &Context) {
        for prefix in [
            "ü", "e\u{301}", "日本", "🦀", "a b", " ", "{a}", "{", "\"", "'", "%3A", "a%",
        ] {
            let name = format!("{prefix}:1");
            t.put(&name, "v").await;
            t.put("\u{e9}:1", "composed").await;
            assert_eq!(clear(t, prefix).await, 1, "{prefix}");
            assert_gone(t, &[&name]).await;
            assert_left(t, &["\u{e9}:1"]).await;
        }
    }

    /// Clearing where nothing matches deletes nothing and is complete.
    async fn a_clear_of_nothing_is_complete(t: &Context) {
        assert_eq!(clear(t, "nothing").await, 0);
        assert_eq!(clear_everything(t).await, 0);
        put_all(t, &["a:1"]).await;
        assert_eq!(clear(t, "nothing").await, 0);
        assert_left(t, &["a:1"]).await;
    }

    /// A second clear finds nothing.
    async fn a_second_clear_finds_nothing(t: &Context) {
        put_all(t, &["a:1", "a:2"]).await;
        assert_eq!(clear(t, "a").await, 2);
        assert_eq!(clear(t, "a").await, 0);
    }

    /// Clearing everything deletes every entry.
    async fn everything_is_everything(t: &Context) {
        let names = ["a", "a:1", ":", " ", "*", "users", "{x}:1", "日本"];
        put_all(t, &names).await;
        assert_eq!(clear_everything(t).await, names.len() as u64);
        assert_gone(t, &names).await;
    }

    /// Thousands of entries are cleared, and those beside them stay.
    async fn thousands_of_entries_are_cleared(t: &Context) {
        let (inside, outside) = (numbered("in", 3_000), numbered("ind", 500));
        let entries = inside
            .iter()
            .chain(&outside)
            .map(|key| (key.clone(), fresh("v")));
        assert_done(&t.set_many(entries.collect()).await, 3_500);
        assert_eq!(clear(t, "in").await, 3_000);
        assert!(
            values(t.get_many(&inside).await)
                .iter()
                .all(Option::is_none)
        );
        assert!(
            values(t.get_many(&outside).await)
                .iter()
                .all(Option::is_some)
        );
        assert_eq!(clear_everything(t).await, 500);
    }

    /// Entries of every kind are cleared: for ever, with metadata, counters, empty ones.
    async fn every_kind_of_entry_is_cleared(t: &Context) {
        t.put_entry("k:ever", NewEntry::new("v", Ttl::FOREVER))
            .await;
        t.put_entry("k:raw", fresh("v").with_codec(CodecId::Raw))
            .await;
        t.put_entry("k:budget", stale_for(fresh("v"), LONG)).await;
        t.put("k:empty", "").await;
        t.increment(&key("k:counter"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(clear(t, "k").await, 5);
        assert_gone(t, &["k:ever", "k:raw", "k:budget", "k:empty", "k:counter"]).await;
    }

    /// Stale entries are cleared too, counted or not.
    async fn stale_entries_are_cleared(t: &Context) {
        t.put_stale("k:stale", "v").await;
        t.put("k:fresh", "v").await;
        let deleted = clear(t, "k").await;
        assert!((1..=2).contains(&deleted), "{deleted}");
        assert_gone(t, &["k:stale", "k:fresh"]).await;
        t.put_stale("other", "v").await;
        assert!(clear_everything(t).await <= 1);
        assert_gone(t, &["other"]).await;
    }

    /// A cleared key can be written again.
    async fn a_cleared_key_can_be_written_again(t: &Context) {
        put_all(t, &["k:1"]).await;
        clear(t, "k").await;
        put_all(t, &["k:1"]).await;
        assert_left(t, &["k:1"]).await;
        t.increment(&key("k:n"), 5, ttl(LONG))
            .await
            .expect("it counts");
        clear(t, "k").await;
        let counter = t
            .increment(&key("k:n"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(counter.value, 1);
    }

    /// A prefix as long as the longest key has nothing below it.
    async fn the_longest_prefix_clears_nothing(t: &Context) {
        let longest = "k".repeat(t.info().max_key_bytes);
        t.put(&longest, "v").await;
        assert_eq!(clear(t, &longest).await, 0);
        assert_left(t, &[&longest]).await;
        let stem = &longest[2..];
        let name = CacheKey::from(format!("{stem}:1"));
        t.put(name.as_str(), "v").await;
        assert_eq!(clear(t, stem).await, 1);
        assert_left(t, &[&longest]).await;
    }
}
