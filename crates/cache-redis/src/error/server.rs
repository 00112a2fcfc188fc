//! What a server's error replies mean, in one table.

use cache_core::{CacheError, ErrorKind};
use redis::ServerError;

use super::BACKEND;

/// What a server's error means to a caller. The first word decides, or the beginning of the text
/// where the server uses the catch-all `ERR`. After the kind and whether it passes by itself come the
/// code and the message.
const SERVER_ERRORS: &[(&str, ErrorKind, bool, &str, &str)] = &[
    // Not ready, or no longer the server that takes writes: trouble that passes.
    (
        "LOADING",
        ErrorKind::Connection,
        true,
        "loading",
        "the server is loading its data",
    ),
    (
        "READONLY",
        ErrorKind::Connection,
        true,
        "readonly",
        "the server is a read-only replica",
    ),
    (
        "MASTERDOWN",
        ErrorKind::Connection,
        true,
        "masterdown",
        "the replica has lost its primary",
    ),
    (
        "NOREPLICAS",
        ErrorKind::Connection,
        true,
        "noreplicas",
        "the server has too few replicas to take writes",
    ),
    (
        "CLUSTERDOWN",
        ErrorKind::Connection,
        true,
        "clusterdown",
        "the cluster is down",
    ),
    (
        "TRYAGAIN",
        ErrorKind::Connection,
        true,
        "tryagain",
        "the slot is being moved",
    ),
    (
        "UNBLOCKED",
        ErrorKind::Connection,
        true,
        "unblocked",
        "the server is changing its role",
    ),
    // No capacity left.
    (
        "OOM",
        ErrorKind::Overloaded,
        true,
        "oom",
        "the server is out of memory",
    ),
    (
        "BUSY",
        ErrorKind::Overloaded,
        true,
        "busy",
        "the server is busy running a script",
    ),
    (
        "ERR max number of clients",
        ErrorKind::Overloaded,
        true,
        "max_clients",
        "the server has too many clients",
    ),
    // Somebody has to correct something.
    (
        "NOAUTH",
        ErrorKind::Configuration,
        false,
        "auth",
        "the server requires a password",
    ),
    (
        "WRONGPASS",
        ErrorKind::Configuration,
        false,
        "auth",
        "the server refuses the user or the password",
    ),
    (
        "EXECABORT",
        ErrorKind::Configuration,
        false,
        "execabort",
        "the server refused a command of the transaction; may the user run all of them?",
    ),
    (
        "NOPERM",
        ErrorKind::Configuration,
        false,
        "noperm",
        "the user may not run this command on this key",
    ),
    (
        "MISCONF",
        ErrorKind::Configuration,
        false,
        "misconf",
        "the server cannot save its data and takes no writes",
    ),
    (
        "DENIED",
        ErrorKind::Configuration,
        false,
        "denied",
        "the server's protected mode refuses this client",
    ),
    (
        "MOVED",
        ErrorKind::Configuration,
        false,
        "topology",
        "the server is a node of a cluster and the key is elsewhere; choose the topology cluster (CACHE_REDIS_TOPOLOGY)",
    ),
    (
        "ASK",
        ErrorKind::Configuration,
        false,
        "topology",
        "the server is a node of a cluster and the key is moving; choose the topology cluster (CACHE_REDIS_TOPOLOGY)",
    ),
    (
        "CROSSSLOT",
        ErrorKind::Configuration,
        false,
        "topology",
        "the server is a node of a cluster and the keys are apart; choose the topology cluster (CACHE_REDIS_TOPOLOGY)",
    ),
    (
        "ERR AUTH",
        ErrorKind::Configuration,
        false,
        "auth",
        "the server has no password set, but one was given",
    ),
    (
        "ERR Client sent AUTH",
        ErrorKind::Configuration,
        false,
        "auth",
        "the server has no password set, but one was given",
    ),
    (
        "ERR invalid password",
        ErrorKind::Configuration,
        false,
        "auth",
        "the server refuses the user or the password",
    ),
    (
        "ERR DB index",
        ErrorKind::Configuration,
        false,
        "database",
        "the server has no database of this number",
    ),
    (
        "ERR invalid DB index",
        ErrorKind::Configuration,
        false,
        "database",
        "the server has no database of this number",
    ),
    (
        "ERR This instance has cluster support disabled",
        ErrorKind::Configuration,
        false,
        "topology",
        "the server is not a node of a cluster; choose the topology standalone (CACHE_REDIS_TOPOLOGY)",
    ),
    (
        "ERR SELECT is not allowed",
        ErrorKind::Configuration,
        false,
        "topology",
        "the server is a node of a cluster and has only database 0",
    ),
    // The entry is not what the command needs.
    (
        "WRONGTYPE",
        ErrorKind::Serialization,
        false,
        "wrongtype",
        "the key holds something other than a string",
    ),
    (
        "ERR value is not an integer",
        ErrorKind::NotACounter,
        false,
        "not_a_counter",
        "the entry is not a counter",
    ),
    (
        "ERR increment or decrement would overflow",
        ErrorKind::Overflow,
        false,
        "overflow",
        "the counter would leave the range of 64 bits",
    ),
    (
        "ERR The user executing the script",
        ErrorKind::Configuration,
        false,
        "noperm",
        "the user may not run this command on this key",
    ),
    (
        "ERR Unknown Redis command called from script",
        ErrorKind::Unsupported,
        false,
        "unknown_command",
        "the server does not know the command",
    ),
    (
        "ERR unknown command",
        ErrorKind::Unsupported,
        false,
        "unknown_command",
        "the server does not know the command",
    ),
];

