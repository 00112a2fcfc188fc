//! Slots: which one a key has, and what servers say about who serves them.

use redis::{ServerError, Value};

use crate::address::{Address, is_host};

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of `key`: the CRC16 (XMODEM) of what stands between its first `{` and the next `}`, or
/// of all of it where there is nothing, as the Redis Cluster specification has it.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hashed(key)) % SLOTS
}

fn hashed(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let tail = &key[open + 1..];
    match tail.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(end) => &tail[..end],
    }
}

/// Who serves which slots, as one server sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// First slot, last slot, and their primary.
    pub(super) ranges: Vec<(u16, u16, Address)>,
    pub(super) replicas: Vec<Address>,
}

impl Layout {
    /// Reads the reply of `asked` to CLUSTER SLOTS; none where it is something else. Ranges whose
    /// primary is not known are left out.
    pub(super) fn parse(reply: Value, asked: &Address) -> Option<Self> {
        let Value::Array(items) = reply else {
            return None;
        };
        let mut layout = Self::default();
        for item in items {
            let Value::Array(fields) = item else {
                return None;
            };
            let mut fields = fields.into_iter();
            let (first, last) = (slot(&fields.next()?)?, slot(&fields.next()?)?);
            let mut nodes = fields.map(|node| node_address(node, asked));
            if let Some(Some(primary)) = nodes.next() {
                layout.ranges.push((first, last, primary));
            }
            layout.replicas.extend(nodes.flatten());
        }
        layout.replicas.sort();
        layout.replicas.dedup();
        Some(layout)
    }
}

fn slot(field: &Value) -> Option<u16> {
    let Value::Int(number) = field else {
        return None;
    };
    u16::try_from(*number).ok().filter(|slot| *slot < SLOTS)
}

/// The address in a node's description. A server that does not know its own name leaves it empty:
/// then it is the name by which it was asked.
fn node_address(node: Value, asked: &Address) -> Option<Address> {
    let Value::Array(fields) = node else {
        return None;
    };
    let mut fields = fields.into_iter();
    let host = match fields.next()? {
        Value::Nil => asked.host.clone(),
        Value::BulkString(host) => named(String::from_utf8(host).ok()?, asked)?,
        _ => return None,
    };
    let Value::Int(port) = fields.next()? else {
        return None;
    };
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some(Address::new(host, port))
}

fn named(host: String, asked: &Address) -> Option<String> {
    if host.is_empty() {
        return Some(asked.host.clone());
    }
    is_host(&host).then_some(host)
}

/// A server's answer that the key is elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// For good: the slot has another server now.
    Moved(u16, Address),
    /// This once: the slot is on its way there.
    Ask(Address),
}

impl Redirect {
    /// The redirect in a reply of `asked`, or the first among the replies of a pipeline.
    pub(super) fn in_reply(reply: &Value, asked: &Address) -> Option<Self> {
        match reply {
            Value::ServerError(error) => Self::parse(error, asked),
            Value::Array(replies) => Self::in_replies(replies, asked),
            _ => None,
        }
    }

    /// The first redirect among replies.
    pub(super) fn in_replies(replies: &[Value], asked: &Address) -> Option<Self> {
        replies.iter().find_map(|reply| match reply {
            Value::ServerError(error) => Self::parse(error, asked),
            _ => None,
        })
    }

    /// Reads `MOVED 3999 10.0.0.7:6381` and `ASK 3999 10.0.0.7:6381`.
    fn parse(error: &ServerError, asked: &Address) -> Option<Self> {
        let is_for_good = match error.code() {
            "MOVED" => true,
            "ASK" => false,
            _ => return None,
        };
        let (slot, place) = error.details()?.split_once(' ')?;
        let slot: u16 = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
        // IPv6 addresses come without brackets.
        let (host, port) = place.rsplit_once(':')?;
        let host = named(host.to_owned(), asked)?;
        let address = Address::new(host, port.parse().ok().filter(|port| *port > 0)?);
        Some(if is_for_good {
            Self::Moved(slot, address)
        } else {
            Self::Ask(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Address {
        Address::new("seed", 7000)
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), text("id")])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn keys_have_the_slots_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b""), 0);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        for whole in [&b"foo{}{bar}"[..], b"foo{bar", b"foo}bar{"] {
            let hash = crc16::State::<crc16::XMODEM>::calculate(whole) % SLOTS;
            assert_eq!(slot_of(whole), hash);
        }
    }

    #[test]
    fn a_layout_names_primaries_and_replicas() {
        let reply = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(8191),
                node(text("a"), 1),
                node(text("b"), 2),
            ]),
            Value::Array(vec![
                Value::Int(8192),
                Value::Int(9000),
                node(Value::Nil, 3),
            ]),
            Value::Array(vec![Value::Int(9001), Value::Int(9001), node(text(""), 4)]),
            Value::Array(vec![
                Value::Int(9002),
                Value::Int(16383),
                node(text("?"), 5),
            ]),
        ]);
        let layout = Layout::parse(reply, &asked()).unwrap();
        assert_eq!(
            layout.ranges,
            [
                (0, 8191, Address::new("a", 1)),
                (8192, 9000, Address::new("seed", 3)),
                (9001, 9001, Address::new("seed", 4)),
            ]
        );
        assert_eq!(layout.replicas, [Address::new("b", 2)]);
    }

    #[test]
    fn what_is_no_layout_is_none() {
        let range = |first, last| Value::Array(vec![Value::Int(first), Value::Int(last)]);
        for reply in [
            Value::Nil,
            error("ERR no"),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384)]),
            Value::Array(vec![range(-1, 5)]),
        ] {
            assert_eq!(Layout::parse(reply, &asked()), None);
        }
    }

    #[test]
    fn redirects_are_told_from_other_errors() {
        let of = |line: &str| Redirect::in_reply(&error(line), &asked());
        assert_eq!(
            of("MOVED 3999 10.0.0.7:6381"),
            Some(Redirect::Moved(3999, Address::new("10.0.0.7", 6381)))
        );
        assert_eq!(
            of("ASK 1 ::1:6381"),
            Some(Redirect::Ask(Address::new("::1", 6381)))
        );
        assert_eq!(
            of("MOVED 1 :6381"),
            Some(Redirect::Moved(1, Address::new("seed", 6381)))
        );
        for line in [
            "MOVED",
            "MOVED 1",
            "MOVED 16384 a:1",
            "MOVED 1 a:0",
            "MOVED 1 ?:1",
            "MOVED x a:1",
            "CLUSTERDOWN The cluster is down",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
        let replies = Value::Array(vec![Value::Okay, error("ASK 1 a:1"), error("MOVED 2 b:1")]);
        let first = Redirect::in_reply(&replies, &asked());
        assert_eq!(first, Some(Redirect::Ask(Address::new("a", 1))));
    }
}
