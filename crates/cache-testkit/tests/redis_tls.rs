//! The launcher and the certificates, with a client that judges them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cache_testkit::servers::{Certificate, Certificates, RedisServer};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[test]
fn answers_with_tls_and_without() {
    let authority = Certificates::new().unwrap();
    let mut server = RedisServer::builder().tls(&authority).start().unwrap();
    for _ in 0..2 {
        assert_eq!(server.command(&["PING"]).unwrap(), "PONG");
        for name in ["localhost", "127.0.0.1"] {
            assert_eq!(ping(&server, name, &authority, None).unwrap(), "+PONG\r\n");
        }
        server.restart().unwrap();
    }
    let port = server.tls_port().unwrap();
    assert_ne!(port, server.port());
    assert_eq!(server.url(3), format!("rediss://127.0.0.1:{port}/3"));
}

#[test]
fn speaks_no_tls_unless_told() {
    let server = RedisServer::start().unwrap();
    assert_eq!(server.tls_port(), None);
    assert!(server.url(0).starts_with("redis://"));
}

#[test]
fn other_names_and_other_authorities_are_refused() {
    let authority = Certificates::new().unwrap();
    let server = RedisServer::builder().tls(&authority).start().unwrap();
    let error = ping(&server, "cache.example", &authority, None).unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let other = Certificates::new().unwrap();
    let error = ping(&server, "localhost", &other, None).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Certificates::new().unwrap();
    let expired = authority.issue_expired(&["localhost"]).unwrap();
    let server = RedisServer::builder()
        .tls_as(&authority, &expired)
        .start()
        .unwrap();
    let error = ping(&server, "localhost", &authority, None).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn clients_show_a_certificate_where_they_have_to() {
    let authority = Certificates::new().unwrap();
    let server = RedisServer::builder()
        .tls(&authority)
        .require_client_certificates()
        .start()
        .unwrap();
    ping(&server, "localhost", &authority, None).unwrap_err();
    let stranger = Certificates::new().unwrap().issue(&["client"]).unwrap();
    ping(&server, "localhost", &authority, Some(&stranger)).unwrap_err();
    let client = authority.issue(&["client"]).unwrap();
    let answer = ping(&server, "localhost", &authority, Some(&client)).unwrap();
    assert_eq!(answer, "+PONG\r\n");
}

#[test]
fn certificates_are_written_as_files() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Certificates::new().unwrap();
    let path = authority.write_authority_to(directory.path()).unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        authority.authority_pem()
    );
    let client = authority.issue(&["client"]).unwrap();
    let files = client.write_to(directory.path(), "client").unwrap();
    assert_eq!(
        std::fs::read_to_string(files.certificate).unwrap(),
        client.certificate_pem()
    );
    assert_eq!(
        std::fs::read_to_string(files.key).unwrap(),
        client.key_pem()
    );
    let shown = format!("{authority:?} {client:?}");
    assert!(!shown.contains("BEGIN"), "{shown}");
}

/// Asks over TLS, trusting one authority, and returns the answer.
fn ping(
    server: &RedisServer,
    name: &'static str,
    authority: &Certificates,
    certificate: Option<&Certificate>,
) -> io::Result<String> {
    let port = server.tls_port().ok_or(io::ErrorKind::Unsupported)?;
    let config = client_config(authority, certificate).map_err(io::Error::other)?;
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn client_config(
    authority: &Certificates,
    certificate: Option<&Certificate>,
) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.authority_pem().as_bytes(),
    )?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some(certificate) = certificate else {
        return Ok(config.with_no_client_auth());
    };
    let chain = CertificateDer::from_pem_slice(certificate.certificate_pem().as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem().as_bytes())?;
    Ok(config.with_client_auth_cert(vec![chain], key)?)
}
