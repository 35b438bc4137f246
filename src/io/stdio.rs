//! The standard streams: [`stdin`], [`stdout`], [`stderr`].
//!
//! They need no thread, and change no flag of a descriptor that other processes share: see
//! [`sys::shared`](crate::sys::shared).
//!
//! **Invariant.** Output is not buffered here: bytes that a write has reported as written have left
//! the process. Input that was buffered and not consumed goes to the next [`stdin`].

use crate::event_loop::context;
use crate::fd::{NonblockingIo, Registered, impl_async_io};
use crate::sys::shared::Shared;
use crate::sys::uninit::Uninit;
use futures_io::{AsyncBufRead, AsyncRead};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// Number of bytes that are read at a time into the buffer for lines.
const BUFFER_SIZE: usize = 8 * 1024;

/// What outlives a [`Stdin`].
struct Input {
    /// There is a [`Stdin`] in this process.
    is_taken: bool,
    /// What the last [`Stdin`] has read and not consumed.
    unread: Vec<u8>,
}

static INPUT: Mutex<Input> = Mutex::new(Input {
    is_taken: false,
    unread: Vec::new(),
});

/// Locks, ignoring poisoning: no foreign code runs under this lock.
fn input() -> MutexGuard<'static, Input> {
    INPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the standard input of this process, to read as bytes or as lines.
///
/// It works on terminals, pipes, sockets, devices and files alike, without a thread. A process has
/// one [`Stdin`] at a time. After it was dropped, the next one continues where it has stopped, and
/// returns first what had been read ahead for lines. Do not mix it with [`std::io::stdin`], which
/// has a buffer of its own.
///
/// # Errors
/// - EBADF if descriptor 0 is closed. If it was closed when the program started, std has opened
///   `/dev/null` instead.
/// - [`ResourceBusy`](io::ErrorKind::ResourceBusy) if there is another [`Stdin`] in this process.
/// - A [`RegisterError`](crate::RegisterError), inside of the [`io::Error`], if the number of its
///   duplicate is beyond what this system's `select` takes.
///
/// # Portability
/// The flags of the descriptor stay as they are, so other processes do not notice that it is read
/// asynchronously. A terminal, and on Linux a pipe, is reopened for that. What cannot be reopened,
/// such as a terminal of another user after `su`, is checked with `select` before each read. If
/// another process takes the input between the two calls, the read blocks the thread.
///
/// # Examples
/// ```
/// use fahrenheit::prelude::*;
///
/// async fn count_lines() -> std::io::Result<usize> {
///     let mut lines = fahrenheit::io::stdin()?.lines();
///     let mut n_lines = 0;
///     while let Some(line) = lines.next().await {
///         println!("{}", line?);
///         n_lines += 1;
///     }
///     Ok(n_lines)
/// }
/// ```
#[track_caller]
pub fn stdin() -> io::Result<Stdin> {
    let stream = register(Shared::to_read(io::stdin().as_fd())?)?;
    let mut input = input();
    if std::mem::replace(&mut input.is_taken, true) {
        let text = "there is another `Stdin` in this process";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    let unread = std::mem::take(&mut input.unread);
    Ok(Stdin {
        stream,
        begin: 0,
        end: unread.len(),
        bytes: unread,
    })
}

/// The standard input of this process: see [`stdin`].
///
/// Reading bytes takes no more than is asked for. Reading lines, by [`AsyncBufRead`], takes up to
/// 8 KiB at a time. After Ctrl-D on a terminal, which is reported as the end, reading can continue.
/// A terminal that has hung up is at its end.
///
/// # Cancel safety
/// A read that is dropped while it waits has taken nothing. `read_line` and `lines` of futures-util
/// keep the beginning of a line in the caller's string and in the stream.
#[derive(Debug)]
pub struct Stdin {
    stream: Registered<Shared>,
    /// What has been read and not yet been consumed is at `begin..end`.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Stdin {
    /// Polls for a read into memory that need not be initialised, and returns the part of `buffer`
    /// that was filled: nothing at the end. If it is pending, the task is woken once there is
    /// something to read.
    ///
    /// # Errors
    /// The error of `read(2)`: EIO if this process is in the background of its terminal and cannot
    /// be stopped.
    ///
    /// # Cancel safety
    /// Bytes are taken only by the poll that returns them.
    ///
    /// # Examples
    /// ```
    /// use std::{future::poll_fn, mem::MaybeUninit};
    ///
    /// async fn n_bytes_of_input() -> std::io::Result<usize> {
    ///     let mut stdin = fahrenheit::io::stdin()?;
    ///     let mut buffer = [MaybeUninit::uninit(); 4096];
    ///     poll_fn(|cx| stdin.poll_read_uninit(cx, &mut buffer).map_ok(|bytes| bytes.len())).await
    /// }
    /// ```
    pub fn poll_read_uninit<'b>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'b mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<&'b mut [u8]>> {
        let mut buffer = Uninit::new(buffer);
        self.poll_read_into(cx, &mut buffer)
            .map_ok(|_| buffer.into_filled())
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Uninit<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.begin == self.end {
            return self.stream.poll_read_uninit(cx, buffer);
        }
        // A task that always finds its bytes in the buffer yields, too.
        ready!(context::poll_budget(cx));
        context::spend_budget();
        let n = buffer.fill(&self.bytes[self.begin..self.end]);
        self.begin += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.begin == this.end {
            return this.stream.poll_read(cx, bytes);
        }
        ready!(context::poll_budget(cx));
        context::spend_budget();
        let buffered = &this.bytes[this.begin..this.end];
        let n = buffered.len().min(bytes.len());
        bytes[..n].copy_from_slice(&buffered[..n]);
        this.begin += n;
        Poll::Ready(Ok(n))
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        crate::sys::read_buf::fill_tokio(buffer, |unfilled| this.poll_read_into(cx, unfilled))
    }
}

