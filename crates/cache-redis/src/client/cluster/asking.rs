//! Calls to a server that is about to get a slot: it answers those only who say that they were sent.

use cache_core::Result;
use redis::{Cmd, Pipeline, Value, cmd};

use super::super::call::{Answer, Call, Repeat};
use super::super::link::Payload;
use super::super::node::Node;
use super::super::shape::Expects;

/// Sends a call after ASKING, in one piece with it.
pub(super) async fn ask(node: &Node, call: Call<'_>) -> Result<Answer> {
    let payload = asking(call.payload);
    let again = match call.repeat {
        Repeat::With(payload) => Some(asking(payload)),
        Repeat::Same | Repeat::Never => None,
    };
    let asked = Call {
        payload: &payload,
        // Replies to ASKING are among them.
        expects: Expects::Anything,
        repeat: again.as_ref().map_or(call.repeat, Repeat::With),
        ..call
    };
    let Answer {
        reply,
        may_have_run,
    } = node.call(asked).await?;
    // Both forms of a call are of one kind.
    let reply = answered(call.payload, reply);
    Ok(Answer {
        reply,
        may_have_run,
    })
}

/// The same commands, each after an ASKING, which counts for one command or one transaction.
fn asking(payload: &Payload) -> Payload {
    let mut pipeline = Pipeline::new();
    let mut add = |command: Cmd| {
        pipeline.add_command(command);
    };
    match payload {
        Payload::Command(command) => {
            add(cmd("ASKING"));
            add(command.clone());
        }
        Payload::Pipeline(commands) => {
            for command in commands.cmd_iter() {
                add(cmd("ASKING"));
                add(command.clone());
            }
        }
        Payload::Transaction(commands) => {
            add(cmd("ASKING"));
            add(cmd("MULTI"));
            commands.cmd_iter().cloned().for_each(&mut add);
            add(cmd("EXEC"));
        }
    }
    Payload::Pipeline(pipeline)
}

/// The reply to `payload` among those to its asking form.
fn answered(payload: &Payload, reply: Value) -> Value {
    let Value::Array(replies) = reply else {
        return reply;
    };
    match payload {
        Payload::Command(_) => replies.into_iter().nth(1).unwrap_or(Value::Nil),
        Payload::Pipeline(_) => Value::Array(replies.into_iter().skip(1).step_by(2).collect()),
        Payload::Transaction(_) => {
            let is_refusal = |reply: &Value| matches!(reply, Value::ServerError(_));
            let mut replies = replies;
            let at = replies.iter().position(is_refusal);
            let at = at.unwrap_or(replies.len().saturating_sub(1));
            if replies.is_empty() {
                return Value::Nil;
            }
            replies.swap_remove(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(payload: &Payload) -> Vec<String> {
        let Payload::Pipeline(pipeline) = payload else {
            panic!("the asking form is a pipeline");
        };
        let name = |command: &Cmd| match command.args_iter().next() {
            Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => String::new(),
        };
        pipeline.cmd_iter().map(name).collect()
    }

    fn two() -> Pipeline {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg("k").cmd("PTTL").arg("k");
        pipeline
    }

    #[test]
    fn every_command_and_every_transaction_asks_once() {
        let command = Payload::Command(cmd("GET"));
        assert_eq!(names(&asking(&command)), ["ASKING", "GET"]);
        let pipeline = Payload::Pipeline(two());
        assert_eq!(
            names(&asking(&pipeline)),
            ["ASKING", "GET", "ASKING", "PTTL"]
        );
        let transaction = Payload::Transaction(two());
        assert_eq!(
            names(&asking(&transaction)),
            ["ASKING", "MULTI", "GET", "PTTL", "EXEC"]
        );
    }

    #[test]
    fn replies_are_those_to_the_commands_themselves() {
        let reply = |values: &[i64]| Value::Array(values.iter().map(|n| Value::Int(*n)).collect());
        let command = Payload::Command(cmd("GET"));
        assert_eq!(answered(&command, reply(&[0, 1])), Value::Int(1));
        let pipeline = Payload::Pipeline(two());
        assert_eq!(answered(&pipeline, reply(&[0, 1, 2, 3])), reply(&[1, 3]));
        let transaction = Payload::Transaction(two());
        assert_eq!(
            answered(&transaction, reply(&[0, 1, 2, 3, 4])),
            Value::Int(4)
        );
        let refusal = redis::parse_redis_value(b"-MOVED 1 a:1\r\n").unwrap();
        let queued = vec![
            Value::Okay,
            Value::Okay,
            refusal.clone(),
            Value::Okay,
            Value::Nil,
        ];
        assert_eq!(answered(&transaction, Value::Array(queued)), refusal);
    }
}
