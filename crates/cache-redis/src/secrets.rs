//! Passwords in AWS Secrets Manager.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::config::{Builder, IdentityCache};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use cache_aws::{AwsClient, AwsOptions, Trouble};
use cache_core::settings::{Setting, Settings};
use cache_core::{
    CacheError, ConfigurationError, ConfigurationErrors, ErrorKind, Result, millis, secs,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::credentials::{Credentials, CredentialsProvider};

/// How long one request may take, and all of them together.
const ATTEMPT_TIMEOUT: Duration = millis(700);
const TIMEOUT: Duration = millis(1_800);

/// The first pause between requests, and the longest.
const BACKOFF: Duration = millis(20);
const LONGEST_BACKOFF: Duration = millis(200);

/// A secret whose password is refused again and again is fetched at most this often.
const FETCH_EVERY: Duration = secs(1);

/// Names the region; set by Lambda.
const REGION: Setting = Setting {
    name: "AWS_REGION",
    meaning: "The region that is called.",
    accepts: "a region such as `eu-west-1`",
    default: "`AWS_DEFAULT_REGION`",
    secret: false,
};
const DEFAULT_REGION: Setting = Setting {
    name: "AWS_DEFAULT_REGION",
    default: "none",
    ..REGION
};

/// A password kept in AWS Secrets Manager.
///
/// The secret is either the password itself, or JSON with a `password` and perhaps a `username`,
/// which is how Secrets Manager's own rotation keeps it. It is fetched by the first connection,
/// kept, and fetched once more whenever the server refuses the password. Needs the permission
/// `secretsmanager:GetSecretValue` on the secret, and `kms:Decrypt` where it is encrypted with a
/// key of one's own.
///
/// ```
/// use cache_redis::cache_aws::AwsOptions;
/// use cache_redis::{PasswordSecret, RedisOptions};
///
/// # fn options() -> Result<RedisOptions, cache_core::CacheError> {
/// let secret = PasswordSecret::new("prod/redis", AwsOptions::new().with_region_from_env())?;
/// Ok(RedisOptions::new("cache.internal", 6379).with_credentials(secret))
/// # }
/// ```
pub struct PasswordSecret {
    id: String,
    aws: AwsClient,
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    credentials: Option<Credentials>,
    /// When the secret was last fetched because the server refused its password.
    refetched_at: Option<Instant>,
    /// Why that came to nothing, if it did.
    failure: Option<CacheError>,
}

impl PasswordSecret {
    /// The secret with this name or ARN. No network I/O.
    ///
    /// # Errors
    ///
    /// `Configuration`: no name, or something wrong with `aws`.
    pub fn new(id: impl Into<String>, aws: AwsOptions) -> Result<Self> {
        let id = id.into();
        if id.is_empty() || id.len() > 2_048 || id.contains(char::is_control) {
            let problem = "the secret's name is not a name or an ARN";
            return Err(ConfigurationError::new("secret", problem).into());
        }
        let aws = AwsClient::new(aws)?;
        let config = Builder::from(&aws.sdk_config())
            .retry_config(
                RetryConfig::standard()
                    .with_initial_backoff(BACKOFF)
                    .with_max_backoff(LONGEST_BACKOFF),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(TIMEOUT)
                    .build(),
            )
            // The SDK's own cache would keep what AWS refused.
            .identity_cache(IdentityCache::no_cache())
            .build();
        Ok(Self {
            id,
            client: Client::from_conf(config),
            aws,
            known: Mutex::default(),
        })
    }

    /// The secret that settings name, in the region they name.
    pub(crate) fn from_settings(
        id: &str,
        settings: &Settings,
        endpoint: &Setting,
    ) -> Result<Self, Vec<ConfigurationError>> {
        let region = settings.find(&REGION).or(settings.find(&DEFAULT_REGION));
        let mut aws = AwsOptions::new();
        aws.region = region.map(|found| found.value.to_owned());
        aws.endpoint = settings.find(endpoint).map(|found| found.value.to_owned());
        Self::new(id, aws).map_err(|error| problems(&error))
    }

    async fn fetch(&self) -> Result<Credentials> {
        self.aws.load_credentials().await?;
        let request = self.client.get_secret_value().secret_id(&self.id);
        let secret = match request.send().await {
            Ok(secret) => secret,
            Err(error) => return Err(self.failure(&error)),
        };
        let binary = secret.secret_binary().map(AsRef::as_ref);
        let text = secret
            .secret_string()
            .or_else(|| std::str::from_utf8(binary?).ok());
        text.and_then(parse).ok_or_else(|| {
            self.wrong("holds neither a password nor JSON with the field \"password\"")
        })
    }

    fn failure(&self, error: &SdkError<GetSecretValueError>) -> CacheError {
        let region = self.aws.region();
        match error {
            SdkError::ServiceError(service) => self.refusal(service.err()),
            SdkError::TimeoutError(_) => {
                let message = format!("Secrets Manager in {region} did not answer in time");
                CacheError::new(ErrorKind::Timeout, message)
            }
            SdkError::DispatchFailure(failure) => {
                let trouble = failure.as_connector_error().map(Trouble::of);
                let reason = trouble.map_or("the request failed", Trouble::reason);
                let kind = match trouble {
                    Some(Trouble::Tls(_)) => ErrorKind::Configuration,
                    _ => ErrorKind::Connection,
                };
                CacheError::new(kind, format!("Secrets Manager in {region}: {reason}"))
            }
            SdkError::ConstructionFailure(_) => {
                let message = "the request to Secrets Manager cannot be made or signed";
                CacheError::new(ErrorKind::Configuration, message)
            }
            _ => {
                let message = format!("Secrets Manager in {region} gave an answer that is none");
                CacheError::new(ErrorKind::Connection, message)
            }
        }
    }

    /// What Secrets Manager refuses, by its error's code. Its text is not repeated.
    fn refusal(&self, error: &GetSecretValueError) -> CacheError {
        let region = self.aws.region();
        match error.code().unwrap_or_default() {
            "ResourceNotFoundException" => self.wrong(&format!(
                "does not exist in {region}, or is about to be deleted"
            )),
            "AccessDeniedException" | "AccessDenied" => self.wrong(
                "may not be read; the role needs secretsmanager:GetSecretValue, \
                 and kms:Decrypt where it has a key of its own",
            ),
            "DecryptionFailure" => self.wrong("cannot be decrypted; the role needs kms:Decrypt"),
            "ExpiredTokenException" | "ExpiredToken" => {
                self.aws.forget_credentials();
                self.wrong("cannot be read: the AWS credentials have expired")
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" => {
                self.aws.forget_credentials();
                self.wrong("cannot be read: AWS refuses the credentials")
            }
            "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignatureException" => {
                self.wrong("cannot be read: AWS refuses the credentials")
            }
            "ThrottlingException" => {
                let message = "Secrets Manager asked to slow down";
                CacheError::new(ErrorKind::Throttled, message)
            }
            _ => {
                let message = format!("Secrets Manager in {region} refused the request");
                CacheError::new(ErrorKind::Connection, message)
            }
        }
    }

    fn wrong(&self, complaint: &str) -> CacheError {
        let problem = format!("the secret {} {complaint}", self.id);
        ConfigurationError::new("secret", problem).into()
    }
}

#[async_trait]
impl CredentialsProvider for PasswordSecret {
    async fn credentials(&self, refused: Option<&Credentials>) -> Result<Credentials> {
        // Whoever waits here gets what the one before has fetched.
        let mut known = self.known.lock().await;
        let now = Instant::now();
        let is_refused = refused.is_some() && refused == known.credentials.as_ref();
        let is_recent = known
            .refetched_at
            .is_some_and(|at| now.saturating_duration_since(at) < FETCH_EVERY);
        if let Some(credentials) = &known.credentials
            && (!is_refused || is_recent)
        {
            return match &known.failure {
                Some(failure) if is_refused => Err(failure.clone()),
                _ => Ok(credentials.clone()),
            };
        }
        if is_refused {
            known.refetched_at = Some(now);
        }
        let fetched = self.fetch().await;
        known.failure = fetched.as_ref().err().cloned();
        let credentials = fetched?;
        known.credentials = Some(credentials.clone());
        Ok(credentials)
    }
}

impl fmt::Debug for PasswordSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordSecret")
            .field("id", &self.id)
            .field("region", &self.aws.region())
            .field("endpoint", &self.aws.endpoint())
            .finish_non_exhaustive()
    }
}

