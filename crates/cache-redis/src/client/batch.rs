//! Batches in which each key has commands of its own.

use cache_core::{CacheError, Result};
#[cfg(feature = "cluster")]
use redis::cmd;
use redis::{Pipeline, Value};

use super::call::{Answer, Budget, Call, Repeat};
use super::link::Payload;
use super::node::Node;
use super::reply::{all, unexpected};
use super::shape::{Expects, Shape};
use super::{BATCH, BATCH_BYTES, Write, set_command};
use crate::error::from_server;

/// Commands for many keys, `N` for each, any of which may be sent twice.
pub(super) trait PerKey<const N: usize>: Sync {
    const IS_WRITE: bool;

    /// What the commands of one key are answered with.
    const SHAPES: &'static [Shape];

    /// How many keys there are.
    fn count(&self) -> usize;

    /// The key at a position.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(dead_code, reason = "only a cluster asks where a key is")
    )]
    fn key(&self, at: usize) -> &[u8];

    /// Adds the commands of the key at a position.
    fn push(&self, at: usize, pipeline: &mut Pipeline);

    /// How many bytes of values that is.
    fn bytes(&self, _at: usize) -> usize {
        0
    }
}

/// Reads entries one by one, since a cluster refuses an MGET over several slots.
#[cfg(feature = "cluster")]
pub(super) struct Gets<'a>(pub(super) &'a [&'a str]);

#[cfg(feature = "cluster")]
impl PerKey<1> for Gets<'_> {
    const IS_WRITE: bool = false;
    const SHAPES: &'static [Shape] = &[Shape::Bytes];

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        self.0[at].as_bytes()
    }

    fn push(&self, at: usize, pipeline: &mut Pipeline) {
        pipeline.cmd("GET").arg(self.0[at]);
    }
}

/// Reads entries with their server-side times left.
pub(super) struct Lookups<'a>(pub(super) &'a [&'a str]);

impl PerKey<2> for Lookups<'_> {
    const IS_WRITE: bool = false;
    const SHAPES: &'static [Shape] = &[Shape::Bytes, Shape::Integer];

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        self.0[at].as_bytes()
    }

    fn push(&self, at: usize, pipeline: &mut Pipeline) {
        let key = self.0[at];
        pipeline.cmd("GET").arg(key).cmd("PTTL").arg(key);
    }
}

/// Writes entries.
pub(super) struct Sets<'a>(pub(super) &'a [Write<'a>]);

impl PerKey<1> for Sets<'_> {
    const IS_WRITE: bool = true;
    const SHAPES: &'static [Shape] = &[Shape::Done];

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        self.0[at].key.as_bytes()
    }

    fn push(&self, at: usize, pipeline: &mut Pipeline) {
        pipeline.add_command(set_command(&self.0[at]));
    }

    fn bytes(&self, at: usize) -> usize {
        self.0[at].stored.len()
    }
}

/// Deletes keys one by one, since a cluster refuses an UNLINK over several slots.
#[cfg(feature = "cluster")]
pub(super) struct Unlinks<'a, K>(pub(super) &'a [K]);

#[cfg(feature = "cluster")]
impl<K: AsRef<[u8]> + Sync> PerKey<1> for Unlinks<'_, K> {
    const IS_WRITE: bool = true;
    const SHAPES: &'static [Shape] = &[Shape::Integer];

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        self.0[at].as_ref()
    }

    fn push(&self, at: usize, pipeline: &mut Pipeline) {
        let mut command = cmd("UNLINK");
        command.arg(self.0[at].as_ref());
        pipeline.add_command(command);
    }
}

/// Sends the commands for the keys at `positions` to one server, in pipelines of bounded size, and
/// returns the replies in the order of the positions.
pub(super) async fn send<B: PerKey<N>, const N: usize>(
    node: &Node,
    batch: &B,
    positions: &[usize],
    budget: Budget,
) -> Vec<Result<[Value; N]>> {
    let mut outcomes = Vec::with_capacity(positions.len());
    let mut rest = positions;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(batch, rest));
        rest = later;
        let mut pipeline = Pipeline::with_capacity(N * now.len());
        for at in now {
            batch.push(*at, &mut pipeline);
        }
        let call = Call {
            payload: &Payload::Pipeline(pipeline),
            expects: Expects::Each(N * now.len(), B::SHAPES),
            repeat: Repeat::Same,
            is_write: B::IS_WRITE,
            budget: budget.anew(),
        };
        match node
            .call(call)
            .await
            .and_then(|answer| replies(answer, now.len()))
        {
            Ok(replies) => outcomes.extend(replies),
            Err(error) => outcomes.extend(now.iter().map(|_| Err(error.clone()))),
        }
    }
    outcomes
}

/// How many of the first positions go into one pipeline.
fn fitting<B: PerKey<N>, const N: usize>(batch: &B, positions: &[usize]) -> usize {
    let mut bytes = 0;
    let fitting = positions.iter().take(BATCH).take_while(|at| {
        bytes += batch.bytes(**at);
        bytes <= BATCH_BYTES
    });
    fitting.count().max(1)
}

/// The replies of a pipeline, `N` for each of `count` keys.
fn replies<const N: usize>(answer: Answer, count: usize) -> Result<Vec<Result<[Value; N]>>> {
    let may_have_run = answer.may_have_run;
    let replies = all(answer.settle()?)?;
    if replies.len() != N * count {
        return Err(unexpected(Value::Nil));
    }
    let mut replies = replies.into_iter();
    let of_one_key = |_| {
        let own: [Value; N] = std::array::from_fn(|_| replies.next().unwrap_or(Value::Nil));
        match refused(&own) {
            // Refused now, but the same command may have been executed before.
            Some(error) if may_have_run => Err(error.with_may_have_happened(true)),
            _ => Ok(own),
        }
    };
    Ok((0..count).map(of_one_key).collect())
}

/// The first refusal among replies.
pub(super) fn refused(replies: &[Value]) -> Option<CacheError> {
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(from_server(error)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_bounded_in_bytes_and_length() {
        let fitting_of = |bytes: usize, count: usize| {
            let write = Write {
                key: "k",
                stored: vec![0; bytes].into(),
                value_offset: 0,
                keep_for: None,
            };
            let writes = vec![write; count];
            let positions: Vec<_> = (0..count).collect();
            fitting(&Sets(&writes), &positions)
        };
        assert_eq!(fitting_of(1, BATCH + 1), BATCH);
        assert_eq!(fitting_of(1024 * 1024, 9), 4);
        assert_eq!(fitting_of(BATCH_BYTES + 1, 2), 1);
    }
}
