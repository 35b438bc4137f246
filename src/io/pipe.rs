//! Pipes of this process's own.

use crate::event_loop::reactor::Direction;
use crate::fd::Source;
use crate::sys::{self, Trigger};
use futures_io::{AsyncRead, AsyncWrite};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

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
    Ok((PipeReader(End::new(read)?), PipeWriter(End::new(write)?)))
}

/// The end of a [`pipe`] to read from.
///
/// `&PipeReader` reads as well. It belongs to the thread that made it.
///
/// # Cancel safety
/// Bytes move only when a read is ready: nothing is lost by dropping its future.
#[derive(Debug)]
pub struct PipeReader(End);

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
pub struct PipeWriter(End);

#[derive(Debug)]
struct End {
    // Before the descriptor: deregister, then close.
    source: Source,
    // For its reads and writes; there is nothing of a file about it.
    io: File,
}

impl End {
    #[track_caller]
    fn new(fd: OwnedFd) -> io::Result<End> {
        Ok(End {
            source: Source::owned(&fd, Trigger::Edge)?,
            io: fd.into(),
        })
    }

    fn poll_read(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        let call = || (&self.io).read(bytes);
        self.source
            .poll_io(Direction::Read, cx, call, |&n| 0 < n && n < len)
    }

    fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // Not short when it reads less: so many slices may be more than one call takes.
        let call = || (&self.io).read_vectored(slices);
        self.source.poll_io(Direction::Read, cx, call, |_| false)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let call = || (&self.io).write(bytes);
        self.source
            .poll_io(Direction::Write, cx, call, |&n| n < bytes.len())
    }

    fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let call = || (&self.io).write_vectored(slices);
        self.source.poll_io(Direction::Write, cx, call, |_| false)
    }

    fn into_blocking(self) -> io::Result<OwnedFd> {
        sys::fd::set_blocking(&self.io)?;
        Ok(self.io.into())
    }
}

macro_rules! end {
    ($end:ident) => {
        impl $end {
            /// Gives the descriptor away as it is: non-blocking, and close-on-exec.
            pub fn into_nonblocking_fd(self) -> OwnedFd {
                self.0.io.into()
            }

            /// Gives the descriptor away after making it blocking, as a child process expects it
            /// of its standard streams. It stays close-on-exec; `std::process::Stdio` takes care
            /// of that.
            ///
            /// # Errors
            /// That of the system. The descriptor is closed.
            pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
                self.0.into_blocking()
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.io.as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.0.io.as_raw_fd()
            }
        }
    };
}

end!(PipeReader);
end!(PipeWriter);

macro_rules! reads {
    ($reader:ty) => {
        impl AsyncRead for $reader {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_read(cx, bytes)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_read_vectored(cx, slices)
            }
        }
    };
}

reads!(PipeReader);
reads!(&PipeReader);

writes!(PipeWriter);
writes!(&PipeWriter);
