//! Every error that the server may answer, over the wire.

use cache_core::{CacheError, CacheKey, CacheStorage, Condition, ErrorKind};
use cache_testkit::servers::Answer;

use super::stub::{Stub, whole_text};
use crate::support::{entry, fetch, minute, refusal};

/// Whether it passes, and what became of a write meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Recovery {
    /// Somebody has to correct something.
    Never,
    /// Later; the request was not executed.
    Refused,
    /// Later; the request may have been executed.
    Unknown,
}

/// What error answers have to become: the kind, whether they pass, a part of the message, and the
/// answers, by status and code.
type Meaning = (
    ErrorKind,
    Recovery,
    &'static str,
    &'static [(u16, &'static str)],
);

const MEANINGS: &[Meaning] = {
    use ErrorKind::{Backend, Configuration, Overloaded, Throttled, TooLarge, Unsupported};
    use Recovery::{Never, Refused, Unknown};
    &[
        (
            Throttled,
            Refused,
            "asked for more than its throughput",
            &[
                (400, "ProvisionedThroughputExceededException"),
                (400, "ThrottlingException"),
                (400, "Throttling"),
                (400, "RequestLimitExceeded"),
                (429, "SomethingNew"),
            ],
        ),
        (
            Throttled,
            Refused,
            "too many tables at once",
            &[(400, "LimitExceededException")],
        ),
        (
            Backend,
            Unknown,
            "the server failed",
            &[
                (500, "InternalServerError"),
                (500, "InternalFailure"),
                (502, "SomethingNew"),
            ],
        ),
        (
            Overloaded,
            Unknown,
            "the service is not available",
            &[
                (503, "ServiceUnavailable"),
                (503, "ServiceUnavailableException"),
                (503, "SomethingNew"),
            ],
        ),
        (
            Overloaded,
            Refused,
            "another transaction or region",
            &[
                (400, "TransactionConflictException"),
                (400, "TransactionInProgressException"),
                (400, "ReplicatedWriteConflictException"),
            ],
        ),
        (
            Configuration,
            Never,
            "no table cache in eu-west-1; create it",
            &[(400, "ResourceNotFoundException")],
        ),
        (
            Configuration,
            Never,
            "table cache is being created, changed or deleted; wait",
            &[(400, "ResourceInUseException")],
        ),
        (
            Configuration,
            Never,
            "on table cache; allow it",
            &[(400, "AccessDeniedException"), (403, "AccessDenied")],
        ),
        (
            Configuration,
            Never,
            "the credentials have expired",
            &[(400, "ExpiredTokenException"), (403, "ExpiredToken")],
        ),
        (
            Configuration,
            Never,
            "check the access key and its secret",
            &[
                (400, "UnrecognizedClientException"),
                (403, "InvalidClientTokenId"),
            ],
        ),
        (
            Configuration,
            Never,
            "check the secret access key and the clock",
            &[
                (400, "InvalidSignatureException"),
                (403, "SignatureDoesNotMatch"),
                (400, "RequestExpired"),
            ],
        ),
        (
            Configuration,
            Never,
            "check that the credentials are complete",
            &[
                (400, "MissingAuthenticationTokenException"),
                (403, "MissingAuthenticationToken"),
                (400, "IncompleteSignatureException"),
                (400, "IncompleteSignature"),
            ],
        ),
        (
            Configuration,
            Never,
            "no access to DynamoDB in eu-west-1",
            &[(403, "OptInRequired")],
        ),
        (
            Configuration,
            Never,
            "check the key and its policy",
            &[
                (400, "KMSDisabledException"),
                (400, "KMSAccessDeniedException"),
            ],
        ),
        (
            Unsupported,
            Never,
            "does not know dynamodb:",
            &[(400, "UnknownOperationException")],
        ),
        (
            TooLarge,
            Never,
            "leave no room",
            &[(400, "ItemCollectionSizeLimitExceededException")],
        ),
        (Backend, Never, "invalid", &[(400, "ValidationException")]),
        (
            Backend,
            Never,
            "SomethingNew",
            &[(400, "SomethingNew"), (404, "SomethingNew")],
        ),
    ]
};

/// An error answer with a text that may be repeated nowhere.
fn answer(status: u16, code: &str, text: &str) -> Answer {
    let body = format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{text}","Message":"{text}"}}"#
    );
    Answer::json(status, body)
}

