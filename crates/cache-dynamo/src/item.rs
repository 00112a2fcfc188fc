//! What an entry looks like in a table: pure encoding and decoding.
//!
//! | attribute | type | content |
//! |---|---|---|
//! | key attributes | S | the key, its prefix included; the constant text in the other one |
//! | `value` | S, N, B | the value |
//! | `ttl` | N | when DynamoDB may collect the item, in seconds |
//! | `cache_v` | N | the version of this layout, which marks the item as the cache's |
//! | `cache_expires` | N | when the entry stops being fresh, in milliseconds; none for ever |
//! | `cache_stale` | N | how many milliseconds longer it may be served; none without a budget |
//! | `cache_created` | N | when the value was made, in milliseconds; none if not recorded |
//! | `cache_codec` | S | the codec that wrote the value; none if not recorded |

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use cache_core::{CodecId, Entry, Expiry, NewEntry, Timestamp, counter};

use crate::options::{DynamoDbOptions, KeySchema};

/// The attributes of an item, by name.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) const MARKER: &str = "cache_v";
pub(crate) const EXPIRES: &str = "cache_expires";
pub(crate) const STALE: &str = "cache_stale";
const CREATED: &str = "cache_created";
const CODEC: &str = "cache_codec";

/// The attributes that are the cache's own, whatever the others are called.
pub(crate) const OWN_ATTRIBUTES: [&str; 5] = [MARKER, EXPIRES, STALE, CREATED, CODEC];

/// The version of the layout that this library writes, and the newest it reads.
pub(crate) const VERSION: u64 = 1;

/// The largest item that DynamoDB takes, names of attributes included.
pub(crate) const ITEM_BYTES: usize = 400 * 1024;

/// The most room that a number takes.
const NUMBER_BYTES: usize = 21;

/// The most room that the name of a codec takes.
const CODEC_BYTES: usize = 8;

/// The names of the attributes of one table.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) schema: KeySchema,
    pub(crate) value: String,
    pub(crate) ttl: String,
}

/// The deadlines of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) expires_at: Expiry,
    /// The length of the stale budget, if there is one.
    pub(crate) stale_for: Option<Duration>,
}

/// Why an item could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It has no marker.
    #[error("the key holds an item that is not the cache's")]
    Foreign,
    /// A newer version of this library wrote it.
    #[error("the entry has layout version {0}, this build reads up to {VERSION}")]
    NewerVersion(u64),
    /// It has the marker, and attributes that make no sense.
    #[error("the entry has a missing or damaged attribute {0:?}")]
    Damaged(&'static str),
}

impl Layout {
    pub(crate) fn new(options: &DynamoDbOptions) -> Self {
        Self {
            schema: options.key_schema.clone(),
            value: options.value_attribute.clone(),
            ttl: options.ttl_attribute.clone(),
        }
    }

    /// The key attributes of the item under `key`.
    pub(crate) fn key(&self, key: &str) -> Item {
        let mut item = Item::with_capacity(2);
        self.insert_key(&mut item, key);
        item
    }

