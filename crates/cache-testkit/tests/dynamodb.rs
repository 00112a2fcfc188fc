//! The DynamoDB emulator of the testkit.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use cache_testkit::servers::DynamoDb;

/// What the server says to a plain question after its health.
fn health(endpoint: &str) -> io::Result<String> {
    let address = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_answers_until_it_is_stopped() {
    let mut server = DynamoDb::start().unwrap();
    let endpoint = server.endpoint();
    assert!(health(&endpoint).unwrap().contains("healthy"));
    server.stop();
    let error = health(&endpoint).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    server.stop();
}

#[test]
fn an_open_connection_does_not_keep_it_from_stopping() {
    let server = DynamoDb::start().unwrap();
    let endpoint = server.endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\n").unwrap();
    drop(server);
    assert!(health(&endpoint).is_err());
}

#[test]
fn two_servers_do_not_meet() {
    let (first, second) = (DynamoDb::start().unwrap(), DynamoDb::start().unwrap());
    assert_ne!(first.endpoint(), second.endpoint());
}
