//! The pipes to and from a child.
//!
//! Only our own ends are non-blocking: that is a property of one end of a pipe, and the other is
//! the child's, who expects it to block.

use crate::fd::{Registered, impl_async_io, impl_read_uninit};
use crate::sys::{self, Trigger};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// Our end of a pipe. `File` lends its calls for reading and writing.
type Pipe = Registered<File>;

#[track_caller]
fn register(end: impl Into<OwnedFd>) -> io::Result<Pipe> {
    let end = sys::fd::above_stdio(end.into())?;
    sys::fd::set_flags(&end)?;
    Ok(Registered::new(File::from(end), Trigger::Edge)?)
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
        sys::fd::silence_pipe(&pipe)?;
        let pipe = Some(register(pipe)?);
        Ok(AsyncChildStdin { pipe })
    }

    /// Ends the registration, and makes the end a blocking one again, as another child expects it
    /// that is to get it.
    ///
    /// # Errors
    /// `BrokenPipe` if it was closed before. If `fcntl(2)` fails, the pipe is closed.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{prelude::*, process::{AsyncChildStdin, AsyncChildStdout, AsyncCommand}};
    /// use std::process::Stdio;
    ///
    /// fahrenheit::run(async {
    ///     let mut command = AsyncCommand::new("cat");
    ///     let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    ///     let stdin = child.stdin.take().expect("it is piped").into_std()?;
    ///     let stdout = child.stdout.take().expect("it is piped").into_std()?;
    ///
    ///     // They may have been on another thread in the meantime.
    ///     AsyncChildStdin::from_std(stdin)?.write_all(b"hello").await?;
    ///     let mut text = String::new();
    ///     AsyncChildStdout::from_std(stdout)?.read_to_string(&mut text).await?;
    ///     assert_eq!(text, "hello");
    ///     child.wait().await
    /// })
    /// # .unwrap();
    /// ```
    pub fn into_std(self) -> io::Result<ChildStdin> {
        let pipe = self.pipe.ok_or_else(closed)?;
        Ok(unregister(pipe)?.into())
    }

    fn pipe(&self) -> io::Result<&Pipe> {
        self.pipe.as_ref().ok_or_else(closed)
    }

    fn close(&mut self) -> io::Result<()> {
        self.pipe = None;
        Ok(())
    }
}

fn closed() -> io::Error {
    let text = "the pipe to the child was closed before";
    io::Error::new(io::ErrorKind::BrokenPipe, text)
}

impl_async_io!(
    AsyncWrite for [AsyncChildStdin],
    child => child.pipe()?, close => child.close()
);

/// Defines one of the two streams that are read from a child.
macro_rules! define_child_output {
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
            /// If `fcntl(2)` fails. The pipe is closed then.
            pub fn into_std(self) -> io::Result<$std> {
                Ok(unregister(self.pipe)?.into())
            }
        }

        impl_async_io!(AsyncRead for [$name], child => child.pipe);

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.pipe.get_ref().as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    };
}

define_child_output! {
    /// The standard output of a child, to be read.
    AsyncChildStdout, ChildStdout
}
define_child_output! {
    /// The standard error of a child, to be read.
    AsyncChildStderr, ChildStderr
}
impl_read_uninit!(
    [AsyncChildStdout, AsyncChildStderr],
    "process::AsyncChildStdout", child => child.pipe
);
