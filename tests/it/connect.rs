//! Making connections: refusals, several addresses, limits, names.

use crate::util::{Refusing, connected_pair, go, poll_once, silent};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

#[test]
fn nothing_happens_before_the_first_poll() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    go(async {
        let connect = AsyncTcpStream::connect(addr);
        let accepted = fahrenheit::time::timeout(Duration::from_millis(30), listener.accept());
        assert!(accepted.await.is_err());
        let (client, server) = futures_util::join!(connect, listener.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), server.unwrap().1);
    });
}

#[test]
fn connecting_waits_without_blocking_the_loop() {
    go(async {
        let (listener, _queue) = silent().await;
        let mut connect = pin!(AsyncTcpStream::connect(listener.local_addr().unwrap()));
        let start = Instant::now();
        assert!(poll_once(&mut connect).is_pending());
        assert!(start.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_first_address_refuses_and_the_second_answers() {
    let refusing = Refusing::new();
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addrs = [refusing.addr, listener.local_addr().unwrap()];
    go(async {
        let stream = AsyncTcpStream::connect(&addrs[..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addrs[1]);
        assert_eq!(
            listener.accept().await.unwrap().1,
            stream.local_addr().unwrap()
        );
    });
}

/// The shortest time of up to 10 connects to `addrs`, until one takes less than `enough`.
async fn best_time(addrs: &[SocketAddr], enough: Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        AsyncTcpStream::connect(addrs).await.unwrap();
        best = best.min(start.elapsed());
        if best < enough {
            break;
        }
    }
    best
}

#[test]
fn an_address_that_does_not_answer_delays_the_next_by_250_ms_and_one_that_refuses_does_not() {
    let refusing = Refusing::new();
    go(async {
        let good = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let good = good.local_addr().unwrap();
        let (listener, _queue) = silent().await;
        let silent = listener.local_addr().unwrap();
        let delay = Duration::from_millis(250);
        let elapsed = best_time(&[silent, good], 2 * delay).await;
        assert!((delay..2 * delay).contains(&elapsed), "{elapsed:?}");
        let elapsed = best_time(&[refusing.addr, good], delay).await;
        assert!(elapsed < delay, "{elapsed:?}");
        let limit = Duration::from_millis(50);
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let start = Instant::now();
            let error = AsyncTcpStream::connect_timeout(silent, limit).await;
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
            best = best.min(start.elapsed());
            if best < 2 * limit {
                break;
            }
        }
        assert!((limit..2 * limit).contains(&best), "{best:?}");
    });
}

#[test]
fn if_every_address_refuses_the_error_is_theirs() {
    let refusing = [Refusing::new(), Refusing::new()];
    let addrs = [refusing[0].addr, refusing[1].addr];
    go(async {
        let error = AsyncTcpStream::connect(addrs).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere: [SocketAddr; 0] = [];
        let error = AsyncTcpStream::connect(nowhere).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_refused_connection_is_reported_once_and_leaves_no_error_behind() {
    let refusing = Refusing::new();
    go(async {
        for _ in 0..20 {
            let error = AsyncTcpStream::connect(refusing.addr).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(error.raw_os_error().is_some());
        }
        let (client, server) = connected_pair().await;
        assert!(client.take_error().unwrap().is_none());
        assert!(server.take_error().unwrap().is_none());
    });
}

#[test]
fn a_name_is_looked_up_and_an_unknown_one_is_an_error() {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    go(async {
        let stream = AsyncTcpStream::connect(("localhost", port)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        // RFC 2606 reserves this domain: no server answers for it.
        let unknown = AsyncTcpStream::connect("no-such-host.invalid:80").await;
        let resolved = fahrenheit::net::lookup_host("no-such-host.invalid:80").await;
        assert!(unknown.is_err() && resolved.is_err());
        let no_port = AsyncTcpStream::connect("127.0.0.1").await.unwrap_err();
        assert_eq!(no_port.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn ipv6_addresses_connect_where_there_are_any() {
    let Ok(listener) = AsyncTcpListener::bind("[::1]:0") else {
        let name = test_name!();
        return crate::util::skip(name, "this machine has no IPv6");
    };
    let addr = listener.local_addr().unwrap();
    assert!(addr.is_ipv6());
    go(async {
        let (client, server) =
            futures_util::join!(AsyncTcpStream::connect(addr.to_string()), listener.accept());
        let (client, (server, peer)) = (client.unwrap(), server.unwrap());
        assert_eq!(client.local_addr().unwrap(), peer);
        assert_eq!(server.local_addr().unwrap(), client.peer_addr().unwrap());
    });
}

/// Linux connects a socket to itself if it happens to get the port that it calls. Here it is made
/// to happen; the documented check tells.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_to_itself_is_told_by_its_addresses() {
    use fahrenheit::prelude::*;
    use nix::sys::socket::*;
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let socket = socket(family, kind, SockFlag::empty(), None).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    bind(fd, &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let name: SockaddrIn = getsockname(fd).unwrap();
    connect(fd, &name).unwrap();
    let stream = AsyncTcpStream::from_std(socket.into()).unwrap();
    assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    go(async {
        let mut stream = &stream;
        stream.write_all(b"me").await.unwrap();
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"me");
        // An ordinary connection has two different ends.
        let (client, _server) = connected_pair().await;
        assert_ne!(client.local_addr().unwrap(), client.peer_addr().unwrap());
    });
}

#[test]
fn binding_tries_every_address_and_reports_the_last_error() {
    let taken = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = AsyncTcpListener::bind(addr).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = AsyncTcpListener::bind(vec![addr, free]).unwrap();
    assert_ne!(listener.local_addr().unwrap().port(), 0);
}