/// The error behind an error reply. Only what the table says is told: the server's own text may
/// quote arguments, and so keys and values.
pub(crate) fn from_server(error: &ServerError) -> CacheError {
    let code = error.code();
    let text = format!("{code} {}", error.details().unwrap_or_default());
    let known = SERVER_ERRORS.iter().find(|(beginning, ..)| {
        if beginning.contains(' ') {
            text.starts_with(beginning)
        } else {
            code == *beginning
        }
    });
    let Some((_, kind, transient, word, meaning)) = known else {
        let message = format!("the server refused the command with {}", printable(code));
        return CacheError::new(ErrorKind::Backend, message).with_backend(BACKEND);
    };
    CacheError::new(*kind, *meaning)
        .with_transient(*transient)
        .with_code(word)
        .with_backend(BACKEND)
}

/// Whether the server says that it no longer takes writes, so that the connection leads to the
/// wrong place and must be replaced.
pub(crate) fn is_demoted(error: &ServerError) -> bool {
    error.code() == "READONLY"
}

/// Whether a server refused user or password, so that fresh ones may help.
pub(crate) fn is_refused_password(error: &ServerError) -> bool {
    let is_older_form = || {
        let details = error.details().unwrap_or_default();
        error.code() == "ERR" && details.starts_with("invalid password")
    };
    matches!(error.code(), "WRONGPASS" | "NOAUTH") || is_older_form()
}

