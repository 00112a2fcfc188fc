//! What the server's errors mean: every code is mapped on purpose, in one table.

use cache_core::ErrorKind;

use super::Again;

/// What a server's error means to a caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) kind: ErrorKind,
    /// The cause in one word, for metrics.
    pub(super) code: &'static str,
    /// When the call may be tried again, which makes the error transient.
    pub(super) again: Again,
    /// The message. `{table}`, `{region}` and `{action}` are to be filled in.
    pub(super) message: &'static str,
}

/// The meaning of each error code, or of those that begin alike where it ends with `*`.
const CODES: &[(&str, Meaning)] = &[
    // More than was paid for.
    ("ProvisionedThroughputExceededException", SLOW_DOWN),
    ("ThrottlingException", SLOW_DOWN),
    ("Throttling", SLOW_DOWN),
    ("RequestLimitExceeded", SLOW_DOWN),
    ("LimitExceededException", TOO_MANY_CHANGES),
    // The server's own trouble.
    ("InternalServerError", FAILED),
    ("InternalFailure", FAILED),
    ("ServiceUnavailable*", UNAVAILABLE),
    ("TransactionConflictException", BUSY),
    ("TransactionInProgressException", BUSY),
    ("ReplicatedWriteConflictException", BUSY),
    // Somebody has to correct something.
    (
        "ResourceNotFoundException",
        wrong("there is no table {table} in {region}; create it, or correct its name and region"),
    ),
    (
        "ResourceInUseException",
        wrong("table {table} is being created, changed or deleted; wait until it is active"),
    ),
    (
        "AccessDenied*",
        correct(
            "noperm",
            "the credentials may not call {action} on table {table}; allow it",
        ),
    ),
    (
        "ExpiredToken*",
        unknown("the credentials have expired; provide new ones"),
    ),
    ("UnrecognizedClient*", BAD_KEYS),
    ("InvalidClientTokenId", BAD_KEYS),
    ("InvalidSignature*", BAD_SIGNATURE),
    ("SignatureDoesNotMatch", BAD_SIGNATURE),
    ("RequestExpired", BAD_SIGNATURE),
    ("MissingAuthenticationToken*", UNSIGNED),
    ("IncompleteSignature*", UNSIGNED),
    (
        "OptInRequired",
        wrong("the account has no access to DynamoDB in {region}; enable the region"),
    ),
    (
        "KMS*",
        wrong("the KMS key of table {table} cannot be used; check the key and its policy"),
    ),
    (
        "UnknownOperationException",
        Meaning {
            kind: ErrorKind::Unsupported,
            code: "unsupported",
            again: Again::Never,
            message: "the endpoint does not know {action}",
        },
    ),
    // The request does not fit.
    ("ItemCollectionSizeLimitExceededException", COLLECTION_FULL),
];

/// What a part of a validation error's text says about its cause. The text itself is not repeated:
/// it may quote values.
const VALIDATIONS: &[(&str, Meaning)] = &[
    ("does not match the schema", OTHER_KEYS),
    ("Missing the key", OTHER_KEYS),
    ("required keys", OTHER_KEYS),
    ("mismatch for key", OTHER_KEYS),
    ("number of conditions on the keys", OTHER_KEYS),
    ("key schema element", OTHER_KEYS),
    ("Item size", TOO_LARGE),
    ("item size", TOO_LARGE),
];

const SLOW_DOWN: Meaning = passing(
    ErrorKind::Throttled,
    "throttled",
    "the table or the account is asked for more than its throughput",
);
const TOO_MANY_CHANGES: Meaning = passing(
    ErrorKind::Throttled,
    "throttled",
    "the account is changing too many tables at once",
);
const FAILED: Meaning = passing(ErrorKind::Backend, "5xx", "the server failed");
const UNAVAILABLE: Meaning = passing(ErrorKind::Overloaded, "5xx", "the service is not available");
const BUSY: Meaning = passing(
    ErrorKind::Overloaded,
    "conflict",
    "another transaction or region is writing the item",
);
const BAD_KEYS: Meaning =
    unknown("AWS refuses the credentials; check the access key and its secret");
const BAD_SIGNATURE: Meaning =
    unknown("AWS refuses the signature; check the secret access key and the clock of this machine");
