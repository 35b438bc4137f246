//! Pipes of this process's own.

use crate::fd::{Registered, impl_async_io};
use crate::sys::{self, Trigger};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Makes a pipe: what is written to one end is read from the other.
///
/// The reader finds the end once the writer, and every copy of it that a child process has, is
/// dropped. Both ends are close-on-exec. To give one of them to a child process, turn it into a
/// blocking descriptor, as programs expect it: [`PipeReader::into_blocking_fd`],
/// [`PipeWriter::into_blocking_fd`].
///
/// # Errors
/// If there are too many open descriptors, or they are beyond what this system's `select` takes.
///
/// # Examples
/// ```
/// use fahrenheit::prelude::*;
///
/// fahrenheit::run(async {
///     let (mut reader, mut writer) = fahrenheit::io::pipe()?;
///     writer.write_all(b"through the pipe").await?;
///     drop(writer);
///     let mut text = String::new();
///     reader.read_to_string(&mut text).await?;
///     assert_eq!(text, "through the pipe");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[track_caller]
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (read, write) = sys::pipe()?;
    Ok((PipeReader(register(read)?), PipeWriter(register(write)?)))
}

/// The end of a [`pipe`] to read from.
///
/// `&PipeReader` reads as well. It belongs to the thread that made it.
///
/// # Cancel safety
/// Bytes move only when a read is ready: nothing is lost by dropping its future.
#[derive(Debug)]
pub struct PipeReader(Registered<File>);

/// The end of a [`pipe`] to write to.
///
/// `&PipeWriter` writes as well. Nothing is buffered: what a write returned is in the pipe. `close`
/// does nothing; the reader finds the end when this is dropped. Writes of up to 512 bytes (4096 on
/// Linux) are not torn apart by those of others. It belongs to the thread that made it.
///
/// # Errors
/// Once there is no reader, writes fail with [`BrokenPipe`](io::ErrorKind::BrokenPipe). In a
/// program whose `main` is not Rust's and that has not had `SIGPIPE` ignored, that signal ends the
/// process first, as it does with any pipe.
///
/// # Cancel safety
/// Bytes move only when a write is ready. `write_all` may have written a part.
#[derive(Debug)]
pub struct PipeWriter(Registered<File>);

#[track_caller]
fn register(fd: OwnedFd) -> io::Result<Registered<File>> {
    Ok(Registered::new(File::from(fd), Trigger::Edge)?)
}

macro_rules! impl_end {
    ($end:ident) => {
        impl $end {
            /// Gives the descriptor away as it is: non-blocking and close-on-exec.
            pub fn into_nonblocking_fd(self) -> OwnedFd {
                self.0.into_inner().into()
            }

            /// Gives the descriptor away after making it blocking, as a child process expects its
            /// standard streams to be. It stays close-on-exec; `std::process::Stdio` takes care
            /// of that.
            ///
            /// # Errors
            /// If `fcntl(2)` fails. The descriptor is closed then.
            pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
                let fd = self.into_nonblocking_fd();
                sys::fd::set_blocking(&fd)?;
                Ok(fd)
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.get_ref().as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    };
}

impl_end!(PipeReader);
impl_end!(PipeWriter);
impl_async_io!(AsyncRead for [PipeReader, &PipeReader], end => end.0);
impl_async_io!(AsyncWrite for [PipeWriter, &PipeWriter], end => end.0, close => Ok(()));
