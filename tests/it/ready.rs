//! `poll_readable`, `poll_writable`, and operations that never wait.

use crate::util::{Count, go, tcp_pair};
use fahrenheit::{AsyncFd, AsyncUdpSocket, AsyncUnixStream, time::sleep};
use std::fs::File;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::task::Context;
use std::time::Duration;

/// Long enough for descriptors to move to the kernel's queue, between the rounds of a test.
const N_ROUNDS: usize = 20;

#[test]
fn a_socket_is_readable_exactly_while_there_is_something_to_read() {
    go(async {
        let (ours, theirs) = tcp_pair();
        let (count, waker) = Count::waker();
        let mut bytes = [0; 8];
        for _ in 0..N_ROUNDS {
            let mut cx = Context::from_waker(&waker);
            assert!(ours.poll_readable(&mut cx).is_pending());
            assert_eq!(
                ours.try_read(&mut bytes).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            let before = count.get();
            assert_eq!(theirs.try_write(b"word").unwrap(), 4);
            poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
            // Both waiters are woken, sooner or later.
            while count.get() == before {
                sleep(Duration::from_micros(100)).await;
            }
            // What was not read is still there to be told of.
            assert_eq!(ours.try_read(&mut bytes[..2]).unwrap(), 2);
            poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
            assert_eq!(ours.try_read(&mut bytes).unwrap(), 2);
        }
        drop(theirs);
        poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
        assert_eq!(ours.try_read(&mut bytes).unwrap(), 0);
    });
}

#[test]
fn a_full_socket_is_writable_again_once_its_peer_has_read() {
    go(async {
        let (ours, theirs) = AsyncUnixStream::pair().unwrap();
        let chunk = [0; 10_000];
        for _ in 0..3 {
            let mut n_sent = 0;
            let error = loop {
                match ours.try_write(&chunk) {
                    Ok(n) => n_sent += n,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(ours.poll_writable(&mut cx).is_pending());
            let reader = async {
                let mut bytes = [0; 10_000];
                while n_sent > 0 {
                    poll_fn(|cx| theirs.poll_readable(cx)).await.unwrap();
                    n_sent -= theirs.try_read(&mut bytes).unwrap();
                }
            };
            let writable = poll_fn(|cx| ours.poll_writable(cx));
            let (writable, ()) = futures_util::join!(writable, reader);
            writable.unwrap();
        }
    });
}

#[test]
fn a_read_that_was_tried_in_vain_hides_nothing_from_the_next_operation() {
    use fahrenheit::prelude::*;
    go(async {
        let (mut ours, theirs) = tcp_pair();
        let mut bytes = [0; 4];
        for _ in 0..N_ROUNDS {
            assert!(ours.try_read(&mut bytes).is_err());
            theirs.try_write(b"word").unwrap();
            ours.read_exact(&mut bytes).await.unwrap();
            // One read by each way, of what came at once.
            theirs.try_write(b"word").unwrap();
            ours.readable().await.unwrap();
            assert_eq!(ours.try_read(&mut bytes[..3]).unwrap(), 3);
            ours.read_exact(&mut bytes[3..]).await.unwrap();
            assert_eq!(&bytes, b"word");
        }
    });
}

#[test]
fn datagrams_are_sent_and_received_by_calls_of_std() {
    go(async {
        let ours = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let theirs = AsyncUdpSocket::bind("127.0.0.1:0").unwrap();
        let (addr, mut bytes) = (ours.local_addr().unwrap(), [0; 8]);
        let error = ours
            .try_read_with(|socket| socket.recv_from(&mut bytes))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        poll_fn(|cx| theirs.poll_writable(cx)).await.unwrap();
        theirs
            .try_write_with(|socket| socket.send_to(b"word", addr))
            .unwrap();
        poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
        let received = ours
            .try_read_with(|socket| socket.recv_from(&mut bytes))
            .unwrap();
        assert_eq!(received, (4, theirs.local_addr().unwrap()));
    });
}

/// A call that blocks would hang the test.
#[test]
fn nothing_that_is_tried_on_a_blocking_pipe_blocks() {
    go(async {
        let (read, write) = nix::unistd::pipe().unwrap();
        let read = AsyncFd::new(File::from(read)).unwrap();
        let write = AsyncFd::new(File::from(write)).unwrap();
        assert_eq!(
            read.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let (mut n_written, chunk) = (0, vec![0; 1_000_000]);
        let error = loop {
            match write.try_write(&chunk) {
                Ok(n) => n_written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(write.poll_writable(&mut cx).is_pending());
        let error = write
            .try_write_with(|mut file| file.write(b"x"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let mut bytes = vec![0; 1_000_000];
        while n_written > 0 {
            poll_fn(|cx| read.poll_readable(cx)).await.unwrap();
            n_written -= read.try_read(&mut bytes).unwrap();
        }
        poll_fn(|cx| write.poll_writable(cx)).await.unwrap();
        assert!(read.try_read_with(|_| Ok(())).is_err());
    });
}

#[test]
fn a_read_into_uninitialised_memory_returns_what_was_filled() {
    use fahrenheit::prelude::*;
    use std::mem::MaybeUninit;
    crate::util::within(30, || {
        fahrenheit::run(async {
            let (near, mut far) = tcp_pair();
            let mut buffer = [MaybeUninit::uninit(); 8];
            let reader = fahrenheit::spawn(async move {
                let mut parts = Vec::new();
                loop {
                    let read = |cx: &mut Context<'_>| {
                        let polled = near.poll_read_uninit(cx, &mut buffer);
                        polled.map_ok(|filled| filled.to_vec())
                    };
                    match poll_fn(read).await.unwrap() {
                        part if part.is_empty() => return parts,
                        part => parts.push(part),
                    }
                }
            });
            // The first poll finds nothing, and is woken.
            fahrenheit::yield_now().await;
            far.write_all(b"more than eight bytes").await.unwrap();
            far.close().await.unwrap();
            let parts = reader.await.unwrap();
            assert!(parts.iter().all(|part| part.len() <= 8));
            assert_eq!(parts.concat(), b"more than eight bytes");
        });
    });
}
