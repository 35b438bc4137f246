//! The standard streams: [`stdin`], [`stdout`], [`stderr`].
//!
//! No thread, and no flag of a descriptor that other processes have too: see [`sys::shared`].
//!
//! **Invariant.** Output is not buffered here: what a write returned has left the process. Input
//! that was buffered and not consumed goes to the next [`stdin`].

use crate::fd::{NonblockingIo, Registered, impl_async_io};
use crate::sys::shared::Shared;
use futures_io::{AsyncBufRead, AsyncRead};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// How much is read at a time when lines are asked for.
const BUFFER: usize = 8 * 1024;

/// Who reads from stdin, and what they have left.
struct Input {
    taken: bool,
    unread: Vec<u8>,
}

static INPUT: Mutex<Input> = Mutex::new(Input {
    taken: false,
    unread: Vec::new(),
});

fn input() -> MutexGuard<'static, Input> {
    INPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The standard input of this process, to read as bytes or as lines.
///
/// Works on terminals, pipes, sockets, devices and files alike, without a thread. There is one at a
/// time; dropping it lets another be made, which goes on where this one has stopped: also with what
/// had been read ahead for lines. Do not use it and [`std::io::stdin`] at the same time, as that
/// one has a buffer of its own.
///
/// # Errors
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if there is another [`Stdin`] in this process; or
/// if it cannot be registered: see [`RegisterError`](crate::RegisterError).
///
/// # Portability
/// Nothing else notices that it is read asynchronously: the flags of the descriptor stay as they
/// are. A terminal, and on Linux a pipe, is opened anew for that. Where that is not possible, the
/// thread waits if another process snatches the input at the last moment.
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
    if std::mem::replace(&mut input.taken, true) {
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
/// Reading bytes takes no more than is asked for. Reading lines, which is done by
/// [`AsyncBufRead`], takes up to 8 KiB at a time. On a terminal, the end that Ctrl-D makes is not
/// the last: one may read on. A terminal that has gone away is at its end.
///
/// # Cancel safety
/// Bytes move only when a read is ready. `read_line` and `lines` of futures-util keep what they
/// have of a line in the caller's string and in the stream.
#[derive(Debug)]
pub struct Stdin {
    stream: Registered<Shared>,
    bytes: Vec<u8>,
    /// What has been read and not yet been consumed.
    begin: usize,
    end: usize,
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let buffered = &this.bytes[this.begin..this.end];
        if buffered.is_empty() {
            return this.stream.poll_read(cx, bytes);
        }
        let n = buffered.len().min(bytes.len());
        bytes[..n].copy_from_slice(&buffered[..n]);
        this.begin += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncBufRead for Stdin {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.begin == this.end {
            this.bytes.resize(BUFFER, 0);
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
        input.taken = false;
    }
}

/// The standard output of this process.
///
/// Nothing is buffered: what a write has returned is in the file or in the pipe, and nothing is
/// lost when the process ends. To a slow reader, writes wait without stopping the loop. There may
/// be several; `print!` may be used as well, but what it has printed without a newline waits in its
/// own buffer.
///
/// A write of up to [`PIPE_BUF`](https://man7.org/linux/man-pages/man7/pipe.7.html) bytes (at least
/// 512; 4096 on Linux) reaches a pipe whole. Tasks that write more at a time to one pipe or
/// terminal have to take turns, for example with one `Stdout` in a futures `Mutex`, or their texts
/// may be mixed.
///
/// # Errors
/// If it cannot be registered: see [`RegisterError`](crate::RegisterError).
///
/// # Portability
/// As for [`stdin`]: no flag is touched.
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

/// The standard error output of this process; as [`stdout`] in all else.
///
/// # Errors
/// As [`stdout`].
#[track_caller]
pub fn stderr() -> io::Result<Stderr> {
    let stream = Shared::to_write(io::stderr().as_fd())?;
    Ok(Stderr(register(stream)?))
}

/// The standard output of this process: see [`stdout`].
///
/// `&Stdout` writes as well. `flush` and `close` have nothing to do.
///
/// # Errors
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) once nobody reads any more, as after `| head -1`.
///
/// # Cancel safety
/// Bytes move only when a write is ready. `write_all` may have written a part.
#[derive(Debug)]
pub struct Stdout(Registered<Shared>);

/// The standard error output of this process: see [`stderr`], and [`Stdout`].
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

    fn asked(fd: &OwnedFd) -> Registered<Shared> {
        register(Shared::asked(fd.as_fd()).unwrap()).unwrap()
    }

    /// What is done where a pipe cannot be opened anew, as on macOS.
    #[test]
    fn i2_blocking_pipes_that_cannot_be_opened_anew_hold_up_nobody() {
        let ends = [nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap()];
        crate::run(async move {
            let [(read, write), (silent, _open)] = ends;
            let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i / 7) as u8).collect();
            let mut out = Stdout(asked(&write));
            drop(write);
            let theirs = sent.clone();
            let writer = crate::spawn(async move { out.write_all(&theirs).await });
            let reader = asked(&read);
            let silent = asked(&silent);
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