const UNSIGNED: Meaning =
    unknown("AWS takes the request for unsigned; check that the credentials are complete");
const OTHER_KEYS: Meaning = wrong(
    "the keys of table {table} are not those of the options; check_table says which they are",
);
const TOO_LARGE: Meaning = Meaning {
    kind: ErrorKind::TooLarge,
    code: "too_large",
    again: Again::Never,
    message: "the item is larger than the server takes",
};
const COLLECTION_FULL: Meaning = Meaning {
    message: "the items under the partition key leave no room",
    ..TOO_LARGE
};
const INVALID: Meaning = Meaning {
    kind: ErrorKind::Backend,
    code: "invalid",
    again: Again::Never,
    message: "the server takes the request for invalid",
};

/// Trouble that passes.
const fn passing(kind: ErrorKind, code: &'static str, message: &'static str) -> Meaning {
    Meaning {
        kind,
        code,
        again: Again::Later,
        message,
    }
}

/// A table or an account that is not what the options take it for.
const fn wrong(message: &'static str) -> Meaning {
    correct("config", message)
}

/// Credentials that AWS does not take.
const fn unknown(message: &'static str) -> Meaning {
    correct("auth", message)
}

/// Something that somebody has to correct.
const fn correct(code: &'static str, message: &'static str) -> Meaning {
    Meaning {
        kind: ErrorKind::Configuration,
        code,
        again: Again::Never,
        message,
    }
}

/// What an error of this code and text means, or one of this HTTP status where the code says
/// nothing; none where nothing is known.
pub(super) fn meaning_of(code: &str, text: &str, status: u16) -> Option<Meaning> {
    let known = CODES.iter().find(|(known, _)| is_about(known, code));
    if let Some((_, meaning)) = known {
        return Some(*meaning);
    }
    if code.starts_with("Validation") {
        let known = VALIDATIONS.iter().find(|(part, _)| text.contains(part));
        return Some(known.map_or(INVALID, |(_, meaning)| *meaning));
    }
    match status {
        429 => Some(SLOW_DOWN),
        503 => Some(UNAVAILABLE),
        500.. => Some(FAILED),
        _ => None,
    }
}