impl AsyncBufRead for Stdin {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.begin == this.end {
            this.bytes.resize(BUFFER_SIZE, 0);
            (this.begin, this.end) = (0, 0);
            this.end = ready!(this.stream.poll_read(cx, &mut this.bytes))?;
        }
        Poll::Ready(Ok(&this.bytes[this.begin..this.end]))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        let this = self.get_mut();
        this.begin = (this.begin + n).min(this.end);
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let unread = self.bytes[self.begin..self.end].to_vec();
        let mut input = input();
        input.unread = unread;
        input.is_taken = false;
    }
}

/// Returns the standard output of this process.
///
/// Nothing is buffered: bytes that a write has reported as written are in the file or in the pipe,
/// and are not lost when the process ends. If the reader is slow, writes wait without blocking the
/// loop. There may be several [`Stdout`]s. `print!` can be used beside them, but keeps what it
/// printed after the last newline in a buffer of its own.
///
/// A write of up to [`PIPE_BUF`](https://man7.org/linux/man-pages/man7/pipe.7.html) bytes (at least
/// 512; 4096 on Linux) reaches a pipe whole. Tasks that write more at a time to one pipe, or that
/// write to one terminal, have to take turns, for example with one `Stdout` in a futures `Mutex`,
/// or their texts may be mixed.
///
/// # Errors
/// - EBADF if descriptor 1 is closed. If it was closed when the program started, std has opened
///   `/dev/null` instead.
/// - A [`RegisterError`](crate::RegisterError), inside of the [`io::Error`], if the number of its
///   duplicate is beyond what this system's `select` takes.
///
/// # Portability
/// The flags of the descriptor stay as they are. A terminal, and on Linux a pipe, is reopened. What
/// cannot be reopened is checked with `select` before each write, of at most `PIPE_BUF` bytes, or
/// of one byte if it is a terminal, which makes output to a terminal of another user slow. If
/// another process takes the room between the two calls, the write blocks the thread.
///
/// # Examples
/// ```
/// use fahrenheit::prelude::*;
///
/// fahrenheit::run(async {
///     let mut out = fahrenheit::io::stdout()?;
///     out.write_all(b"to whom it may concern\n").await
/// })
/// # .unwrap();
/// ```
#[track_caller]
pub fn stdout() -> io::Result<Stdout> {
    let stream = Shared::to_write(io::stdout().as_fd())?;
    Ok(Stdout(register(stream)?))
}

