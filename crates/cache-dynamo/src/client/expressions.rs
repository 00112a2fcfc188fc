//! The conditions and updates that are sent, made once.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use cache_core::Timestamp;

use crate::item::{EXPIRES, Item, Layout, MARKER, STALE, VERSION, number};

/// An expression with the names of exactly the attributes that it uses: the server refuses a name
/// that is not used.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) names: HashMap<String, String>,
}

/// Every condition, each with the names for the update that goes with it.
#[derive(Debug)]
pub(super) struct Expressions {
    /// There is nothing, or something of ours.
    pub(super) ours_or_nothing: Expression,
    /// There is nothing.
    pub(super) nothing: Expression,
    /// There is nothing, or an entry that is past its time to live.
    pub(super) absent: Expression,
    /// There is a fresh entry.
    pub(super) fresh: Expression,
    /// There is a fresh entry with a value that has up to one, two or three forms.
    equal: [Expression; 3],
    /// There is a fresh entry without a stale budget.
    pub(super) without_budget: Expression,
    /// There is a fresh entry that expires at the given moment, or had expired then.
    pub(super) expired_at: Expression,
    /// The deadline of a fresh entry without a stale budget moves.
    pub(super) move_without_budget: Expression,
    /// The deadline of a fresh entry with the given stale budget moves.
    pub(super) move_with_budget: Expression,
    /// A fresh entry stays for ever.
    pub(super) stay: Expression,
    /// A fresh counter has room for what is added.
    pub(super) countable: Expression,
    /// The deadlines alone.
    pub(super) head: Expression,
    /// The key alone.
    pub(super) key: Expression,
}

/// The update that moves the deadline of an entry.
pub(super) const MOVE: &str = "SET #e = :e, #t = :t";

/// The update that takes every deadline away.
pub(super) const STAY: &str = "REMOVE #e, #t, #s";

/// The update that counts.
pub(super) const COUNT: &str = "ADD #v :delta";

const FRESH: &str = "#m <= :m AND (attribute_not_exists(#e) OR #e > :now)";

impl Expressions {
    pub(super) fn new(layout: &Layout) -> Self {
        let expression = |text: String, letters: &str| Expression {
            text,
            names: names(layout, letters),
        };
        let fresh_and = |more: &str, letters: &str| {
            expression(format!("{FRESH} AND {more}"), &format!("me{letters}"))
        };
        Self {
            ours_or_nothing: expression(
                "attribute_not_exists(#p) OR attribute_exists(#m)".to_owned(),
                "pm",
            ),
            nothing: expression("attribute_not_exists(#p)".to_owned(), "p"),
            absent: expression(
                "attribute_not_exists(#p) OR (#m <= :m AND #e <= :now)".to_owned(),
                "pme",
            ),
            fresh: expression(FRESH.to_owned(), "me"),
            equal: [
                fresh_and("#v = :v0", "v"),
                fresh_and("(#v = :v0 OR #v = :v1)", "v"),
                fresh_and("(#v = :v0 OR #v = :v1 OR #v = :v2)", "v"),
            ],
            without_budget: fresh_and("attribute_not_exists(#s)", "s"),
            expired_at: expression("#m <= :m AND #e = :e".to_owned(), "me"),
            move_without_budget: fresh_and("attribute_not_exists(#s)", "st"),
            move_with_budget: fresh_and("#s = :s", "st"),
            stay: expression(FRESH.to_owned(), "mest"),
            countable: fresh_and(
                "attribute_type(#v, :type) AND #v BETWEEN :least AND :most",
                "v",
            ),
            head: expression("#p, #m, #e".to_owned(), "pme"),
            key: expression("#p".to_owned(), "p"),
        }
    }

    /// There is a fresh entry whose value has one of `forms`, with the values of the condition.
    pub(super) fn equal(&self, forms: Vec<AttributeValue>) -> (&Expression, Item) {
        let expression = &self.equal[forms.len().clamp(1, 3) - 1];
        let names = [":v0", ":v1", ":v2"];
        let values = names.into_iter().zip(forms);
        let values = values.map(|(name, form)| (name.to_owned(), form));
        (expression, values.collect())
    }
}

/// The value that conditions compare the marker with.
pub(super) fn ours() -> Item {
    Item::from([(":m".to_owned(), number(VERSION))])
}

/// The values that conditions compare the marker and the expiry with.
pub(super) fn ours_at(now: Timestamp) -> Item {
    Item::from([
        (":m".to_owned(), number(VERSION)),
        (":now".to_owned(), number(now.as_millis())),
    ])
}

/// The attributes behind `letters`: `p` the partition key, `k` the attribute that holds the key, `c`
/// the one that is constant, `m` the marker, `e` the expiry, `s` the stale budget, `v` the value,
/// `t` the time for the collector.
pub(super) fn names(layout: &Layout, letters: &str) -> HashMap<String, String> {
    let name = |letter| {
        let attribute = match letter {
            'p' => layout.schema.partition_attribute(),
            'k' => layout.schema.key_attribute(),
            'c' => layout.schema.constant()?.0,
            'm' => MARKER,
            'e' => EXPIRES,
            's' => STALE,
            'v' => &layout.value,
            _ => &layout.ttl,
        };
        Some((format!("#{letter}"), attribute.to_owned()))
    };
    letters.chars().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DynamoDbOptions;

    #[test]
    fn every_name_is_used_and_every_use_is_named() {
        let layout = Layout::new(&DynamoDbOptions::new("cache"));
        let expressions = Expressions::new(&layout);
        let with = |expression: &Expression, update: &str| {
            let text = format!("{} {update}", expression.text);
            for (name, attribute) in &expression.names {
                assert!(text.contains(name.as_str()), "{text}: {name}");
                assert!(!attribute.is_empty());
            }
            for use_of in text.split('#').skip(1) {
                let name = format!("#{}", &use_of[..1]);
                assert!(expression.names.contains_key(&name), "{text}: {name}");
            }
        };
        let Expressions {
            ours_or_nothing,
            nothing,
            absent,
            fresh,
            equal,
            without_budget,
            expired_at,
            move_without_budget,
            move_with_budget,
            stay,
            countable,
            head,
            key,
        } = &expressions;
        let conditions = [
            ours_or_nothing,
            nothing,
            absent,
            fresh,
            without_budget,
            expired_at,
            head,
            key,
        ];
        for expression in conditions.into_iter().chain(equal) {
            with(expression, "");
        }
        with(move_without_budget, MOVE);
        with(move_with_budget, MOVE);
        with(stay, STAY);
        with(countable, COUNT);
    }
}
