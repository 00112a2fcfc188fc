//! What the reply to a command has to look like.
//!
//! Replies carry no number, only their order. One of another type than its command calls for may
//! be somebody else's, and so may all that come after it.

use redis::Value;

/// What one command is answered with, unless it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string, or nothing.
    Bytes,
    Integer,
    /// OK.
    Done,
    /// OK, or nothing where a condition did not hold.
    DoneOrNot,
    /// The sign of life.
    Pong,
    /// Whatever the reader makes of it.
    Array,
}

impl Shape {
    fn allows(self, reply: &Value) -> bool {
        matches!(
            (self, reply),
            (_, Value::ServerError(_))
                | (Self::Bytes, Value::Nil | Value::BulkString(_))
                | (Self::Integer, Value::Int(_))
                | (Self::Done | Self::DoneOrNot, Value::Okay)
                | (Self::DoneOrNot, Value::Nil)
                | (Self::Pong, Value::SimpleString(_))
                | (Self::Array, Value::Array(_))
        )
    }
}

/// What a whole call is answered with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expects {
    One(Shape),
    /// So many replies, whose shapes come in turn.
    Each(usize, &'static [Shape]),
    /// What the caller looks at itself.
    #[cfg(feature = "cluster")]
    Anything,
}

impl Expects {
    /// Whether a server that keeps the order may have answered this.
    pub(super) fn allows(self, reply: &Value) -> bool {
        match (self, reply) {
            (_, Value::ServerError(_)) => true,
            (Self::One(shape), reply) => shape.allows(reply),
            (Self::Each(count, shapes), Value::Array(replies)) => {
                let mut pairs = replies.iter().zip(shapes.iter().cycle());
                replies.len() == count && pairs.all(|(reply, shape)| shape.allows(reply))
            }
            (Self::Each(..), _) => false,
            #[cfg(feature = "cluster")]
            (Self::Anything, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_command_has_its_own_answers() {
        let replies = [
            "$-1\r\n",
            "$1\r\nv\r\n",
            ":1\r\n",
            "+OK\r\n",
            "+PONG\r\n",
            "*0\r\n",
        ];
        for (shape, allowed) in [
            (Shape::Bytes, &[0, 1][..]),
            (Shape::Integer, &[2]),
            (Shape::Done, &[3]),
            (Shape::DoneOrNot, &[0, 3]),
            (Shape::Pong, &[4]),
            (Shape::Array, &[5]),
        ] {
            for (at, text) in replies.iter().enumerate() {
                let is_allowed = Expects::One(shape).allows(&reply(text));
                assert_eq!(is_allowed, allowed.contains(&at), "{shape:?} {text:?}");
            }
            let refusal = reply("-LOADING no\r\n");
            assert!(Expects::One(shape).allows(&refusal));
        }
    }

    #[test]
    fn replies_of_a_batch_are_as_many_as_its_commands() {
        let pairs = Expects::Each(4, &[Shape::Bytes, Shape::Integer]);
        let allowed = "*4\r\n$-1\r\n:1\r\n-WRONGTYPE no\r\n:2\r\n";
        assert!(pairs.allows(&reply(allowed)));
        assert!(pairs.allows(&reply("-EXECABORT no\r\n")));
        for text in [
            "*2\r\n$-1\r\n:1\r\n",
            "*4\r\n:1\r\n$-1\r\n:1\r\n$-1\r\n",
            ":1\r\n",
        ] {
            assert!(!pairs.allows(&reply(text)), "{text:?}");
        }
    }
}
