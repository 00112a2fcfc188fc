//! Encrypted connections: one configuration for all of them, and what goes wrong with it.

use std::io;
use std::sync::Arc;

use cache_core::ErrorKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
};

use crate::error::Failure;
use crate::options::{ClientCertificate, Pem, Roots, TlsOptions};

/// Encrypts a connection to `host`.
pub(super) async fn encrypt(
    options: &TlsOptions,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let connector = connector(options)?;
    let name = options.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| refused("the server's name cannot be that of a certificate"))?;
    connector
        .connect(name, stream)
        .await
        .map_err(|error| handshake_failure(&error))
}

/// The configuration made of `options`, kept once it was made: sessions are resumed through it.
pub(crate) fn connector(options: &TlsOptions) -> Result<&TlsConnector, Failure> {
    if let Some(connector) = options.connector.get() {
        return Ok(connector);
    }
    let config = config(options)?;
    // Of two made at the same time the first one stays.
    Ok(options
        .connector
        .get_or_init(|| TlsConnector::from(Arc::new(config))))
}

fn config(options: &TlsOptions) -> Result<ClientConfig, Failure> {
    // The provider is named, since with two in a program the default one panics.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| refused("TLS 1.2 and 1.3 are not available"))?
        .with_root_certificates(roots(&options.roots)?);
    match &options.client_certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCertificate { chain, key }) => builder
            .with_client_auth_cert(certificates(chain)?, private_key(key)?)
            .map_err(|_| refused("the client certificate and its key do not fit each other")),
    }
}

fn roots(roots: &Roots) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Embedded => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
        Roots::Given(pem) => {
            for certificate in certificates(pem)? {
                let added = store.add(certificate);
                added.map_err(|_| refused(format!("{} cannot be a root", shown(pem))))?;
            }
        }
    }
    if store.is_empty() {
        return Err(refused("there is no root certificate to trust"));
    }
    Ok(store)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content(pem)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(refused(format!(
            "{} has no certificate in PEM form",
            shown(pem)
        ))),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Failure> {
    let key = PrivateKeyDer::from_pem_slice(&content(pem)?);
    key.map_err(|_: pem::Error| refused(format!("{} has no private key in PEM form", shown(pem))))
}

fn content(pem: &Pem) -> Result<Arc<[u8]>, Failure> {
    match pem {
        Pem::Text(text) => Ok(Arc::clone(text)),
        Pem::File(path) => match std::fs::read(path) {
            Ok(content) => Ok(content.into()),
            Err(error) => Err(refused(format!(
                "{} cannot be read: {}",
                path.display(),
                error.kind()
            ))),
        },
    }
}

fn shown(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Text(_) => "the given PEM text".to_owned(),
    }
}

fn handshake_failure(error: &io::Error) -> Failure {
    tls_failure(error).unwrap_or_else(|| {
        let reason = "the connection was closed during the TLS handshake; \
                      does the server expect TLS on this port?";
        Failure::new(ErrorKind::Connection, reason).with_code("tls")
    })
}

/// What a connection's error says about TLS; none where it is about something else.
pub(super) fn tls_failure(error: &io::Error) -> Option<Failure> {
    let error: &TlsError = error.get_ref()?.downcast_ref()?;
    Some(match error {
        TlsError::InvalidCertificate(reason) => refused(certificate_complaint(reason)),
        TlsError::NoCertificatesPresented => refused("the server showed no certificate"),
        TlsError::AlertReceived(alert) => alert_failure(*alert),
        TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => {
            refused("the server does not speak TLS on this port; use its TLS port, or redis://")
        }
        TlsError::PeerIncompatible(_) => {
            refused("server and client have no TLS version or cipher in common")
        }
        _ => Failure::new(ErrorKind::Connection, "the TLS connection failed").with_code("tls"),
    })
}

fn certificate_complaint(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; is this machine's clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another host name; connect by the name it is for, \
             or give that as the TLS server name"
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is from an authority that is not trusted; \
             give the authority's certificate as TLS root"
        }
        CertificateError::Revoked => "the server's certificate was revoked",
        _ => "the server's certificate is not valid",
    }
}

fn alert_failure(alert: AlertDescription) -> Failure {
    match alert {
        AlertDescription::CertificateRequired => {
            refused("the server requires a client certificate")
        }
        // What OpenSSL says where a client certificate is missing under TLS 1.2.
        AlertDescription::HandshakeFailure => {
            refused("the server refused the TLS handshake; does it require a client certificate?")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => refused("the server refuses the client certificate"),
        AlertDescription::ProtocolVersion => {
            refused("server and client have no TLS version or cipher in common")
        }
        AlertDescription::UnrecognisedName => refused("the server does not know its host name"),
        _ => Failure::new(
            ErrorKind::Connection,
            "the server ended the TLS connection with an alert",
        )
        .with_code("tls"),
    }
}

fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Configuration, reason).with_code("tls")
}
