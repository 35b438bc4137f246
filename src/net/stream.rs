//! Reading and writing, the same for every kind of connection.

use crate::event_loop::reactor::Direction;
use crate::fd::Source;
use crate::sys::socket;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::task::{Context, Poll};

/// A connection: a socket that is read from and written to.
///
/// In a private module, so that nobody else can implement it.
pub trait Duplex: AsFd {
    /// Whether a read that takes less than was offered has taken all there was, so that the next
    /// waits before it asks the system again.
    const SHORT_READS_EMPTY: bool;

    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody else can call it")]
    fn source(&self) -> &Source;

    /// This; the halves have a function of the same name.
    #[doc(hidden)]
    fn connection(&self) -> &Self {
        self
    }

    #[doc(hidden)]
    fn poll_read_ref(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        let call = || socket::receive(self, bytes);
        let is_short = |&n: &usize| Self::SHORT_READS_EMPTY && 0 < n && n < len;
        self.source().poll_io(Direction::Read, cx, call, is_short)
    }

    #[doc(hidden)]
    fn poll_read_vectored_ref(
        &self,
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let call = || socket::receive_vectored(self, slices);
        let is_short = |&n: &usize| Self::SHORT_READS_EMPTY && 0 < n && n < len;
        self.source().poll_io(Direction::Read, cx, call, is_short)
    }

    #[doc(hidden)]
    fn poll_write_ref(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let call = || socket::send(self, bytes);
        let is_short = |&n: &usize| n < bytes.len();
        self.source().poll_io(Direction::Write, cx, call, is_short)
    }

    #[doc(hidden)]
    fn poll_write_vectored_ref(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Not short when it takes less: so many slices may be more than one call takes.
        let call = || socket::send_vectored(self, slices);
        self.source().poll_io(Direction::Write, cx, call, |_| false)
    }

    /// Shuts down writing. That it is done already, or that the peer is gone, is no error.
    #[doc(hidden)]
    fn close_write(&self) -> io::Result<()> {
        match socket::shutdown_write(self) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }
}

/// Implements reading for a type that is a connection, a reference to one, or a half.
macro_rules! reads {
    ($type:ty $(, $g:ident)?) => {
        impl$(<$g: $crate::net::stream::Duplex>)? futures_io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.connection().poll_read_ref(cx, bytes)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.connection().poll_read_vectored_ref(cx, slices)
            }
        }
    };
}

/// Implements writing for a type that is a connection, a reference to one, or a half.
macro_rules! writes {
    ($type:ty $(, $g:ident)?) => {
        impl$(<$g: $crate::net::stream::Duplex>)? futures_io::AsyncWrite for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.connection().poll_write_ref(cx, bytes)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.connection().poll_write_vectored_ref(cx, slices)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(self.connection().close_write())
            }
        }
    };
}

pub(super) use {reads, writes};
