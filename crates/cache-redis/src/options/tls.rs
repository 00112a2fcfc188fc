//! How a connection is encrypted.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How connections are encrypted: TLS 1.2 or 1.3 by rustls with ring.
///
/// Server certificates are always verified, against the roots and the host's name, and there is no
/// way to go on in plain text. Defaults to the embedded roots, no client certificate, and the name
/// of the host. Files are read by the first connection; the configuration made of them is kept for
/// all connections, so that later ones resume the session.
///
/// ```
/// use cache_redis::{RedisOptions, TlsOptions};
///
/// let tls = TlsOptions::new().with_roots_file("/etc/ssl/cache-ca.pem");
/// let options = RedisOptions::new("cache.internal", 6379).with_tls(tls);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    pub(crate) roots: Roots,
    pub(crate) client_certificate: Option<ClientCertificate>,
    pub(crate) server_name: Option<String>,
    #[cfg(feature = "tls")]
    pub(crate) connector: Arc<std::sync::OnceLock<tokio_rustls::TlsConnector>>,
}

/// Which authorities are trusted.
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS reads it"))]
#[derive(Debug, Clone, Default)]
pub(crate) enum Roots {
    /// Mozilla's, as they were when this was compiled.
    #[default]
    Embedded,
    /// Those of the operating system.
    System,
    /// These and no others.
    Given(Pem),
}

#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS reads it"))]
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) chain: Pem,
    pub(crate) key: Pem,
}

/// Certificates or a key in PEM form. `Debug` shows no content.
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS reads it"))]
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Text(Arc<[u8]>),
}

impl TlsOptions {
    /// The default: embedded roots, no client certificate, the name of the host.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities of the operating system. Reading them takes some milliseconds of the
    /// first connection.
    #[must_use]
    pub fn with_system_roots(self) -> Self {
        self.with_roots(Roots::System)
    }

    /// Trusts the authorities in this PEM text and no others.
    #[must_use]
    pub fn with_roots_pem(self, pem: impl AsRef<[u8]>) -> Self {
        self.with_roots(Roots::Given(Pem::Text(pem.as_ref().into())))
    }

    /// Trusts the authorities in this PEM file and no others.
    #[must_use]
    pub fn with_roots_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_roots(Roots::Given(Pem::File(path.into())))
    }

    /// Shows the server this certificate, with its chain and private key in PEM form.
    #[must_use]
    pub fn with_client_certificate_pem(
        self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Self {
        let text = |pem: &[u8]| Pem::Text(pem.into());
        self.with_client_certificate(text(chain.as_ref()), text(key.as_ref()))
    }

    /// Shows the server the certificate in these PEM files: the chain, and the private key.
    #[must_use]
    pub fn with_client_certificate_files(
        self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.with_client_certificate(Pem::File(chain.into()), Pem::File(key.into()))
    }

    /// The name that the server's certificate has to be for. Defaults to the host that is
    /// connected to.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self.forgetting()
    }

    /// Whether everything that can be wrong with the certificates can be seen without I/O.
    #[cfg(feature = "tls")]
    pub(crate) fn is_all_text(&self) -> bool {
        let is_text = |pem: &Pem| matches!(pem, Pem::Text(_));
        let roots_are_text = match &self.roots {
            Roots::Embedded => true,
            Roots::System => false,
            Roots::Given(pem) => is_text(pem),
        };
        roots_are_text
            && self
                .client_certificate
                .as_ref()
                .is_none_or(|certificate| is_text(&certificate.chain) && is_text(&certificate.key))
    }

    fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self.forgetting()
    }

    fn with_client_certificate(mut self, chain: Pem, key: Pem) -> Self {
        self.client_certificate = Some(ClientCertificate { chain, key });
        self.forgetting()
    }

    /// Lets go of a configuration that was made of other options.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_mut, reason = "without TLS nothing is kept")
    )]
    fn forgetting(mut self) -> Self {
        #[cfg(feature = "tls")]
        {
            self.connector = Arc::default();
        }
        self
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("roots", &self.roots)
            .field("client_certificate", &self.client_certificate)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("***"),
        }
    }
}
