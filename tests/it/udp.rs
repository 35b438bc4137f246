//! UDP: empty, long and lost datagrams, peers that are not there, groups, names and options.

use crate::util::within;
use fahrenheit::AsyncUdpSocket;
use fahrenheit::time::timeout;
use futures_util::future::join;
use std::future::Future;
use std::io::ErrorKind;
#[cfg(target_os = "linux")]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn run(test: impl AsyncFnOnce() + Send) {
    within(30, || fahrenheit::run(test()));
}

fn bound() -> AsyncUdpSocket {
    AsyncUdpSocket::bind("127.0.0.1:0").unwrap()
}

/// Two sockets that are connected to each other.
async fn pair() -> (AsyncUdpSocket, AsyncUdpSocket) {
    let (a, b) = (bound(), bound());
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    (a, b)
}

/// That `future` is not ready although nothing else happens for a while.
async fn waits(future: impl Future) -> bool {
    let limit = Duration::from_millis(30);
    timeout(limit, future).await.is_err()
}

#[test]
fn an_empty_datagram_is_received_as_such_and_is_no_end() {
    run(async || {
        let (a, b) = pair().await;
        for _ in 0..8 {
            assert_eq!(a.send(b"").await.unwrap(), 0);
            assert_eq!(a.send(b"after").await.unwrap(), 5);
            let mut bytes = [7; 16];
            assert_eq!(b.recv(&mut bytes).await.unwrap(), 0);
            assert_eq!(bytes, [7; 16]);
            let from = a.local_addr().unwrap();
            assert_eq!(b.recv_from(&mut bytes).await.unwrap(), (5, from));
            assert_eq!(&bytes[..5], b"after");
        }
    });
}

#[test]
fn a_long_datagram_is_cut_off_and_the_next_is_whole() {
    run(async || {
        let (a, b) = pair().await;
        a.send(b"too long").await.unwrap();
        a.send(b"fits").await.unwrap();
        let mut bytes = [0; 4];
        assert_eq!(b.recv(&mut bytes).await.unwrap(), 4);
        assert_eq!(&bytes, b"too ");
        assert_eq!(b.recv(&mut bytes).await.unwrap(), 4);
        assert_eq!(&bytes, b"fits");
    });
}

#[test]
fn a_datagram_beyond_the_limit_is_emsgsize_and_the_socket_goes_on() {
    run(async || {
        let (a, b) = pair().await;
        let to = b.local_addr().unwrap();
        let bytes = vec![1; 65_508];
        let emsgsize = Some(nix::libc::EMSGSIZE);
        let error = a.send(&bytes).await.unwrap_err();
        assert_eq!(error.raw_os_error(), emsgsize);
        let unconnected = bound();
        let error = unconnected.send_to(&bytes, to).await.unwrap_err();
        assert_eq!(error.raw_os_error(), emsgsize);
        assert_eq!(a.send(b"short").await.unwrap(), 5);
        assert_eq!(b.recv(&mut [0; 16]).await.unwrap(), 5);
    });
}

