//! Copying between two streams, both ways at once.

use crate::event_loop::context;
use futures_io::{AsyncRead, AsyncWrite};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How many bytes of each way may be under way.
const CHUNK: usize = 16 * 1024;

/// Copies from `a` to `b` and from `b` to `a`, until both have ended; returns how many bytes went
/// each way: those from `a` first.
///
/// When one of them ends, the other is closed, which on a socket shuts down writing only, and the
/// other way goes on. What has been read is flushed whenever there is no more to read for now.
///
/// # Errors
/// The first of either way. What was copied until then has been written; what had been read and not
/// yet been written is lost.
///
/// # Cancel safety
/// Dropping the future loses what has been read and not yet been written, up to 16 KiB each way.
///
/// # Examples
/// ```
/// use fahrenheit::io::copy_bidirectional;
/// use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
///
/// /// Passes one connection on to `target`.
/// async fn proxy(listener: &AsyncTcpListener, target: &str) -> std::io::Result<(u64, u64)> {
///     let (mut client, _) = listener.accept().await?;
///     let mut server = AsyncTcpStream::connect(target).await?;
///     copy_bidirectional(&mut client, &mut server).await
/// }
/// ```
pub async fn copy_bidirectional<A, B>(a: &mut A, b: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let (mut there, mut back) = (Way::new(), Way::new());
    poll_fn(|cx| {
        let n_there = there.poll(cx, a, b)?;
        let n_back = back.poll(cx, b, a)?;
        Poll::Ready(Ok((ready!(n_there), ready!(n_back))))
    })
    .await
}

/// One of the two ways.
struct Way {
    bytes: Box<[u8]>,
    /// What has been read and not yet been written.
    begin: usize,
    end: usize,
    n_copied: u64,
    unflushed: bool,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Copying,
    Closing,
    Done,
}

impl Way {
    fn new() -> Way {
        Way {
            bytes: vec![0; CHUNK].into_boxed_slice(),
            begin: 0,
            end: 0,
            n_copied: 0,
            unflushed: false,
            state: State::Copying,
        }
    }

    /// Ready once `to` has been closed after the end of `from`.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<u64>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        while self.state == State::Copying {
            ready!(self.poll_step(cx, from, to))?;
        }
        if self.state == State::Closing {
            ready!(Pin::new(to).poll_close(cx))?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(self.n_copied))
    }

    /// One read or one write.
    fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        // Streams that are not of this crate may be ready for ever.
        ready!(context::poll_budget(cx));
        context::spend_budget();
        if self.begin < self.end {
            let n = ready!(Pin::new(to).poll_write(cx, &self.bytes[self.begin..self.end]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begin += n;
            self.n_copied += n as u64;
            self.unflushed = true;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(from).poll_read(cx, &mut self.bytes)? {
            Poll::Ready(0) => self.state = State::Closing,
            Poll::Ready(n) => (self.begin, self.end) = (0, n),
            Poll::Pending => {
                // The other side may be waiting for what lies in a buffer of `to`.
                if self.unflushed {
                    ready!(Pin::new(to).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}
