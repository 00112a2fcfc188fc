//! The scripted HTTP server, asked by a plain socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_testkit::servers::{Answer, Certificates, ScriptedHttp};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longer than any answer takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_connection_is_kept_and_requests_are_recorded() {
    let server = ScriptedHttp::start(|request| {
        Answer::json(200, format!("{} {}", request.operation(), request.text()))
            .header("x-number", request.number.to_string())
    })
    .unwrap();
    let mut client = connect(&server);
    // Two at once, the second one in two parts.
    let (first, second) = (post("Get", "a"), post("Put", "\u{e9}\r\n\r\n"));
    client.write_all(first.as_bytes()).unwrap();
    client.write_all(&second.as_bytes()[..20]).unwrap();
    let (head, body) = response(&mut client).unwrap();
    assert_eq!(body, "Get a");
    assert!(head.starts_with("HTTP/1.1 200 \r\n"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.0\r\n"));
    assert!(head.contains("x-number: 0\r\n"), "{head}");
    client.write_all(&second.as_bytes()[20..]).unwrap();
    assert_eq!(response(&mut client).unwrap().1, "Put \u{e9}\r\n\r\n");
    let (_, body) = ask(&mut connect(&server), "Scan").unwrap();
    assert_eq!(body, "Scan ");

    let requests = server.requests();
    let places = requests.iter().map(|one| (one.number, one.connection));
    assert_eq!(places.collect::<Vec<_>>(), [(0, 0), (1, 0), (2, 1)]);
    assert_eq!(requests[1].target(), "DynamoDB_20120810.Put");
    assert_eq!(requests[1].header("Host"), Some("here"));
    assert_eq!((&*requests[1].method, &*requests[1].path), ("POST", "/"));
    assert_eq!(server.connections(), 2);
}

#[test]
fn errors_look_like_those_of_aws() {
    let server = ScriptedHttp::start(|_| Answer::error(400, "ThrottlingException")).unwrap();
    let (head, body) = ask(&mut connect(&server), "GetItem").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.contains("#ThrottlingException\""), "{body}");
}

#[test]
fn a_reset_comes_before_or_within_an_answer() {
    let server = ScriptedHttp::start(|request| match request.number {
        0 => Answer::reset(),
        _ => Answer::json(200, "body").reset_after(10),
    })
    .unwrap();
    let error = ask(&mut connect(&server), "GetItem").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut client = connect(&server);
    client.write_all(post("GetItem", "").as_bytes()).unwrap();
    let mut begin = [0; 10];
    client.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 2");
    let error = client.read(&mut begin).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn silence_keeps_the_connection_open() {
    let server = ScriptedHttp::start(|request| match request.operation() {
        "GetItem" => Answer::silence(),
        _ => Answer::json(200, "{}"),
    })
    .unwrap();
    let mut client = connect(&server);
    client.write_all(post("GetItem", "").as_bytes()).unwrap();
    let is_silent = || {
        let requests = server.requests();
        requests.iter().any(|one| one.operation() == "GetItem")
    };
    while !is_silent() {
        ask(&mut connect(&server), "PutItem").unwrap();
    }
    client.set_nonblocking(true).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_connection_is_closed_with_and_without_notice() {
    let server = ScriptedHttp::start(|request| match request.number {
        0 => Answer::json(200, "{}").then_close(),
        1 => Answer::json(200, "{}").then_hang_up(),
        _ => Answer::json(200, "{}").hang_up_after(5),
    })
    .unwrap();
    for announced in [true, false] {
        let mut client = connect(&server);
        let (head, body) = ask(&mut client, "GetItem").unwrap();
        assert_eq!(head.contains("connection: close\r\n"), announced);
        assert_eq!(body, "{}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    let mut client = connect(&server);
    client.write_all(post("GetItem", "").as_bytes()).unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert_eq!(all, "HTTP/");
}

#[test]
fn garbage_is_sent_as_it_is() {
    let server = ScriptedHttp::start(|_| Answer::garbage(*b"\x00\xff").then_hang_up()).unwrap();
    let mut client = connect(&server);
    client.write_all(post("GetItem", "").as_bytes()).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, [0, 255]);
}

#[test]
fn answers_are_delayed_and_dripped() {
    let pause = Duration::from_millis(20);
    let server = ScriptedHttp::start(move |request| match request.operation() {
        "Late" => Answer::json(200, "{}").after(5 * pause),
        _ => Answer::json(200, "12345").drip(2, pause),
    })
    .unwrap();
    let mut client = connect(&server);
    for (operation, body, least) in [("Late", "{}", 5 * pause), ("Drip", "12345", 3 * pause)] {
        let start = Instant::now();
        assert_eq!(ask(&mut client, operation).unwrap().1, body);
        assert!(start.elapsed() >= least, "{operation}");
    }
}

#[test]
fn what_is_not_http_ends_its_connection_only() {
    let server = ScriptedHttp::start(|_| Answer::json(200, "{}")).unwrap();
    for nonsense in ["\r\n\r\n", "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"] {
        let mut client = connect(&server);
        client.write_all(nonsense.as_bytes()).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert!(ask(&mut connect(&server), "GetItem").is_ok());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn tls_is_spoken_with_a_certificate_of_the_authority() {
    let authority = Certificates::new().unwrap();
    let server = ScriptedHttp::start_tls(&authority, |request| match request.number {
        0 => Answer::json(200, "{}"),
        _ => Answer::reset(),
    })
    .unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let mut client = connect_tls(&server, &authority).unwrap();
    assert_eq!(ask(&mut client, "GetItem").unwrap().1, "{}");
    let error = ask(&mut client, "GetItem").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let expired = authority.issue_expired(&["localhost"]).unwrap();
    let server = ScriptedHttp::start_tls_as(&expired, |_| Answer::json(200, "{}")).unwrap();
    let mut client = connect_tls(&server, &authority).unwrap();
    let error = ask(&mut client, "GetItem").unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    assert!(server.requests().is_empty());
}

fn connect(server: &ScriptedHttp) -> TcpStream {
    let client = TcpStream::connect(server.address()).expect("the server listens");
    client
        .set_read_timeout(Some(LIMIT))
        .expect("the limit is not zero");
    client
}

fn connect_tls(
    server: &ScriptedHttp,
    authority: &Certificates,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.authority_pem().as_bytes(),
    )?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(connection, connect(server)))
}

fn post(operation: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: here\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(client: &mut (impl Read + Write), operation: &str) -> io::Result<(String, String)> {
    client.write_all(post(operation, "").as_bytes())?;
    response(client)
}

/// Reads one response: its head, and its body.
fn response(client: &mut impl Read) -> io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .ok_or(ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}
