//! Keys: one set of rules for every backend.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::error::{KeyError, KeyRule, shown};

/// The longest key, its prefix included, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// The name of an entry: cheap to clone, checked once when it is made. Up to 23 bytes it needs no
/// memory of its own.
///
/// Anything that converts into a `CacheKey` can be passed as a key:
///
/// * a string or an integer is taken as it is written;
/// * a tuple of up to four parts is joined with `:`, after `%` and `:` inside its parts have been
///   escaped as `%25` and `%3A`. So `("a:b", "c")` and `("a", "b:c")` are two keys.
///
/// A key has 1 to 1,024 bytes of UTF-8, prefix included, and no control characters. Conversion
/// never fails; a key that breaks a rule remembers which one, and every operation refuses it with
/// an error of kind [`Key`](crate::ErrorKind::Key) before any I/O. Unicode is not normalised: two
/// spellings of one character are two keys.
///
/// ```
/// use cache_core::CacheKey;
///
/// assert_eq!(CacheKey::from("user:42").as_str(), "user:42");
/// assert_eq!(CacheKey::from(("a:b", 7)).as_str(), "a%3Ab:7");
/// assert!(CacheKey::from("").check().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheKey {
    text: SmolStr,
    broken: Option<Broken>,
}

/// The text alone: what rule it breaks follows from it.
impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.as_str().hash(state);
    }
}

/// `KeyRule` in a form that compares with the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Broken {
    Empty,
    TooLong,
    ControlCharacter,
}

impl CacheKey {
    /// The key as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key as shared text, for storages that keep it.
    #[must_use]
    pub fn to_shared(&self) -> Arc<str> {
        Arc::from(self.as_str())
    }

    /// Whether the key keeps the rules.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), KeyError> {
        let rule = match self.broken {
            None => return Ok(()),
            Some(Broken::Empty) => KeyRule::Empty,
            Some(Broken::TooLong) => KeyRule::TooLong,
            Some(Broken::ControlCharacter) => KeyRule::ControlCharacter,
        };
        Err(KeyError {
            key: shown(&self.text),
            rule,
        })
    }

    /// The key below `prefix`: `prefix`, a colon, this key.
    ///
    /// A key that was empty by itself stays refused.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        if self.text.is_empty() {
            return self.clone();
        }
        let (first, last) = (prefix.as_bytes(), self.text.as_bytes());
        let length = first.len() + 1 + last.len();
        // Joined on the stack, a key is copied once, to where it stays.
        let mut joined = [0; 256];
        if length <= joined.len() {
            joined[..first.len()].copy_from_slice(first);
            joined[first.len()] = b':';
            joined[first.len() + 1..length].copy_from_slice(last);
            if let Ok(text) = std::str::from_utf8(&joined[..length]) {
                return Self::new(text.into());
            }
        }
        Self::new(format!("{prefix}:{}", self.text).into())
    }

    fn new(text: SmolStr) -> Self {
        let broken = if text.is_empty() {
            Some(Broken::Empty)
        } else if text.len() > MAX_KEY_BYTES {
            Some(Broken::TooLong)
        } else if has_control_character(&text) {
            Some(Broken::ControlCharacter)
        } else {
            None
        };
        Self { text, broken }
    }
}

