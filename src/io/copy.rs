//! Copying between two streams, both ways at once.

use crate::event_loop::context;
use futures_io::{AsyncRead, AsyncWrite};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Size of the buffer of each direction.
const BUFFER_SIZE: usize = 16 * 1024;

/// Copies from `a` to `b` and from `b` to `a` until both have ended. Returns the number of bytes
/// copied from `a` and the number of bytes copied from `b`.
///
/// When one of them ends, the other is closed, which on a socket shuts down writing only, and
/// copying in the other direction continues. What has been read is flushed whenever there is no
/// more to read for now.
///
/// # Errors
/// The first error in either direction. Bytes that had been read and not yet been written are lost.
///
/// # Cancel safety
/// Dropping the future loses what has been read and not yet been written, up to 16 KiB in each
/// direction.
///
/// # Examples
/// ```
/// use fahrenheit::io::copy_bidirectional;
/// use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
///
/// /// Forwards one connection to `target`.
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
    let (mut a_to_b, mut b_to_a) = (Direction::new(), Direction::new());
    poll_fn(|cx| {
        // Both are polled before either may return: each has to leave its waker.
        let n_from_a = a_to_b.poll(cx, a, b)?;
        let n_from_b = b_to_a.poll(cx, b, a)?;
        Poll::Ready(Ok((ready!(n_from_a), ready!(n_from_b))))
    })
    .await
}

/// One of the two directions.
struct Direction {
    buffer: Box<[u8]>,
    /// `buffer[begin..end]` has been read and not yet been written.
    begin: usize,
    end: usize,
    /// Number of bytes written so far.
    n_copied: u64,
    /// True if something was written since the last flush.
    unflushed: bool,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    /// Neither stream has ended.
    Copying,
    /// The stream that is read has ended; the other one is being closed.
    Closing,
    /// The stream that is read has ended, and the other one is closed.
    Done,
}

impl Direction {
    fn new() -> Direction {
        Direction {
            buffer: vec![0; BUFFER_SIZE].into_boxed_slice(),
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
        // Streams of other crates spend no budget and may always be ready: without this, two of
        // them would keep all other tasks from running.
        ready!(context::poll_budget(cx));
        context::spend_budget();
        if self.begin < self.end {
            let n = ready!(Pin::new(to).poll_write(cx, &self.buffer[self.begin..self.end]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begin += n;
            self.n_copied += n as u64;
            self.unflushed = true;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(from).poll_read(cx, &mut self.buffer)? {
            Poll::Ready(0) => self.state = State::Closing,
            Poll::Ready(n) => (self.begin, self.end) = (0, n),
            Poll::Pending => {
                // `from` may be waiting for a reply to what is still in a buffer of `to`.
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
