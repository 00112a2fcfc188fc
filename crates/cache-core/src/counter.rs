//! Counters as text: the form that every backend shares.

/// The number that `text` is the decimal form of; none for anything else.
///
/// Exactly the form that Redis accepts for `INCRBY`: no sign but one minus, no leading zeros, no
/// spaces, within 64 bits.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_canonical_decimal_text_only() {
        for text in [
            "0",
            "7",
            "-7",
            "9223372036854775807",
            "-9223372036854775808",
        ] {
            assert_eq!(parse(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "+7",
            "07",
            " 7",
            "7 ",
            "7.0",
            "1e3",
            "٣",
            "9223372036854775808",
            "-9223372036854775809",
            "\"7\"",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(number: i64) {
            prop_assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }
}
