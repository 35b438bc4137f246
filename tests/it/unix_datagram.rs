//! Datagrams over Unix sockets: empty, long, to a full receiver, and from one with a name.

use super::unix::Folder;
use crate::util::go;
use fahrenheit::AsyncUnixDatagram;
use fahrenheit::time::timeout;
use futures_util::future::join;
use std::future::Future;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

/// That `future` is not ready although nothing else happens for a while.
async fn waits(future: impl Future) -> bool {
    timeout(Duration::from_millis(30), future).await.is_err()
}

#[test]
fn an_empty_datagram_is_received_as_such_and_is_no_end() {
    go(async {
        let (a, b) = AsyncUnixDatagram::pair().unwrap();
        for _ in 0..8 {
            assert_eq!(a.send(b"").await.unwrap(), 0);
            assert_eq!(a.send(b"after").await.unwrap(), 5);
            let mut bytes = [7; 16];
            assert_eq!(b.recv(&mut bytes).await.unwrap(), 0);
            assert_eq!(b.recv(&mut bytes).await.unwrap(), 5);
            assert_eq!(&bytes[..6], b"after\x07");
            assert!(waits(b.recv(&mut bytes)).await);
        }
    });
}

#[test]
fn a_datagram_is_cut_off_or_refused_when_it_is_too_long() {
    go(async {
        let (a, b) = AsyncUnixDatagram::pair().unwrap();
        a.send(b"too long").await.unwrap();
        a.send(b"fits").await.unwrap();
        let mut bytes = [0; 4];
        for expected in [b"too ", b"fits"] {
            assert_eq!(b.recv(&mut bytes).await.unwrap(), 4);
            assert_eq!(&bytes, expected);
        }
        let error = a.send(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EMSGSIZE));
        a.send(b"next").await.unwrap();
        assert_eq!(b.recv(&mut bytes).await.unwrap(), 4);
    });
}

