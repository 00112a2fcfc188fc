//! What the SDK of any service is made from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider as TlsProvider, TlsContext};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use cache_core::{CacheError, ConfigurationError, ConfigurationErrors, secs};

use crate::credentials::{CredentialsCache, Provider};
use crate::options::AwsOptions;
use crate::roots::{Roots, context};

/// How long an unused connection is kept. Servers close theirs after 20 seconds and more; a
/// connection found closed costs the call that finds it a second attempt.
const IDLE: Duration = secs(15);

/// The way to AWS: made without network I/O, shared by the SDK clients of one storage.
#[derive(Debug, Clone)]
pub struct AwsClient {
    region: String,
    endpoint: Option<String>,
    https: Https,
    credentials: Arc<CredentialsCache>,
}

impl AwsClient {
    /// A client as `options` say. Reads the file of roots, if there is one, and does no other I/O.
    ///
    /// # Errors
    ///
    /// `Configuration` with everything in the options that cannot be.
    pub fn new(options: AwsOptions) -> Result<Self, CacheError> {
        let mut problems = options.problems();
        let https = Https::new(&options.roots, options.connect_timeout);
        let https = https.map_err(|problem| problems.push(problem)).ok();
        let (Some(https), Some(region), true) = (https, options.region, problems.is_empty()) else {
            return Err(ConfigurationErrors(problems).into());
        };
        Ok(Self {
            credentials: Arc::new(CredentialsCache::new(options.credentials, region.clone())),
            region,
            endpoint: options.endpoint,
            https,
        })
    }

    /// The region that is called.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The URL that is called instead of the region's own endpoint.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// What the SDK of a service is configured from: pinned in its behaviour and without the
    /// watch over slow bodies, which our deadlines make superfluous. Attempts and timeouts are the
    /// service's own business.
    #[must_use]
    pub fn sdk_config(&self) -> SdkConfig {
        let credentials = Provider(Arc::clone(&self.credentials));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(SharedHttpClient::new(self.https.clone()));
        config.set_endpoint_url(self.endpoint.clone());
        config.build()
    }

    /// How long an unused connection is kept, by the clock of the process. A caller who knows that
    /// more time has passed, as when a virtual machine was frozen, gives the connections up with
    /// [`renew_connections`](Self::renew_connections).
    pub const IDLE: Duration = IDLE;

    /// Lets later calls make new connections. Calls under way keep theirs.
    pub fn renew_connections(&self) {
        self.https.renew();
    }

    /// Whether credentials are at hand, so that a call can be signed at once.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_ready()
    }

    /// Waits for credentials. Whoever drops this loses nothing: the next one goes on waiting for
    /// the same.
    ///
    /// # Errors
    ///
    /// `Configuration`: there are none.
    pub async fn load_credentials(&self) -> Result<(), CacheError> {
        self.credentials.get().await.map(drop)
    }

    /// Lets go of credentials that AWS refused, so that the next call asks for new ones.
    pub fn forget_credentials(&self) {
        self.credentials.forget();
    }
}

/// An HTTP client. All SDK clients made with it share its connections; TLS is set up with the first
/// of them.
#[derive(Clone)]
pub(crate) struct Https(Arc<Inner>);

struct Inner {
    tls: TlsContext,
    connect_timeout: Duration,
    connector: RwLock<Option<SharedHttpConnector>>,
}

impl Https {
    /// A client that trusts `roots`.
    pub(crate) fn new(
        roots: &Roots,
        connect_timeout: Duration,
    ) -> Result<Self, ConfigurationError> {
        Ok(Self(Arc::new(Inner {
            tls: context(roots.load()?)?,
            connect_timeout,
            connector: RwLock::default(),
        })))
    }

    fn renew(&self) {
        let connector = self.0.connector.write();
        *connector.unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn connector(&self) -> SharedHttpConnector {
        let Inner { connector, .. } = &*self.0;
        let at_hand = connector.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = &*at_hand {
            return connector.clone();
        }
        drop(at_hand);
        let mut connector = connector.write().unwrap_or_else(PoisonError::into_inner);
        connector.get_or_insert_with(|| self.0.build()).clone()
    }
}

impl Inner {
    fn build(&self) -> SharedHttpConnector {
        let settings = HttpConnectorSettings::builder().connect_timeout(self.connect_timeout);
        let connector = Connector::builder()
            .connector_settings(settings.build())
            .pool_idle_timeout(IDLE)
            .enable_tcp_nodelay(true)
            .tls_provider(TlsProvider::Rustls(CryptoMode::Ring))
            .tls_context(self.tls.clone())
            .build();
        SharedHttpConnector::new(connector)
    }
}

impl HttpClient for Https {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.connector()
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{AwsCredentials, CredentialsSource};

    #[test]
    fn everything_wrong_is_said_at_once() {
        let options = AwsOptions {
            endpoint: Some("nowhere".to_owned()),
            roots: Roots::File("/nowhere.pem".into()),
            ..AwsOptions::new()
        };
        let text = AwsClient::new(options).unwrap_err().to_string();
        assert_eq!(text.matches(" | ").count(), 2, "{text}");
    }

    #[test]
    fn debug_shows_no_key() {
        let credentials = AwsCredentials::new("AKIA", "hunter2");
        let options = AwsOptions {
            region: Some("eu-west-1".to_owned()),
            credentials: CredentialsSource::fixed(credentials),
            ..AwsOptions::new()
        };
        let client = AwsClient::new(options).unwrap();
        let text = format!("{client:?} {:?}", client.sdk_config());
        assert!(!text.contains("hunter2"), "{text}");
    }
}