/// Returns the standard error output of this process, which works as [`stdout`] does.
///
/// # Errors
/// - EBADF if descriptor 2 is closed. If it was closed when the program started, std has opened
///   `/dev/null` instead.
/// - A [`RegisterError`](crate::RegisterError), inside of the [`io::Error`], if the number of its
///   duplicate is beyond what this system's `select` takes.
///
/// # Examples
/// ```
/// use fahrenheit::prelude::*;
///
/// fahrenheit::run(async {
///     let mut stderr = fahrenheit::io::stderr()?;
///     stderr.write_all(b"a message\n").await
/// })
/// # .unwrap();
/// ```
#[track_caller]
pub fn stderr() -> io::Result<Stderr> {
    let stream = Shared::to_write(io::stderr().as_fd())?;
    Ok(Stderr(register(stream)?))
}

/// The standard output of this process: see [`stdout`].
///
/// `&Stdout` writes as well. `flush` and `close` return at once, because nothing is buffered, and
/// `close` does not close the descriptor.
///
/// # Errors
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) after the last reader has closed the pipe, as `head`
/// does in `| head -1`.
///
/// # Cancel safety
/// A write that is dropped while it waits has written nothing; `write_all` may have written a part.
#[derive(Debug)]
pub struct Stdout(Registered<Shared>);

/// The standard error output of this process: see [`stderr`]. It writes as [`Stdout`] does.
#[derive(Debug)]
pub struct Stderr(Registered<Shared>);

impl_async_io!(
    AsyncWrite for [Stdout, &Stdout, Stderr, &Stderr],
    stream => stream.0, close => Ok(())
);

#[track_caller]
fn register(stream: Shared) -> io::Result<Registered<Shared>> {
    let waits_first = stream.waits_first();
    Ok(Registered::shared(stream, waits_first)?)
}

impl NonblockingIo for Shared {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Shared::read(self, bytes)
    }

    fn read_uninit(&self, buffer: &mut Uninit<'_>) -> io::Result<usize> {
        // `read(2)` might block here.
        buffer.read_cleared(|bytes| Shared::read(self, bytes))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Shared::write(self, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    fn checked_first(fd: &OwnedFd) -> Registered<Shared> {
        register(Shared::checked_first(fd.as_fd()).unwrap()).unwrap()
    }

    /// As on macOS, where a pipe has no name, and on Linux if it is another user's.
    #[test]
    fn pipes_that_cannot_be_reopened_do_not_block_the_loop() {
        let ends = [nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap()];
        crate::run(async move {
            let [(read, write), (silent, _open)] = ends;
            let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i / 7) as u8).collect();
            let mut out = Stdout(checked_first(&write));
            drop(write);
            let theirs = sent.clone();
            let writer = crate::spawn(async move { out.write_all(&theirs).await });
            let reader = checked_first(&read);
            let silent = checked_first(&silent);
            let mut received = vec![0; sent.len()];
            let mut n_received = 0;
            while n_received < sent.len() {
                let rest = &mut received[n_received..];
                let n = std::future::poll_fn(|cx| reader.poll_read(cx, rest)).await;
                n_received += n.unwrap();
            }
            writer.await.unwrap().unwrap();
            assert!(received == sent);
            let mut byte = [0];
            let read = std::future::poll_fn(|cx| silent.poll_read(cx, &mut byte));
            let limit = Duration::from_millis(10);
            assert!(crate::time::timeout(limit, read).await.is_err());
        });
    }
}
