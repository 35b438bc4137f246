//! Reading into nothing, as writing nothing, is answered at once: there is nothing to wait for.

use crate::util::{connected_pair, go, poll_once};
use fahrenheit::prelude::*;
use fahrenheit::{AsyncFd, AsyncUnixStream};
use futures_io::AsyncRead;
use std::fs::File;
use std::io::IoSliceMut;
use std::task::Poll;

/// Fails if a read into no buffer, into an empty one, or into two empty ones waits.
fn reads_nothing_at_once(name: &str, read: &mut (impl AsyncRead + Unpin)) {
    let mut slices = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
    let outcomes = [
        poll_once(&mut read.read(&mut [])),
        poll_once(&mut read.read_vectored(&mut [])),
        poll_once(&mut read.read_vectored(&mut slices)),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Poll::Ready(Ok(0))), "{name}: {outcome:?}");
    }
}

#[test]
fn reading_nothing_from_a_silent_descriptor_succeeds_at_once() {
    go(async {
        let (tcp, _tcp) = connected_pair().await;
        let (unix, _unix) = AsyncUnixStream::pair().unwrap();
        let (pipe, _writer) = fahrenheit::io::pipe().unwrap();
        let (blocking, _write) = nix::unistd::pipe().unwrap();
        let blocking = AsyncFd::new(File::from(blocking)).unwrap();
        let (nonblocking, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        nonblocking.set_nonblocking(true).unwrap();
        let nonblocking = AsyncFd::new(nonblocking).unwrap();
        // A reader that waits already, and is not asked again.
        let mut byte = [0];
        assert!(poll_once(&mut (&tcp).read(&mut byte)).is_pending());
        reads_nothing_at_once("TCP", &mut &tcp);
        reads_nothing_at_once("Unix", &mut &unix);
        reads_nothing_at_once("pipe", &mut &pipe);
        let mut blocking = blocking;
        reads_nothing_at_once("blocking pipe", &mut blocking);
        let mut nonblocking = nonblocking;
        reads_nothing_at_once("AsyncFd", &mut nonblocking);
        assert_eq!(
            poll_once(&mut Box::pin(tcp.peek(&mut []))).map(Result::unwrap),
            Poll::Ready(0)
        );
    });
}

#[test]
fn trying_to_read_or_write_nothing_is_no_reason_to_wait() {
    go(async {
        let (tcp, _tcp) = connected_pair().await;
        let (blocking, write) = nix::unistd::pipe().unwrap();
        let blocking = AsyncFd::new(File::from(blocking)).unwrap();
        let write = AsyncFd::new(File::from(write)).unwrap();
        while write.try_write(&[0; 4096]).is_ok() {}
        while tcp.try_write(&[0; 4096]).is_ok() {}
        let (empty, _write) = nix::unistd::pipe().unwrap();
        let empty = AsyncFd::new(File::from(empty)).unwrap();
        assert_eq!(tcp.try_read(&mut []).unwrap(), 0);
        assert_eq!(tcp.try_write(&[]).unwrap(), 0);
        assert_eq!(empty.try_read(&mut []).unwrap(), 0);
        assert_eq!(write.try_write(&[]).unwrap(), 0);
        assert_eq!(blocking.try_read(&mut [0; 1]).unwrap(), 1);
    });
}
