//! `EVFILT_PROC` of kqueue, on macOS and the BSDs.

use super::MAX_EXITS;
#[cfg(target_os = "linux")]
use crate::sys::kqueue_stand_in::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use crate::sys::{Errno, fd, fork, queue, retry, signal};
use nix::libc;
#[cfg(not(target_os = "linux"))]
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::{Child, ExitStatus};

pub(crate) struct ExitQueue {
    /// `None` only while it is dropped.
    kqueue: Option<Kqueue>,
    /// Number of counted forks when the queue was made.
    n_forks: usize,
}

/// A child whose exit the queue will tell of, by its number.
#[derive(Debug)]
pub(crate) struct Watched(u32);

impl ExitQueue {
    pub(crate) fn new() -> io::Result<ExitQueue> {
        fork::watch();
        Ok(ExitQueue {
            kqueue: Some(queue::create()?),
            n_forks: fork::count(),
        })
    }

    fn kqueue(&self) -> &Kqueue {
        let kqueue = self.kqueue.as_ref();
        kqueue.expect("a queue has its kqueue until it is dropped")
    }

    /// Has [`take`](ExitQueue::take) return `key` once when process `pid`, a child of this one,
    /// has exited. It may be an error if it has exited already.
    pub(crate) fn watch(&self, pid: u32, key: usize) -> io::Result<Watched> {
        let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
        self.change(event(pid, flags, key))?;
        Ok(Watched(pid))
    }

    /// No longer reports the exit of a child that `watch` was called for.
    pub(crate) fn unwatch(&self, watched: &Watched) {
        // An error means that the exit has been told of.
        let _ = self.change(event(watched.0, EvFlags::EV_DELETE, 0));
    }

    fn change(&self, change: KEvent) -> nix::Result<()> {
        if self.is_parents() {
            return Err(Errno::EBADF);
        }
        retry(|| self.kqueue().kevent(&[change], &mut [], None)).map(drop)
    }

    /// Returns the keys of children that have exited; `WouldBlock` if there are none.
    pub(crate) fn take(&self) -> io::Result<Vec<usize>> {
        if self.is_parents() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut events = [event(0, EvFlags::empty(), 0); MAX_EXITS];
        let no_wait = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let n_events = retry(|| self.kqueue().kevent(&[], &mut events, Some(no_wait)))?;
        if n_events == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let keys = events[..n_events]
            .iter()
            .map(|event| event.udata() as usize);
        Ok(keys.collect())
    }

    /// True in a child of `fork`, which has not inherited the queue: its number is closed, or
    /// another file's.
    fn is_parents(&self) -> bool {
        self.n_forks != fork::count()
    }
}

fn event(pid: u32, flags: EvFlags, key: usize) -> KEvent {
    let filter = EventFilter::EVFILT_PROC;
    let exit = FilterFlag::NOTE_EXIT;
    KEvent::new(pid as usize, filter, flags, exit, 0, key as isize)
}

impl AsFd for ExitQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kqueue().as_fd()
    }
}

impl Drop for ExitQueue {
    fn drop(&mut self) {
        // Closing the parent's in a forked child would close nothing, or another file. And to close
        // a descriptor that other code has closed aborts a debug build.
        if self.is_parents() || !fd::is_open(self.kqueue().as_fd().as_raw_fd()) {
            std::mem::forget(self.kqueue.take());
        }
    }
}

impl fmt::Debug for ExitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitQueue").finish_non_exhaustive()
    }
}

impl Watched {
    /// Takes the exit status of `child` without waiting, if it has exited.
    pub(crate) fn try_wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        child.try_wait()
    }

    pub(crate) fn send(&self, signal: i32) -> io::Result<()> {
        signal::send(self.0, signal)
    }
}
