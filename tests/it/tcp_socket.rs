//! `TcpSocket`, blocking sockets of std, and the names without `Async`.

use crate::util::go;
use fahrenheit::net::{self, TcpSocket};
use fahrenheit::prelude::*;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A listener that was set up, on a port of its own.
fn listener(backlog: u32) -> net::TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(loopback()).unwrap();
    socket.listen(backlog).unwrap()
}

#[test]
fn a_connection_comes_from_the_address_that_its_socket_was_bound_to() {
    go(async {
        let listener = listener(8);
        let socket = TcpSocket::new_v4().unwrap();
        // Not 127.0.0.1, so this cannot be the address that the system would choose.
        if cfg!(target_os = "linux") {
            socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        } else {
            socket.bind(loopback()).unwrap();
        }
        let source = socket.local_addr().unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await;
        let mut stream = stream.unwrap();
        let (mut accepted, peer) = listener.accept().await.unwrap();
        assert_eq!((peer, stream.local_addr().unwrap()), (source, source));
        stream.write_all(b"word").await.unwrap();
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"word");
    });
}

#[test]
fn sockets_with_reuseport_share_an_address_and_others_do_not() {
    go(async {
        let shared = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseport(true).unwrap();
            socket
        };
        let first = shared();
        first.bind(loopback()).unwrap();
        let addr = first.local_addr().unwrap();
        let first = first.listen(8).unwrap();
        let other = TcpSocket::new_v4().unwrap();
        let error = other.bind(addr).and_then(|()| other.listen(8).map(drop));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::AddrInUse);
        let second = shared();
        second.bind(addr).unwrap();
        let second = second.listen(8).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    });
}

#[test]
fn connecting_a_socket_to_a_port_without_listener_is_refused() {
    go(async {
        let addr = listener(1).local_addr().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        let error = socket.connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

/// The kernel completes connections only while there is room for them in the queue of the listener:
/// Linux for one more than the backlog.
#[cfg(target_os = "linux")]
#[test]
fn the_backlog_limits_the_connections_that_wait_to_be_accepted() {
    use fahrenheit::{AsyncTcpStream, time::timeout};
    go(async {
        let listener = listener(1);
        let addr = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(300), AsyncTcpStream::connect(addr)).await
        {
            streams.push(stream.unwrap());
            assert!(streams.len() < 10, "the backlog has no limit");
        }
        assert!(!streams.is_empty());
    });
}

#[test]
fn options_are_set_before_the_connection_and_stay_with_it() {
    go(async {
        let listener = listener(8);
        let socket = TcpSocket::new_v4().unwrap();
        assert!(!socket.reuseaddr().unwrap() && !socket.reuseport().unwrap());
        socket.set_reuseaddr(true).unwrap();
        socket.set_keepalive(true).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .set_linger(Some(Duration::from_millis(1_500)))
            .unwrap();
        let before = (
            socket.recv_buffer_size().unwrap(),
            socket.send_buffer_size().unwrap(),
        );
        socket.set_recv_buffer_size(20_000).unwrap();
        socket.set_send_buffer_size(30_000).unwrap();
        let after = (
            socket.recv_buffer_size().unwrap(),
            socket.send_buffer_size().unwrap(),
        );
        assert!(after.0 >= 20_000 && after.1 >= 30_000);
        assert!(
            after.0 != before.0 && after.1 != before.1,
            "{before:?} {after:?}"
        );
        assert!(socket.reuseaddr().unwrap() && socket.keepalive().unwrap());
        assert!(socket.nodelay().unwrap());
        let stream = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        assert!(stream.nodelay().unwrap() && stream.keepalive().unwrap());
        assert_eq!(stream.linger().unwrap(), Some(Duration::from_secs(2)));
    });
}

#[test]
fn a_socket_for_ipv6_refuses_an_address_of_ipv4() {
    // Without IPv6 there is no such socket, and nothing to be seen here.
    if let Ok(socket) = TcpSocket::new_v6() {
        assert!(socket.bind(loopback()).is_err());
        assert!(format!("{socket:?}").contains("local_addr"));
    }
}

#[test]
fn a_blocking_socket_of_std_waits_for_data() {
    go(async {
        let listener = listener(8);
        let stream = net::TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, stream) = futures_util::join!(listener.accept(), stream);
        let (mut accepted, mut stream) = (
            accepted.unwrap().0.into_blocking_std().unwrap(),
            stream.unwrap(),
        );
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 4];
            accepted.read_exact(&mut bytes).map(|()| bytes)
        });
        // Time for the thread to find nothing: a socket that does not block fails then.
        fahrenheit::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"word").await.unwrap();
        assert_eq!(&thread.join().unwrap().unwrap(), b"word");
    });
}

#[cfg(all(feature = "udp", feature = "unix"))]
#[test]
fn all_sockets_have_a_name_without_async_and_become_blocking() {
    use std::io::Write;

    let (a, b) = net::UnixStream::pair().unwrap();
    let (mut a, mut b) = (
        a.into_blocking_std().unwrap(),
        b.into_blocking_std().unwrap(),
    );
    a.write_all(b"x").unwrap();
    b.read_exact(&mut [0]).unwrap();
    let _: fn(net::UdpSocket) -> _ = fahrenheit::AsyncUdpSocket::into_blocking_std;
    let _: fn(net::UnixDatagram) -> _ = fahrenheit::AsyncUnixDatagram::into_blocking_std;
    let _: fn(net::UnixListener) -> _ = fahrenheit::AsyncUnixListener::into_blocking_std;
    let _: fn(net::TcpListener) -> _ = fahrenheit::AsyncTcpListener::into_blocking_std;
}