#[tokio::test]
async fn every_error_has_its_kind_its_words_and_its_number_of_requests() {
    for (kind, recovery, says, answers) in MEANINGS {
        for (status, code) in *answers {
            let stub = Stub::saying(answer(*status, code, "the value hunter2"));
            let case = format!("{status} {code}");
            for (failed, is_write, is_repeated) in all_operations(&stub).await {
                let (error, requests) = failed;
                let text = whole_text(&error);
                assert_eq!(error.kind(), *kind, "{case}: {text}");
                assert_eq!(
                    error.is_transient(),
                    *recovery != Recovery::Never,
                    "{case}: {text}"
                );
                let may_have_happened = is_write && *recovery == Recovery::Unknown;
                assert_eq!(
                    error.may_have_happened(),
                    may_have_happened,
                    "{case}: {text}"
                );
                assert!(error.message().contains(says), "{case}: {text}");
                assert!(!text.contains("hunter"), "{case}: {text}");
                let expected = match recovery {
                    Recovery::Never => 1,
                    Recovery::Unknown if !is_repeated => 1,
                    Recovery::Refused | Recovery::Unknown => 3,
                };
                assert_eq!(requests, expected, "{case}: {text}");
            }
        }
    }
}

/// The error and the number of requests of each operation; whether it is a write; whether it is
/// repeated after an attempt of unknown outcome.
async fn all_operations(stub: &Stub) -> Vec<((CacheError, usize), bool, bool)> {
    let storage = stub.storage();
    let (storage, key) = (&storage, &CacheKey::from("k"));
    let keys = std::slice::from_ref(key);
    let set = storage.set(key, entry("hunter3"), Condition::IfAbsent);
    let set_many = async {
        storage
            .set_many(vec![(key.clone(), entry("v"))])
            .await
            .remove(0)
    };
    let delete_many = async { storage.delete_many(keys).await.remove(0) };
    vec![
        (failing(stub, storage.get(key)).await, false, true),
        (failing(stub, storage.has(key)).await, false, true),
        (
            failing(stub, async { storage.get_many(keys).await.remove(0) }).await,
            false,
            true,
        ),
        (failing(stub, storage.ping()).await, false, true),
        (failing(stub, set).await, true, true),
        (failing(stub, set_many).await, true, true),
        (failing(stub, storage.delete(key)).await, true, true),
        (failing(stub, delete_many).await, true, true),
        (
            failing(stub, storage.expire(key, minute())).await,
            true,
            true,
        ),
        (
            failing(stub, storage.increment(key, 1, minute())).await,
            true,
            false,
        ),
        (
            failing(stub, storage.compare_and_delete(key, b"hunter3")).await,
            true,
            false,
        ),
    ]
}

async fn failing<T>(
    stub: &Stub,
    call: impl Future<Output = Result<T, CacheError>>,
) -> (CacheError, usize) {
    let (outcome, requests) = stub.counting(call).await;
    (refusal(outcome), requests)
}

#[tokio::test]
async fn a_code_that_looks_like_none_is_not_repeated() {
    for code in ["the value hunter2", "hunter2!", ""] {
        let stub = Stub::saying(answer(400, code, "hunter3"));
        let error = fetch(&stub.storage(), "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        assert!(!whole_text(&error).contains("hunter"), "{error:?}");
    }
}

#[tokio::test]
async fn a_validation_error_is_told_by_its_text_and_never_repeats_it() {
    for (text, kind) in [
        (
            "Item size has exceeded the maximum allowed size hunter2",
            ErrorKind::TooLarge,
        ),
        (
            "Item size to update has exceeded the maximum allowed size hunter2",
            ErrorKind::TooLarge,
        ),
        (
            "The provided key element does not match the schema hunter2",
            ErrorKind::Configuration,
        ),
        (
            "One or more parameter values were invalid: Missing the key hunter2",
            ErrorKind::Configuration,
        ),
        (
            "One of the required keys was not given a value hunter2",
            ErrorKind::Configuration,
        ),
        (
            "Type mismatch for key hunter2 expected: N actual: S",
            ErrorKind::Configuration,
        ),
        ("something hunter2", ErrorKind::Backend),
    ] {
        let stub = Stub::saying(answer(400, "ValidationException", text));
        let storage = stub.storage();
        let key = CacheKey::from("k");
        let set = async { refusal(storage.set(&key, entry("v"), Condition::Always).await) };
        let set_many = async {
            let entries = vec![(key.clone(), entry("v"))];
            refusal(storage.set_many(entries).await.remove(0))
        };
        for (error, requests) in [stub.counting(set).await, stub.counting(set_many).await] {
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(
                !error.is_transient() && !error.may_have_happened(),
                "{error}"
            );
            assert_eq!(requests, 1, "{text}");
            assert!(!whole_text(&error).contains("hunter"), "{error:?}");
        }
    }
}