/// The problems that an error of configuration lists.
fn problems(error: &CacheError) -> Vec<ConfigurationError> {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<ConfigurationErrors>()) {
        Some(ConfigurationErrors(problems)) => problems.clone(),
        None => vec![ConfigurationError::new("secret", error.message())],
    }
}

/// The credentials in a secret: a JSON object with a password, or the password itself.
fn parse(text: &str) -> Option<Credentials> {
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text) {
        let field = |name: &str| {
            let value = fields.get(name)?.as_str()?;
            (!value.is_empty()).then_some(value)
        };
        let credentials = Credentials::new(field("password")?);
        return Some(match field("username") {
            Some(username) => credentials.with_username(username),
            None => credentials,
        });
    }
    let password = text.trim_end_matches(['\r', '\n']);
    (!password.is_empty()).then(|| Credentials::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_json_or_the_password_itself() {
        let credentials = parse(r#"{"username":"app","password":"p","port":6379}"#);
        let expected = Credentials::new("p").with_username("app");
        assert_eq!(credentials, Some(expected));
        assert_eq!(parse(r#"{"password":"p"}"#), Some(Credentials::new("p")));
        for plain in ["hunter2", "{not json", "[1]", "42", "\"quoted\""] {
            assert_eq!(parse(plain), Some(Credentials::new(plain)), "{plain}");
        }
        assert_eq!(parse("hunter2\n"), Some(Credentials::new("hunter2")));
        for nothing in ["", "\n", "{}", r#"{"password":""}"#, r#"{"password":7}"#] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_secret_needs_a_name_and_a_region() {
        let endpoint = Setting {
            name: "CACHE_REDIS_PASSWORD_SECRET_ENDPOINT",
            ..REGION
        };
        let settings = Settings::from_pairs([(endpoint.name, "nowhere")]);
        let problems = PasswordSecret::from_settings("s", &settings, &endpoint).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let settings = Settings::from_pairs([("AWS_DEFAULT_REGION", "eu-west-1")]);
        let secret = PasswordSecret::from_settings("s", &settings, &endpoint).unwrap();
        assert!(format!("{secret:?}").contains("eu-west-1"));
        assert!(PasswordSecret::from_settings("", &settings, &endpoint).is_err());
    }
}
