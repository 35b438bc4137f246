//! The kernel's queue on Linux and Android: `epoll(7)`.

use super::create::above_stdio;
use super::fd::lend;
use super::select::Waited;
use super::{Errno, Event, Trigger};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Maximum number of events taken in one call; more wait for the next turn.
const MAX_EVENTS: usize = 256;

/// Descriptors that the kernel watches for us, and room for the events that it reports.
#[derive(Debug)]
pub(crate) struct Queue {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    /// True if waits are given in milliseconds, because the kernel knows no others, or is not to be
    /// asked.
    milliseconds_only: bool,
}

impl Queue {
    pub(crate) fn new() -> nix::Result<Queue> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let epoll = Epoll(above_stdio(epoll.0)?);
        let events = vec![EpollEvent::empty(); MAX_EVENTS];
        Ok(Queue {
            epoll,
            events,
            // Android's list of system calls kills a process that makes one that is not in it, and
            // that of Android 13 and 14 lacks `epoll_pwait2`.
            milliseconds_only: cfg!(target_os = "android"),
        })
    }

    /// Returns the queue's own descriptor, which is readable when there are events.
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }

    /// False: room to write is reported of every descriptor, by the one watch that it has.
    pub(crate) const REPORTS_ROOM_ON_REQUEST: bool = false;

    /// Watches `fd`, in both directions with `Edge` and to read with `Level`.
    pub(crate) fn add(&self, fd: RawFd, generation: u32, trigger: Trigger) -> nix::Result<()> {
        let mut event = EpollEvent::new(flags(trigger), data(fd, generation));
        match self.epoll.add(lend(&fd, fd), event) {
            // This very open file was closed behind this number without us, lived on in a
            // duplicate, and is back. The old watch becomes the new one.
            Err(Errno::EEXIST) => self.epoll.modify(lend(&fd, fd), &mut event),
            outcome => outcome,
        }
    }

    /// Does nothing, because room is reported in any case.
    pub(crate) fn report_room(&self, _fd: RawFd, _generation: u32) -> nix::Result<()> {
        Ok(())
    }

    /// Returns whether the file behind `fd` is the one that is watched under this number. It is not
    /// if other code has put another file there, and then the watch of the old one has ended, or
    /// lives on with a duplicate.
    pub(crate) fn watches(&self, fd: RawFd, _to_write: bool) -> bool {
        // Adding a watch that is there fails and changes nothing. Changing it would count as an
        // edge. And a descriptor that is not open at all is told of elsewhere.
        let added = self.epoll.add(lend(&fd, fd), EpollEvent::empty());
        matches!(added, Err(Errno::EEXIST | Errno::EBADF))
    }

    /// Returns whether this is still the queue that watches the wake-up pipe `pipe`: other code may
    /// have closed its descriptor, and something else may have the number now. All epolls have one
    /// inode, so the question is put to the queue itself: only one that watches `pipe` can change
    /// how.
    pub(crate) fn is_ours(&self, pipe: RawFd) -> bool {
        let mut event = EpollEvent::new(flags(Trigger::Level), data(pipe, 0));
        let changed = self.epoll.modify(lend(&pipe, pipe), &mut event);
        // No such descriptor, no epoll, or one that does not watch the pipe. Another error, such as
        // a lack of memory, does not say whose it is: to give up a queue of ours would leak it.
        !matches!(changed, Err(Errno::EBADF | Errno::EINVAL | Errno::ENOENT))
    }

    /// Gives up this process's share of a queue that belongs to its parent.
    pub(crate) fn leave_to_parent(self, pipe: RawFd) {
        // Closing one of two descriptors of one queue leaves the queue as it is. If the number is
        // something else by now, closing it would hit a stranger.
        match self.is_ours(pipe) {
            true => drop(self),
            false => std::mem::forget(self),
        }
    }

    /// Stops watching `fd`, which may be closed already.
    pub(crate) fn remove(&self, fd: RawFd) {
        let _ = self.epoll.delete(lend(&fd, fd));
    }

    /// Waits for events, for at most `wait`, and hands each to `each`.
    pub(crate) fn wait(&mut self, wait: Option<Duration>, mut each: impl FnMut(Event)) -> Waited {
        let n_events = match wait {
            None => self.epoll.wait(&mut self.events, EpollTimeout::NONE),
            Some(Duration::ZERO) => self.epoll.wait(&mut self.events, EpollTimeout::ZERO),
            Some(wait) => self.wait_precisely(wait),
        };
        match n_events {
            Ok(n_events) => {
                self.events[..n_events]
                    .iter()
                    .map(event)
                    .for_each(&mut each);
                Waited::Ready(n_events)
            }
            Err(Errno::EINTR) => Waited::Ready(0),
            // The latter if the number is something else by now.
            Err(Errno::EBADF | Errno::EINVAL) => Waited::BadFd,
            Err(errno) => Waited::Trouble(errno),
        }
    }

    /// `epoll_wait` counts in milliseconds; `epoll_pwait2`, since Linux 5.11, in nanoseconds.
    fn wait_precisely(&mut self, wait: Duration) -> nix::Result<usize> {
        if !self.milliseconds_only {
            match self.pwait2(wait) {
                // Not known, or not allowed by an old sandbox.
                Err(Errno::ENOSYS | Errno::EPERM) => self.milliseconds_only = true,
                outcome => return outcome,
            }
        }
        // Rounded up, so that no wait ends early. In 64 bits: to divide 128 takes a hundred
        // instructions.
        let whole_ms = wait.as_secs().min(86_400) * 1_000;
        let wait_ms = whole_ms + u64::from(wait.subsec_nanos().div_ceil(1_000_000));
        let wait_ms = i32::try_from(wait_ms.min(86_400_000)).unwrap_or(86_400_000);
        self.epoll.wait(
            &mut self.events,
            EpollTimeout::try_from(wait_ms).unwrap_or(EpollTimeout::ZERO),
        )
    }

    fn pwait2(&mut self, wait: Duration) -> nix::Result<usize> {
        /// `struct __kernel_timespec`: 64 bits each on every processor.
        #[repr(C)]
        struct Timespec {
            seconds: i64,
            nanoseconds: i64,
        }
        let limit = Timespec {
            seconds: wait.as_secs().min(86_400) as i64,
            nanoseconds: i64::from(wait.subsec_nanos()),
        };
        // SAFETY: the kernel writes at most as many events as it is told there is room for, into a
        // buffer that is ours alone and has the layout of `struct epoll_event`; it reads one
        // timespec; the signal mask is null, and so its size is not looked at.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.0.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                &raw const limit,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        Errno::result(outcome).map(|n_events| usize::try_from(n_events).unwrap_or(0))
    }
}

fn flags(trigger: Trigger) -> EpollFlags {
    match trigger {
        Trigger::Level => EpollFlags::EPOLLIN,
        Trigger::Edge => {
            EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                // Urgent data, which makes a read stop short of what follows.
                | EpollFlags::EPOLLPRI
                | EpollFlags::EPOLLET
        }
    }
}

fn data(fd: RawFd, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(fd as u32)
}

fn event(event: &EpollEvent) -> Event {
    let flags = event.events();
    let broken = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
    let urgent = flags.contains(EpollFlags::EPOLLPRI);
    let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI;
    Event {
        fd: event.data() as u32 as RawFd,
        generation: (event.data() >> 32) as u32,
        readable: broken || flags.intersects(readable),
        writable: broken || flags.contains(EpollFlags::EPOLLOUT),
        // Not after an error alone: a datagram socket that reports one goes on.
        hung_up: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP),
        urgent,
    }
}
