//! hyper's traits for reading and writing, for what is inside of a [`Local`].
//!
//! hyper demands that a connection is `Send` before it can be upgraded to another protocol.

use super::Local;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

impl<T: Read> Read for Local<T> {
    #[track_caller]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.as_pin_mut().poll_read(cx, buffer)
    }
}

impl<T: Write> Write for Local<T> {
    #[track_caller]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_pin_mut().poll_write(cx, bytes)
    }

    #[track_caller]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.as_pin_mut().poll_write_vectored(cx, slices)
    }

    #[track_caller]
    fn is_write_vectored(&self) -> bool {
        T::is_write_vectored(self)
    }

    #[track_caller]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_pin_mut().poll_flush(cx)
    }

    #[track_caller]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_pin_mut().poll_shutdown(cx)
    }
}
