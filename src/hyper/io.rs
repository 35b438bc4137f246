//! [`Io`]: a stream with the traits of hyper.

#[cfg(feature = "unix")]
use crate::net::AsyncUnixStream;
use crate::net::{AsyncTcpStream, Duplex};
use crate::sys::read_buf::fill_hyper;
use crate::sys::uninit::Uninit;
use ::hyper::rt::{Read, ReadBufCursor, Write};
use futures_io::{AsyncRead, AsyncWrite};
use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Number of bytes that hyper gets first of what has been read ahead: less than any request has.
///
/// hyper reads 8 KiB at a time, also while a request is alive that holds a part of its buffer. A
/// buffer of 8 KiB that the first request was read into is then too small, and so is each one after
/// it: 700 instructions a request for new buffers. If the first read ends within the request, hyper
/// enlarges its buffer to 16 KiB for the second, and that lasts for a hundred requests.
const FIRST_PIECE: usize = 8;

/// A stream that hyper can read from and write to.
///
/// It takes every stream with the traits of futures-io, such as the connections of this crate and
/// those of a TLS library over them. An [`AsyncTcpStream`] and an [`AsyncUnixStream`] are read
/// without initialising hyper's buffer first, and written from several slices at once.
///
/// # Cancel safety
/// Nothing is buffered on the way to the stream. Bytes that were read ahead of hyper stay here
/// until hyper takes them.
#[derive(Debug)]
pub struct Io<S> {
    stream: S,
    /// What has been read from the stream and not yet by hyper, from `begin` on.
    ahead: Vec<u8>,
    begin: usize,
}

impl<S> Io<S> {
    /// Wraps a stream, from which nothing has been read.
    pub const fn new(stream: S) -> Io<S> {
        Io::with_read_ahead(stream, Vec::new())
    }

    /// Wraps a stream of which `ahead` has been read already. hyper reads that first.
    pub(super) const fn with_read_ahead(stream: S, ahead: Vec<u8>) -> Io<S> {
        Io {
            stream,
            ahead,
            begin: 0,
        }
    }

    /// Returns a reference to the stream.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixStream, hyper::Io};
    ///
    /// let (a, _b) = AsyncUnixStream::pair()?;
    /// let mut io = Io::new(a);
    /// println!("{:?} {:?}", io.get_ref().peer_cred()?, io.get_mut());
    /// let _a: AsyncUnixStream = io.into_inner();
    /// # std::io::Result::Ok(())
    /// ```
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns a mutable reference to the stream.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the stream. hyper keeps what it has read beyond the last message, and its
    /// `into_parts` and `downcast` return that.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin + 'static> Read for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ahead = &this.ahead[this.begin..];
        if ahead.is_empty() {
            return fill_hyper(buffer, |unfilled| {
                poll_read_uninit(&mut this.stream, cx, unfilled)
            });
        }
        let max_len = if this.begin == 0 {
            FIRST_PIECE
        } else {
            usize::MAX
        };
        let n = ahead.len().min(buffer.remaining()).min(max_len);
        buffer.put_slice(&ahead[..n]);
        this.begin += n;
        if this.begin == this.ahead.len() {
            // A connection may live long, and this is never needed again.
            (this.ahead, this.begin) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads from any stream into memory that need not be initialised.
fn poll_read_uninit<S: AsyncRead + Unpin + 'static>(
    stream: &mut S,
    cx: &mut Context<'_>,
    unfilled: &mut Uninit<'_>,
) -> Poll<io::Result<usize>> {
    // The compiler knows `S`, so nothing is left of this in a program. A trait of our own for such
    // reads could not be implemented for the streams of other crates.
    let any: &dyn Any = stream;
    if let Some(tcp) = any.downcast_ref::<AsyncTcpStream>() {
        return tcp.poll_read_into(cx, unfilled);
    }
    #[cfg(feature = "unix")]
    if let Some(unix) = any.downcast_ref::<AsyncUnixStream>() {
        return unix.poll_read_into(cx, unfilled);
    }
    // Other streams are given initialised memory, as futures-io demands.
    let mut is_pending = false;
    let outcome = unfilled.read_cleared(|bytes| match Pin::new(stream).poll_read(cx, bytes) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            is_pending = true;
            Ok(0)
        }
    });
    match is_pending {
        true => Poll::Pending,
        false => Poll::Ready(outcome),
    }
}

impl<S: AsyncWrite + Unpin + 'static> Write for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        // A stream that does not gather would write the head of each answer by itself. futures-io
        // has no way to ask, so hyper copies the pieces together for the streams of other crates.
        let any: &dyn Any = &self.stream;
        #[cfg(feature = "unix")]
        if any.is::<AsyncUnixStream>() {
            return true;
        }
        any.is::<AsyncTcpStream>()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
