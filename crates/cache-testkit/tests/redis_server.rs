//! The launcher against the real program.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Duration;

use cache_testkit::servers::RedisServer;

#[test]
fn answers_once_started_and_is_gone_once_dropped() {
    let server = RedisServer::start().unwrap();
    assert_eq!(server.command(&["SET", "k", "a\r\nb"]).unwrap(), "OK");
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "a\r\nb");
    assert_eq!(server.command(&["MGET", "k", "none"]).unwrap(), "a\r\nb\n");
    let error = server.command(&["INCR", "k"]).unwrap_err();
    assert!(error.to_string().starts_with("ERR value is not"), "{error}");
    let address = server.address();
    assert_eq!(server.url(7), format!("redis://{address}/7"));
    drop(server);
    TcpStream::connect(address).unwrap_err();
}

#[test]
fn restarts_empty_on_the_same_port() {
    let mut server = RedisServer::start().unwrap();
    let (port, pid) = (server.port(), server.pid());
    server.command(&["SET", "k", "v"]).unwrap();
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), "0");
    server.kill().unwrap();
    server.kill().unwrap();
    assert!(server.command(&["PING"]).is_err());
    assert!(server.pause().is_err());
    server.restart().unwrap();
    assert_eq!(server.command(&["PING"]).unwrap(), "PONG");
}

#[test]
fn keeps_a_connection_waiting_while_paused() {
    let server = RedisServer::start().unwrap();
    for _ in 0..2 {
        server.pause().unwrap();
        let (sender, answer) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(server.command(&["PING"])).unwrap());
            answer.recv_timeout(Duration::from_millis(50)).unwrap_err();
            server.resume().unwrap();
            assert_eq!(answer.recv().unwrap().unwrap(), "PONG");
        });
    }
    server.pause().unwrap();
}

#[test]
fn logs_in_with_its_own_password() {
    let mut server = RedisServer::builder()
        .args(["--requirepass", "pass", "--appendonly", "yes"])
        .start()
        .unwrap();
    assert_eq!(server.command(&["SET", "k", "v"]).unwrap(), "OK");
    assert!(server.url(0).starts_with("redis://:pass@127.0.0.1:"));
    assert!(!format!("{server:?}").contains("pass"));
    server.restart().unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "v");
}

#[test]
fn starts_as_a_cluster_node() {
    let server = RedisServer::builder()
        .args(["--cluster-enabled", "yes"])
        .start()
        .unwrap();
    let info = server.command(&["CLUSTER", "INFO"]).unwrap();
    assert!(info.contains("cluster_state"), "{info}");
}

#[test]
fn shows_its_log_where_it_cannot_start() {
    let error = RedisServer::builder()
        .arg("--no-such-setting")
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
    let server = RedisServer::start().unwrap();
    assert!(server.log_tail().contains("Ready to accept connections"));
    let error = taken(&server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("bind"), "{error}");
}

fn taken(server: &RedisServer) -> io::Result<RedisServer> {
    RedisServer::builder().port(server.port()).start()
}