#[test]
fn an_unreachable_port_is_reported_once_and_later_datagrams_arrive() {
    run(async || {
        let a = bound();
        let to = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        a.connect(to).await.unwrap();
        // Often enough that the socket grows old in the loop.
        for _ in 0..8 {
            a.send(b"anyone?").await.unwrap();
            let error = a.recv(&mut [0; 16]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(waits(a.recv(&mut [0; 16])).await);
        }
        let peer = AsyncUdpSocket::bind(to).unwrap();
        for _ in 0..8 {
            a.send(b"now?").await.unwrap();
            let mut bytes = [0; 16];
            let (n, from) = peer.recv_from(&mut bytes).await.unwrap();
            peer.send_to(&bytes[..n], from).await.unwrap();
            assert_eq!(a.recv(&mut bytes).await.unwrap(), 4);
        }
    });
}

#[test]
fn a_server_outlives_clients_that_are_gone_before_its_answer() {
    run(async || {
        let server = bound();
        let to = server.local_addr().unwrap();
        let mut bytes = [0; 16];
        for _ in 0..8 {
            let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
            gone.send_to(b"bye", to).unwrap();
            drop(gone);
            let (n, from) = server.recv_from(&mut bytes).await.unwrap();
            server.send_to(&bytes[..n], from).await.unwrap();
        }
        let client = bound();
        client.send_to(b"hello", to).await.unwrap();
        let (n, from) = server.recv_from(&mut bytes).await.unwrap();
        assert_eq!((n, from), (5, client.local_addr().unwrap()));
    });
}

#[test]
fn what_is_peeked_at_is_still_there_and_then_the_next_wait_waits() {
    run(async || {
        let (a, b) = pair().await;
        let from = a.local_addr().unwrap();
        let mut bytes = [0; 16];
        for _ in 0..8 {
            let (peeked, sent) = join(b.peek(&mut bytes), a.send(b"look")).await;
            assert_eq!((peeked.unwrap(), sent.unwrap()), (4, 4));
            assert_eq!(b.peek_from(&mut bytes).await.unwrap(), (4, from));
            assert_eq!(b.peek(&mut [0; 2]).await.unwrap(), 2);
            assert_eq!(b.recv(&mut bytes).await.unwrap(), 4);
            assert_eq!(&bytes[..4], b"look");
            assert!(waits(b.peek(&mut bytes)).await);
        }
    });
}

#[test]
fn a_burst_is_received_whole_although_the_loop_was_told_once() {
    run(async || {
        let (a, b) = pair().await;
        let sender = a.into_std();
        for round in 0..32_u8 {
            let burst = async {
                for number in 0..20 {
                    sender.send(&[round, number]).unwrap();
                }
            };
            let receive = async {
                for number in 0..20 {
                    let mut bytes = [0; 4];
                    assert_eq!(b.recv(&mut bytes).await.unwrap(), 2);
                    assert_eq!(&bytes[..2], [round, number]);
                }
            };
            join(receive, burst).await;
        }
    });
}

#[test]
fn no_datagram_is_lost_to_a_receive_that_was_cancelled() {
    run(async || {
        let (a, b) = pair().await;
        for number in 0..1_000_u32 {
            let mut bytes = [0; 4];
            let limit = Duration::from_micros(1);
            let receive = timeout(limit, b.recv(&mut bytes));
            let send = async {
                if number % 3 == 0 {
                    fahrenheit::yield_now().await;
                }
                a.send(&number.to_ne_bytes()).await.unwrap();
            };
            if join(receive, send).await.0.is_err() {
                b.recv(&mut bytes).await.unwrap();
            }
            assert_eq!(u32::from_ne_bytes(bytes), number);
        }
    });
}

#[test]
fn one_socket_is_sent_to_and_received_from_by_several_tasks() {
    run(async || {
        let server = std::rc::Rc::new(bound());
        let to = server.local_addr().unwrap();
        for _ in 0..2 {
            let server = std::rc::Rc::clone(&server);
            let task = fahrenheit::task::Builder::new().daemon(true);
            drop(task.spawn(async move {
                let mut bytes = [0; 16];
                while let Ok((n, from)) = server.recv_from(&mut bytes).await {
                    server.send_to(&bytes[..n], from).await.unwrap();
                }
            }));
        }
        let clients = (0..20_u8).map(|number| async move {
            let client = bound();
            client.connect(to).await.unwrap();
            for _ in 0..50 {
                client.send(&[number]).await.unwrap();
                let mut bytes = [0; 2];
                assert_eq!(client.recv(&mut bytes).await.unwrap(), 1);
                assert_eq!(bytes[0], number);
            }
        });
        futures_util::future::join_all(clients).await;
    });
}

#[test]
fn names_are_looked_up_and_an_address_of_the_sockets_family_is_taken() {
    run(async || {
        let server = bound();
        let port = server.local_addr().unwrap().port();
        let client = bound();
        client.send_to(b"a", ("localhost", port)).await.unwrap();
        client.connect(("localhost", port)).await.unwrap();
        client.send(b"b").await.unwrap();
        for letter in [b'a', b'b'] {
            let mut bytes = [0];
            server.recv(&mut bytes).await.unwrap();
            assert_eq!(bytes, [letter]);
        }
        let [v6, v4] = ["[::1]:9".parse().unwrap(), server.local_addr().unwrap()];
        client.send_to(b"c", [v6, v4]).await.unwrap();
        assert_eq!(server.recv(&mut [0]).await.unwrap(), 1);
        let none: [SocketAddr; 0] = [];
        let errors = [
            client.send_to(b"d", none).await.map(drop).unwrap_err(),
            client.connect(none).await.unwrap_err(),
            AsyncUdpSocket::bind(none).map(drop).unwrap_err(),
        ];
        let expected = [ErrorKind::InvalidInput; 3];
        assert_eq!(errors.map(|error| error.kind()), expected);
    });
}

#[test]
fn binding_and_connecting_take_the_first_address_that_the_system_accepts() {
    run(async || {
        let (taken, server) = (bound(), bound());
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = AsyncUdpSocket::bind([taken.local_addr().unwrap(), free]).unwrap();
        // A socket of IPv4 cannot be connected to an address of IPv6.
        let unfit = "[::1]:9".parse().unwrap();
        let addrs = [unfit, server.local_addr().unwrap(), unfit];
        socket.connect(addrs).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), addrs[1]);
        socket.send(b"x").await.unwrap();
        assert_eq!(server.recv(&mut [0]).await.unwrap(), 1);
        assert!(socket.connect([unfit, unfit]).await.is_err());
    });
}

