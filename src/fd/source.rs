//! The registration of one descriptor: tries calls, and registers interest when they would block.
//!
//! After a read or write on a socket that took less than was offered, the next one registers at
//! once instead of asking the system for a `WouldBlock`: nothing can be there that no edge will
//! tell of, and a request costs one wait, one read and one write.

use crate::event_loop::reactor::{Advice, Direction, RegisterError, Token};
use crate::event_loop::{boundary, context, with};
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
    /// The descriptor blocks, and is not ours to change: wait for `select` before every call.
    waits_first: bool,
    // The registration is in the table of this thread's loop.
    _not_send: NotSend,
}

impl Source {
    /// Registers a non-blocking descriptor that the caller owns.
    #[track_caller]
    pub(crate) fn owned(fd: impl AsFd, trigger: Trigger) -> Result<Source, RegisterError> {
        Source::register(fd.as_fd().as_raw_fd(), true, Some(trigger))
    }

    /// Registers any descriptor, once it is certain that it is open. Its flags are left alone.
    #[track_caller]
    pub(super) fn any(fd: impl AsFd) -> Result<Source, RegisterError> {
        let fd = fd.as_fd();
        let bad = RegisterError::BadFd { fd: fd.as_raw_fd() };
        let nonblocking = sys::fd::is_nonblocking(fd).map_err(|_| bad)?;
        // One call per readiness leaves something behind, of which no edge would tell.
        let trigger = nonblocking.then_some(Trigger::Edge);
        let mut source = Source::register(fd.as_raw_fd(), false, trigger)?;
        source.waits_first = !nonblocking;
        if source.waits_first {
            source.block(Direction::Read);
            source.block(Direction::Write);
        }
        Ok(source)
    }

    /// Registers a descriptor of ours that never leaves `select`, because it is shared with other
    /// processes. One that `waits_first` blocks unless it is ready.
    #[track_caller]
    pub(crate) fn shared(fd: impl AsFd, waits_first: bool) -> Result<Source, RegisterError> {
        let mut source = Source::register(fd.as_fd().as_raw_fd(), true, None)?;
        source.waits_first = waits_first;
        if waits_first {
            source.block(Direction::Read);
            source.block(Direction::Write);
        }
        Ok(source)
    }

    #[track_caller]
    fn register(fd: RawFd, owned: bool, trigger: Option<Trigger>) -> Result<Source, RegisterError> {
        let place = Location::caller();
        let registered = with(|l| l.reactor.register(fd, owned, trigger, place));
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
            _not_send: PhantomData,
        })
    }

    /// Makes `call` until it no longer would block; registers interest when it does. `is_short`
    /// says whether the next call is likely to block.
    pub(crate) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<R>,
        is_short: impl FnOnce(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        ready!(context::poll_budget(cx));
        let advice = with(|l| l.reactor.advice(self.token, direction));
        match advice {
            Some(Advice::Try | Advice::TryTwice | Advice::TryHinted) => {}
            Some(Advice::Wait) => return self.poll_wait(direction, false, cx),
            Some(Advice::Dead) | None => return Poll::Ready(Err(Errno::EBADF.into())),
        }
        let mut outcome = sys::retry_io(&mut call);
        if advice == Some(Advice::TryTwice) && would_block(&outcome) {
            outcome = sys::retry_io(&mut call);
        }
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                boundary::trace!("descriptor {}: would block", self.token.fd);
                with(|l| l.reactor.set_blocked(self.token, direction, true));
                let level = advice == Some(Advice::TryHinted);
                return self.poll_wait(direction, level, cx);
            }
            Ok(value) if self.waits_first || is_short(value) => self.block(direction),
            _ => {}
        }
        context::spend_budget();
        Poll::Ready(outcome)
    }

    /// Registers interest. Always pending, for the caller's convenience.
    fn poll_wait<R>(&self, direction: Direction, level: bool, cx: &mut Context<'_>) -> Poll<R> {
        let known = with(|l| l.reactor.knows(self.token, direction, cx.waker()));
        if known == Some(false) {
            let waker = cx.waker().clone();
            let displaced = with(|l| l.reactor.add(self.token, direction, level, waker));
            boundary::trace!(
                "interest: descriptor {}, {direction}, {}",
                self.token.fd,
                context::current()
            );
            if let Some(displaced) = displaced.filter(|displaced| !displaced.is_empty()) {
                displaced.into_iter().for_each(boundary::wake);
            }
        }
        Poll::Pending
    }

    /// The next operation will probably block.
    pub(crate) fn block(&self, direction: Direction) {
        with(|l| l.reactor.set_blocked(self.token, direction, false));
    }

    /// Waits until `select` says that the descriptor is ready, whatever the last call said.
    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let mut before = None;
        poll_fn(|cx| {
            ready!(context::poll_budget(cx));
            let Some(now) = with(|l| l.reactor.n_ready(self.token, direction)).flatten() else {
                return Poll::Ready(Err(Errno::EBADF.into()));
            };
            if *before.get_or_insert(now) == now {
                return self.poll_wait(direction, true, cx);
            }
            context::spend_budget();
            Poll::Ready(Ok(()))
        })
        .await
    }
}

fn would_block<R>(outcome: &io::Result<R>) -> bool {
    outcome
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut waiters = Vec::new();
        with(|l| {
            l.reactor.deregister(self.token, &mut waiters);
            waiters.append(&mut l.waiting_for_fd);
            l.n_closed += 1;
        });
        boundary::trace!("deregister descriptor {}", self.token.fd);
        // Nobody else would wake them: closing a descriptor does not end a `select` on it.
        waiters.into_iter().for_each(boundary::wake);
    }
}
