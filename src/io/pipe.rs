//! Pipes between tasks, or to a child process.

use crate::fd::{Registered, impl_async_io, impl_read_uninit};
use crate::sys::{self, Trigger};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Makes a pipe: what is written to one end is read from the other.
///
/// The reader reaches the end once the writer is dropped and every child process that has a copy of
/// it has closed it. Both ends are close-on-exec. To give one of them to a child process, make it
/// blocking, as programs expect it: [`PipeReader::into_blocking_fd`],
/// [`PipeWriter::into_blocking_fd`].
///
/// # Errors
/// `EMFILE` or `ENFILE` if descriptors run out, or a [`RegisterError`](crate::RegisterError) if one
/// is beyond what this system's `select` takes.
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
///
/// Descriptors for code that knows nothing of this crate:
///
/// ```
/// use fahrenheit::io::pipe;
/// use std::{fs::File, io::{Read, Write}};
///
/// let (reader, writer) = pipe()?;
/// let mut writer = File::from(writer.into_nonblocking_fd());
/// writer.write_all(b"hello")?;
/// let mut bytes = [0; 5];
/// File::from(reader.into_blocking_fd()?).read_exact(&mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// # std::io::Result::Ok(())
/// ```
#[doc(alias = "pipe2")]
#[track_caller]
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (read, write) = sys::pipe()?;
    sys::fd::silence_pipe(&write)?;
    let reader = PipeReader(register(read)?);
    Ok((reader, PipeWriter(register(write)?)))
}

/// The end of a [`pipe`] to read from. It belongs to the thread that made it.
///
/// Implements `AsyncRead` of futures-io; so does `&PipeReader`.
///
/// # Cancel safety
/// Bytes move only in the poll that returns ready: nothing is lost by dropping the future of a
/// read.
#[derive(Debug)]
pub struct PipeReader(Registered<File>);

/// The end of a [`pipe`] to write to. It belongs to the thread that made it.
///
/// Implements `AsyncWrite` of futures-io; so does `&PipeWriter`. Nothing is buffered: the pipe has
/// what a write returned. `close` does nothing; the reader reaches the end when this is dropped.
/// Writes of up to 512 bytes (4096 on Linux) are atomic: they are not interleaved with other
/// writes.
///
/// # Errors
/// Once there is no reader, writes fail with [`BrokenPipe`](io::ErrorKind::BrokenPipe). A Rust
/// program ignores `SIGPIPE`. If the `main` of the program is in another language and does not
/// ignore `SIGPIPE`, that signal ends the process first, except on macOS and NetBSD.
///
/// # Cancel safety
/// Bytes move only in the poll that returns ready. `write_all` may have written a part.
#[derive(Debug)]
pub struct PipeWriter(Registered<File>);

#[track_caller]
fn register(fd: OwnedFd) -> io::Result<Registered<File>> {
    Ok(Registered::new(File::from(fd), Trigger::Edge)?)
}

macro_rules! impl_end {
    ($end:ident) => {
        impl $end {
            /// Converts into a descriptor that is non-blocking and close-on-exec.
            pub fn into_nonblocking_fd(self) -> OwnedFd {
                self.0.into_inner().into()
            }

            /// Converts into a blocking descriptor, as a child process expects its standard streams
            /// to be. It is still close-on-exec; `std::process::Stdio` takes care of that.
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
impl_read_uninit!([PipeReader], "io::PipeReader", end => end.0);
impl_async_io!(AsyncWrite for [PipeWriter, &PipeWriter], end => end.0, close => Ok(()));
