//! Conditions and updates, as far as the cache uses them.

use serde_json::{Value, json};

/// What the names of an expression stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    names: &'a Value,
    values: &'a Value,
    item: &'a Value,
}

impl<'a> Scope<'a> {
    /// The names and values of a request, and the item that it meets, which may be none.
    pub(super) fn new(body: &'a Value, item: &'a Value) -> Self {
        Self {
            names: &body["ExpressionAttributeNames"],
            values: &body["ExpressionAttributeValues"],
            item,
        }
    }

    fn attribute(self, token: &str) -> &'a str {
        self.names[token].as_str().unwrap_or_default()
    }

    /// The attribute or the value behind a token, if there is one.
    fn value(self, token: &str) -> Option<&'a Value> {
        match token.starts_with('#') {
            true => self.item.get(self.attribute(token)),
            false => self.values.get(token),
        }
    }

    fn number(self, token: &str) -> Option<i128> {
        self.value(token)?["N"].as_str()?.parse().ok()
    }

    /// Whether two numbers are there and `are` so.
    fn compare(self, left: &str, right: &str, are: impl Fn(&i128, &i128) -> bool) -> bool {
        let numbers = self.number(left).zip(self.number(right));
        numbers.is_some_and(|(left, right)| are(&left, &right))
    }
}

/// Whether a condition holds; none always does.
pub(super) fn holds(condition: &str, scope: Scope<'_>) -> bool {
    let tokens = tokens(condition);
    let mut parser = Parser {
        tokens: &tokens,
        scope,
    };
    tokens.is_empty() || parser.any()
}

/// The item after an update.
pub(super) fn updated(update: &str, scope: Scope<'_>) -> Value {
    let mut item = scope.item.clone();
    let tokens = tokens(update);
    match tokens.as_slice() {
        ["ADD", attribute, delta] => {
            let old = scope.number(attribute).unwrap_or_default();
            let sum = old + scope.number(delta).unwrap_or_default();
            item[scope.attribute(attribute)] = json!({ "N": sum.to_string() });
        }
        ["SET", assignments @ ..] => {
            for assignment in assignments.split(|token| *token == ",") {
                if let [attribute, "=", value] = assignment {
                    item[scope.attribute(attribute)] = json!(scope.value(value));
                }
            }
        }
        ["REMOVE", attributes @ ..] => {
            if let Some(item) = item.as_object_mut() {
                item.retain(|name, _| {
                    attributes
                        .iter()
                        .all(|token| scope.attribute(token) != name)
                });
            }
        }
        _ => unreachable!("{update} is not known to the model"),
    }
    item
}

fn tokens(text: &str) -> Vec<&str> {
    let spaced = text.split_inclusive([' ', '(', ')', ',']);
    let apart = spaced.flat_map(|piece| match piece.char_indices().next_back() {
        Some((end, '(' | ')' | ',')) => [&piece[..end], &piece[end..]],
        _ => [piece, ""],
    });
    apart
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect()
}

/// Evaluates as it reads: conditions have no effect, so nothing need be skipped.
struct Parser<'a> {
    tokens: &'a [&'a str],
    scope: Scope<'a>,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> bool {
        let mut holds = self.all();
        while self.take("OR") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.one();
        while self.take("AND") {
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        let scope = self.scope;
        match self.next() {
            "(" => {
                let holds = self.any();
                self.next();
                holds
            }
            "attribute_exists" => scope.value(self.argument()).is_some(),
            "attribute_not_exists" => scope.value(self.argument()).is_none(),
            "attribute_type" => {
                let (attribute, wanted) = (self.argument(), self.argument());
                let wanted = scope.value(wanted).and_then(|wanted| wanted["S"].as_str());
                let value = scope.value(attribute);
                value
                    .zip(wanted)
                    .is_some_and(|(value, wanted)| value.get(wanted).is_some())
            }
            left => self.comparison(left),
        }
    }

    fn comparison(&mut self, left: &str) -> bool {
        let scope = self.scope;
        let (operator, right) = (self.next(), self.next());
        match operator {
            "=" => scope.value(left).is_some() && scope.value(left) == scope.value(right),
            "<=" => scope.compare(left, right, i128::le),
            ">" => scope.compare(left, right, i128::gt),
            "BETWEEN" => {
                let (_, most) = (self.next(), self.next());
                scope.compare(left, right, i128::ge) && scope.compare(left, most, i128::le)
            }
            _ => unreachable!("{operator} is not known to the model"),
        }
    }

    /// The next argument of a function, past the character before it; the one after the last too.
    fn argument(&mut self) -> &'a str {
        self.next();
        let argument = self.next();
        if self.tokens.first() == Some(&")") {
            self.next();
        }
        argument
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.first() == Some(&token);
        if is_next {
            self.next();
        }
        is_next
    }

    fn next(&mut self) -> &'a str {
        let Some((first, rest)) = self.tokens.split_first() else {
            return "";
        };
        self.tokens = rest;
        first
    }
}

#[test]
fn conditions_are_read_as_the_server_reads_them() {
    let body = json!({
        "ExpressionAttributeNames": { "#p": "PK", "#m": "cache_v", "#e": "cache_expires", "#v": "value" },
        "ExpressionAttributeValues": {
            ":m": { "N": "1" }, ":now": { "N": "100" }, ":least": { "N": "-5" },
            ":most": { "N": "5" }, ":type": { "S": "N" }, ":delta": { "N": "2" },
        },
    });
    let item = |expires: &str, value: &str| {
        json!({
            "PK": { "S": "k" }, "cache_v": { "N": "1" },
            "cache_expires": { "N": expires }, "value": { "N": value },
        })
    };
    let fresh = "#m <= :m AND (attribute_not_exists(#e) OR #e > :now)";
    let absent = "attribute_not_exists(#p) OR (#m <= :m AND #e <= :now)";
    let countable =
        "#m <= :m AND attribute_type(#v, :type) AND #v BETWEEN :least AND :most AND #m = :m";
    for (item, is_fresh, is_absent, is_countable) in [
        (Value::Null, false, true, false),
        (item("101", "5"), true, false, true),
        (item("100", "6"), false, true, false),
        (json!({ "PK": { "S": "k" } }), false, false, false),
    ] {
        let scope = Scope::new(&body, &item);
        assert_eq!(holds(fresh, scope), is_fresh, "{item}");
        assert_eq!(holds(absent, scope), is_absent, "{item}");
        assert_eq!(holds(countable, scope), is_countable, "{item}");
    }
    let counted = updated("ADD #v :delta", Scope::new(&body, &item("0", "40")));
    assert_eq!(counted, item("0", "42"));
    let moved = updated("SET #e = :now, #v = :most", Scope::new(&body, &counted));
    assert_eq!(moved, item("100", "5"));
    let stayed = updated("REMOVE #e, #v", Scope::new(&body, &moved));
    assert_eq!(
        stayed,
        json!({ "PK": { "S": "k" }, "cache_v": { "N": "1" } })
    );
}
