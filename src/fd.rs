//! Waiting for a descriptor: [`AsyncFd`] for any, and [`Registered`] under every socket and pipe.
//!
//! An operation tries its call, and on `WouldBlock` registers interest and returns `Pending`.

mod async_io;
mod registered;
mod source;
mod streams;

use crate::sys::uninit::Uninit;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

pub use crate::event_loop::reactor::RegisterError;
#[cfg(feature = "tokio-io")]
pub(crate) use async_io::impl_tokio_write;
pub(crate) use async_io::{impl_async_io, impl_read_uninit};
use registered::poll_nothing;
pub(crate) use registered::{NonblockingIo, Registered};
pub(crate) use source::Waiter;

/// Any descriptor, to be waited for: a socket, a pipe, a FIFO, a terminal, a device.
///
/// # Blocking descriptors
/// The flags of the descriptor are never changed, because `O_NONBLOCK` belongs to the open file and
/// is shared with other processes. If it blocks, as stdin does, operations wait until it is ready,
/// ask once more right before the call, and then make one call. A write takes no more than there
/// is certainly room for: `PIPE_BUF` bytes in a pipe, 512 in a stream socket, one on a terminal.
/// Should another process be faster between the question and the call, that call blocks the
/// thread; there is no way to exclude that. Calls of your own in
/// [`write_with`](AsyncFd::write_with) have to keep to such limits themselves.
///
/// # Regular files
/// `select` says that a regular file is always ready: operations never wait, and block the thread
/// for as long as the disk takes. Use [`fs::File`](crate::fs::File) for files.
///
/// # Ownership
/// A descriptor has one `AsyncFd`; any number of tasks may wait through it. Dropping it wakes them.
/// It cannot leave its thread:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncFd<std::fs::File>>();
/// ```
///
/// # Examples
/// ```
/// use fahrenheit::{prelude::*, AsyncFd};
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// fahrenheit::run(async {
///     let (read, mut write) = UnixStream::pair()?;
///     let mut read = AsyncFd::new(read)?;
///     write.write_all(b"hello")?;
///     let mut bytes = [0; 5];
///     read.read_exact(&mut bytes).await?;
///     assert_eq!(&bytes, b"hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[doc(alias("Async", "PollEvented"))]
#[derive(Debug)]
pub struct AsyncFd<T: AsFd> {
    registered: Registered<T>,
}

impl<T: AsFd> AsyncFd<T> {
    /// Registers the descriptor of `io` with this thread's loop.
    ///
    /// # Errors
    /// A [`RegisterError`], inside of the [`io::Error`], if the descriptor is not open, is
    /// registered already, or is beyond what this system's `select` takes. `io` is dropped;
    /// [`try_new`](AsyncFd::try_new) gives it back.
    #[track_caller]
    pub fn new(io: T) -> io::Result<AsyncFd<T>> {
        // The descriptor is dropped with the error, as std drops what a failed conversion was
        // given.
        AsyncFd::try_new(io).map_err(|(_, error)| error.into())
    }

    /// Registers the descriptor of `io`, or gives `io` back.
    ///
    /// # Errors
    /// A [`RegisterError`] if the descriptor is not open, is registered already, or is beyond what
    /// this system's `select` takes.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (a, _b) = UnixStream::pair()?;
    /// let a = AsyncFd::new(a)?;
    /// let (_fd, error) = AsyncFd::try_new(a.get_ref()).unwrap_err();
    /// println!("{error}");
    /// let _unregistered: UnixStream = a.into_inner();
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn try_new(io: T) -> Result<AsyncFd<T>, (T, RegisterError)> {
        Registered::any(io).map(|registered| AsyncFd { registered })
    }