#[test]
fn a_server_answers_whoever_has_a_name() {
    go(async {
        let folder = Folder::new();
        let server = AsyncUnixDatagram::bind(folder.at("server")).unwrap();
        let client = AsyncUnixDatagram::bind(folder.at("client")).unwrap();
        let nobody = AsyncUnixDatagram::unbound().unwrap();
        let mut bytes = [0; 16];
        for _ in 0..8 {
            client.send_to(b"hello", folder.at("server")).await.unwrap();
            let (n, from) = server.recv_from(&mut bytes).await.unwrap();
            assert_eq!((n, from.as_pathname()), (5, Some(&*folder.at("client"))));
            server.send_to_addr(b"yes?", &from).await.unwrap();
            let (n, from) = client.recv_from(&mut bytes).await.unwrap();
            assert_eq!((n, from.as_pathname()), (4, Some(&*folder.at("server"))));
            nobody.send_to(b"psst", folder.at("server")).await.unwrap();
            let (_, from) = server.recv_from(&mut bytes).await.unwrap();
            assert!(from.is_unnamed());
            let error = server.send_to_addr(b"who?", &from).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let error = client.send_to(b"x", folder.at("none")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = client.send(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(client.peer_addr().unwrap_err().kind(), error.kind());
        client.connect(folder.at("server")).unwrap();
        let peer = client.peer_addr().unwrap();
        assert_eq!(peer.as_pathname(), Some(&*folder.at("server")));
        client.send(b"by name").await.unwrap();
        assert_eq!(server.recv(&mut bytes).await.unwrap(), 7);
        let local = client.local_addr().unwrap();
        assert_eq!(local.as_pathname(), Some(&*folder.at("client")));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_are_sent_to_and_answered() {
    use super::unix::abstract_name;
    use std::os::linux::net::SocketAddrExt;
    go(async {
        let (at, from) = (abstract_name("server"), abstract_name("client"));
        let server = AsyncUnixDatagram::bind_addr(&at).unwrap();
        let client = AsyncUnixDatagram::bind_addr(&from).unwrap();
        client.send_to_addr(b"a", &at).await.unwrap();
        client.connect_addr(&at).unwrap();
        client.send(b"b").await.unwrap();
        for letter in [b'a', b'b'] {
            let mut bytes = [0];
            let (_, peer) = server.recv_from(&mut bytes).await.unwrap();
            assert_eq!(bytes, [letter]);
            assert_eq!(peer.as_abstract_name(), from.as_abstract_name());
            server.send_to_addr(&bytes, &peer).await.unwrap();
            client.recv(&mut bytes).await.unwrap();
            assert_eq!(bytes, [letter]);
        }
    });
}

#[test]
fn a_receiver_that_is_gone_is_an_error_and_the_next_one_is_reached() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("server");
        let client = AsyncUnixDatagram::unbound().unwrap();
        for _ in 0..8 {
            let server = AsyncUnixDatagram::bind(&path).unwrap();
            client.connect(&path).unwrap();
            client.send(b"x").await.unwrap();
            server.recv(&mut [0]).await.unwrap();
            drop(server);
            assert!(client.send(b"x").await.is_err());
            let error = client.connect(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            std::fs::remove_file(&path).unwrap();
        }
        // A receiver that has lost its peer hears of it once at most.
        let server = AsyncUnixDatagram::bind(&path).unwrap();
        client.connect(&path).unwrap();
        client.send(b"still here").await.unwrap();
        drop(client);
        assert_eq!(server.recv(&mut [0; 16]).await.unwrap(), 10);
        assert!(waits(server.recv(&mut [0; 16])).await);
    });
}

/// Sends `n_most` numbers as `send` does, while no task receives for a while, then receives them.
async fn flood(server: &AsyncUnixDatagram, n_most: u32, send: impl AsyncFn(&[u8])) {
    let n_sent = std::cell::Cell::new(0);
    let sender = async {
        while n_sent.get() < n_most {
            send(&n_sent.get().to_ne_bytes()).await;
            n_sent.set(n_sent.get() + 1);
        }
    };
    let receiver = async {
        #[cfg(target_os = "linux")]
        let cost = crate::util::Cost::begin();
        fahrenheit::time::sleep(Duration::from_millis(300)).await;
        #[cfg(target_os = "linux")]
        cost.check("300 ms beside a full queue", Duration::from_millis(100));
        assert!(n_sent.get() < n_most, "the receiver is never full");
        for number in 0..n_most {
            let mut bytes = [0; 8];
            assert_eq!(server.recv(&mut bytes).await.unwrap(), 4);
            assert_eq!(bytes[..4], number.to_ne_bytes());
        }
    };
    join(sender, receiver).await;
    assert!(waits(server.recv(&mut [0])).await);
}

#[test]
fn sending_to_a_full_receiver_waits_without_spinning_and_loses_nothing() {
    go(async {
        let folder = Folder::new();
        let (full, other) = (folder.at("full"), folder.at("other"));
        let server = AsyncUnixDatagram::bind(&full).unwrap();
        let idle = AsyncUnixDatagram::bind(&other).unwrap();
        let client = AsyncUnixDatagram::unbound().unwrap();
        // Other receivers of the same sender are not held up.
        let beside = async {
            fahrenheit::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(client.send_to(b"beside", &other).await.unwrap(), 6);
            assert_eq!(idle.recv(&mut [0; 16]).await.unwrap(), 6);
        };
        let send = async |bytes: &[u8]| {
            assert_eq!(client.send_to(bytes, &full).await.unwrap(), 4);
        };
        join(flood(&server, 4_000, send), beside).await;
    });
}

#[test]
fn a_connected_sender_waits_for_a_full_receiver_without_spinning() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("server");
        let server = AsyncUnixDatagram::bind(&path).unwrap();
        let client = AsyncUnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let send = async |bytes: &[u8]| {
            assert_eq!(client.send(bytes).await.unwrap(), 4);
        };
        flood(&server, 4_000, send).await;
        let (a, b) = AsyncUnixDatagram::pair().unwrap();
        let send = async |bytes: &[u8]| {
            assert_eq!(a.send(bytes).await.unwrap(), 4);
        };
        flood(&b, 4_000, send).await;
    });
}

#[test]
fn no_datagram_is_lost_to_a_receive_that_was_cancelled() {
    go(async {
        let (a, b) = AsyncUnixDatagram::pair().unwrap();
        for number in 0..1_000_u32 {
            let mut bytes = [0; 4];
            let receive = timeout(Duration::from_micros(1), b.recv(&mut bytes));
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
fn a_socket_moves_to_std_and_back_and_can_be_shut_down() {
    go(async {
        let (a, b) = AsyncUnixDatagram::pair().unwrap();
        b.writable().await.unwrap();
        a.send(b"x").await.unwrap();
        b.readable().await.unwrap();
        let b = AsyncUnixDatagram::try_from(b.into_std()).unwrap();
        assert_eq!(b.recv(&mut [0; 2]).await.unwrap(), 1);
        assert!(waits(b.readable()).await);
        assert!(b.take_error().unwrap().is_none());
        assert!(format!("{b:?}").contains("fd"));
        a.shutdown(Shutdown::Write).unwrap();
        let error = a.send(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let error = b.into_std().recv(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}
