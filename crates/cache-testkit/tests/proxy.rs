//! The proxy does to connections what its faults say, and nothing else.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_testkit::proxy::{Direction, End, Fault, FaultProxy};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A listener with a proxy in front of it.
struct Bench {
    listener: TcpListener,
    proxy: FaultProxy,
}

impl Bench {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let target = listener.local_addr().expect("the listener is bound");
        let proxy = FaultProxy::start(target).await.expect("a port is free");
        Self { listener, proxy }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address())
            .await
            .expect("the proxy listens")
    }

    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.dial().await;
        let (server, _) = self.listener.accept().await.expect("the proxy dials");
        (client, server)
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("the stream is open");
}

async fn receive(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream
        .read_exact(&mut bytes)
        .await
        .expect("the bytes arrive");
    bytes
}

/// Everything up to the orderly end.
async fn receive_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .expect("the end is orderly");
    bytes
}

/// How a stream ends that brings nothing more.
async fn reset_kind(stream: &mut TcpStream) -> ErrorKind {
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .await
        .expect_err("the stream was reset")
        .kind()
}

/// Whether nothing has arrived and nothing has ended.
async fn is_silent(stream: &mut TcpStream) -> bool {
    poll_fn(|context| {
        let mut space = [0; 1];
        let mut buffer = ReadBuf::new(&mut space);
        std::task::Poll::Ready(
            Pin::new(&mut *stream)
                .poll_read(context, &mut buffer)
                .is_pending(),
        )
    })
    .await
}

#[tokio::test]
async fn what_passes_is_whole_in_order_and_counted() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    let many: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let expected = many.clone();
    let writing = tokio::spawn(async move {
        send(&mut client, &many).await;
        client.shutdown().await.expect("the stream is open");
        receive_all(&mut client).await
    });
    assert_eq!(receive_all(&mut server).await, expected);
    send(&mut server, b"thanks").await;
    drop(server);
    assert_eq!(writing.await.unwrap(), b"thanks");
    let counters = bench.proxy.wait_until_open(0).await;
    assert_eq!(counters.accepted, 1);
    assert_eq!((counters.bytes_up, counters.bytes_down), (3_000_000, 6));
    assert_eq!((counters.lost_up, counters.lost_down), (0, 0));
}

#[tokio::test]
async fn a_reset_passes_as_a_reset() {
    let bench = Bench::new().await;
    let (mut client, server) = bench.pair().await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(reset_kind(&mut client).await, ErrorKind::ConnectionReset);
    let (client, mut server) = bench.pair().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(reset_kind(&mut server).await, ErrorKind::ConnectionReset);
    bench.proxy.wait_until_open(0).await;
}

#[tokio::test]
async fn a_delay_holds_every_byte_equally_long_and_the_end_too() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Delay(Direction::Down, millis(100)));
    let started = Instant::now();
    for _ in 0..10 {
        send(&mut server, b"a").await;
    }
    drop(server);
    assert_eq!(receive_all(&mut client).await, b"aaaaaaaaaa");
    let took = started.elapsed();
    assert!(took >= millis(100), "it took {took:?}");
    assert!(took < millis(900), "each waits by itself: {took:?}");
}

#[tokio::test]
async fn a_lifted_delay_lets_go_of_what_it_held() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench
        .proxy
        .set(Fault::Delay(Direction::Up, Duration::from_secs(3600)));
    send(&mut client, b"late").await;
    send(&mut server, b"the other way").await;
    assert_eq!(receive(&mut client, 13).await, b"the other way");
    assert!(is_silent(&mut server).await);
    bench.proxy.set(Fault::Pass);
    assert_eq!(receive(&mut server, 4).await, b"late");
}