    /// The key of an item, as the cache knows it.
    pub(crate) fn key_of<'a>(&self, item: &'a Item) -> Option<&'a str> {
        let key = item.get(self.schema.key_attribute())?;
        key.as_s().ok().map(String::as_str)
    }

    /// The item of `entry` under `key` if written at `now`.
    pub(crate) fn encode(&self, key: &str, entry: &NewEntry, now: Timestamp) -> Item {
        let mut item = Item::with_capacity(9);
        self.insert_key(&mut item, key);
        item.insert(self.value.clone(), value_of(entry));
        item.insert(MARKER.to_owned(), number(VERSION));
        if let (Expiry::At(end), Expiry::At(stale_until)) = entry.deadlines(now) {
            item.insert(EXPIRES.to_owned(), number(end.as_millis()));
            item.insert(self.ttl.clone(), seconds(stale_until));
            if let Some(budget) = entry.stale_for {
                item.insert(STALE.to_owned(), number(millis(budget)));
            }
        }
        if let Some(created_at) = entry.created_at {
            item.insert(CREATED.to_owned(), number(created_at.as_millis()));
        }
        if let Some(codec) = entry.codec {
            item.insert(
                CODEC.to_owned(),
                AttributeValue::S(codec.as_str().to_owned()),
            );
        }
        item
    }

    /// The deadlines of an item.
    pub(crate) fn head(item: &Item) -> Result<Head, Unreadable> {
        Head::read(item.get(MARKER), item.get(EXPIRES), item.get(STALE))
    }

    /// The entry of an item, past its end or not.
    pub(crate) fn entry(&self, item: Item) -> Result<Entry, Unreadable> {
        self.parts(item).entry()
    }

    /// As [`entry`](Self::entry), with the key, as the cache knows it.
    pub(crate) fn entry_with_key(&self, item: Item) -> (Option<String>, Result<Entry, Unreadable>) {
        let mut parts = self.parts(item);
        let key = match parts.key.take() {
            Some(AttributeValue::S(key)) => Some(key),
            _ => None,
        };
        (key, parts.entry())
    }

    /// Whether the value of an item is exactly `bytes`.
    pub(crate) fn holds(&self, item: &Item, bytes: &[u8]) -> bool {
        match item.get(&self.value) {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.as_bytes() == bytes,
            Some(AttributeValue::B(blob)) => blob.as_ref() == bytes,
            _ => false,
        }
    }

    /// The counter in an item, if its value is one.
    pub(crate) fn counter(&self, item: &Item) -> Option<i64> {
        let text = item.get(&self.value)?.as_n().ok()?;
        counter::parse(text.as_bytes())
    }

    /// The longest value that fits an item, whatever its key of up to `key_bytes` and its metadata.
    pub(crate) fn room_for_value(&self, key_bytes: usize) -> usize {
        let constant = self.schema.constant();
        let numbers = [&*self.ttl, MARKER, EXPIRES, STALE, CREATED];
        let taken = self.schema.key_attribute().len()
            + key_bytes
            + constant.map_or(0, |(name, text)| name.len() + text.len())
            + self.value.len()
            + numbers
                .map(|name| name.len() + NUMBER_BYTES)
                .iter()
                .sum::<usize>()
            + CODEC.len()
            + CODEC_BYTES;
        ITEM_BYTES.saturating_sub(taken)
    }

    fn parts(&self, item: Item) -> Parts {
        let mut parts = Parts::default();
        for (name, attribute) in item {
            let part = match name.as_str() {
                MARKER => &mut parts.marker,
                EXPIRES => &mut parts.expires,
                STALE => &mut parts.stale,
                CODEC => &mut parts.codec,
                CREATED => &mut parts.created,
                name if name == self.schema.key_attribute() => &mut parts.key,
                name if name == self.value => &mut parts.value,
                _ => continue,
            };
            *part = Some(attribute);
        }
        parts
    }

    fn insert_key(&self, item: &mut Item, key: &str) {
        let attribute = self.schema.key_attribute();
        item.insert(attribute.to_owned(), AttributeValue::S(key.to_owned()));
        if let Some((attribute, text)) = self.schema.constant() {
            item.insert(attribute.to_owned(), AttributeValue::S(text.to_owned()));
        }
    }
}

/// The attributes that make an entry and its key, picked out in one pass: looking each of them up
/// is a good part of what a batch costs.
#[derive(Default)]
struct Parts {
    key: Option<AttributeValue>,
    marker: Option<AttributeValue>,
    expires: Option<AttributeValue>,
    stale: Option<AttributeValue>,
    value: Option<AttributeValue>,
    codec: Option<AttributeValue>,
    created: Option<AttributeValue>,
}

impl Parts {
    fn entry(self) -> Result<Entry, Unreadable> {
        let Self {
            key: _,
            marker,
            expires,
            stale,
            value,
            codec,
            created,
        } = self;
        let head = Head::read(marker.as_ref(), expires.as_ref(), stale.as_ref())?;
        let value = match value {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => Bytes::from(text),
            Some(AttributeValue::B(bytes)) => Bytes::from(bytes.into_inner()),
            _ => return Err(Unreadable::Damaged("value")),
        };
        let codec = match codec {
            None => None,
            Some(AttributeValue::S(name)) => Some(codec_called(&name)?),
            Some(_) => return Err(Unreadable::Damaged(CODEC)),
        };
        let created_at = optional_number(created.as_ref(), CREATED)?;
        let created_at = created_at.filter(|created| *created > 0);
        Ok(Entry::new(value, head.expires_at)
            .with_stale_until(head.stale_until())
            .with_created_at(created_at.map(Timestamp::from_millis))
            .with_codec(codec))
    }
}

impl Head {
    fn read(
        marker: Option<&AttributeValue>,
        expires: Option<&AttributeValue>,
        stale: Option<&AttributeValue>,
    ) -> Result<Self, Unreadable> {
        let version = optional_number(marker, MARKER)?.ok_or(Unreadable::Foreign)?;
        if version > VERSION {
            return Err(Unreadable::NewerVersion(version));
        }
        let expires = optional_number(expires, EXPIRES)?;
        Ok(Self {
            expires_at: expires
                .map_or(Expiry::Never, |end| Expiry::At(Timestamp::from_millis(end))),
            stale_for: optional_number(stale, STALE)?.map(Duration::from_millis),
        })
    }

