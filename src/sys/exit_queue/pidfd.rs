//! An epoll of pidfds, on Linux.

use super::MAX_EXITS;
use crate::sys::create::above_stdio;
use crate::sys::{Errno, fd, fork, pidfd, retry, signal};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::ptr;

#[derive(Debug)]
pub(crate) struct ExitQueue {
    /// `None` only while it is dropped.
    epoll: Option<Epoll>,
    /// Number of counted forks when the queue was made.
    n_forks: usize,
}

/// A child whose exit the queue will tell of.
#[derive(Debug)]
pub(crate) struct Watched {
    pid: u32,
    /// `None` only while it is dropped.
    pidfd: Option<OwnedFd>,
}

impl ExitQueue {
    pub(crate) fn new() -> io::Result<ExitQueue> {
        fork::watch();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let epoll = Epoll(above_stdio(epoll.0)?);
        // Changes nothing for an epoll, but lets the loop watch it edge-triggered.
        fd::set_flags(&epoll.0)?;
        Ok(ExitQueue {
            epoll: Some(epoll),
            n_forks: fork::count(),
        })
    }

    fn epoll(&self) -> &Epoll {
        let epoll = self.epoll.as_ref();
        epoll.expect("a queue has its epoll until it is dropped")
    }

    /// Has [`take`](ExitQueue::take) return `key` once when process `pid` has exited, a child of
    /// this one that has not been waited for.
    pub(crate) fn watch(&self, pid: u32, key: usize) -> io::Result<Watched> {
        let watched = Watched {
            pid,
            pidfd: Some(pidfd::open(pid)?),
        };
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        let event = EpollEvent::new(once, key as u64);
        self.epoll().add(watched.pidfd(), event)?;
        Ok(watched)
    }

    /// No longer reports the exit of that child. An epoll would go on watching a pidfd that is
    /// closed here, if a forked child has a duplicate of it.
    pub(crate) fn unwatch(&self, watched: &Watched) {
        // A forked child shares the epoll with its parent, which goes on watching.
        if self.n_forks == fork::count() {
            let _ = self.epoll().delete(watched.pidfd());
        }
    }

    /// Returns the keys of children that have exited; `WouldBlock` if there are none.
    pub(crate) fn take(&self) -> io::Result<Vec<usize>> {
        if self.n_forks != fork::count() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut events = [EpollEvent::empty(); MAX_EXITS];
        let n_events = retry(|| self.epoll().wait(&mut events, EpollTimeout::ZERO))?;
        if n_events == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let keys = events[..n_events].iter().map(|event| event.data() as usize);
        Ok(keys.collect())
    }
}

impl AsFd for ExitQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll().0.as_fd()
    }
}

impl Drop for ExitQueue {
    fn drop(&mut self) {
        if let Some(epoll) = self.epoll.take() {
            close(epoll.0);
        }
    }
}

/// Closes a descriptor that other code may have closed before: dropping an `OwnedFd` that is not
/// open aborts a debug build.
fn close(fd: OwnedFd) {
    let _ = nix::unistd::close(fd);
}

impl Watched {
    fn pidfd(&self) -> BorrowedFd<'_> {
        let pidfd = self.pidfd.as_ref();
        pidfd
            .expect("a child has its pidfd until it is dropped")
            .as_fd()
    }

    /// `Child::try_wait`, except that it cannot take the exit status of another process.
    ///
    /// If other code of this process has waited for this child, by `waitpid(-1, …)`, its number may
    /// be that of another child by now.
    pub(crate) fn try_wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match retry(|| waitid(Id::PIDFd(self.pidfd()), look)) {
            Ok(WaitStatus::StillAlive) => Ok(None),
            Err(Errno::ECHILD) => Err(Errno::ECHILD.into()),
            // It has exited, so the number is its own until its status is taken. Errors: a signal
            // that nix has no name for has ended it; Linux before 5.4 cannot wait for a pidfd; or
            // other code has closed the descriptor.
            Ok(_) | Err(_) => child.try_wait(),
        }
    }

    /// Sends a signal to this process, and to no other that has its number by now.
    pub(crate) fn send(&self, signal: i32) -> io::Result<()> {
        let named = nix::sys::signal::Signal::try_from(signal)?;
        let (fd, no_info) = (self.pidfd().as_raw_fd(), ptr::null::<libc::siginfo_t>());
        // SAFETY: takes two numbers, a pointer that may be null, and no flags; touches no memory.
        let outcome =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, named as i32, no_info, 0) };
        match Errno::result(outcome) {
            Ok(_) => Ok(()),
            Err(Errno::ESRCH) => Err(Errno::ESRCH.into()),
            // The kernel is old, a sandbox forbids it, or other code has closed the descriptor.
            Err(_) => signal::send(self.pid, signal),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            close(pidfd);
        }
    }
}
