//! Who signs requests.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use cache_core::{CacheError, ErrorKind, secs};
use futures_util::FutureExt as _;
use futures_util::future::Shared;

/// The keys that requests are signed with. `Debug` shows none of them.
#[derive(Clone)]
pub struct AwsCredentials(Credentials);

impl AwsCredentials {
    /// Keys that do not expire.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self(Credentials::new(
            access_key_id,
            secret_access_key,
            None,
            None,
            PROVIDER,
        ))
    }

    /// Adds the token that comes with temporary keys.
    #[must_use]
    pub fn with_session_token(self, token: impl Into<String>) -> Self {
        Self(Credentials::new(
            self.0.access_key_id(),
            self.0.secret_access_key(),
            Some(token.into()),
            self.0.expiry(),
            PROVIDER,
        ))
    }

    /// Says when the keys expire; new ones are asked for shortly before.
    #[must_use]
    pub fn with_expiry(mut self, expires_at: SystemTime) -> Self {
        *self.0.expiry_mut() = Some(expires_at);
        self
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").finish_non_exhaustive()
    }
}

/// What our credentials are called in the SDK's own messages.
const PROVIDER: &str = "cache";

/// How long before they expire credentials are replaced.
const MARGIN: Duration = secs(10);

/// A source that has not answered for this long never will: its connection died under it, perhaps
/// while the process was frozen.
const LOST_AFTER: Duration = secs(10);

/// Where credentials come from.
///
/// They are asked for at the first call, kept, and asked for again shortly before they expire or
/// after AWS refused them.
#[derive(Clone)]
pub struct CredentialsSource(Source);

#[derive(Clone)]
enum Source {
    Environment,
    Fixed(AwsCredentials),
    Function(Arc<Function>),
    #[cfg(feature = "aws-config")]
    Chain,
}

type Function = dyn Fn() -> Loading<AwsCredentials> + Send + Sync;

type Loading<T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send>>;

impl CredentialsSource {
    /// The variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, as a
    /// Lambda function has them.
    #[must_use]
    pub fn environment() -> Self {
        Self(Source::Environment)
    }

    /// Always these.
    #[must_use]
    pub fn fixed(credentials: AwsCredentials) -> Self {
        Self(Source::Fixed(credentials))
    }

    /// What `load` finds. It is called again when what it found expires; a call of the cache waits
    /// for it within its own deadline, and the next call goes on waiting for the same one, unless
    /// that has taken 10 seconds.
    #[must_use]
    pub fn from_fn<F, L>(load: F) -> Self
    where
        F: Fn() -> L + Send + Sync + 'static,
        L: Future<Output = Result<AwsCredentials, CacheError>> + Send + 'static,
    {
        Self(Source::Function(Arc::new(move || Box::pin(load()))))
    }

    /// The SDK's default chain: environment, profiles, web identity, containers, instances.
    #[cfg(feature = "aws-config")]
    #[must_use]
    pub fn default_chain() -> Self {
        Self(Source::Chain)
    }

    /// Begins to load.
    fn load(&self, _region: &str) -> Loading<Credentials> {
        match &self.0 {
            Source::Environment => Box::pin(std::future::ready(from_env())),
            Source::Fixed(AwsCredentials(credentials)) => {
                Box::pin(std::future::ready(Ok(credentials.clone())))
            }
            Source::Function(load) => {
                let load = Arc::clone(load);
                // Called when it is waited for: no code of others runs under our lock.
                Box::pin(async move { load().await.map(|AwsCredentials(found)| found) })
            }
            #[cfg(feature = "aws-config")]
            Source::Chain => Box::pin(chain::load(_region.to_owned())),
        }
    }
}

impl Default for CredentialsSource {
    fn default() -> Self {
        #[cfg(feature = "aws-config")]
        return Self::default_chain();
        #[cfg(not(feature = "aws-config"))]
        Self::environment()
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::Environment => "Environment",
            Source::Fixed(_) => "Fixed",
            Source::Function(_) => "Function",
            #[cfg(feature = "aws-config")]
            Source::Chain => "Chain",
        })
    }
}

/// What else there would be.
#[cfg(not(feature = "aws-config"))]
const CHAIN: &str = "; profiles and instances need the Cargo feature aws-config";
#[cfg(feature = "aws-config")]
const CHAIN: &str = "";

fn from_env() -> Result<Credentials, CacheError> {
    let read = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.ok_or_else(|| missing(&format!("{name} is not set{CHAIN}")))
    };
    Ok(Credentials::new(
        read("AWS_ACCESS_KEY_ID")?,
        read("AWS_SECRET_ACCESS_KEY")?,
        read("AWS_SESSION_TOKEN").ok(),
        None,
        PROVIDER,
    ))
}

fn missing(reason: &str) -> CacheError {
    CacheError::new(
        ErrorKind::Configuration,
        format!("no AWS credentials: {reason}"),
    )
}

/// Credentials at hand, or on their way.
pub(crate) struct CredentialsCache {
    source: CredentialsSource,
    region: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    at_hand: Option<Credentials>,
    /// Kept when its waiter leaves, so that a source slower than any one call is not begun anew
    /// by each.
    loading: Option<UnderWay>,
}

struct UnderWay {
    begun: Instant,
    load: Shared<Loading<Credentials>>,
}