    pub(crate) fn is_fresh(self, now: Timestamp) -> bool {
        !self.expires_at.is_past(now)
    }

    pub(crate) fn stale_until(self) -> Expiry {
        match (self.expires_at, self.stale_for) {
            (Expiry::At(end), Some(budget)) => Expiry::At(end.after(budget)),
            (expires_at, _) => expires_at,
        }
    }
}

/// A whole number.
pub(crate) fn number<N: ToString + Copy>(number: N) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A point in time for DynamoDB's collector, in seconds, rounded up.
pub(crate) fn seconds(end: Timestamp) -> AttributeValue {
    number(end.as_millis().div_ceil(1000))
}

/// A span in whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Every form in which a table may hold a value of these bytes: bytes, then text, then a number.
pub(crate) fn forms_of(bytes: &[u8]) -> Vec<AttributeValue> {
    let mut forms = vec![AttributeValue::B(Blob::new(bytes))];
    if let Ok(text) = std::str::from_utf8(bytes) {
        forms.push(AttributeValue::S(text.to_owned()));
    }
    if let Some(count) = counter::parse(bytes) {
        forms.push(number(count));
    }
    forms
}

/// A value in the form that its readers see: a counter can be counted, text can be read.
fn value_of(entry: &NewEntry) -> AttributeValue {
    let NewEntry {
        value,
        stale_for,
        created_at,
        codec,
        ..
    } = entry;
    let has_budget = stale_for.is_some() && entry.ttl.as_duration().is_some();
    let is_plain = !has_budget && created_at.is_none() && codec.is_none();
    if is_plain && let Some(count) = counter::parse(value) {
        return number(count);
    }
    let is_text = matches!(codec, None | Some(CodecId::Json));
    match std::str::from_utf8(value) {
        Ok(text) if is_text => AttributeValue::S(text.to_owned()),
        _ => AttributeValue::B(Blob::new(&value[..])),
    }
}

fn optional_number(
    attribute: Option<&AttributeValue>,
    name: &'static str,
) -> Result<Option<u64>, Unreadable> {
    let Some(attribute) = attribute else {
        return Ok(None);
    };
    let number = attribute.as_n().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or(Unreadable::Damaged(name))
}