    /// Begins to wait for something to read, as a future that leaves nothing behind when it is
    /// dropped.
    pub(crate) fn read_waiter(&self) -> Waiter<'_> {
        self.registered.read_waiter()
    }

    /// Returns the owner of the descriptor.
    pub fn get_ref(&self) -> &T {
        self.registered.get_ref()
    }

    /// Ends the registration and gives the descriptor back as it was.
    pub fn into_inner(self) -> T {
        self.registered.into_inner()
    }

    /// Waits until the descriptor is ready to read: there is data, the end, or an error.
    ///
    /// A hint: the read may find nothing all the same.
    ///
    /// # Errors
    /// EBADF if other code has closed the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncFd;
    /// use std::{future::poll_fn, io::Write, mem::MaybeUninit, os::unix::net::UnixStream};
    ///
    /// fahrenheit::run(async {
    ///     let (a, mut b) = UnixStream::pair()?;
    ///     a.set_nonblocking(true)?;
    ///     let a = AsyncFd::new(a)?;
    ///     b.write_all(b"one")?;
    ///     a.readable().await?;
    ///     let mut bytes = [0; 16];
    ///     assert_eq!(a.try_read(&mut bytes)?, 3);
    ///
    ///     // In a future written by hand, which reads into memory that is not initialised.
    ///     b.write_all(b"two")?;
    ///     let mut buffer = [MaybeUninit::uninit(); 16];
    ///     let len = |bytes: &mut [u8]| bytes.len();
    ///     let n = poll_fn(|cx| a.poll_read_uninit(cx, &mut buffer).map_ok(len)).await?;
    ///     assert_eq!(n, 3);
    ///
    ///     poll_fn(|cx| a.poll_writable(cx)).await?;
    ///     assert_eq!(a.try_write(b"three")?, 5);
    ///     a.writable().await
    /// })
    /// # .unwrap();
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.registered.readable().await
    }

    /// Waits until the descriptor is ready to write, or a write would fail at once.
    ///
    /// # Errors
    /// EBADF if other code has closed the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn writable(&self) -> io::Result<()> {
        self.registered.writable().await
    }

    /// Waits for an exceptional condition: urgent data on a TCP socket, a change of state of a pty
    /// in packet mode.
    ///
    /// # Errors
    /// EBADF if other code has closed the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn exceptional(&self) -> io::Result<()> {
        self.registered.exceptional().await
    }

    /// Makes `call`, and whenever it returns `WouldBlock`, waits until the descriptor is ready to
    /// read and makes it again. `Interrupted` is retried.
    ///
    /// # Errors
    /// Every other error of `call`, at once; EBADF if other code has closed the descriptor.
    ///
    /// # Cancel safety
    /// `call` runs in one poll, and its outcome is returned by the same poll, so no outcome is lost
    /// by dropping the future.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixDatagram;
    ///
    /// fahrenheit::run(async {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     a.set_nonblocking(true)?;
    ///     let a = fahrenheit::AsyncFd::new(a)?;
    ///     b.send(b"ping")?;
    ///     let mut bytes = [0; 16];
    ///     let n = a.read_with(|socket| socket.recv(&mut bytes)).await?;
    ///     assert_eq!(&bytes[..n], b"ping");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn read_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registered.read_with(call).await
    }

    /// Makes `call`, and whenever it returns `WouldBlock`, waits until the descriptor is ready to
    /// write and makes it again. `Interrupted` is retried.
    ///
    /// # Errors
    /// Every other error of `call`, at once; EBADF if other code has closed the descriptor.
    ///
    /// # Cancel safety
    /// `call` runs in one poll, and its outcome is returned by the same poll, so no outcome is lost
    /// by dropping the future.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncFd;
    /// use std::{future::poll_fn, os::unix::net::UnixDatagram};
    ///
    /// fahrenheit::run(async {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     a.set_nonblocking(true)?;
    ///     b.set_nonblocking(true)?;
    ///     let (a, b) = (AsyncFd::new(a)?, AsyncFd::new(b)?);
    ///     let mut bytes = [0; 16];
    ///
    ///     a.write_with(|socket| socket.send(b"one")).await?;
    ///     poll_fn(|cx| b.poll_readable(cx)).await?;
    ///     assert_eq!(b.try_read_with(|socket| socket.recv(&mut bytes))?, 3);
    ///
    ///     a.try_write_with(|socket| socket.send(b"two"))?;
    ///     let receive = poll_fn(|cx| b.poll_read_with(cx, |socket| socket.recv(&mut bytes)));
    ///     assert_eq!(receive.await?, 3);
    ///     poll_fn(|cx| a.poll_write_with(cx, |socket| socket.send(b"three"))).await
    /// })
    /// # .unwrap();
    /// ```
    pub async fn write_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registered.write_with(call).await
    }

    /// [`read_with`](AsyncFd::read_with) for hand-written futures: if `call` returns `WouldBlock`,
    /// the task is woken when the descriptor is ready to read.
    ///
    /// # Errors
    /// Every error of `call` but `WouldBlock` and `Interrupted`; EBADF if other code has closed the
    /// descriptor.
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        call: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        // What the caller's call does is not known, so nothing is guessed from its outcome.
        self.registered.poll_read_with(cx, call, |_| false)
    }

    /// [`write_with`](AsyncFd::write_with) for hand-written futures: if `call` returns
    /// `WouldBlock`, the task is woken when the descriptor is ready to write.
    ///
    /// # Errors
    /// Every error of `call` but `WouldBlock` and `Interrupted`; EBADF if other code has closed the
    /// descriptor.
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        call: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        // Nothing is guessed here either: a datagram that was sent says nothing about the next.
        self.registered.poll_write_with(cx, call, |_| false)
    }

    /// Ready if the descriptor is ready to read right now: there is data, the end, or an error.
    /// Otherwise the task is woken once it is.
    ///
    /// Each call asks `select` about this descriptor. For a future, see
    /// [`readable`](AsyncFd::readable).
    ///
    /// # Errors
    /// EBADF if other code closed the descriptor.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registered.poll_readable(cx)
    }

    /// Ready if the descriptor is ready to write right now, or a write would fail at once.
    /// Otherwise the task is woken once it is.
    ///
    /// Each call asks `select` about this descriptor. For a future, see
    /// [`writable`](AsyncFd::writable).
    ///
    /// # Errors
    /// EBADF if other code closed the descriptor.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registered.poll_writable(cx)
    }

    /// Makes `call`, which reads, without waiting. `Interrupted` is retried.
    ///
    /// If the descriptor blocks, `call` is made only if `select` has just reported that there is
    /// something to read; it should then make one system call.
    ///
    /// # Errors
    /// Every error that `call` returns, except `Interrupted`: `WouldBlock` if there is nothing to
    /// read. EBADF if other code closed the descriptor.
    pub fn try_read_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registered.try_read_with(call)
    }

    /// Makes `call`, which writes, without waiting. `Interrupted` is retried.
    ///
    /// If the descriptor blocks, `call` is made only if `select` has just reported room, which may
    /// be as little as `PIPE_BUF`: a call that writes more may block.
    /// [`try_write`](AsyncFd::try_write) never does.
    ///
    /// # Errors
    /// Every error that `call` returns, except `Interrupted`: `WouldBlock` if there is no room.
    /// EBADF if other code closed the descriptor.
    pub fn try_write_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registered.try_write_with(call)
    }

    /// Reads what is there, without waiting, by the `Read` of `&T`. Returns 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read; otherwise what the `Read` of `&T` returns, which
    /// for a file is the error of `read(2)`. EBADF if other code closed the descriptor.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize>
    where
        for<'a> &'a T: Read,
    {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.try_read_with(|mut io| io.read(bytes))
    }

    /// Polls for a read by the `Read` of `&T`, and returns the part of `buffer` that was filled:
    /// nothing at the end. If it is pending, the task is woken once there is something to read.
    ///
    /// The `Read` of a program may look at its buffer, so `buffer` is initialised first. The method
    /// of the same name of sockets and pipes does without that.
    ///
    /// # Errors
    /// What the `Read` of `&T` returns, except `WouldBlock` and `Interrupted`. EBADF if other code
    /// closed the descriptor.
    ///
    /// # Cancel safety
    /// Bytes are taken only by the poll that returns them.
    pub fn poll_read_uninit<'b>(
        &self,
        cx: &mut Context<'_>,
        buffer: &'b mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<&'b mut [u8]>>
    where
        for<'a> &'a T: Read,
    {
        if buffer.is_empty() {
            return poll_nothing(cx).map_ok(|_| &mut [][..]);
        }
        let mut buffer = Uninit::new(buffer);
        let read = |mut io: &T| buffer.read_cleared(|bytes| io.read(bytes));
        let polled = self.poll_read_with(cx, read);
        polled.map_ok(|_| buffer.into_filled())
    }

    /// Writes what there is room for, without waiting, by the `Write` of `&T`. Returns the number
    /// of bytes.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; otherwise what the `Write` of `&T` returns, which for a
    /// file is the error of `write(2)`: EPIPE if a pipe has no reader. EBADF if other code closed
    /// the descriptor.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize>
    where
        for<'a> &'a T: Write,
    {
        if bytes.is_empty() {
            return Ok(0);
        }
        let max_len = self.registered.max_write().unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(max_len)];
        self.try_write_with(|mut io| io.write(bytes))
    }
}

impl<T: AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.get_ref().as_fd().as_raw_fd()
    }
}

impl<T: AsFd> Unpin for AsyncFd<T> {}
