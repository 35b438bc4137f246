//! One descriptor that is readable when any of many is ready, or a point in time has come: an
//! `epoll(7)` of its own with a `timerfd_create(2)` in it, for the loop of another program.

use super::Errno;
use super::create::{above_stdio, is_above_stdio};
use super::fd::lend;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// What a host waits for, behind one descriptor.
#[derive(Debug)]
pub(crate) struct HostQueue {
    epoll: Epoll,
    timer: TimerFd,
}

/// What to watch of a descriptor: reading, writing, exceptional conditions.
pub(crate) type Ways = [bool; 3];

impl HostQueue {
    pub(crate) fn new() -> nix::Result<HostQueue> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let epoll = Epoll(above_stdio(epoll.0)?);
        let timer = timer()?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(HostQueue { epoll, timer })
    }

    /// Returns the descriptor to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Watches `fd` level-triggered, or changes how it is watched.
    ///
    /// `is_own` makes no difference to an epoll.
    ///
    /// The error is EPERM for a regular file, which is always ready, and EBADF for a descriptor
    /// that is closed.
    pub(crate) fn watch(&self, fd: RawFd, ways: Ways, _is_own: bool) -> nix::Result<()> {
        let all = [
            EpollFlags::EPOLLIN,
            EpollFlags::EPOLLOUT,
            EpollFlags::EPOLLPRI,
        ];
        let wanted = all
            .into_iter()
            .zip(ways)
            .filter(|(_, is_wanted)| *is_wanted);
        let flags = wanted.map(|(flag, _)| flag).collect();
        let mut event = EpollEvent::new(flags, 0);
        match self.epoll.add(lend(&fd, fd), event) {
            Err(Errno::EEXIST) => self.epoll.modify(lend(&fd, fd), &mut event),
            outcome => outcome,
        }
    }

    /// Stops watching `fd`, which may be closed already.
    pub(crate) fn forget(&self, fd: RawFd) {
        let _ = self.epoll.delete(lend(&fd, fd));
    }

    /// Makes the descriptor readable after that time, or at no time.
    pub(crate) fn set_timer(&self, after: Option<Duration>) -> nix::Result<()> {
        let Some(after) = after else {
            return self.timer.unset();
        };
        // Zero would stop the timer.
        let after = TimeSpec::from(after.max(Duration::from_nanos(1)));
        let flags = TimerSetTimeFlags::empty();
        self.timer.set(Expiration::OneShot(after), flags)
    }

    /// For queues that stay readable until the kernel looks again. An epoll looks by itself.
    pub(crate) fn settle(&self) -> bool {
        false
    }

    /// Returns whether both descriptors are still ours: other code may have closed them, and others
    /// may have their numbers.
    pub(crate) fn is_ours(&self) -> bool {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        self.epoll.modify(&self.timer, &mut event).is_ok()
    }
}

/// A timer whose number is none of a standard stream.
fn timer() -> nix::Result<TimerFd> {
    // A low number is kept until there is a higher one, so that the next one is not low as well.
    let mut low = Vec::new();
    loop {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        if is_above_stdio(timer.as_fd().as_raw_fd()) {
            return Ok(timer);
        }
        low.push(timer);
    }
}