fn codec_called(name: &str) -> Result<CodecId, Unreadable> {
    [
        CodecId::Json,
        CodecId::Postcard,
        CodecId::Bincode,
        CodecId::Raw,
        CodecId::Absent,
    ]
    .into_iter()
    .find(|codec| codec.as_str() == name)
    .ok_or(Unreadable::Damaged(CODEC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::{MAX_KEY_BYTES, Ttl, mins, secs};

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_001);

    fn layout() -> Layout {
        Layout::new(&DynamoDbOptions::new("cache"))
    }

    fn minute(value: &'static [u8]) -> NewEntry {
        NewEntry::new(value, Ttl::new(secs(60)).unwrap())
    }

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
        attributes
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    #[test]
    fn a_value_without_metadata_has_four_attributes_and_its_key() {
        let expected = item([
            ("PK", text("k")),
            ("value", text("{\"a\":1}")),
            ("ttl", number(1_767_225_661)),
            ("cache_v", number(1)),
            ("cache_expires", number(1_767_225_660_001_u64)),
        ]);
        assert_eq!(layout().encode("k", &minute(b"{\"a\":1}"), NOW), expected);
    }

    #[test]
    fn metadata_has_attributes_of_its_own() {
        let entry = minute(b"7")
            .with_stale_for(mins(5))
            .unwrap()
            .with_created_at(Timestamp::from_millis(7))
            .with_codec(CodecId::Json);
        let expected = item([
            ("PK", text("k")),
            ("value", text("7")),
            ("ttl", number(1_767_225_961)),
            ("cache_v", number(1)),
            ("cache_expires", number(1_767_225_660_001_u64)),
            ("cache_stale", number(300_000)),
            ("cache_created", number(7)),
            ("cache_codec", text("json")),
        ]);
        let encoded = layout().encode("k", &entry, NOW);
        assert_eq!(encoded, expected);
        let read = layout().entry(encoded).unwrap();
        assert_eq!(read.value, "7");
        assert_eq!(read.expires_at, Expiry::At(NOW.after(secs(60))));
        assert_eq!(read.stale_until, Expiry::At(NOW.after(secs(360))));
        assert_eq!(read.created_at, Some(Timestamp::from_millis(7)));
        assert_eq!(read.codec, Some(CodecId::Json));
    }

    #[test]
    fn an_entry_for_ever_has_no_deadlines() {
        let mut entry = NewEntry::new("v", Ttl::FOREVER);
        entry.stale_for = Some(secs(1));
        let expected = item([
            ("PK", text("k")),
            ("value", text("v")),
            ("cache_v", number(1)),
        ]);
        let encoded = layout().encode("k", &entry, NOW);
        assert_eq!(encoded, expected);
        let read = layout().entry(encoded).unwrap();
        assert_eq!(
            (read.expires_at, read.stale_until),
            (Expiry::Never, Expiry::Never)
        );
    }

    #[test]
    fn values_are_numbers_text_or_bytes() {
        let blob = |bytes: &[u8]| AttributeValue::B(Blob::new(bytes));
        for (entry, expected) in [
            (minute(b"-42"), number(-42)),
            (minute(b"042"), text("042")),
            (minute(b"42").with_codec(CodecId::Json), text("42")),
            (minute(b"42").with_codec(CodecId::Raw), blob(b"42")),
            (minute(b""), text("")),
            (minute(b"\xFF"), blob(b"\xFF")),
            (minute(b"9223372036854775808"), text("9223372036854775808")),
        ] {
            assert_eq!(value_of(&entry), expected, "{entry:?}");
            let item = layout().encode("k", &entry, NOW);
            assert!(layout().holds(&item, &entry.value));
            assert_eq!(layout().entry(item).unwrap().value, entry.value);
        }
    }

    #[test]
    fn the_key_stands_where_the_schema_says() {
        for (schema, expected) in [
            (KeySchema::partition("id"), item([("id", text("k"))])),
            (
                KeySchema::constant_sort("PK", "SK", "cache"),
                item([("PK", text("k")), ("SK", text("cache"))]),
            ),
            (
                KeySchema::constant_partition("PK", "cache", "SK"),
                item([("PK", text("cache")), ("SK", text("k"))]),
            ),
        ] {
            let layout = Layout { schema, ..layout() };
            let key = layout.key("k");
            assert_eq!(layout.key_of(&key), Some("k"));
            assert_eq!(key, expected);
        }
    }

    #[test]
    fn what_is_not_ours_or_newer_or_damaged_is_told_apart() {
        let sound = layout().encode("k", &minute(b"v"), NOW);
        let with = |name: &str, value: AttributeValue| {
            let mut item = sound.clone();
            item.insert(name.to_owned(), value);
            layout().entry(item).unwrap_err()
        };
        let foreign = item([("PK", text("k")), ("value", text("v"))]);
        assert_eq!(layout().entry(foreign).unwrap_err(), Unreadable::Foreign);
        assert_eq!(with(MARKER, number(2)), Unreadable::NewerVersion(2));
        assert_eq!(with(MARKER, text("1")), Unreadable::Damaged(MARKER));
        assert_eq!(with(EXPIRES, number(-1)), Unreadable::Damaged(EXPIRES));
        assert_eq!(with(EXPIRES, number("1.5")), Unreadable::Damaged(EXPIRES));
        assert_eq!(with(STALE, text("")), Unreadable::Damaged(STALE));
        assert_eq!(with(CREATED, text("")), Unreadable::Damaged(CREATED));
        assert_eq!(with(CODEC, text("xml")), Unreadable::Damaged(CODEC));
        let value = AttributeValue::Bool(true);
        assert_eq!(with("value", value), Unreadable::Damaged("value"));
    }

    #[test]
    fn the_largest_value_leaves_room_for_everything_else() {
        let layout = Layout {
            schema: KeySchema::constant_sort("PK", "SK", "cache"),
            ..layout()
        };
        let room = layout.room_for_value(MAX_KEY_BYTES);
        let entry = NewEntry::new(vec![b'v'; room], Ttl::new(Ttl::MAX / 2).unwrap())
            .with_stale_for(Ttl::MAX / 2)
            .unwrap()
            .with_created_at(Timestamp::from_millis(u64::MAX))
            .with_codec(CodecId::Postcard);
        let key = "k".repeat(MAX_KEY_BYTES);
        let now = Timestamp::from_millis(u64::MAX / 2);
        let bytes: usize = layout
            .encode(&key, &entry, now)
            .iter()
            .map(|(name, value)| {
                name.len()
                    + match value {
                        AttributeValue::S(text) => text.len(),
                        AttributeValue::N(digits) => digits.len() / 2 + 2,
                        AttributeValue::B(bytes) => bytes.as_ref().len(),
                        other => panic!("{other:?}"),
                    }
            })
            .sum();
        assert!((ITEM_BYTES - 100..=ITEM_BYTES).contains(&bytes), "{bytes}");
    }
}