#[tokio::test]
async fn jitter_keeps_the_order() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench
        .proxy
        .set(Fault::Jitter(Direction::Both, millis(0)..millis(20), 42));
    for number in 0..50_u8 {
        send(&mut server, &[number]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(receive(&mut client, 50).await, (0..50).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_drip_is_slow_to_the_last_byte() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Drip(Direction::Down, 2, millis(20)));
    let started = Instant::now();
    send(&mut server, b"1234567").await;
    assert_eq!(receive(&mut client, 7).await, b"1234567");
    let took = started.elapsed();
    assert!(took >= millis(60), "four pieces, three pauses: {took:?}");
    send(&mut server, &[7; 100_000]).await;
    bench.proxy.set(Fault::Pass);
    assert_eq!(receive(&mut client, 100_000).await, [7; 100_000]);
}

#[tokio::test]
async fn a_cut_ends_one_connection_after_so_many_bytes() {
    let bench = Bench::new().await;
    for end in [End::Fin, End::Reset] {
        let (mut client, mut server) = bench.pair().await;
        let (mut other, mut other_server) = bench.pair().await;
        send(&mut server, b"before").await;
        receive(&mut client, 6).await;
        let fired = bench.proxy.counters().fired;
        bench.proxy.set(Fault::Cut(Direction::Down, 4, end));
        send(&mut server, b"half").await;
        assert_eq!(receive(&mut client, 4).await, b"half");
        assert!(is_silent(&mut client).await, "not before the next byte");
        send(&mut server, b" of it").await;
        if end == End::Fin {
            assert_eq!(receive_all(&mut client).await, b"");
            send(&mut client, b"still heard").await;
            assert_eq!(receive(&mut server, 11).await, b"still heard");
        } else {
            assert_eq!(reset_kind(&mut client).await, ErrorKind::ConnectionReset);
            assert_eq!(reset_kind(&mut server).await, ErrorKind::ConnectionReset);
        }
        send(&mut other_server, b"everything").await;
        assert_eq!(receive(&mut other, 10).await, b"everything");
        assert_eq!(bench.proxy.counters().fired, fired + 1);
    }
}

#[tokio::test]
async fn a_cut_that_hangs_stays_hung() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Cut(Direction::Up, 3, End::Hang));
    send(&mut client, b"request").await;
    assert_eq!(receive(&mut server, 3).await, b"req");
    bench.proxy.wait_for(|counters| counters.lost_up == 4).await;
    bench.proxy.set(Fault::Pass);
    send(&mut client, b"again").await;
    let counters = bench.proxy.wait_for(|counters| counters.lost_up == 9).await;
    assert_eq!(counters.bytes_up, 3);
    drop(client);
    bench.proxy.wait_until_open(0).await;
    assert!(is_silent(&mut server).await);
}

#[tokio::test]
async fn every_connection_can_be_cut_counted_by_itself() {
    let bench = Bench::new().await;
    bench
        .proxy
        .set(Fault::CutEach(Direction::Down, 2, End::Fin));
    for _ in 0..3 {
        let (mut client, mut server) = bench.pair().await;
        send(&mut server, b"abc").await;
        assert_eq!(receive_all(&mut client).await, b"ab");
    }
    assert_eq!(bench.proxy.counters().fired, 3);
}

#[tokio::test]
async fn a_blackhole_loses_what_was_sent_for_good() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Blackhole(Direction::Down));
    send(&mut client, b"request").await;
    assert_eq!(receive(&mut server, 7).await, b"request");
    send(&mut server, b"reply").await;
    let lost = |counters: &cache_testkit::proxy::Counters| counters.lost_down == 5;
    bench.proxy.wait_for(lost).await;
    assert!(is_silent(&mut client).await);
    bench.proxy.set(Fault::Blackhole(Direction::Up));
    send(&mut client, b"lost").await;
    bench.proxy.wait_for(|counters| counters.lost_up == 4).await;
    bench.proxy.set(Fault::Pass);
    send(&mut server, b"found").await;
    assert_eq!(receive(&mut client, 5).await, b"found");
    send(&mut client, b"too").await;
    assert_eq!(receive(&mut server, 3).await, b"too");
}

