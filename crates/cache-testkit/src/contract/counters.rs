//! Counters.

use std::time::Duration;

use cache_core::{CodecId, Counter, ErrorKind, NewEntry, TimeLeft, Timestamp, Ttl};

use super::context::{Context, LONG, fresh, key, refusal, stale_for, ttl};
use super::theme;

async fn add(t: &Context, delta: i64) -> Counter {
    t.increment(&key("n"), delta, ttl(LONG))
        .await
        .expect("it counts")
}

/// Asserts that the entry under `n` cannot be counted and is left alone.
async fn assert_not_a_counter(t: &Context, entry: NewEntry) {
    t.put_entry("n", entry).await;
    let before = t.entry("n").await;
    for delta in [1, 0, -1] {
        let error = refusal(t.increment(&key("n"), delta, ttl(60 * LONG)).await);
        assert_eq!(error.kind(), ErrorKind::NotACounter, "{before:?}");
        assert!(!error.may_have_happened(), "{before:?}");
    }
    let after = t.entry("n").await;
    assert_eq!(after.value, before.value);
    assert_eq!(
        (after.codec, after.created_at),
        (before.codec, before.created_at)
    );
    t.assert_left(t.time_left("n").await, LONG);
}

theme! {
    "counters"

    /// A counter starts at zero with its time to live, in the same step.
    async fn a_counter_starts_with_its_time_to_live(t: &Context) {
        let counter = add(t, 5).await;
        assert_eq!(counter.value, 5);
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), LONG);
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// An increment returns the sum.
    async fn an_increment_returns_the_sum(t: &Context) {
        let mut sum = 0;
        for delta in [1, 1, 40, -2, 0, -100, 7_000_000_000] {
            sum += delta;
            assert_eq!(add(t, delta).await.value, sum);
        }
    }

    /// An existing counter keeps its expiry, and the answer tells what is left of it.
    async fn a_counter_keeps_its_expiry(t: &Context) {
        add(t, 1).await;
        let counter = t
            .increment(&key("n"), 1, ttl(60 * LONG))
            .await
            .expect("it counts");
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), LONG);
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// An existing counter that never expires stays so.
    async fn a_counter_for_ever_stays_for_ever(t: &Context) {
        for _ in 0..2 {
            let counter = t
                .increment(&key("n"), 1, Ttl::FOREVER)
                .await
                .expect("it counts");
            assert_eq!(counter.expires_in, None);
        }
        assert_eq!(add(t, 1).await, Counter::new(3, None));
        assert_eq!(t.time_left("n").await, TimeLeft::Forever);
    }

    /// An existing counter with an expiry is not made to last by an increment for ever.
    async fn a_counter_with_an_expiry_is_not_made_to_last(t: &Context) {
        add(t, 1).await;
        let counter = t
            .increment(&key("n"), 1, Ttl::FOREVER)
            .await
            .expect("it counts");
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), LONG);
    }

    /// An expired counter starts anew.
    async fn an_expired_counter_starts_anew(t: &Context) {
        t.increment(&key("n"), 41, t.ttl(1))
            .await
            .expect("it counts");
        t.elapse(2).await;
        assert!(t.is_absent("n").await);
        let counter = add(t, 1).await;
        assert_eq!(counter.value, 1);
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), LONG);
    }

    /// A deleted counter starts anew.
    async fn a_deleted_counter_starts_anew(t: &Context) {
        add(t, 41).await;
        assert!(t.delete(&key("n")).await.expect("the storage deletes"));
        assert_eq!(add(t, 1).await.value, 1);
    }

    /// A counter starts where an entry is stale, and the stale entry is replaced.
    async fn a_counter_starts_over_a_stale_entry(t: &Context) {
        t.put_stale("n", "41").await;
        let counter = add(t, 2).await;
        assert_eq!(counter.value, 2);
        t.assert_about(counter.expires_in.unwrap_or(Duration::ZERO), LONG);
        let entry = t.entry("n").await;
        assert_eq!(
            (entry.value, entry.stale_until),
            ("2".into(), entry.expires_at)
        );
    }

    /// A counter starts where an entry that is no counter has expired.
    async fn a_counter_starts_over_an_expired_entry(t: &Context) {
        t.put_expired("n", "text").await;
        assert_eq!(add(t, 3).await.value, 3);
        t.put_stale("n", "text").await;
        assert_eq!(add(t, 4).await.value, 4);
    }

    /// A delta of zero creates a counter at zero.
    async fn a_delta_of_zero_creates_a_counter(t: &Context) {
        assert_eq!(add(t, 0).await.value, 0);
        assert_eq!(t.value("n").await.expect("it was created"), "0");
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// A delta may be negative, from the start and below zero.
    async fn a_delta_may_be_negative(t: &Context) {
        assert_eq!(add(t, -3).await.value, -3);
        assert_eq!(add(t, 5).await.value, 2);
        assert_eq!(add(t, -4).await.value, -2);
        assert_eq!(t.value("n").await.expect("it was written"), "-2");
    }

    /// A counter is its decimal text: reads read it, without metadata.
    async fn reads_read_a_counter_as_text(t: &Context) {
        add(t, 1_234_567_890_123).await;
        let entry = t.entry("n").await;
        assert_eq!(entry.value, "1234567890123");
        assert_eq!((entry.codec, entry.created_at), (None, None));
        assert_eq!(entry.stale_until, entry.expires_at);
        t.assert_ends_in(entry.expires_at, LONG);
        assert!(t.is_fresh("n").await);
    }

    /// Setting the decimal text of an integer, without metadata, makes a counter.
    async fn setting_decimal_text_makes_a_counter(t: &Context) {
        for (text, next) in [("0", 1), ("41", 42), ("-1", 0), ("-12", -11)] {
            t.put("n", text).await;
            assert_eq!(add(t, 1).await.value, next, "{text}");
        }
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// Setting decimal text in a batch or under a condition makes a counter, too.
    async fn setting_decimal_text_anyhow_makes_a_counter(t: &Context) {
        t.set_many(vec![(key("n"), fresh("7"))])
            .await
            .remove(0)
            .expect("the storage writes");
        assert_eq!(add(t, 1).await.value, 8);
        let condition = cache_core::Condition::IfEquals("8".into());
        assert!(
            t.set(&key("n"), fresh("9"), condition)
                .await
                .expect("the storage writes")
        );
        assert_eq!(add(t, 1).await.value, 10);
    }

    /// The whole range of 64-bit integers is counted.
    async fn the_whole_range_is_counted(t: &Context) {
        assert_eq!(add(t, i64::MAX).await.value, i64::MAX);
        assert_eq!(add(t, i64::MIN).await.value, -1);
        assert_eq!(add(t, -i64::MAX).await.value, i64::MIN);
        assert_eq!(
            t.value("n").await.expect("it was written"),
            i64::MIN.to_string()
        );
        assert_eq!(add(t, i64::MAX).await.value, -1);
        t.delete(&key("n")).await.expect("the storage deletes");
        assert_eq!(add(t, i64::MIN).await.value, i64::MIN);
    }

    /// Numbers at both ends are exact, not rounded like floating point.
    async fn large_numbers_are_exact(t: &Context) {
        for start in [
            i64::MAX - 1,
            i64::MIN,
            9_007_199_254_740_993,
            -9_007_199_254_740_995,
        ] {
            t.put("n", start.to_string()).await;
            assert_eq!(add(t, 0).await.value, start);
            assert_eq!(add(t, 1).await.value, start + 1);
            assert_eq!(
                t.value("n").await.expect("it was written"),
                (start + 1).to_string()
            );
        }
    }

    /// A sum above the range is refused, and nothing changes.
    async fn a_sum_above_the_range_is_refused(t: &Context) {
        t.put("n", i64::MAX.to_string()).await;
        for delta in [1, 2, i64::MAX] {
            let error = refusal(t.increment(&key("n"), delta, ttl(60 * LONG)).await);
            assert_eq!(error.kind(), ErrorKind::Overflow);
            assert!(!error.may_have_happened());
        }
        assert_eq!(
            t.value("n").await.expect("nothing changed"),
            i64::MAX.to_string()
        );
        t.assert_left(t.time_left("n").await, LONG);
    }

    /// A sum below the range is refused, and nothing changes.
    async fn a_sum_below_the_range_is_refused(t: &Context) {
        t.put("n", i64::MIN.to_string()).await;
        for delta in [-1, -2, i64::MIN] {
            let error = refusal(t.increment(&key("n"), delta, ttl(60 * LONG)).await);
            assert_eq!(error.kind(), ErrorKind::Overflow);
        }
        assert_eq!(add(t, 1).await.value, i64::MIN + 1);
    }

    /// Text that is no number is refused and left alone.
    async fn other_text_is_refused(t: &Context) {
        for text in [
            "", "-", "a", "1a", "a1", "1.0", "1e3", "0x10", "NaN", "1_000", "\"7\"", "[7]", "٣",
        ] {
            assert_not_a_counter(t, fresh(text)).await;
        }
    }

    /// Numbers with leading zeros, signs or spaces are refused and left alone.
    async fn other_spellings_are_refused(t: &Context) {
        for text in [
            "+7", "07", "00", "-0", "-07", "--7", " 7", "7 ", "7\n", "7\0", "\t7",
        ] {
            assert_not_a_counter(t, fresh(text)).await;
        }
    }

    /// Numbers beyond 64 bits are refused and left alone.
    async fn numbers_beyond_64_bits_are_refused(t: &Context) {
        let beyond = [
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
        ];
        for text in beyond {
            assert_not_a_counter(t, fresh(text)).await;
        }
        assert_not_a_counter(t, fresh("1".repeat(400))).await;
    }

    /// Bytes that are no text are refused and left alone.
    async fn other_bytes_are_refused(t: &Context) {
        let odd: [&'static [u8]; 4] = [b"\0", b"\xff", b"\xff\xca\x01", b"7\xff"];
        for value in odd {
            assert_not_a_counter(t, fresh(value)).await;
        }
    }

    /// An entry with a stale budget is refused and left alone.
    async fn an_entry_with_a_stale_budget_is_refused(t: &Context) {
        assert_not_a_counter(t, stale_for(fresh("7"), LONG)).await;
        t.assert_ends_in(t.entry("n").await.stale_until, 2 * LONG);
    }

    /// An entry written with a stale budget is refused after it lost the budget, too.
    async fn an_entry_that_lost_its_stale_budget_is_refused(t: &Context) {
        t.put_entry("n", stale_for(fresh("7"), LONG)).await;
        assert!(
            t.expire(&key("n"), Ttl::FOREVER)
                .await
                .expect("the storage expires")
        );
        let error = refusal(t.increment(&key("n"), 1, ttl(LONG)).await);
        assert_eq!(error.kind(), ErrorKind::NotACounter);
        assert_eq!(t.value("n").await.expect("nothing changed"), "7");
    }

    /// An entry with a recorded codec is refused and left alone.
    async fn an_entry_with_a_codec_is_refused(t: &Context) {
        for codec in [
            CodecId::Json,
            CodecId::Postcard,
            CodecId::Bincode,
            CodecId::Raw,
        ] {
            assert_not_a_counter(t, fresh("7").with_codec(codec)).await;
        }
    }

    /// An entry with a creation time is refused and left alone.
    async fn an_entry_with_a_creation_time_is_refused(t: &Context) {
        let entry = fresh("7").with_created_at(Timestamp::from_millis(1_700_000_000_000));
        assert_not_a_counter(t, entry).await;
    }

    /// Counters are independent of each other.
    async fn counters_are_independent(t: &Context) {
        for name in ["a", "b", "a:b"] {
            t.increment(&key(name), 10, ttl(LONG))
                .await
                .expect("it counts");
        }
        let counter = t
            .increment(&key("a"), 1, ttl(LONG))
            .await
            .expect("it counts");
        assert_eq!(counter.value, 11);
        assert_eq!(t.value("b").await.expect("it was written"), "10");
        assert_eq!(t.value("a:b").await.expect("it was written"), "10");
    }
}
