//! The registration of one descriptor: tries calls, and registers interest when they would block.
//!
//! # The life of a read
//! An operation tries its call, and on `WouldBlock` registers interest and returns `Pending`. After
//! a TCP read or write that took less than was offered, the next one registers at once instead of
//! asking the system for a `WouldBlock`, so that a request costs one wait, one read and one write.
//! That is a guess, and the reactor looks at it once (see `event_loop::reactor`).
//!
//! **Invariant.** A future of this crate that is dropped while it waits leaves nothing behind.

use crate::event_loop::not_running::warn_if_not_running;
use crate::event_loop::reactor::{
    Advice, Direction, Owner, Reactor, RegisterError, Token, WaitKey,
};
use crate::event_loop::{boundary, context, with};
use crate::sys::blocking::Blocking;
use crate::sys::select::is_number_ready;
use crate::sys::thread_bound::NotSend;
use crate::sys::{self, Errno, Trigger};
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::Location;
use std::task::{Context, Poll, ready};

/// The registration of one descriptor with this thread's loop.
#[derive(Debug)]
pub(crate) struct Source {
    token: Token,
    /// The descriptor blocks, and is not ours to change: wait before every call.
    waits_first: bool,
    /// A read takes one message and says nothing about whether there is another, so most reads
    /// that follow one would block.
    takes_messages: bool,
    /// Ask `select` right before every call as well, and how much a call may ask for.
    blocking: Option<Blocking>,
    // The registration is in the table of this thread's loop.
    _not_send: NotSend,
}

impl Source {
    /// Registers a non-blocking descriptor that the caller owns.
    #[track_caller]
    pub(crate) fn owned(fd: impl AsFd, trigger: Trigger) -> Result<Source, RegisterError> {
        Source::register(fd.as_fd().as_raw_fd(), true, Some(trigger), &[])
    }

    /// Registers a connection that was made just now. Its first read waits before it makes its
    /// call, because data rarely arrives together with the connection. If it has, `select` says so
    /// at once.
    #[track_caller]
    pub(super) fn new_connection(fd: impl AsFd) -> Result<Source, RegisterError> {
        let number = fd.as_fd().as_raw_fd();
        Source::register(number, true, Some(Trigger::Edge), &[Direction::Read])
    }

    /// Registers a non-blocking socket for datagrams that the caller owns.
    #[cfg(any(feature = "udp", feature = "unix"))]
    #[track_caller]
    pub(super) fn datagrams(fd: impl AsFd) -> Result<Source, RegisterError> {
        let mut source = Source::owned(fd, Trigger::Edge)?;
        source.takes_messages = true;
        Ok(source)
    }

    /// Registers any descriptor, once it is certain that it is open. Its flags are left alone.
    #[track_caller]
    pub(super) fn any(fd: impl AsFd) -> Result<Source, RegisterError> {
        let (fd, number) = (fd.as_fd(), fd.as_fd().as_raw_fd());
        let blocking = Blocking::of(fd).map_err(|_| RegisterError::BadFd { fd: number })?;
        // The queue is not for descriptors that block: one call per readiness leaves something
        // behind, of which no edge would tell.
        let trigger = blocking.is_none().then_some(Trigger::Edge);
        let mut source = Source::register(number, false, trigger, blocked(blocking.is_some()))?;
        source.waits_first = blocking.is_some();
        source.blocking = blocking;
        Ok(source)
    }

    /// Returns the maximum length of a write that does not block once there is room.
    pub(super) fn max_write(&self) -> Option<usize> {
        self.blocking.map(Blocking::max_write)
    }

    /// Registers a descriptor that other processes have as well, so that it never leaves `select`.
    /// One that `waits_first` blocks unless it is ready.
    #[track_caller]
    pub(crate) fn shared(fd: impl AsFd, waits_first: bool) -> Result<Source, RegisterError> {
        let number = fd.as_fd().as_raw_fd();
        let mut source = Source::register(number, true, None, blocked(waits_first))?;
        source.waits_first = waits_first;
        Ok(source)
    }

    /// Registers `fd`. The first operations in the directions of `blocked` wait before they make
    /// their call.
    #[track_caller]
    fn register(
        fd: RawFd,
        owned: bool,
        trigger: Option<Trigger>,
        blocked: &[Direction],
    ) -> Result<Source, RegisterError> {
        let place = Location::caller();
        let registered = with(|l| {
            let registered = l.reactor.register(fd, owned, trigger, place)?;
            let (token, _) = registered;
            for &direction in blocked {
                l.reactor.set_blocked(token, direction);
            }
            Ok(registered)
        });
        let (token, leftover) = registered.unwrap_or(Err(RegisterError::ThreadEnded))?;
        if !leftover.is_empty() {
            boundary::error!(
                "descriptor {fd} was closed while still registered; its number is used again"
            );
            leftover.into_iter().for_each(boundary::wake);
        }
        boundary::trace!("register descriptor {fd}");
        Ok(Source {
            token,
            waits_first: false,
            takes_messages: false,
            blocking: None,
            _not_send: PhantomData,
        })
    }

