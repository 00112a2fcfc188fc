//! A server that follows a script, with a table to execute requests on.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{CacheError, secs};
use cache_dynamo::{AwsCredentials, CredentialsSource, DynamoDbCacheStorage, DynamoDbOptions};
use cache_testkit::servers::{Answer, Request, ScriptedHttp};

use super::model::Model;
use crate::support::storage;

/// The table that every script is about.
pub(crate) const TABLE: &str = "cache";

/// Most tests ask what is answered, not how soon.
const PATIENCE: Duration = secs(10);

/// A server that answers each request as a test says, and may or may not execute it.
#[derive(Debug)]
pub(crate) struct Stub {
    server: ScriptedHttp,
    model: Arc<Mutex<Model>>,
}

impl Stub {
    /// Starts a server. `script` gives the answer to each request; what it executes, it executes
    /// on the model.
    pub(crate) fn start(
        script: impl Fn(&Request, &mut Model) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let model = Arc::new(Mutex::new(Model::default()));
        let table = Arc::clone(&model);
        let answer = move |request: &Request| script(request, &mut lock(&table));
        Self {
            server: ScriptedHttp::start(answer).expect("a port is free"),
            model,
        }
    }

    /// A server that gives the same answer to everything and executes nothing.
    pub(crate) fn saying(answer: Answer) -> Self {
        Self::start(move |_, _| answer.clone())
    }

    /// Options with more time than a busy machine takes.
    pub(crate) fn options(&self) -> DynamoDbOptions {
        self.default_options()
            .with_connect_timeout(PATIENCE)
            .with_timeout(PATIENCE)
            .with_attempt_timeout(PATIENCE)
            .with_bulk_timeout(PATIENCE)
    }

    /// Options with the default budgets, for tests of how long things take.
    pub(crate) fn default_options(&self) -> DynamoDbOptions {
        let credentials = CredentialsSource::fixed(AwsCredentials::new("AKIA", "hunter1"));
        DynamoDbOptions::new(TABLE)
            .with_region("eu-west-1")
            .with_endpoint(self.server.url())
            .with_credentials(credentials)
    }

    /// A storage with more time than a busy machine takes.
    pub(crate) fn storage(&self) -> DynamoDbCacheStorage {
        storage(self.options())
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// How many requests came while `future` ran, with its output.
    pub(crate) async fn counting<T>(&self, future: impl Future<Output = T>) -> (T, usize) {
        let before = self.requests().len();
        let output = future.await;
        (output, self.requests().len() - before)
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything an error says, to people and to developers, its sources included.
pub(crate) fn whole_text(error: &CacheError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}
