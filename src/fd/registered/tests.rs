//! Tests of reads and writes below the types for users, and of a socket that is short of memory.

use super::*;
use crate::sys::Errno;
use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A socket whose writes fail with ENOBUFS a number of times, as they do on macOS.
struct ShortOfBuffers {
    socket: UnixStream,
    n_failures: Cell<u32>,
}

impl AsFd for ShortOfBuffers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl NonblockingIo for ShortOfBuffers {
    fn is_write_delayed(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::ENOBUFS as i32)
    }

    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("nothing is read here")
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.n_failures.replace(self.n_failures.get().max(1) - 1) {
            0 => Write::write(&mut &self.socket, bytes),
            _ => Err(Errno::ENOBUFS.into()),
        }
    }
}

#[test]
fn a_write_that_finds_no_buffers_is_tried_again_on_a_timer() {
    let (socket, _peer) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let n_failures = Cell::new(4);
    let io = ShortOfBuffers { socket, n_failures };
    crate::block_on(async {
        let registered = Registered::new(io, Trigger::Edge).unwrap();
        let start = Instant::now();
        let n = poll_fn(|cx| registered.poll_write(cx, b"four")).await;
        assert_eq!(n.unwrap(), 4);
        assert!(start.elapsed() >= 4 * RETRY_DELAY);
        let slices = [IoSlice::new(b""), IoSlice::new(b"a"), IoSlice::new(b"b")];
        registered.get_ref().n_failures.set(1);
        let n = poll_fn(|cx| registered.poll_write_vectored(cx, &slices)).await;
        assert_eq!(n.unwrap(), 1, "the first slice that is not empty");
    });
}

#[test]
fn reading_without_initialised_memory_takes_what_is_there_and_waits_for_more() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    crate::block_on(async {
        let registered = Registered::new(ours, Trigger::Edge).unwrap();
        let mut bytes = [std::mem::MaybeUninit::uninit(); 8];
        let mut buffer = Uninit::new(&mut bytes);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(
            registered
                .poll_read_uninit(&mut cx, &mut buffer)
                .is_pending()
        );
        peer.write_all(b"hello").unwrap();
        let n = poll_fn(|cx| registered.poll_read_uninit(cx, &mut buffer)).await;
        assert_eq!(n.unwrap(), 5);
        assert_eq!(buffer.into_filled(), b"hello");
    });
}
