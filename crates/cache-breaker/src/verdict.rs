//! What an error says about the backend it came from.

use cache_core::{CacheError, ErrorKind, Result};

use crate::state::Outcome;

/// What an error says about the backend, in one table.
///
/// Trouble on the way and trouble of the server accuse it; what the caller did wrong, what was
/// turned away in this process, and the answers of a server that works do not.
///
/// | kind | outcome |
/// |---|---|
/// | `Timeout` | timeout; neutral with code `breaker_opened`, which another breaker has counted |
/// | `Connection` | failure; neutral with code `local_exhausted` |
/// | `Overloaded` | failure; neutral with code `saturated` |
/// | `Backend` | failure if transient, or with code `5xx` or `server`; neutral otherwise |
/// | `Throttled` | throttled |
/// | `Configuration` | configuration; neutral with code `noperm`, which concerns some commands only |
/// | all others | neutral |
#[must_use]
pub fn outcome_of(error: &CacheError) -> Outcome {
    let unless = |code: &str, outcome: Outcome| {
        if error.code() == code {
            Outcome::Neutral
        } else {
            outcome
        }
    };
    match error.kind() {
        ErrorKind::Timeout => unless(STOPPED, Outcome::Timeout),
        ErrorKind::Connection => unless("local_exhausted", Outcome::Failure),
        ErrorKind::Overloaded => unless(SATURATED, Outcome::Failure),
        ErrorKind::Throttled => Outcome::Throttled,
        ErrorKind::Configuration => unless("noperm", Outcome::Configuration),
        ErrorKind::Backend if error.is_transient() => Outcome::Failure,
        ErrorKind::Backend if matches!(error.code(), "5xx" | "server") => Outcome::Failure,
        _ => Outcome::Neutral,
    }
}

/// The code of the error of a write that was under way when its breaker opened.
pub(crate) const STOPPED: &str = "breaker_opened";

/// The code of the error of a call that found too many others under way.
pub(crate) const SATURATED: &str = "saturated";

/// The code of a server without memory, which still takes what frees some.
pub(crate) const OUT_OF_MEMORY: &str = "oom";

/// What a result says about the backend; a miss is as good as a hit.
pub(crate) fn outcome_of_result<T>(result: &Result<T>) -> Outcome {
    result.as_ref().err().map_or(Outcome::Success, outcome_of)
}

/// What a batch says about the backend, and the error behind it: the worst of its keys. Where no
/// key was answered and none accuses the backend, it says nothing.
pub(crate) fn outcome_of_batch<'a, T: 'a>(
    results: impl Iterator<Item = &'a Result<T>>,
) -> (Outcome, Option<&'a CacheError>) {
    let mut worst = (Outcome::Neutral, None);
    for result in results {
        let outcome = outcome_of_result(result);
        if weight(outcome) > weight(worst.0) {
            worst = (outcome, result.as_ref().err());
        }
    }
    worst
}

fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Neutral => 0,
        Outcome::Success => 1,
        Outcome::Throttled => 2,
        Outcome::Failure => 3,
        Outcome::Timeout => 4,
        Outcome::Configuration => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_outcome() {
        let cases = [
            (ErrorKind::Timeout, Outcome::Timeout),
            (ErrorKind::Connection, Outcome::Failure),
            (ErrorKind::Overloaded, Outcome::Failure),
            (ErrorKind::Backend, Outcome::Neutral),
            (ErrorKind::Throttled, Outcome::Throttled),
            (ErrorKind::Configuration, Outcome::Configuration),
            (ErrorKind::Serialization, Outcome::Neutral),
            (ErrorKind::NotACounter, Outcome::Neutral),
            (ErrorKind::Overflow, Outcome::Neutral),
            (ErrorKind::TooLarge, Outcome::Neutral),
            (ErrorKind::Key, Outcome::Neutral),
            (ErrorKind::Ttl, Outcome::Neutral),
            (ErrorKind::Unsupported, Outcome::Neutral),
            (ErrorKind::Closed, Outcome::Neutral),
            (ErrorKind::Rejected, Outcome::Neutral),
            (ErrorKind::Loader, Outcome::Neutral),
        ];
        for (kind, outcome) in cases {
            assert_eq!(outcome_of(&CacheError::new(kind, "")), outcome, "{kind}");
        }
    }

    #[test]
    fn codes_make_exceptions() {
        let cases = [
            (ErrorKind::Timeout, "breaker_opened", Outcome::Neutral),
            (ErrorKind::Timeout, "patience", Outcome::Timeout),
            (ErrorKind::Connection, "local_exhausted", Outcome::Neutral),
            (ErrorKind::Connection, "refused", Outcome::Failure),
            (ErrorKind::Overloaded, "saturated", Outcome::Neutral),
            (ErrorKind::Overloaded, "oom", Outcome::Failure),
            (ErrorKind::Configuration, "noperm", Outcome::Neutral),
            (ErrorKind::Configuration, "auth", Outcome::Configuration),
            (ErrorKind::Backend, "5xx", Outcome::Failure),
            (ErrorKind::Backend, "server", Outcome::Failure),
            (ErrorKind::Backend, "4xx", Outcome::Neutral),
        ];
        for (kind, code, outcome) in cases {
            let error = CacheError::new(kind, "").with_code(code);
            assert_eq!(outcome_of(&error), outcome, "{kind} {code}");
        }
        let passing = CacheError::new(ErrorKind::Backend, "").with_transient(true);
        assert_eq!(outcome_of(&passing), Outcome::Failure);
    }

    #[test]
    fn the_worst_key_speaks_for_a_batch() {
        let error = |kind| Err(CacheError::new(kind, ""));
        let mut results = vec![error(ErrorKind::Key)];
        let outcome = |results: &[Result<()>]| outcome_of_batch(results.iter()).0;
        assert_eq!(outcome(&results), Outcome::Neutral);
        let steps = [
            (Ok(()), Outcome::Success),
            (error(ErrorKind::Throttled), Outcome::Throttled),
            (error(ErrorKind::Connection), Outcome::Failure),
            (error(ErrorKind::Timeout), Outcome::Timeout),
            (error(ErrorKind::Configuration), Outcome::Configuration),
        ];
        for (result, worst) in steps {
            results.insert(0, result);
            assert_eq!(outcome(&results), worst);
        }
        let (_, error) = outcome_of_batch(results.iter());
        assert_eq!(error.unwrap().kind(), ErrorKind::Configuration);
    }
}
