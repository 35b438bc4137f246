//! A descriptor together with its registration: what every type that waits is built on.
//!
//! Knows how to try a call and wait; knows neither sockets nor pipes, whose calls come from
//! [`NonblockingIo`] or from the caller.

#[cfg(test)]
mod tests;

use super::source::{Source, Waiter};
use crate::event_loop::clock::Moment;
use crate::event_loop::reactor::{Direction, RegisterError};
use crate::event_loop::{context, with};
use crate::sys::Trigger;
use crate::sys::transfer::{MAX_BYTES, n_fitting};
use crate::sys::uninit::Uninit;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The owner of a descriptor and the registration of that descriptor with this thread's loop.
///
/// **Invariant.** The descriptor is deregistered before it is closed: `source` is declared first,
/// and fields are dropped in the order of their declaration.
#[derive(Debug)]
pub(crate) struct Registered<T> {
    source: Source,
    io: T,
}

impl<T: AsFd> Registered<T> {
    /// Registers the descriptor of `io`, which must be non-blocking and belong to `io` alone.
    #[track_caller]
    pub(crate) fn new(io: T, trigger: Trigger) -> Result<Registered<T>, RegisterError> {
        let source = Source::owned(&io, trigger)?;
        Ok(Registered { source, io })
    }

    /// Registers a non-blocking connection that was made just now, or is about to be made. It
    /// assumes that nothing has arrived yet.
    #[track_caller]
    pub(crate) fn new_connection(io: T) -> Result<Registered<T>, RegisterError> {
        let source = Source::new_connection(&io)?;
        Ok(Registered { source, io })
    }

    /// Registers a non-blocking socket for datagrams, which belongs to `io` alone.
    #[cfg(any(feature = "udp", feature = "unix"))]
    #[track_caller]
    pub(crate) fn datagrams(io: T) -> Result<Registered<T>, RegisterError> {
        let source = Source::datagrams(&io)?;
        Ok(Registered { source, io })
    }

    /// Registers the descriptor of `io`, which other processes may use as well.
    ///
    /// `waits_first` says that a call blocks unless `select` has just said that it would not.
    #[track_caller]
    pub(crate) fn shared(io: T, waits_first: bool) -> Result<Registered<T>, RegisterError> {
        let source = Source::shared(&io, waits_first)?;
        Ok(Registered { source, io })
    }

    /// Registers the descriptor of `io`, whatever its kind and its flags, or returns `io`.
    #[track_caller]
    pub(super) fn any(io: T) -> Result<Registered<T>, (T, RegisterError)> {
        match Source::any(&io) {
            Ok(source) => Ok(Registered { source, io }),
            Err(error) => Err((io, error)),
        }
    }

    /// The owner of the descriptor.
    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }

    /// Ends the registration and returns the owner of the descriptor.
    pub(crate) fn into_inner(self) -> T {
        self.io
    }

    /// Returns the maximum length of a write that does not block once there is room; `None` if the
    /// descriptor never blocks.
    pub(super) fn max_write(&self) -> Option<usize> {
        self.source.max_write()
    }

    /// Begins to wait for something to read, as a future that leaves nothing behind when it is
    /// dropped.
    pub(crate) fn read_waiter(&self) -> Waiter<'_> {
        Waiter::new(&self.source, Direction::Read)
    }

    /// Has the next write wait until the descriptor is ready to write. Always pending.
    pub(super) fn poll_room<R>(&self, cx: &mut Context<'_>) -> Poll<R> {
        self.source.block(Direction::Write);
        self.source.poll_wait(Direction::Write, None, cx, |_| true)
    }

    /// Waits until the descriptor is ready to read. A hint: the read may still find nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.source.ready(Direction::Read).await
    }

    /// Waits until the descriptor is ready to write. A hint: the write may still find no room.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await
    }

    /// Ready if the descriptor is ready to read right now. Otherwise the task is woken once it is.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_ready(Direction::Read, cx)
    }

    /// Ready if the descriptor is ready to write right now. Otherwise the task is woken once it is.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_ready(Direction::Write, cx)
    }

    /// Makes `call`, which reads, once and without waiting.
    pub(crate) fn try_read_with<R>(
        &self,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.source.try_io(Direction::Read, || call(&self.io))
    }

    /// Makes `call`, which writes, once and without waiting.
    pub(crate) fn try_write_with<R>(
        &self,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.source.try_io(Direction::Write, || call(&self.io))
    }

    /// Waits for an exceptional condition, such as urgent data.
    pub(crate) async fn exceptional(&self) -> io::Result<()> {
        self.source.ready(Direction::Except).await
    }

    /// Makes `call`; while it returns `WouldBlock`, waits until the descriptor is ready to read.
    pub(crate) async fn read_with<R>(
        &self,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.source.io(Direction::Read, || call(&self.io)).await
    }

    /// Makes `call`; while it returns `WouldBlock`, waits until the descriptor is ready to write.
    pub(crate) async fn write_with<R>(
        &self,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.source.io(Direction::Write, || call(&self.io)).await
    }

    /// One poll of [`read_with`](Registered::read_with). `is_drained` says of an outcome whether
    /// it probably took all that was there; the next read then waits before it makes its call.
    pub(crate) fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&T) -> io::Result<R>,
        is_drained: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        let call = || call(&self.io);
        self.source.poll_io(Direction::Read, cx, call, is_drained)
    }

    /// One poll of [`write_with`](Registered::write_with). `is_full` says of an outcome whether
    /// there is probably no room left; the next write then waits before it makes its call.
    pub(crate) fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&T) -> io::Result<R>,
        is_full: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        let call = || call(&self.io);
        self.source.poll_io(Direction::Write, cx, call, is_full)
    }
}