/// A server's error code if it looks like one.
fn printable(code: &str) -> &str {
    let is_code = code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { code } else { "an error" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(line: &str) -> ServerError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else {
            panic!("{line} is no error reply");
        };
        error
    }

    #[test]
    fn every_server_error_has_its_kind() {
        let cases = [
            (
                "LOADING Redis is loading the dataset in memory",
                ErrorKind::Connection,
                true,
                "loading",
            ),
            (
                "READONLY You can't write against a read only replica.",
                ErrorKind::Connection,
                true,
                "readonly",
            ),
            (
                "MASTERDOWN Link with MASTER is down",
                ErrorKind::Connection,
                true,
                "masterdown",
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                ErrorKind::Connection,
                true,
                "noreplicas",
            ),
            (
                "CLUSTERDOWN The cluster is down",
                ErrorKind::Connection,
                true,
                "clusterdown",
            ),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                ErrorKind::Connection,
                true,
                "tryagain",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                ErrorKind::Overloaded,
                true,
                "oom",
            ),
            (
                "BUSY Redis is busy running a script.",
                ErrorKind::Overloaded,
                true,
                "busy",
            ),
            (
                "ERR max number of clients reached",
                ErrorKind::Overloaded,
                true,
                "max_clients",
            ),
            (
                "NOAUTH Authentication required.",
                ErrorKind::Configuration,
                false,
                "auth",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                ErrorKind::Configuration,
                false,
                "auth",
            ),
            (
                "EXECABORT Transaction discarded because of previous errors.",
                ErrorKind::Configuration,
                false,
                "execabort",
            ),
            (
                "NOPERM this user has no permissions to run the 'get' command",
                ErrorKind::Configuration,
                false,
                "noperm",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                ErrorKind::Configuration,
                false,
                "misconf",
            ),
            (
                "MOVED 3999 127.0.0.1:6381",
                ErrorKind::Configuration,
                false,
                "topology",
            ),
            (
                "ASK 3999 127.0.0.1:6381",
                ErrorKind::Configuration,
                false,
                "topology",
            ),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                ErrorKind::Configuration,
                false,
                "topology",
            ),
            (
                "ERR AUTH <password> called without any password configured",
                ErrorKind::Configuration,
                false,
                "auth",
            ),
            (
                "ERR DB index is out of range",
                ErrorKind::Configuration,
                false,
                "database",
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                ErrorKind::Serialization,
                false,
                "wrongtype",
            ),
            (
                "ERR value is not an integer or out of range",
                ErrorKind::NotACounter,
                false,
                "not_a_counter",
            ),
            (
                "ERR increment or decrement would overflow",
                ErrorKind::Overflow,
                false,
                "overflow",
            ),
            (
                "ERR unknown command 'GETX', with args beginning with: 'secret'",
                ErrorKind::Unsupported,
                false,
                "unknown_command",
            ),
            (
                "UNBLOCKED force unblock from blocking operation",
                ErrorKind::Connection,
                true,
                "unblocked",
            ),
            (
                "DENIED Redis is running in protected mode",
                ErrorKind::Configuration,
                false,
                "denied",
            ),
            (
                "ERR Client sent AUTH, but no password is set",
                ErrorKind::Configuration,
                false,
                "auth",
            ),
            (
                "ERR invalid password",
                ErrorKind::Configuration,
                false,
                "auth",
            ),
            (
                "ERR invalid DB index",
                ErrorKind::Configuration,
                false,
                "database",
            ),
            (
                "ERR This instance has cluster support disabled",
                ErrorKind::Configuration,
                false,
                "topology",
            ),
            (
                "ERR SELECT is not allowed in cluster mode",
                ErrorKind::Configuration,
                false,
                "topology",
            ),
            (
                "ERR The user executing the script can't run this",
                ErrorKind::Configuration,
                false,
                "noperm",
            ),
            (
                "ERR Unknown Redis command called from script",
                ErrorKind::Unsupported,
                false,
                "unknown_command",
            ),
            (
                "ERR something nobody has seen",
                ErrorKind::Backend,
                false,
                "backend",
            ),
            (
                "NEWCODE of the future",
                ErrorKind::Backend,
                false,
                "backend",
            ),
        ];
        for (line, kind, transient, code) in cases {
            let error = from_server(&server_error(line));
            assert_eq!(
                (error.kind(), error.is_transient(), error.code()),
                (kind, transient, code),
                "{line}"
            );
            assert!(!error.may_have_happened(), "{line}");
        }
        for (beginning, ..) in SERVER_ERRORS {
            let has_case = cases.iter().any(|(line, ..)| line.starts_with(beginning));
            assert!(has_case, "{beginning} has no case");
        }
    }

    #[test]
    fn the_servers_text_is_not_repeated() {
        let error = from_server(&server_error(
            "ERR unknown command 'SETX', with args beginning with: 'key' 'secret'",
        ));
        assert!(!format!("{error} {error:?}").contains("secret"));
        let error = from_server(&server_error("secret value"));
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