    /// Makes `call` until it no longer would block; registers interest when it does. `is_short`
    /// returns whether the next call is likely to block, because this one took less than it was
    /// offered.
    ///
    /// The task is found again by its waker. Futures use [`io`](Source::io) instead, which leaves
    /// nothing behind.
    pub(crate) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        call: impl FnMut() -> io::Result<R>,
        is_short: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        self.poll_io_of(direction, cx, None, call, is_short)
    }

    /// Makes `call` until it no longer would block. Dropped while it waits, the future takes its
    /// interest with it.
    pub(crate) async fn io<R>(
        &self,
        direction: Direction,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let mut waiter = Waiter::new(self, direction);
        poll_fn(|cx| waiter.poll_io(cx, &mut call, |_| false)).await
    }

    fn poll_io_of<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        owner: Option<&mut Option<WaitKey>>,
        mut call: impl FnMut() -> io::Result<R>,
        is_short: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        ready!(context::poll_budget(cx));
        let advice = with(|l| l.reactor.advice(self.token, direction));
        let advice = advice.unwrap_or(Advice::Dead);
        match advice {
            Advice::Try | Advice::TryTwice | Advice::TryHinted | Advice::TryDoubted => {}
            Advice::Wait => return self.poll_wait(direction, owner, cx, |_| false),
            Advice::Dead => return Poll::Ready(Err(Errno::EBADF.into())),
        }
        let mut is_confirmed = advice != Advice::TryTwice;
        let outcome = loop {
            let outcome = match self.blocking.is_none() || self.is_ready_now(direction) {
                true => call(),
                // The descriptor was ready when the loop last looked. Since then another task or
                // process may have been faster, and then the call would block the thread.
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
            // The kind of an error takes time to find out, so each outcome is asked for it once.
            match outcome.as_ref().map_err(io::Error::kind) {
                Err(io::ErrorKind::Interrupted) => {}
                Err(io::ErrorKind::WouldBlock) if is_confirmed => {
                    boundary::trace!("descriptor {}: would block", self.token.fd);
                    let was_ready = matches!(advice, Advice::TryHinted | Advice::TryDoubted);
                    return self.poll_wait(direction, owner, cx, |reactor| {
                        reactor.note_would_block(self.token, direction, was_ready)
                    });
                }
                Err(io::ErrorKind::WouldBlock) => {
                    // Behind a datagram there is usually no other. So that each does not cost three
                    // calls, the first `WouldBlock` is taken for a guess, which is looked at later,
                    // unless guesses about this socket have been in vain.
                    if self.takes_messages
                        && with(|l| l.reactor.guess_blocked(self.token, direction)) == Some(true)
                    {
                        return self.poll_wait(direction, owner, cx, |_| false);
                    }
                    is_confirmed = true;
                }
                _ => break outcome,
            }
        };
        if advice == Advice::TryDoubted {
            with(|l| l.reactor.note_success(self.token, direction));
        }
        match &outcome {
            // Whatever came of it, an error for one: the next call might block the thread.
            _ if self.waits_first => self.block(direction),
            Ok(value) if is_short(value) => {
                with(|l| l.reactor.guess_blocked(self.token, direction));
            }
            _ => {}
        }
        context::spend_budget();
        Poll::Ready(outcome)
    }

    /// Asks `select` whether a call would not block now.
    fn is_ready_now(&self, direction: Direction) -> bool {
        is_number_ready(self.token.fd, direction == Direction::Write)
    }

    /// Registers interest. Always pending, for the caller's convenience. `needs_select` notes in
    /// the reactor why the task waits, and returns whether an edge may already have passed.
    pub(super) fn poll_wait<R>(
        &self,
        direction: Direction,
        owner: Option<&mut Option<WaitKey>>,
        cx: &mut Context<'_>,
        needs_select: impl FnOnce(&mut Reactor) -> bool,
    ) -> Poll<R> {
        let entry = owner
            .as_deref()
            .copied()
            .map_or(Owner::Waker, Owner::Future);
        // Cloned out here, because a waker's clone, drop and wake are foreign code. If the task
        // waits already, the clone was in vain, but that costs less than to ask in a borrow of its
        // own.
        let waker = cx.waker().clone();
        let added = with(|l| {
            let needs_select = needs_select(&mut l.reactor);
            l.reactor
                .add(self.token, direction, needs_select, entry, waker)
        });
        let Some(added) = added else {
            return Poll::Pending;
        };
        boundary::trace!(
            "interest: descriptor {}, {direction}, {}",
            self.token.fd,
            context::current()
        );
        if let Some(owner) = owner {
            *owner = added.key;
        }
        if let Some(unused) = added.unused {
            boundary::drop_value(unused);
        }
        // Nearly always empty, and then there is nothing to go through and nothing to free.
        if !added.woken.is_empty() {
            added.woken.into_iter().for_each(boundary::wake);
        }
        warn_if_not_running();
        Poll::Pending
    }

    /// Makes `call` once, and never waits.
    ///
    /// It changes nothing that is known about the descriptor: a `WouldBlock` here is no reason for
    /// the next operation to wait, as an edge may have come before it that the loop has seen.
    pub(super) fn try_io<R>(
        &self,
        direction: Direction,
        call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        self.check_open(direction)?;
        // Readiness that was noted earlier is not enough here, because a call that blocks stops the
        // whole thread.
        let may_block = self.waits_first || self.blocking.is_some();
        if may_block && !self.is_ready_now(direction) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // EINTR is not passed on: futures-io forbids it, and no caller could do anything but retry.
        let outcome = sys::retry_io(call);
        if self.waits_first {
            self.block(direction);
        }
        outcome
    }

    /// Ready if the descriptor is ready right now, by a call of `select`. Otherwise registers
    /// interest.
    ///
    /// The state is asked for because the caller may use the descriptor by calls of its own, of
    /// which nothing is known here. A readiness that was kept from earlier would then make it spin.
    pub(super) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(context::poll_budget(cx));
        self.check_open(direction)?;
        let is_ready = self.is_ready_now(direction);
        if !is_ready || with(|l| l.reactor.note_report(self.token, direction)) == Some(false) {
            return self.poll_wait(direction, None, cx, |_| true);
        }
        context::spend_budget();
        Poll::Ready(Ok(()))
    }

    /// Fails with EBADF if other code has closed the descriptor, so that its number may by now
    /// belong to another file.
    fn check_open(&self, direction: Direction) -> io::Result<()> {
        let n_ready = with(|l| l.reactor.n_ready(self.token, direction)).flatten();
        n_ready.map(drop).ok_or(Errno::EBADF.into())
    }

    /// Has the next operation wait until the descriptor is ready.
    pub(crate) fn block(&self, direction: Direction) {
        with(|l| l.reactor.set_blocked(self.token, direction));
    }

    /// Waits until `select` reports the descriptor as ready, even if the last call succeeded. When
    /// the future is dropped, its interest is removed.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let mut waiter = Waiter::new(self, direction);
        // A change of the count since the first poll, and not a flag, so that readiness from before
        // the call does not count.
        let mut before = None;
        poll_fn(|cx| {
            ready!(context::poll_budget(cx));
            let Some(now) = with(|l| l.reactor.n_ready(self.token, direction)).flatten() else {
                return Poll::Ready(Err(Errno::EBADF.into()));
            };
            if *before.get_or_insert(now) == now {
                return self.poll_wait(direction, Some(&mut waiter.key), cx, |_| true);
            }
            with(|l| l.reactor.note_report(self.token, direction));
            context::spend_budget();
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// The directions in which the first operation on a descriptor waits, if it `waits_first`.
fn blocked(waits_first: bool) -> &'static [Direction] {
    match waits_first {
        true => &[Direction::Read, Direction::Write],
        false => &[],
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut waiters = Vec::new();
        with(|l| {
            l.reactor.deregister(self.token, &mut waiters);
            l.free_fds.take_all(&mut waiters);
            l.n_closed += 1;
        });
        boundary::trace!("deregister descriptor {}", self.token.fd);
        // Closing a descriptor does not end a `select` on it, so they are woken here.
        waiters.into_iter().for_each(boundary::wake);
    }
}

/// A future of this crate that waits for a descriptor: owns its entry in the reactor, which is
/// removed with it.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    source: &'a Source,
    direction: Direction,
    key: Option<WaitKey>,
}

impl<'a> Waiter<'a> {
    pub(crate) fn new(source: &'a Source, direction: Direction) -> Waiter<'a> {
        Waiter {
            source,
            direction,
            key: None,
        }
    }

    /// Makes `call` until it no longer would block. `is_short` is as in [`Source::poll_io`].
    pub(crate) fn poll_io<R>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnMut() -> io::Result<R>,
        is_short: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        let owner = Some(&mut self.key);
        self.source
            .poll_io_of(self.direction, cx, owner, call, is_short)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let token = self.source.token;
        let waker = with(|l| l.reactor.remove(token, self.direction, key));
        if let Some(Some(waker)) = waker {
            boundary::drop_value(waker);
        }
    }
}