#[tokio::test]
async fn a_blackhole_swallows_ends() {
    let bench = Bench::new().await;
    let (client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Blackhole(Direction::Both));
    client.set_zero_linger().unwrap();
    drop(client);
    bench.proxy.wait_until_open(0).await;
    bench.proxy.set(Fault::Pass);
    assert!(is_silent(&mut server).await);
    bench.proxy.close_all();
    assert_eq!(receive_all(&mut server).await, b"");
}

#[tokio::test]
async fn a_stall_holds_everything_until_it_is_lifted() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Stall(Direction::Up));
    let writing = tokio::spawn(async move {
        // More than all buffers on the way take.
        send(&mut client, &[1; 32 * 1024 * 1024]).await;
        client
    });
    send(&mut server, b"the other way").await;
    bench
        .proxy
        .wait_for(|counters| counters.bytes_down == 13)
        .await;
    assert!(is_silent(&mut server).await);
    assert!(!writing.is_finished());
    assert_eq!(bench.proxy.counters().bytes_up, 0);
    bench.proxy.set(Fault::Pass);
    receive(&mut server, 32 * 1024 * 1024).await;
    assert_eq!(
        receive(&mut writing.await.unwrap(), 13).await,
        b"the other way"
    );
}

#[tokio::test]
async fn one_byte_is_corrupted_once() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Corrupt(Direction::Down, 1, 0x20));
    send(&mut server, b"ABC").await;
    send(&mut server, b"ABC").await;
    assert_eq!(receive(&mut client, 6).await, b"AbCABC");
    bench.proxy.wait_for(|counters| counters.fired == 1).await;
}

#[tokio::test]
async fn one_piece_is_delivered_twice() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Duplicate(Direction::Down));
    send(&mut server, b"one").await;
    assert_eq!(receive(&mut client, 6).await, b"oneone");
    send(&mut server, b"two").await;
    drop(server);
    assert_eq!(receive_all(&mut client).await, b"two");
}

#[tokio::test]
async fn a_half_close_ends_the_clients_side_after_its_request() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::HalfClose);
    send(&mut client, b"request").await;
    assert_eq!(receive_all(&mut client).await, b"");
    assert_eq!(receive(&mut server, 7).await, b"request");
    send(&mut server, b"reply").await;
    bench
        .proxy
        .wait_for(|counters| counters.lost_down == 5)
        .await;
    assert!(is_silent(&mut server).await, "its side is open");
    drop(client);
    assert_eq!(receive_all(&mut server).await, b"");
    let (mut client, mut server) = bench.pair().await;
    send(&mut client, b"next").await;
    receive(&mut server, 4).await;
    send(&mut server, b"answered").await;
    assert_eq!(receive(&mut client, 8).await, b"answered");
}

#[tokio::test]
async fn refused_connections_are_refused_on_a_port_that_comes_back() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    for _ in 0..20 {
        bench.proxy.set(Fault::Refuse);
        let refused = TcpStream::connect(bench.proxy.address()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        send(&mut client, b"goes on").await;
        receive(&mut server, 7).await;
        bench.proxy.set(Fault::Pass);
        let (mut client, mut server) = bench.pair().await;
        send(&mut client, b"welcome").await;
        receive(&mut server, 7).await;
    }
}

#[tokio::test]
async fn held_connections_reach_the_server_when_the_fault_is_lifted() {
    let bench = Bench::new().await;
    bench.proxy.set(Fault::AcceptThenHang);
    let mut client = bench.dial().await;
    let gone = bench.dial().await;
    bench.proxy.wait_until_open(2).await;
    drop(gone);
    bench.proxy.wait_until_open(1).await;
    send(&mut client, b"hello").await;
    bench.proxy.set(Fault::Pass);
    let (mut server, _) = bench.listener.accept().await.unwrap();
    assert_eq!(receive(&mut server, 5).await, b"hello");
    send(&mut server, b"hello").await;
    assert_eq!(receive(&mut client, 5).await, b"hello");
}

