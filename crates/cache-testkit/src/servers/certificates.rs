//! Certificates for tests.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// What a server on this machine is called.
const LOCAL_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Tells the authorities of one process apart: a client reads an equal name as the same authority
/// with a wrong signature.
static AUTHORITIES: AtomicU32 = AtomicU32::new(1);

/// A certificate authority for tests: its keys are made anew, stay in memory, and are trusted by
/// nobody who was not given [`authority_pem`](Self::authority_pem).
///
/// What two of them issued is a certificate of the wrong authority to each other.
///
/// ```
/// use cache_testkit::servers::Certificates;
///
/// let authority = Certificates::new()?;
/// let server = authority.issue(&["cache.example", "10.0.0.7"])?;
/// assert!(server.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    local: Certificate,
}

impl Certificates {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// The system has no randomness to make a key of.
    pub fn new() -> io::Result<Self> {
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Test authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        let issuer = Issuer::new(params, key);
        let local = issue(&issuer, &valid(LOCAL_NAMES)?)?;
        Ok(Self { issuer, pem, local })
    }

    /// The certificate of the authority, which clients have to trust, as PEM.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for `localhost`, `127.0.0.1` and `::1`.
    #[must_use]
    pub fn local(&self) -> &Certificate {
        &self.local
    }

    /// A certificate with its key, for a server or a client of these names or IP addresses.
    ///
    /// # Errors
    ///
    /// A name is not ASCII.
    pub fn issue(&self, names: &[&str]) -> io::Result<Certificate> {
        issue(&self.issuer, &valid(names)?)
    }

    /// As [`issue`](Self::issue), but the certificate expired with the year 2020.
    ///
    /// # Errors
    ///
    /// A name is not ASCII.
    pub fn issue_expired(&self, names: &[&str]) -> io::Result<Certificate> {
        let mut params = valid(names)?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        issue(&self.issuer, &params)
    }

    /// Writes the certificate of the authority into this directory, as `authority.pem`, and returns
    /// its path.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write_authority_to(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join("authority.pem");
        fs::write(&path, &self.pem)?;
        Ok(path)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    /// The certificate, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The private key, as PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// Writes both into this directory, as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write_to(&self, directory: &Path, name: &str) -> io::Result<CertificateFiles> {
        let files = CertificateFiles {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, &self.certificate)?;
        fs::write(&files.key, &self.key)?;
        Ok(files)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Where [`Certificate::write_to`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The file with the certificate.
    pub certificate: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// A certificate that has not expired and never will.
fn valid(names: &[&str]) -> io::Result<CertificateParams> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let common_name = names.first().map_or("test", String::as_str);
    let distinguished_name = named(common_name);
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name = distinguished_name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

fn issue(issuer: &Issuer<'static, KeyPair>, params: &CertificateParams) -> io::Result<Certificate> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.signed_by(&key, issuer).map_err(io::Error::other)?;
    Ok(Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