impl CredentialsCache {
    pub(crate) fn new(source: CredentialsSource, region: String) -> Self {
        Self {
            source,
            region,
            state: Mutex::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.lock().fresh().is_some()
    }

    pub(crate) async fn get(&self) -> Result<Credentials, CacheError> {
        let loading = {
            let mut state = self.lock();
            if let Some(credentials) = state.fresh() {
                return Ok(credentials.clone());
            }
            let is_lost = |load: &UnderWay| load.begun.elapsed() >= LOST_AFTER;
            if state.loading.as_ref().is_some_and(is_lost) {
                state.loading = None;
            }
            let under_way = state.loading.get_or_insert_with(|| self.begin());
            under_way.load.clone()
        };
        let loaded = loading.clone().await;
        let mut state = self.lock();
        if state
            .loading
            .as_ref()
            .is_some_and(|current| current.load.ptr_eq(&loading))
        {
            state.loading = None;
            state.at_hand = loaded.as_ref().ok().cloned();
        }
        loaded
    }

    fn begin(&self) -> UnderWay {
        // Whoever waits next would otherwise meet the same panic again.
        let loading = AssertUnwindSafe(self.source.load(&self.region)).catch_unwind();
        let panicked = |_| Err(missing("their provider panicked"));
        let loading: Loading<_> =
            Box::pin(loading.map(move |loaded| loaded.unwrap_or_else(panicked)));
        UnderWay {
            begun: Instant::now(),
            load: loading.shared(),
        }
    }

    /// Lets go of credentials that AWS refused.
    pub(crate) fn forget(&self) {
        self.lock().at_hand = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fresh(&self) -> Option<&Credentials> {
        self.at_hand.as_ref().filter(|credentials| {
            let expiry = credentials.expiry();
            expiry.is_none_or(|expiry| SystemTime::now() + MARGIN < expiry)
        })
    }
}

impl fmt::Debug for CredentialsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CredentialsCache")
            .field(&self.source)
            .finish()
    }
}

/// The cache in the form that SDKs ask.
#[derive(Debug, Clone)]
pub(crate) struct Provider(pub(crate) Arc<CredentialsCache>);

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.0.get().await;
            credentials.map_err(CredentialsError::provider_error)
        })
    }
}

/// The SDK's default chain.
#[cfg(feature = "aws-config")]
mod chain {
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::ProvideCredentials as _;
    use cache_core::{CacheError, millis};

    use super::missing;
    use crate::client::Https;
    use crate::roots::Roots;

    /// What the first source of the chain that has credentials gives. Its own calls go to AWS,
    /// whatever roots the cache's endpoint needs.
    pub(super) async fn load(region: String) -> Result<Credentials, CacheError> {
        let client = Https::new(&Roots::Amazon, millis(500))?;
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(region))
            .http_client(client)
            .load()
            .await;
        let Some(provider) = config.credentials_provider() else {
            return Err(missing("the default chain is empty"));
        };
        let loaded = provider.provide_credentials().await;
        loaded.map_err(|_| missing("no source of the default chain has any"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn cache(source: CredentialsSource) -> CredentialsCache {
        CredentialsCache::new(source, "eu-west-1".to_owned())
    }

    #[tokio::test]
    async fn credentials_are_asked_for_once_and_again_when_they_expire() {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let source = CredentialsSource::from_fn(move || {
            let lifetime = match counted.fetch_add(1, Ordering::Relaxed) {
                0 => MARGIN / 2,
                _ => MARGIN * 60,
            };
            let credentials = AwsCredentials::new("id", "hunter2");
            async move { Ok(credentials.with_expiry(SystemTime::now() + lifetime)) }
        });
        let cache = cache(source);
        assert!(!cache.is_ready());
        cache.get().await.unwrap();
        assert!(!cache.is_ready(), "they are about to expire");
        cache.get().await.unwrap();
        cache.get().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        cache.forget();
        cache.get().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert!(!format!("{cache:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn who_leaves_does_not_make_the_next_one_begin_anew() {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let source = CredentialsSource::from_fn(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::task::yield_now().await;
                Ok(AwsCredentials::new("id", "hunter2"))
            }
        });
        let cache = cache(source);
        assert!(cache.get().now_or_never().is_none());
        cache.get().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_load_that_is_lost_is_begun_anew() {
        let asked = AtomicU32::new(0);
        let source = CredentialsSource::from_fn(move || {
            let attempt = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if attempt == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(AwsCredentials::new("id", "hunter2"))
            }
        });
        let cache = cache(source);
        for _ in 0..2 {
            assert!(cache.get().now_or_never().is_none());
        }
        let long_ago = Instant::now().checked_sub(LOST_AFTER).unwrap();
        cache.lock().loading.as_mut().unwrap().begun = long_ago;
        cache.get().await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_or_a_panic_is_not_kept() {
        let asked = AtomicU32::new(0);
        let source = CredentialsSource::from_fn(move || {
            let attempt = asked.fetch_add(1, Ordering::Relaxed);
            assert_ne!(attempt, 2, "the provider has a fault before it begins");
            async move {
                match attempt {
                    0 => Err(missing("the vault is closed")),
                    1 => panic!("the provider has a fault"),
                    _ => Ok(AwsCredentials::new("id", "hunter2")),
                }
            }
        });
        let cache = cache(source);
        for _ in 0..3 {
            let error = cache.get().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
        cache.get().await.unwrap();
    }

    #[test]
    fn debug_shows_no_key() {
        let credentials = AwsCredentials::new("AKIA", "hunter2").with_session_token("hunter3");
        let source = CredentialsSource::fixed(credentials.clone());
        let text = format!("{credentials:?} {source:?}");
        assert!(!text.contains("hunter") && !text.contains("AKIA"), "{text}");
    }
}