#[tokio::test]
async fn the_proxy_answers_by_itself_until_it_is_told_otherwise() {
    let bench = Bench::new().await;
    let (mut old, mut server) = bench.pair().await;
    bench
        .proxy
        .set(Fault::Reply(Bytes::from_static(b"+PONG\r\n")));
    assert_eq!(receive_all(&mut server).await, b"");
    let mut new = bench.dial().await;
    for client in [&mut old, &mut new] {
        for _ in 0..2 {
            send(client, b"PING").await;
            assert_eq!(receive(client, 7).await, b"+PONG\r\n");
        }
    }
    assert_eq!(bench.proxy.counters().fired, 4);
    bench.proxy.set(Fault::TlsGarbage);
    send(&mut new, b"client hello").await;
    assert_eq!(receive(&mut new, 3).await, b"\x16\x03\x03");
    bench.proxy.set(Fault::Pass);
    assert_eq!(receive_all(&mut old).await, b"");
}

#[tokio::test]
async fn faults_of_two_directions_hold_together() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.set(Fault::Corrupt(Direction::Up, 0, 1));
    bench.proxy.also(Fault::Cut(Direction::Down, 1, End::Fin));
    bench.proxy.also(Fault::Refuse);
    send(&mut client, b"bc").await;
    assert_eq!(receive(&mut server, 2).await, b"cc");
    send(&mut server, b"xy").await;
    assert_eq!(receive_all(&mut client).await, b"x");
    let refused = TcpStream::connect(bench.proxy.address()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn all_connections_can_be_reset_or_closed() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    send(&mut client, b"here").await;
    receive(&mut server, 4).await;
    bench.proxy.reset_all();
    assert_eq!(bench.proxy.counters().open, 0);
    assert_eq!(reset_kind(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(reset_kind(&mut server).await, ErrorKind::ConnectionReset);
    let (mut client, mut server) = bench.pair().await;
    bench.proxy.close_all();
    assert_eq!(receive_all(&mut client).await, b"");
    assert_eq!(receive_all(&mut server).await, b"");
    let (mut client, mut server) = bench.pair().await;
    send(&mut client, b"and on it goes").await;
    receive(&mut server, 14).await;
}

#[tokio::test]
async fn a_server_that_is_gone_resets_the_client() {
    let Bench { listener, proxy } = Bench::new().await;
    drop(listener);
    // It may come before connecting is over.
    let kind = match TcpStream::connect(proxy.address()).await {
        Ok(mut client) => reset_kind(&mut client).await,
        Err(error) => error.kind(),
    };
    assert_eq!(kind, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn dropping_the_proxy_ends_everything() {
    for fault in [
        Fault::Pass,
        Fault::AcceptThenHang,
        Fault::Stall(Direction::Both),
        Fault::Blackhole(Direction::Both),
        Fault::Reply(Bytes::from_static(b"x")),
    ] {
        let Bench { listener, proxy } = Bench::new().await;
        let mut early = TcpStream::connect(proxy.address()).await.unwrap();
        let _server = listener.accept().await.unwrap();
        proxy.set(fault);
        let address = proxy.address();
        let mut late = TcpStream::connect(address).await.unwrap();
        proxy.wait_until_accepted(2).await;
        drop(proxy);
        for client in [&mut early, &mut late] {
            let mut rest = Vec::new();
            // In order or not, but at once.
            let _ = client.read_to_end(&mut rest).await;
        }
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_test_may_block_while_the_proxy_works() {
    use std::io::{Read as _, Write as _};
    let bench = Bench::new().await;
    let mut client = std::net::TcpStream::connect(bench.proxy.address()).unwrap();
    let (server, _) = bench.listener.accept().await.unwrap();
    let mut server = server.into_std().unwrap();
    server.set_nonblocking(false).unwrap();
    client.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
}
