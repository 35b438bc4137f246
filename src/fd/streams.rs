//! Reading and writing through an [`AsyncFd`]: the traits of futures-io, and those of tokio.

use super::AsyncFd;
#[cfg(feature = "tokio-io")]
use super::impl_tokio_write;
use super::registered::poll_nothing;
use crate::sys;
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Reads by the `Read` of `&T`, as files, pipes and sockets of std have it. Reading into an empty
/// buffer returns 0 at once.
impl<T: AsFd> AsyncRead for AsyncFd<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return poll_nothing(cx);
        }
        // Nothing is guessed from a short read: a terminal gives one line, inotify whole events, a
        // packet pipe one packet, and the next is there without an edge that tells of it.
        self.poll_read_with(cx, |mut io| io.read(bytes))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // Only if all are: an empty slice in front of another one does not make the read empty.
        if slices.iter().all(|slice| slice.is_empty()) {
            return poll_nothing(cx);
        }
        self.poll_read_with(cx, |mut io| io.read_vectored(slices))
    }
}

/// Writes by the `Write` of `&T`. `close` flushes, and does not close: drop the value.
impl<T: AsFd> AsyncWrite for AsyncFd<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return poll_nothing(cx);
        }
        let max_len = self.registered.max_write().unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(max_len)];
        self.poll_write_with(cx, |mut io| io.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if first.is_none() || self.registered.max_write().is_some() {
            // Of a descriptor that blocks, all slices together may ask too much.
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        self.poll_write_with(cx, |mut io| io.write_vectored(slices))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered here, so there is nothing to wait for, unless `T` says so.
        match sys::retry_io(|| self.get_ref().flush()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.registered.poll_room(cx)
            }
            outcome => Poll::Ready(outcome),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The descriptor stays open: it is closed by its owner, when this is dropped.
        self.poll_flush(cx)
    }
}

/// Reads by the `Read` of `&T`. It need not be a system call, so the buffer is initialised first.
#[cfg(feature = "tokio-io")]
impl<T: AsFd> tokio::io::AsyncRead for AsyncFd<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = std::task::ready!(AsyncRead::poll_read(self, cx, buffer.initialize_unfilled()))?;
        // What the `Read` of a program returns may be wrong, which is then a panic here.
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio-io")]
impl_tokio_write!([T: AsFd], AsyncFd<T>, where for<'a> &'a T: Write);
