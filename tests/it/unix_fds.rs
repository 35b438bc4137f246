//! Descriptors that travel over a Unix socket.

use crate::util::go;
use fahrenheit::prelude::*;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, AsyncUnixStream};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The ends of a pipe, to read and to write.
fn pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (read.into(), write.into())
}

/// Whether every copy of the writing end is closed.
fn is_ended(read: &mut File) -> bool {
    let mut fds = [nix::poll::PollFd::new(
        read.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() == 1
        && read.read(&mut [0]).unwrap() == 0
}

fn is_close_on_exec(fd: &OwnedFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
    FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC)
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        // Often enough that the sockets grow old in the loop.
        for _ in 0..8 {
            let (mut reads, writes): (Vec<_>, Vec<_>) = (0..3).map(|_| pipe()).unzip();
            let fds: Vec<BorrowedFd<'_>> = writes.iter().map(AsFd::as_fd).collect();
            assert_eq!(a.send_fds(b"three", &fds).await.unwrap(), 5);
            drop(writes);
            let mut bytes = [0; 16];
            let received = b.recv_fds(&mut bytes, 3).await.unwrap();
            assert_eq!(&bytes[..received.n_bytes], b"three");
            assert!(!received.truncated);
            assert_eq!(received.fds.len(), 3);
            for (number, (fd, read)) in received.fds.into_iter().zip(&mut reads).enumerate() {
                assert!(is_close_on_exec(&fd));
                let mut byte = [0];
                File::from(fd).write_all(&[number as u8]).unwrap();
                read.read_exact(&mut byte).unwrap();
                assert_eq!(usize::from(byte[0]), number);
                assert!(is_ended(read));
            }
            let waits = timeout(Duration::from_millis(5), b.recv_fds(&mut bytes, 3));
            assert!(waits.await.is_err());
        }
        drop(a);
        let end = b.recv_fds(&mut [0], 3).await.unwrap();
        assert!(end.n_bytes == 0 && end.fds.is_empty() && !end.truncated);
    });
}

#[test]
fn descriptors_that_were_not_asked_for_are_closed_and_reported() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        for (n_most, n_sent) in [(0, 1), (0, 2), (1, 2), (1, 5), (2, 3), (3, 4)] {
            let (mut reads, writes): (Vec<_>, Vec<_>) = (0..n_sent).map(|_| pipe()).unzip();
            let fds: Vec<BorrowedFd<'_>> = writes.iter().map(AsFd::as_fd).collect();
            a.send_fds(b"x", &fds).await.unwrap();
            drop(writes);
            let received = b.recv_fds(&mut [0], n_most).await.unwrap();
            assert!(received.truncated, "{n_sent} for {n_most}");
            assert_eq!((received.n_bytes, received.fds.len()), (1, n_most));
            let n_ended = reads
                .iter_mut()
                .map(is_ended)
                .filter(|&ended| ended)
                .count();
            assert_eq!(n_ended, n_sent - n_most);
        }
    });
}

#[test]
fn an_ordinary_read_closes_what_comes_with_the_bytes() {
    go(async {
        let (a, mut b) = AsyncUnixStream::pair().unwrap();
        let (mut read, write) = pipe();
        a.send_fds(b"x", &[write.as_fd()]).await.unwrap();
        drop(write);
        assert!(!is_ended(&mut read));
        assert_eq!(b.read(&mut [0; 8]).await.unwrap(), 1);
        assert!(is_ended(&mut read));
    });
}

/// A read ends behind such a byte although there is more, so it must not be taken for the last.
#[test]
fn bytes_around_descriptors_are_neither_merged_nor_waited_for() {
    go(async {
        let (a, mut b) = AsyncUnixStream::pair().unwrap();
        let (_read, write) = pipe();
        // Enough of each kind that the sockets grow old in the loop.
        for round in 0..20 {
            (&a).write_all(b"before").await.unwrap();
            a.send_fds(b"with", &[write.as_fd()]).await.unwrap();
            (&a).write_all(b"after").await.unwrap();
            let mut text = Vec::new();
            let mut n_fds = 0;
            while text.len() < 15 {
                let mut bytes = [0; 64];
                let n = if round < 10 {
                    let received = b.recv_fds(&mut bytes, 4).await.unwrap();
                    n_fds += received.fds.len();
                    received.n_bytes
                } else {
                    b.read(&mut bytes).await.unwrap()
                };
                text.extend_from_slice(&bytes[..n]);
            }
            assert_eq!(text, b"beforewithafter");
            assert_eq!(n_fds, usize::from(round < 10));
        }
    });
}

