//! The pipes to and from a child.
//!
//! Only our own ends are non-blocking: that is a property of one end of a pipe, and the other is
//! the child's, who expects it to block.

use crate::fd::AsyncFd;
use crate::sys;
use futures_io::{AsyncRead, AsyncWrite};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::task::{Context, Poll};

/// For the reads and writes of `File`; there is nothing of a file about it.
type Pipe = AsyncFd<File>;

#[track_caller]
fn register(end: impl Into<OwnedFd>) -> io::Result<Pipe> {
    let end = end.into();
    sys::fd::set_flags(&end)?;
    AsyncFd::new(File::from(end))
}

fn unregister(pipe: Pipe) -> io::Result<OwnedFd> {
    let end = pipe.into_inner();
    sys::fd::set_blocking(&end)?;
    Ok(end.into())
}

/// The standard input of a child, to be written to.
///
/// The child finds the end of its input when this is closed or dropped; `close` does close it.
///
/// # Errors
/// Once the child has closed its end, or has ended, writes fail with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). In a program whose `main` is not Rust's and that has
/// not had `SIGPIPE` ignored, that signal ends the program first, as it does with any pipe.
///
/// # Cancel safety
/// Bytes move only when a write is ready. `write_all` may have written a part.
#[derive(Debug)]
pub struct AsyncChildStdin {
    /// `None` once it is closed.
    pipe: Option<Pipe>,
}

impl AsyncChildStdin {
    /// Registers a pipe of std with this thread's loop, and makes our end non-blocking.
    ///
    /// # Errors
    /// A [`RegisterError`](crate::RegisterError), inside of the [`io::Error`], if the descriptor is
    /// beyond what this system's `select` takes. The pipe is closed then.
    #[track_caller]
    pub fn from_std(pipe: ChildStdin) -> io::Result<AsyncChildStdin> {
        let pipe = Some(register(pipe)?);
        Ok(AsyncChildStdin { pipe })
    }

    /// Ends the registration, and makes the end a blocking one again, as another child expects it
    /// that is to get it.
    ///
    /// # Errors
    /// If it was closed, or the system says so. It is closed then.
    pub fn into_std(self) -> io::Result<ChildStdin> {
        let pipe = self.pipe.ok_or_else(closed)?;
        Ok(unregister(pipe)?.into())
    }

    fn pipe(&mut self) -> io::Result<Pin<&mut Pipe>> {
        self.pipe.as_mut().map(Pin::new).ok_or_else(closed)
    }
}

fn closed() -> io::Error {
    let text = "the pipe to the child was closed before";
    io::Error::new(io::ErrorKind::BrokenPipe, text)
}

impl AsyncWrite for AsyncChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pipe()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pipe()?.poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}

macro_rules! output {
    ($(#[$doc:meta])* $name:ident, $std:ident) => {
        $(#[$doc])*
        ///
        /// It ends when every process that has the other end has closed it: the child, and those
        /// that the child has started.
        ///
        /// # Cancel safety
        /// Bytes are taken only by a read that is ready. `read_exact` and the like may have taken a
        /// part.
        #[derive(Debug)]
        pub struct $name {
            pipe: Pipe,
        }

        impl $name {
            /// Registers a pipe of std with this thread's loop, and makes our end non-blocking.
            ///
            /// # Errors
            /// A [`RegisterError`](crate::RegisterError), inside of the [`io::Error`], if the
            /// descriptor is beyond what this system's `select` takes. The pipe is closed then.
            #[track_caller]
            pub fn from_std(pipe: $std) -> io::Result<$name> {
                Ok($name { pipe: register(pipe)? })
            }

            /// Ends the registration, and makes the end a blocking one again. `Stdio::from` what
            /// this returns is an input for another child.
            ///
            /// # Errors
            /// If the system says so. It is closed then.
            pub fn into_std(self) -> io::Result<$std> {
                Ok(unregister(self.pipe)?.into())
            }
        }

        impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.pipe).poll_read(cx, bytes)
            }

            fn poll_read_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.pipe).poll_read_vectored(cx, slices)
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.pipe.as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.pipe.as_raw_fd()
            }
        }
    };
}

output! {
    /// The standard output of a child, to be read.
    AsyncChildStdout, ChildStdout
}
output! {
    /// The standard error of a child, to be read.
    AsyncChildStderr, ChildStderr
}
