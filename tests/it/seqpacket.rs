//! Connections over Unix sockets that carry records.
//!
//! On a system without such sockets, the tests check that making one says so.

use super::unix::Folder;
use crate::util::go;
use fahrenheit::net::{UnixSeqpacket, UnixSeqpacketListener};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener, AsyncUnixStream, Local, spawn};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Whether this system has such sockets.
const HERE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
));

/// Two connected sockets, or `None` where the system has none.
fn pair() -> Option<(AsyncUnixSeqpacket, AsyncUnixSeqpacket)> {
    match AsyncUnixSeqpacket::pair() {
        Err(error) if !HERE => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            None
        }
        pair => Some(pair.unwrap()),
    }
}

async fn receive(socket: &AsyncUnixSeqpacket) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << 16];
    let record = socket.recv(&mut bytes).await?;
    assert!(!record.truncated);
    bytes.truncate(record.n_bytes);
    Ok(bytes)
}

#[test]
fn records_arrive_whole_in_order_and_are_told_apart() {
    go(async {
        let Some((a, b)) = pair() else { return };
        for _ in 0..8 {
            for record in [&b"one"[..], b"x", b"a longer one"] {
                assert_eq!(a.send(record).await.unwrap(), record.len());
            }
            assert_eq!(receive(&b).await.unwrap(), b"one");
            assert_eq!(receive(&b).await.unwrap(), b"x");
            assert_eq!(receive(&b).await.unwrap(), b"a longer one");
        }
    });
}

#[test]
fn a_record_that_is_longer_than_the_buffer_is_cut_off_and_says_so() {
    go(async {
        let Some((a, b)) = pair() else { return };
        let mut bytes = [0; 4];
        for record in [&b"exac"[..], b"too long", b"x"] {
            a.send(record).await.unwrap();
            let received = b.recv(&mut bytes).await.unwrap();
            assert_eq!(received.n_bytes, record.len().min(4));
            assert_eq!(received.truncated, record.len() > 4);
            assert_eq!(
                bytes[..received.n_bytes],
                record[..received.n_bytes],
                "the rest of the record before is lost"
            );
        }
        let error = a.send(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EMSGSIZE));
    });
}

#[test]
fn the_end_is_a_record_of_no_bytes_and_such_a_record_is_not_sent() {
    go(async {
        let Some((a, b)) = pair() else { return };
        let error = a.send(b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(a.try_send(b"").unwrap_err().kind(), error.kind());
        a.send(b"last").await.unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receive(&b).await.unwrap(), b"last");
        for _ in 0..3 {
            assert_eq!(receive(&b).await.unwrap(), b"");
        }
        // The other direction is still open.
        b.send(b"goodbye").await.unwrap();
        assert_eq!(receive(&a).await.unwrap(), b"goodbye");
        drop(a);
        assert!(b.send(b"anyone?").await.is_err());
    });
}

#[test]
fn a_sender_waits_while_its_peer_has_no_room() {
    go(async {
        let Some((a, b)) = pair() else { return };
        const N: u32 = 5_000;
        let sender = spawn(async move {
            for n in 0..N {
                let record = [&n.to_be_bytes()[..], &[0; 1_000]].concat();
                a.send(&record).await.unwrap();
            }
        });
        for n in 0..N {
            let record = receive(&b).await.unwrap();
            assert_eq!((&record[..4], record.len()), (&n.to_be_bytes()[..], 1_004));
        }
        assert_eq!(receive(&b).await.unwrap(), b"");
        sender.await.unwrap();
    });
}