fn is_about(known: &str, code: &str) -> bool {
    match known.strip_suffix('*') {
        Some(beginning) => code.starts_with(beginning),
        None => code == known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_error_has_its_kind() {
        use ErrorKind::{Backend, Configuration, Overloaded, Throttled, TooLarge, Unsupported};

        // Code, status, kind, and whether it passes by itself.
        let cases = [
            (
                "ProvisionedThroughputExceededException",
                400,
                Throttled,
                true,
            ),
            ("ThrottlingException", 400, Throttled, true),
            ("Throttling", 400, Throttled, true),
            ("RequestLimitExceeded", 400, Throttled, true),
            ("LimitExceededException", 400, Throttled, true),
            ("InternalServerError", 500, Backend, true),
            ("InternalFailure", 500, Backend, true),
            ("ServiceUnavailable", 503, Overloaded, true),
            ("ServiceUnavailableException", 503, Overloaded, true),
            ("TransactionConflictException", 400, Overloaded, true),
            ("TransactionInProgressException", 400, Overloaded, true),
            ("ReplicatedWriteConflictException", 400, Overloaded, true),
            ("ResourceNotFoundException", 400, Configuration, false),
            ("ResourceInUseException", 400, Configuration, false),
            ("AccessDeniedException", 400, Configuration, false),
            ("AccessDenied", 403, Configuration, false),
            ("ExpiredTokenException", 400, Configuration, false),
            ("ExpiredToken", 403, Configuration, false),
            ("RequestExpired", 400, Configuration, false),
            ("UnrecognizedClientException", 400, Configuration, false),
            ("InvalidClientTokenId", 403, Configuration, false),
            ("InvalidSignatureException", 400, Configuration, false),
            ("SignatureDoesNotMatch", 403, Configuration, false),
            (
                "MissingAuthenticationTokenException",
                400,
                Configuration,
                false,
            ),
            ("MissingAuthenticationToken", 403, Configuration, false),
            ("IncompleteSignatureException", 400, Configuration, false),
            ("IncompleteSignature", 400, Configuration, false),
            ("OptInRequired", 403, Configuration, false),
            ("KMSInvalidStateException", 400, Configuration, false),
            ("UnknownOperationException", 400, Unsupported, false),
            (
                "ItemCollectionSizeLimitExceededException",
                400,
                TooLarge,
                false,
            ),
            ("ValidationException", 400, Backend, false),
            ("NewException", 502, Backend, true),
            ("", 500, Backend, true),
            ("", 503, Overloaded, true),
            ("", 429, Throttled, true),
        ];
        for (code, status, kind, transient) in cases {
            let meaning = meaning_of(code, "", status).unwrap();
            let passes = meaning.again != Again::Never;
            assert_eq!((meaning.kind, passes), (kind, transient), "{code} {status}");
        }
        for (known, _) in CODES {
            let has_case = cases.iter().any(|(code, ..)| is_about(known, code));
            assert!(has_case, "{known} has no case");
        }
        for (code, status) in [("NewException", 400), ("", 404)] {
            assert!(meaning_of(code, "", status).is_none(), "{code} {status}");
        }
    }

    #[test]
    fn every_server_error_has_its_code() {
        let cases: [(&str, &[(u16, &str)]); 8] = [
            (
                "throttled",
                &[
                    (400, "ProvisionedThroughputExceededException"),
                    (400, "ThrottlingException"),
                    (400, "Throttling"),
                    (400, "RequestLimitExceeded"),
                    (400, "LimitExceededException"),
                    (429, ""),
                ],
            ),
            (
                "5xx",
                &[
                    (500, "InternalServerError"),
                    (500, "InternalFailure"),
                    (503, "ServiceUnavailable"),
                    (502, "NewException"),
                    (503, ""),
                ],
            ),
            (
                "conflict",
                &[
                    (400, "TransactionConflictException"),
                    (400, "TransactionInProgressException"),
                    (400, "ReplicatedWriteConflictException"),
                ],
            ),
            (
                "config",
                &[
                    (400, "ResourceNotFoundException"),
                    (400, "ResourceInUseException"),
                    (403, "OptInRequired"),
                    (400, "KMSDisabledException"),
                ],
            ),
            (
                "auth",
                &[
                    (400, "ExpiredTokenException"),
                    (400, "UnrecognizedClientException"),
                    (403, "InvalidClientTokenId"),
                    (400, "InvalidSignatureException"),
                    (403, "SignatureDoesNotMatch"),
                    (400, "RequestExpired"),
                    (403, "MissingAuthenticationToken"),
                    (400, "IncompleteSignature"),
                ],
            ),
            ("noperm", &[(400, "AccessDeniedException")]),
            (
                "too_large",
                &[(400, "ItemCollectionSizeLimitExceededException")],
            ),
            ("unsupported", &[(400, "UnknownOperationException")]),
        ];
        for (expected, errors) in cases {
            for (status, code) in errors {
                let meaning = meaning_of(code, "", *status).unwrap();
                assert_eq!(meaning.code, expected, "{code} {status}");
            }
        }
        let all = || cases.iter().flat_map(|(_, errors)| *errors);
        for (known, _) in CODES {
            let has_case = all().any(|(_, code)| is_about(known, code));
            assert!(has_case, "{known} has no case");
        }
    }

    #[test]
    fn a_validation_error_is_told_by_its_text() {
        let schema = ErrorKind::Configuration;
        for (text, kind) in [
            ("The provided key element does not match the schema", schema),
            ("Missing the key SK in the item", schema),
            ("One of the required keys was not given a value", schema),
            ("Type mismatch for key PK expected: N actual: S", schema),
            ("The number of conditions on the keys is invalid", schema),
            ("Query condition missed key schema element: PK", schema),
            (
                "Item size has exceeded the maximum allowed size",
                ErrorKind::TooLarge,
            ),
            (
                "Aggregated item size has exceeded the limit",
                ErrorKind::TooLarge,
            ),
            ("Invalid UpdateExpression", ErrorKind::Backend),
        ] {
            let meaning = meaning_of("ValidationException", text, 400).unwrap();
            let code = match kind {
                ErrorKind::Configuration => "config",
                ErrorKind::TooLarge => "too_large",
                _ => "invalid",
            };
            assert_eq!((meaning.kind, meaning.code), (kind, code), "{text}");
        }
    }
}
