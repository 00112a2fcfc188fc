//! What replies say.

use bytes::Bytes;
use cache_core::{CacheError, ErrorKind, Result};
use redis::Value;

use crate::error::{BACKEND, from_server};

/// Adds one outcome a key: each reply's, or the one failure of the whole batch.
pub(super) fn each<R, T>(
    outcomes: &mut Vec<Result<T>>,
    expected: usize,
    replies: Result<Vec<R>>,
    parse: impl Fn(R) -> Result<T>,
) {
    match replies {
        Ok(replies) if replies.len() == expected => {
            outcomes.extend(replies.into_iter().map(parse));
        }
        Ok(_) => outcomes.extend((0..expected).map(|_| Err(unexpected(Value::Nil)))),
        Err(error) => outcomes.extend((0..expected).map(|_| Err(error.clone()))),
    }
}

pub(super) fn bytes(reply: Value) -> Result<Option<Bytes>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(unexpected(other)),
    }
}

/// The head of an entry. A key that holds no string has none, and is nobody's entry of ours.
pub(super) fn head_bytes(reply: Value) -> Result<Bytes> {
    match bytes(reply) {
        Ok(head) => Ok(head.unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::Serialization => Ok(Bytes::new()),
        Err(error) => Err(error),
    }
}

pub(super) fn integer(reply: Value) -> Result<i64> {
    match reply {
        Value::Int(number) => Ok(number),
        other => Err(unexpected(other)),
    }
}

/// The answer to a write. Anything but OK and an error says nothing about whether it took place.
pub(super) fn done(reply: Value) -> Result<()> {
    match reply {
        Value::Okay => Ok(()),
        Value::ServerError(error) => Err(from_server(&error)),
        other => Err(unexpected(other).with_may_have_happened(true)),
    }
}

pub(super) fn all(reply: Value) -> Result<Vec<Value>> {
    match reply {
        Value::Array(replies) => Ok(replies),
        other => Err(unexpected(other)),
    }
}

pub(super) fn array<const N: usize>(reply: Value) -> Result<[Value; N]> {
    all(reply)?.try_into().map_err(|_| unexpected(Value::Nil))
}

/// Whether a script moved a deadline; none where the entry's format is unknown.
pub(super) fn moved(reply: Value) -> Result<Option<bool>> {
    Ok(match integer(reply)? {
        -1 => None,
        moved => Some(moved == 1),
    })
}

pub(super) fn unexpected(reply: Value) -> CacheError {
    if let Value::ServerError(error) = reply {
        return from_server(&error);
    }
    let message = "the server answered something other than the command calls for";
    CacheError::new(ErrorKind::Backend, message)
        .with_backend(BACKEND)
        .with_code("resp")
}