#[test]
fn trying_never_waits_and_readiness_tells_when_to_try_again() {
    go(async {
        let Some((a, b)) = pair() else { return };
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = [0; 1_000];
        assert!(b.poll_readable(&mut cx).is_pending());
        let error = b.try_recv(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let call = |_: std::os::fd::BorrowedFd<'_>| Ok(());
        assert!(a.try_read_with(call).is_ok() && a.try_write_with(call).is_ok());
        let mut n_sent = 0;
        while a.try_send(&[7; 1_000]).is_ok() {
            n_sent += 1;
        }
        assert!(n_sent > 3, "{n_sent}");
        assert!(a.poll_writable(&mut cx).is_pending());
        let receiver = spawn(async move {
            for _ in 0..n_sent {
                b.readable().await.unwrap();
                assert_eq!(b.try_recv(&mut bytes).unwrap().n_bytes, 1_000);
            }
            b
        });
        a.writable().await.unwrap();
        poll_fn(|cx| a.poll_writable(cx)).await.unwrap();
        a.try_send(b"room again").unwrap();
        let b = receiver.await.unwrap();
        assert_eq!(receive(&b).await.unwrap(), b"room again");
    });
}

#[test]
fn a_listener_accepts_connections_by_path_and_as_a_stream() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("records");
        let listener = match AsyncUnixSeqpacketListener::bind(&path) {
            Err(error) if !HERE => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                return;
            }
            listener => listener.unwrap(),
        };
        let at = listener.local_addr().unwrap();
        assert_eq!(at.as_pathname(), Some(&*path));
        let error = UnixSeqpacketListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let clients = spawn(async move {
            for n in 0..300_u32 {
                let client = UnixSeqpacket::connect_addr(&at).await.unwrap();
                assert_eq!(client.peer_addr().unwrap().as_pathname(), at.as_pathname());
                client.send(&n.to_be_bytes()).await.unwrap();
                assert_eq!(receive(&client).await.unwrap(), b"seen");
            }
        });
        let (first, from) = listener.accept().await.unwrap();
        assert!(from.is_unnamed());
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!(first.peer_cred().unwrap().uid(), me);
        let mut accepted = futures_util::stream::iter([Ok(first)]).chain(listener.incoming());
        for n in 0..300_u32 {
            let server = accepted.next().await.unwrap().unwrap();
            assert_eq!(receive(&server).await.unwrap(), n.to_be_bytes());
            server.send(b"seen").await.unwrap();
        }
        clients.await.unwrap();
        let error = AsyncUnixStream::connect(&path).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EPROTOTYPE));
        drop(accepted);
        drop(listener);
        let error = AsyncUnixSeqpacket::connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = AsyncUnixSeqpacket::connect("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_connection_waits_for_a_listener_whose_backlog_is_full() {
    go(async {
        let folder = Folder::new();
        let path = folder.at("full");
        if !HERE {
            return;
        }
        // More than the backlog, which is 1,024 here or what the system allows.
        const N: usize = 1_100;
        let listener = AsyncUnixSeqpacketListener::bind(&path).unwrap();
        let connect = |_| spawn(AsyncUnixSeqpacket::connect(path.clone()));
        let clients: Vec<_> = (0..N).map(connect).collect();
        for _ in 0..3 {
            fahrenheit::time::sleep(Duration::from_millis(2)).await;
        }
        for _ in 0..N {
            listener.accept().await.unwrap();
        }
        for client in clients {
            client.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_descriptor_of_other_code_is_taken_over_and_given_back_blocking_or_not() {
    go(async {
        let Some((a, b)) = pair() else { return };
        let is_nonblocking = |fd: &OwnedFd| {
            let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
            flags & nix::libc::O_NONBLOCK != 0
        };
        let fd = a.into_fd();
        assert!(is_nonblocking(&fd));
        let fd = AsyncUnixSeqpacket::from_fd(fd)
            .unwrap()
            .into_blocking_fd()
            .unwrap();
        assert!(!is_nonblocking(&fd));
        let a = AsyncUnixSeqpacket::from_fd(fd).unwrap();
        assert!(a.take_error().unwrap().is_none());
        assert!(format!("{a:?}").starts_with("AsyncUnixSeqpacket { fd: "));
        let a = Local::new(a);
        a.send(b"through a Local").await.unwrap();
        assert_eq!(receive(&b).await.unwrap(), b"through a Local");
        assert!(a.as_fd().try_clone_to_owned().is_ok());
    });
}

#[test]
fn a_receive_that_is_dropped_loses_no_record() {
    go(async {
        let Some((a, b)) = pair() else { return };
        for n in 0..100_u8 {
            {
                let mut bytes = [0; 8];
                let mut receiving = std::pin::pin!(b.recv(&mut bytes));
                let polled = poll_fn(|cx| Poll::Ready(receiving.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
                a.send(&[n]).await.unwrap();
            }
            assert_eq!(receive(&b).await.unwrap(), [n]);
        }
    });
}