/// Control characters are C0, DEL and C1 (U+0000-U+001F, U+007F-U+009F).
fn has_control_character(text: &str) -> bool {
    // Nearly every key is plain. To the end, since a loop that could stop looks at one byte at a
    // time.
    let is_plain = text
        .bytes()
        .fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(char::is_control)
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Self> for CacheKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

macro_rules! from_text {
    ($($text:ty),*) => {$(
        impl From<$text> for CacheKey {
            fn from(text: $text) -> Self {
                Self::new(text.into())
            }
        }
    )*};
}

from_text!(&str, String, Arc<str>, Box<str>, Cow<'_, str>);

impl From<&String> for CacheKey {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

macro_rules! from_number {
    ($($number:ty),*) => {$(
        impl From<$number> for CacheKey {
            fn from(number: $number) -> Self {
                Self::new(smol_str::format_smolstr!("{number}"))
            }
        }

        impl From<&$number> for CacheKey {
            fn from(number: &$number) -> Self {
                Self::from(*number)
            }
        }
    )*};
}

from_number!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! from_tuple {
    ($($part:ident),+) => {
        impl<$($part: fmt::Display),+> From<($($part,)+)> for CacheKey {
            fn from(parts: ($($part,)+)) -> Self {
                #[expect(non_snake_case, reason = "a part is named after its type")]
                let ($($part,)+) = parts;
                let mut key = Joined(String::new());
                $(key.part(&$part);)+
                Self::new(key.finish())
            }
        }
    };
}

from_tuple!(A, B);
from_tuple!(A, B, C);
from_tuple!(A, B, C, D);

/// Parts of a tuple, escaped and joined.
struct Joined(String);

impl Joined {
    fn part(&mut self, part: &dyn fmt::Display) {
        // Writing to a `String` fails only when `part` itself reports an error; the text written
        // so far then is the key, as it would be with `to_string` in a hash map.
        let _ = write!(Escaped(&mut self.0), "{part}");
        self.0.push(':');
    }

    fn finish(mut self) -> SmolStr {
        self.0.pop();
        // All parts empty: the separators alone name nothing.
        if self.0.bytes().all(|byte| byte == b':') {
            self.0.clear();
        }
        self.0.into()
    }
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '%' => self.0.push_str("%25"),
                ':' => self.0.push_str("%3A"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// A prefix as the service and the prefix decorator take it: one trailing colon is dropped, the
/// rest must be a key by itself.
pub(crate) fn checked_prefix(prefix: &str) -> Result<Arc<str>, KeyError> {
    let key = CacheKey::from(prefix.strip_suffix(':').unwrap_or(prefix));
    key.check()?;
    Ok(key.to_shared())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_breaks_a_rule() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let cases = [
            ("", KeyRule::Empty),
            (long.as_str(), KeyRule::TooLong),
            ("a\nb", KeyRule::ControlCharacter),
            ("a\0b", KeyRule::ControlCharacter),
            ("a\u{7f}b", KeyRule::ControlCharacter),
            ("ü\u{85}", KeyRule::ControlCharacter),
        ];
        for (text, rule) in cases {
            assert_eq!(CacheKey::from(text).check().unwrap_err().rule, rule);
        }
    }

    #[test]
    fn takes_what_keeps_the_rules() {
        let long = "k".repeat(MAX_KEY_BYTES);
        for text in ["a", " ", ":", "{tag}:*?[]\\\"'", "e\u{301}", long.as_str()] {
            CacheKey::from(text).check().unwrap();
        }
    }

    #[test]
    fn counts_the_prefix() {
        let key = CacheKey::from("k".repeat(MAX_KEY_BYTES - 2));
        key.below("p").check().unwrap();
        assert_eq!(key.below("pp").check().unwrap_err().rule, KeyRule::TooLong);
        assert_eq!(
            CacheKey::from("").below("p").check().unwrap_err().rule,
            KeyRule::Empty
        );
    }

    #[test]
    fn tuples_of_nothing_are_empty() {
        assert!(CacheKey::from(("", "")).check().is_err());
        assert_eq!(CacheKey::from(("", "a")).as_str(), ":a");
    }

    proptest! {
        #[test]
        fn different_tuples_are_different_keys(
            tuples in prop::collection::hash_set((".{0,6}", "[%:a2-5A]{0,6}"), 2..8)
        ) {
            let distinct: HashSet<_> = tuples
                .iter()
                .filter(|(left, right)| !left.is_empty() || !right.is_empty())
                .collect();
            let keys: HashSet<_> = distinct
                .iter()
                .map(|(left, right)| CacheKey::from((left, right)).to_shared())
                .collect();
            prop_assert_eq!(keys.len(), distinct.len());
        }

        #[test]
        fn one_trailing_colon_of_a_prefix_is_dropped(prefix in "[a-z]{1,5}:{0,2}") {
            let expected = prefix.strip_suffix(':').unwrap_or(&prefix);
            prop_assert_eq!(&*checked_prefix(&prefix).unwrap(), expected);
        }
    }
}
