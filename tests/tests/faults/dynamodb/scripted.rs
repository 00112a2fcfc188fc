//! A DynamoDB that follows a script, and what its storage is to say.

use cache_core::{CacheError, ErrorKind, secs};
use cache_dynamo::{AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_testkit::servers::{Answer, Request, ScriptedHttp};

use crate::support::Recorded;

/// A server that follows a script, a storage on it, and what its observer was told.
#[derive(Debug)]
pub(super) struct Scripted {
    server: ScriptedHttp,
    pub(super) storage: DynamoDbCacheStorage,
    told: Recorded,
}

impl Scripted {
    /// With the default time limits, which are those of the matrix.
    pub(super) fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(script, |options| options)
    }

    /// With time limits that nothing reaches, for rows about what happens rather than when.
    pub(super) fn patient(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(script, patient)
    }

    pub(super) fn with(
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
        change: impl FnOnce(DynamoDbOptions) -> DynamoDbOptions,
    ) -> Self {
        let server = ScriptedHttp::start(script).expect("a port is free");
        let told = Recorded::default();
        let options = change(options(server.url()).with_observers(told.observers()));
        Self {
            server,
            storage: DynamoDbCacheStorage::new(options).expect("the options are sound"),
            told,
        }
    }

    /// How many requests came while `call` ran, and what was told meanwhile that looks like one
    /// of `words`, each; with its output.
    pub(super) async fn during<T, const N: usize>(
        &self,
        words: [&str; N],
        call: impl Future<Output = T>,
    ) -> (T, usize, [usize; N]) {
        let requests = self.server.requests().len();
        let before = words.map(|word| self.told_of(word));
        let output = call.await;
        let mut told = words.map(|word| self.told_of(word));
        told.iter_mut()
            .zip(before)
            .for_each(|(now, before)| *now -= before);
        (output, self.server.requests().len() - requests, told)
    }

    /// How often the observer was told something that has this word in it.
    pub(super) fn told_of(&self, word: &str) -> usize {
        self.told.count_of(|event| event.contains(word))
    }
}

/// Options with the default time limits.
pub(super) fn options(endpoint: String) -> DynamoDbOptions {
    let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter1"));
    DynamoDbOptions::new("cache")
        .with_region("eu-west-1")
        .with_endpoint(endpoint)
        .with_credentials(credentials)
}

/// Time limits that nothing reaches.
pub(super) fn patient(options: DynamoDbOptions) -> DynamoDbOptions {
    options
        .with_connect_timeout(secs(10))
        .with_timeout(secs(10))
        .with_attempt_timeout(secs(10))
        .with_bulk_timeout(secs(10))
}

/// The error of a call, which has to be of this kind and code.
pub(super) fn failed<T>(outcome: Result<T, CacheError>, kind: ErrorKind, code: &str) -> CacheError {
    let error = outcome.err().expect("the call cannot succeed");
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    error
}

/// A validation error with these words.
pub(super) fn refused_as(words: &str) -> Answer {
    let kind = "com.amazon.coral.validate#ValidationException";
    Answer::json(400, format!(r#"{{"__type":"{kind}","message":"{words}"}}"#))
}
