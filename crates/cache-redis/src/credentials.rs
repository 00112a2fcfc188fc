//! Where user and password of a new connection come from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cache_core::{CacheError, ConfigurationError, Result};

/// Where user and password of a new connection come from.
///
/// Asked once for each new connection, never for a connection that is there: what a provider says
/// later holds for the connections made later. That is how passwords are rotated, and why tokens
/// that live for minutes fit, such as those of ElastiCache's IAM authentication: make a new one
/// whenever [`credentials`](Self::credentials) is called.
///
/// ```
/// use async_trait::async_trait;
/// use cache_core::CacheError;
/// use cache_redis::{Credentials, CredentialsProvider, RedisOptions};
///
/// #[derive(Debug)]
/// struct IamToken;
///
/// #[async_trait]
/// impl CredentialsProvider for IamToken {
///     async fn credentials(&self, _refused: Option<&Credentials>) -> Result<Credentials, CacheError> {
///         # let presigned = String::from("cache.internal/?Action=connect");
///         // Presign the request that ElastiCache wants, valid for 15 minutes.
///         Ok(Credentials::new(presigned).with_username("iam-user"))
///     }
/// }
///
/// let options = RedisOptions::new("cache.internal", 6379).with_credentials(IamToken);
/// ```
#[async_trait]
pub trait CredentialsProvider: fmt::Debug + Send + Sync + 'static {
    /// The credentials for a new connection.
    ///
    /// `refused` is what the server has just refused, if this provider gave it: a provider that
    /// keeps what it has fetched then fetches anew, unless it has done so since. Called at most
    /// twice for a connection; credentials equal to the refused ones end the attempt.
    ///
    /// May be dropped at any time. Has 2 seconds, which do not count as time for the connection;
    /// callers wait no longer than their own deadlines.
    ///
    /// # Errors
    ///
    /// `Configuration` where somebody has to correct something, `Connection` or `Timeout` where
    /// the place the credentials are kept in could not be reached. Never a secret in the text.
    async fn credentials(&self, refused: Option<&Credentials>) -> Result<Credentials>;
}

/// User and password of a connection. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Option<Arc<str>>,
    password: Arc<str>,
}

impl Credentials {
    /// A password, for the user of [`RedisOptions::username`](crate::RedisOptions::username), or
    /// else the server's default user.
    #[must_use]
    pub fn new(password: impl AsRef<str>) -> Self {
        Self {
            username: None,
            password: password.as_ref().into(),
        }
    }

    /// Says whose password it is. [`RedisOptions::username`](crate::RedisOptions::username) goes
    /// before this.
    #[must_use]
    pub fn with_username(mut self, username: impl AsRef<str>) -> Self {
        self.username = Some(username.as_ref().into());
        self
    }

    pub(crate) fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A password that is known from the start.
pub(crate) struct FixedPassword(pub(crate) Credentials);

impl fmt::Debug for FixedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[async_trait]
impl CredentialsProvider for FixedPassword {
    async fn credentials(&self, _refused: Option<&Credentials>) -> Result<Credentials> {
        Ok(self.0.clone())
    }
}

/// A password in a file, read anew for each connection; a line break at its end does not count.
#[derive(Debug, Clone)]
pub struct PasswordFile {
    path: PathBuf,
}

impl PasswordFile {
    /// The password in the file at `path`. No I/O.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl CredentialsProvider for PasswordFile {
    async fn credentials(&self, _refused: Option<&Credentials>) -> Result<Credentials> {
        let shown = self.path.display();
        let refuse = |complaint: String| -> CacheError {
            let problem = format!("the password file {shown} {complaint}");
            ConfigurationError::new("password file", problem).into()
        };
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| refuse(format!("cannot be read: {}", error.kind())))?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(refuse("is empty".to_owned()));
        }
        Ok(Credentials::new(password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &str) -> Result<Credentials> {
        let name = format!("cache-redis-password-{}", std::process::id());
        let path = std::env::temp_dir().join(format!("{name}-{}", content.len()));
        std::fs::write(&path, content).unwrap();
        let read = PasswordFile::new(&path).credentials(None).await;
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[tokio::test]
    async fn a_file_holds_a_password_and_perhaps_a_line_break() {
        for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(read(content).await.unwrap().password(), "hunter2");
        }
        assert_eq!(read("a\nb \n\n").await.unwrap().password(), "a\nb \n");
    }

    #[tokio::test]
    async fn a_file_without_a_password_is_refused() {
        for content in ["", "\n"] {
            let error = read(content).await.unwrap_err();
            assert!(error.to_string().ends_with("is empty"), "{error}");
        }
        let missing = PasswordFile::new("/nonexistent/password");
        let error = missing.credentials(None).await.unwrap_err();
        assert_eq!(error.kind(), cache_core::ErrorKind::Configuration);
        assert!(
            error.to_string().contains("/nonexistent/password"),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let credentials = Credentials::new("hunter2").with_username("hunter3");
        let shown = format!("{credentials:?} {:?}", FixedPassword(credentials.clone()));
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