/// Answers an operation on no bytes at once.
///
/// The system would let some of them wait: a TCP socket that has received nothing says `WouldBlock`
/// also when nothing is asked of it, and a descriptor that blocks would be asked about first.
pub(super) fn poll_nothing(cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    // A task that never waits has to let the others run, too.
    ready!(context::poll_budget(cx));
    context::spend_budget();
    Poll::Ready(Ok(0))
}

/// How long a write waits before it is tried again although the descriptor is ready.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Reading and writing bytes by one system call, which fails with `WouldBlock` instead of waiting.
///
/// What a call is offered has been limited to what every system takes.
pub(crate) trait NonblockingIo: AsFd {
    /// A call that moved less than it was offered has emptied the buffer that it read from, or
    /// filled the one that it wrote to. True for a TCP connection and for nothing else: a read of a
    /// Unix socket ends at the byte that descriptors came with, a terminal returns one line at a
    /// time, and a pipe may have other readers and writers.
    const SHORT_MEANS_BLOCKED: bool = false;

    /// Returns whether `error` of a write means that writing has to be tried again after a while,
    /// although the descriptor is ready.
    fn is_write_delayed(_error: &io::Error) -> bool {
        false
    }

    fn read(&self, bytes: &mut [u8]) -> io::Result<usize>;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Reads into memory that need not be initialised.
    fn read_uninit(&self, buffer: &mut Uninit<'_>) -> io::Result<usize> {
        buffer.read(self, MAX_BYTES)
    }

    /// Reads into several slices, of which the first is not empty.
    fn read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        slices.first_mut().map_or(Ok(0), |slice| self.read(slice))
    }

    /// Writes several slices, of which the first is not empty.
    fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        slices.first().map_or(Ok(0), |slice| self.write(slice))
    }
}

/// For pipes: `File` has the calls for reading and writing any descriptor.
impl NonblockingIo for File {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, bytes)
    }

    fn read_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Read::read_vectored(&mut &*self, slices)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Write::write_vectored(&mut &*self, slices)
    }
}

impl<T: NonblockingIo> Registered<T> {
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let n_offered = bytes.len().min(MAX_BYTES);
        self.try_read_with(|io| io.read(&mut bytes[..n_offered]))
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        self.try_write_with(|io| io.write(bytes))
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return poll_nothing(cx);
        }
        // Compared with what the call is offered, not with the caller's buffer: a read that was cut
        // off at the limit is full, and says nothing about an empty socket.
        let n_offered = bytes.len().min(MAX_BYTES);
        let bytes = &mut bytes[..n_offered];
        let is_drained = |&n: &usize| T::SHORT_MEANS_BLOCKED && 0 < n && n < n_offered;
        self.poll_read_with(cx, |io| io.read(bytes), is_drained)
    }

    /// Polls for a read into memory that need not be initialised.
    pub(crate) fn poll_read_uninit(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Uninit<'_>,
    ) -> Poll<io::Result<usize>> {
        if buffer.len() == 0 {
            return poll_nothing(cx);
        }
        let n_offered = buffer.len().min(MAX_BYTES);
        let is_drained = |&n: &usize| T::SHORT_MEANS_BLOCKED && 0 < n && n < n_offered;
        self.poll_read_with(cx, |io| io.read_uninit(buffer), is_drained)
    }

    pub(crate) fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // Without the empty slices in front, or a long one behind them would look like the end.
        let n_empty = slices.iter().take_while(|slice| slice.is_empty()).count();
        let slices = &mut slices[n_empty..];
        // The system refuses too many slices, and too many bytes in all.
        let n_slices = n_fitting(slices.iter().map(|slice| slice.len()));
        if n_slices < 2 {
            let first = slices.first_mut();
            return self.poll_read(cx, first.map_or(&mut [], |slice| slice));
        }
        let slices = &mut slices[..n_slices];
        let n_offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let is_drained = |&n: &usize| T::SHORT_MEANS_BLOCKED && 0 < n && n < n_offered;
        self.poll_read_with(cx, |io| io.read_vectored(slices), is_drained)
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return poll_nothing(cx);
        }
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        // A write that was taken in part has filled the buffer of the system.
        let is_full = |&n: &usize| T::SHORT_MEANS_BLOCKED && n < bytes.len();
        let written = self.poll_write_with(cx, |io| io.write(bytes), is_full);
        Registered::<T>::or_wait(written, cx)
    }

    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Without the empty slices in front: only they might fit beside a long one, and writing
        // nothing looks like a failure to callers.
        let n_empty = slices.iter().take_while(|slice| slice.is_empty()).count();
        let slices = &slices[n_empty..];
        let n_slices = n_fitting(slices.iter().map(|slice| slice.len()));
        if n_slices < 2 {
            return self.poll_write(cx, slices.first().map_or(&[], |slice| slice));
        }
        let slices = &slices[..n_slices];
        let n_offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let is_full = |&n: &usize| T::SHORT_MEANS_BLOCKED && n < n_offered;
        let written = self.poll_write_with(cx, |io| io.write_vectored(slices), is_full);
        Registered::<T>::or_wait(written, cx)
    }

    /// Turns an error of a write that means "try again later" into waiting for [`RETRY_DELAY`].
    pub(crate) fn or_wait<R>(
        written: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        match written {
            // The system has no buffers, and says nothing when it has some again.
            Poll::Ready(Err(error)) if T::is_write_delayed(&error) => {
                // The timer is never removed: this is too rare to keep room for its key in every
                // connection, and a wake too many does no harm.
                let (deadline, waker) = (
                    Moment::now().saturating_add(RETRY_DELAY),
                    cx.waker().clone(),
                );
                with(|l| l.timers.insert(deadline, waker));
                Poll::Pending
            }
            written => written,
        }
    }
}