#[test]
fn take_error_returns_the_error_of_an_earlier_datagram_once() {
    run(async || {
        let socket = bound();
        let gone = bound().local_addr().unwrap();
        socket.connect(gone).await.unwrap();
        assert!(socket.take_error().unwrap().is_none());
        socket.send(b"anyone?").await.unwrap();
        let error = loop {
            if let Some(error) = socket.take_error().unwrap() {
                break error;
            }
            fahrenheit::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(socket.take_error().unwrap().is_none());
    });
}

#[test]
fn a_bound_port_is_in_use_and_a_socket_without_peer_has_none() {
    run(async || {
        let socket = bound();
        let addr = socket.local_addr().unwrap();
        let error = AsyncUdpSocket::bind(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let error = socket.peer_addr().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(socket.send(b"to whom?").await.is_err());
        assert!(format!("{socket:?}").contains(&addr.port().to_string()));
    });
}

#[test]
fn options_are_kept_by_the_system() {
    run(async || {
        let socket = bound();
        for on in [true, false] {
            socket.set_broadcast(on).unwrap();
            assert_eq!(socket.broadcast().unwrap(), on);
            socket.set_multicast_loop_v4(on).unwrap();
            assert_eq!(socket.multicast_loop_v4().unwrap(), on);
        }
        socket.set_ttl(7).unwrap();
        socket.set_multicast_ttl_v4(3).unwrap();
        let hops = (
            socket.ttl().unwrap(),
            socket.multicast_ttl_v4().unwrap(),
            socket.into_std().ttl().unwrap(),
        );
        assert_eq!(hops, (7, 3, 7));
        let Ok(socket) = AsyncUdpSocket::bind("[::1]:0") else {
            return crate::util::skip(test_name!(), "this machine has no IPv6");
        };
        socket.set_multicast_loop_v6(false).unwrap();
        assert!(!socket.multicast_loop_v6().unwrap());
    });
}

#[test]
fn a_socket_moves_to_std_and_back_and_its_waiters_hear_of_the_descriptor() {
    run(async || {
        let (a, b) = pair().await;
        b.writable().await.unwrap();
        a.send(b"x").await.unwrap();
        b.readable().await.unwrap();
        let b = AsyncUdpSocket::try_from(b.into_std()).unwrap();
        b.readable().await.unwrap();
        assert_eq!(b.recv(&mut [0; 2]).await.unwrap(), 1);
        assert!(waits(b.readable()).await);
        let error = b.into_std().recv(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

/// The loopback network has a broadcast address on Linux.
#[cfg(target_os = "linux")]
#[test]
fn broadcasting_is_refused_until_it_is_allowed() {
    run(async || {
        let receiver = AsyncUdpSocket::bind("0.0.0.0:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let to = (Ipv4Addr::new(127, 255, 255, 255), port);
        let sender = bound();
        let error = sender.send_to(b"all", to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        sender.set_broadcast(true).unwrap();
        sender.send_to(b"all", to).await.unwrap();
        let mut bytes = [0; 8];
        let from = sender.local_addr().unwrap();
        assert_eq!(receiver.recv_from(&mut bytes).await.unwrap(), (3, from));
    });
}

/// Linux sends by the interface of the sender's address; others would have to be told.
#[cfg(target_os = "linux")]
#[test]
fn a_group_is_heard_after_joining_and_not_after_leaving() {
    run(async || {
        let (group, here) = (Ipv4Addr::new(239, 83, 7, 41), Ipv4Addr::LOCALHOST);
        let receiver = AsyncUdpSocket::bind("0.0.0.0:0").unwrap();
        let to = (group, receiver.local_addr().unwrap().port());
        let sender = bound();
        let hear = async |word: &[u8]| -> std::io::Result<bool> {
            sender.send_to(word, to).await?;
            Ok(!waits(receiver.recv(&mut [0; 8])).await)
        };
        assert!(receiver.leave_multicast_v4(&group, &here).is_err());
        receiver.join_multicast_v4(&group, &here).unwrap();
        assert!(hear(b"in").await.unwrap());
        receiver.leave_multicast_v4(&group, &here).unwrap();
        assert!(!hear(b"out").await.unwrap());
    });
}

/// Interface 1 is the loopback on Linux, which has no route for groups: so nothing is sent here.
#[cfg(target_os = "linux")]
#[test]
fn a_group_of_ipv6_is_joined_once_and_left_once() {
    run(async || {
        let Ok(socket) = AsyncUdpSocket::bind("[::]:0") else {
            let name = test_name!();
            return crate::util::skip(name, "this machine has no IPv6");
        };
        let group: Ipv6Addr = "ff01::8307".parse().unwrap();
        for _ in 0..2 {
            socket.join_multicast_v6(&group, 1).unwrap();
            let error = socket.join_multicast_v6(&group, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            socket.leave_multicast_v6(&group, 1).unwrap();
            let error = socket.leave_multicast_v6(&group, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        }
    });
}