#[test]
fn descriptors_need_a_byte_and_an_open_connection() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let error = a.send_fds(b"", &[a.as_fd()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(a.send_fds(b"none", &[]).await.unwrap(), 4);
        let received = b.recv_fds(&mut [0; 8], 4).await.unwrap();
        assert_eq!((received.n_bytes, received.fds.len()), (4, 0));
        drop(b);
        let error = a.send_fds(b"x", &[a.as_fd()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn more_descriptors_than_the_system_takes_are_an_error_and_253_are_not() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let error = a.send_fds(b"x", &[a.as_fd(); 254]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        a.send_fds(b"x", &[a.as_fd(); 253]).await.unwrap();
        let received = b.recv_fds(&mut [0], usize::MAX).await.unwrap();
        assert_eq!((received.fds.len(), received.truncated), (253, false));
    });
}

#[test]
fn sending_to_a_full_peer_waits_and_the_descriptors_travel_once() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let block = [0; 4096];
        let full = async {
            let mut n_bytes = 0;
            while let Ok(n) = timeout(Duration::from_millis(50), (&a).write(&block)).await {
                n_bytes += n.unwrap();
            }
            n_bytes
        };
        let n_bytes = full.await;
        let (mut read, write) = pipe();
        let send = fahrenheit::spawn(async move {
            let n = a.send_fds(b"with", &[write.as_fd()]).await;
            (n.unwrap(), a)
        });
        sleep(Duration::from_millis(5)).await;
        assert!(!send.is_finished());
        let (mut n_read, mut fds) = (0, Vec::new());
        let mut bytes = vec![0; 1 << 16];
        while n_read < n_bytes + 4 {
            let received = b.recv_fds(&mut bytes, 4).await.unwrap();
            n_read += received.n_bytes;
            fds.extend(received.fds);
        }
        let (n, _a) = send.await.unwrap();
        assert_eq!((n, n_read, fds.len()), (4, n_bytes + 4, 1));
        assert!(!is_ended(&mut read));
        drop(fds);
        assert!(is_ended(&mut read));
    });
}

#[test]
fn no_descriptor_is_lost_to_a_receive_that_was_cancelled() {
    go(async {
        let (a, b) = AsyncUnixStream::pair().unwrap();
        let (mut read, write) = pipe();
        let mut n_fds = 0;
        for round in 0..500 {
            let mut bytes = [0];
            let receive = timeout(Duration::from_micros(1), b.recv_fds(&mut bytes, 1));
            let send = async {
                if round % 3 == 0 {
                    fahrenheit::yield_now().await;
                }
                a.send_fds(b"x", &[write.as_fd()]).await.unwrap();
            };
            let received = match futures_util::future::join(receive, send).await.0 {
                Ok(received) => received,
                Err(_) => b.recv_fds(&mut bytes, 1).await,
            };
            n_fds += received.unwrap().fds.len();
        }
        assert_eq!(n_fds, 500);
        drop(write);
        assert!(is_ended(&mut read));
    });
}

/// What passing descriptors is for: one process accepts, another serves.
#[test]
fn a_connection_is_handed_over_to_another_loop() {
    go(async {
        let (a, b) = UnixStream::pair().unwrap();
        let worker = std::thread::spawn(move || {
            go(async {
                let b = AsyncUnixStream::from_std(b)?;
                let mut received = b.recv_fds(&mut [0], 1).await?;
                let client = TcpStream::from(received.fds.remove(0));
                let mut client = AsyncTcpStream::from_std(client)?;
                client.write_all(b"from the worker").await?;
                client.close().await
            })
        });
        let a = AsyncUnixStream::from_std(a).unwrap();
        let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = AsyncTcpStream::connect(addr).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        a.send_fds(b"!", &[accepted.as_fd()]).await.unwrap();
        assert!(accepted.as_raw_fd() >= 0);
        drop(accepted);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "from the worker");
        let served: io::Result<()> = worker.join().unwrap();
        served.unwrap();
    });
}
