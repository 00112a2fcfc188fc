//! This program as a child of itself, where a measurement needs a process of its own.

use std::env;
use std::process::{Command, Stdio};

use crate::measure::Result;
use crate::{dynamodb, tls};

/// What a child does. Its arguments are for nobody to type, so the manual does not mention them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One client of DynamoDB, whose instructions are counted.
    DynamoDbClient,
    /// The rounds of first GETs over TLS.
    TlsRounds,
}

impl Role {
    const ALL: [Self; 2] = [Self::DynamoDbClient, Self::TlsRounds];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DynamoDbClient => "as-dynamodb-client",
            Self::TlsRounds => "as-tls-rounds",
        }
    }

    /// The role that this process was started for, if it is such a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        let name = env::args().nth(1)?;
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    pub(crate) fn play(self) -> Result {
        let arguments: Vec<_> = env::args().skip(2).collect();
        match self {
            Self::DynamoDbClient => dynamodb::client(&arguments),
            Self::TlsRounds => tls::rounds(&arguments),
        }
    }
}

/// This program in another role.
pub(crate) fn command(role: Role) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(role.as_str());
    Ok(command)
}

/// What a child prints, once it has succeeded; its complaints go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} failed ({})", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
