//! Whom HTTPS trusts.

use std::path::{Path, PathBuf};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use cache_core::ConfigurationError;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// The certificate authorities that may vouch for a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The five of Amazon Trust Services, which vouch for every endpoint of AWS. They are part of
    /// the program: parsing them takes a fraction of what the system's hundred and more would.
    #[default]
    Amazon,
    /// Those in a PEM file, and no others: for an endpoint with certificates of its own.
    File(PathBuf),
    /// Those of the operating system.
    System,
}

/// The authorities of Amazon Trust Services, as its repository publishes them.
const AMAZON: [&[u8]; 5] = [
    include_bytes!("../roots/amazon-root-ca-1.pem"),
    include_bytes!("../roots/amazon-root-ca-2.pem"),
    include_bytes!("../roots/amazon-root-ca-3.pem"),
    include_bytes!("../roots/amazon-root-ca-4.pem"),
    include_bytes!("../roots/starfield-services-root-ca-g2.pem"),
];

impl Roots {
    /// The certificates, read from their file if they are in one.
    pub(crate) fn load(&self) -> Result<TrustStore, ConfigurationError> {
        match self {
            Self::Amazon => Ok(AMAZON.iter().fold(TrustStore::empty(), |store, pem| {
                store.with_pem_certificate(*pem)
            })),
            Self::File(path) => {
                let pem = read(path)?;
                Ok(TrustStore::empty().with_pem_certificate(pem))
            }
            Self::System => Ok(TrustStore::empty().with_native_roots(true)),
        }
    }
}

/// The file, if it holds certificates and every one of them can be used: the HTTP client would
/// panic over one that cannot.
fn read(path: &Path) -> Result<Vec<u8>, ConfigurationError> {
    let refuse = |complaint: &str| {
        let problem = format!("the roots file {} {complaint}", path.display());
        ConfigurationError::new("the roots file", problem).with_value(path.display().to_string())
    };
    let pem = std::fs::read(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| refuse("is not in PEM format"))?;
        store
            .add(certificate)
            .map_err(|_| refuse("holds a certificate that cannot be used as a root"))?;
    }
    if store.is_empty() {
        return Err(refuse("holds no certificate"));
    }
    Ok(pem)
}

/// The TLS settings for `store`.
pub(crate) fn context(store: TrustStore) -> Result<TlsContext, ConfigurationError> {
    TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| ConfigurationError::new("TLS", format!("TLS cannot be set up: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_root_can_be_used() {
        let mut store = RootCertStore::empty();
        for pem in AMAZON {
            let certificate = CertificateDer::from_pem_slice(pem).unwrap();
            store.add(certificate).unwrap();
        }
        assert_eq!(store.len(), 5);
    }

    #[test]
    fn a_file_that_holds_no_roots_is_refused_by_name() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, text) in [("empty", ""), ("text", "hello"), ("broken", broken)] {
            let path = std::env::temp_dir().join(format!("{name}-{}.pem", std::process::id()));
            std::fs::write(&path, text).unwrap();
            let error = Roots::File(path.clone()).load().unwrap_err();
            assert!(error.problem.contains(name), "{error}");
            std::fs::remove_file(path).unwrap();
        }
        let error = Roots::File("/nowhere.pem".into()).load().unwrap_err();
        assert!(error.problem.starts_with("the roots file /nowhere.pem"));
    }
}
