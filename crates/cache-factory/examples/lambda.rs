//! A Lambda function that counts logins: one set of caches in a static, used again in every warm
//! invocation, and closed in order when Lambda ends the environment.
//!
//! `docs/lambda.md` goes through it step by step.

use std::sync::OnceLock;

use cache_factory::cache_core::{CacheError, CacheService, millis, mins};
use cache_factory::{CacheStorageFactory, Caches};
use lambda_runtime::{Error, LambdaEvent, service_fn, spawn_graceful_shutdown_handler};
use serde_json::{Value, json};

/// Everything that outlives an invocation.
struct Application {
    caches: Caches,
    sessions: CacheService,
    limits: CacheService,
}

static APPLICATION: OnceLock<Application> = OnceLock::new();

impl Application {
    /// No network I/O: a wrong variable ends the function here, with every problem at once.
    fn from_env() -> Result<Self, CacheError> {
        let caches = CacheStorageFactory::from_env()?;
        Ok(Self {
            sessions: caches.service("session").ttl(mins(15)).build()?,
            limits: caches.service("limit").build()?,
            caches,
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let application = Application::from_env()?;
    let application = APPLICATION.get_or_init(|| application);
    // The time before the first invocation is free. A backend that does not answer now is dialed
    // again by the first call, so this must not keep the function from starting.
    if let Err(error) = application.caches.warm_up().await {
        eprintln!("not warm: {error}");
    }
    // Lambda sends SIGTERM and waits 500 ms. The library installs no signal handler; this one is
    // the runtime's.
    spawn_graceful_shutdown_handler(|| async {
        let report = application.caches.shutdown(millis(300)).await;
        eprintln!("{report:?}");
    })
    .await;
    lambda_runtime::run(service_fn(|event| login(application, event))).await
}

async fn login(application: &Application, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let user = event.payload["user"].as_str().unwrap_or("nobody");
    // Counters never fall back, since two of them would be none: while the storage is away it is
    // for the application to say whether it lets people in.
    let attempts = application.limits.increment((user, "login"), 1, mins(1));
    if attempts.await.is_ok_and(|attempts| attempts.value > 10) {
        return Ok(json!({ "status": 429 }));
    }
    let known: Option<Value> = application.sessions.get(user).await?;
    let session = known.unwrap_or_else(|| json!({ "user": user }));
    application.sessions.set(user, &session).await?;
    Ok(json!({ "status": 200, "session": session }))
}
