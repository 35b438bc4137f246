//! One descriptor that is readable when any of many is ready, or a point in time has come: a
//! `kqueue(2)` of its own, for the loop of another program.
//!
//! Linux compiles this only with `--cfg fahrenheit_kqueue`, for tests, on a stand-in for the calls.

use super::Errno;
use super::fd::is_open;
use super::fork;
#[cfg(target_os = "linux")]
use super::kqueue_stand_in::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use super::queue::{create, is_on_disk};
use super::socket::is_socket;
use super::unix::HERE;
use nix::libc;
#[cfg(not(target_os = "linux"))]
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// The number of the only timer.
const TIMER: usize = 1;

/// What a host waits for, behind one descriptor.
pub(crate) struct HostQueue {
    /// `None` only while this is dropped.
    kqueue: Option<Kqueue>,
    /// A pipe that always has room, so that its end to write to is ready whenever it is watched.
    /// Timers of zero length differ from system to system, and OpenBSD has no EVFILT_USER. The end
    /// to read from is watched always, and never ready: by it the queue is recognised.
    pipe: Option<(OwnedFd, OwnedFd)>,
    /// Number of forks that had been counted when this was made.
    n_forks: usize,
}

impl std::fmt::Debug for HostQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostQueue").field("fd", &self.fd()).finish()
    }
}

/// What to watch of a descriptor: reading, writing, exceptional conditions.
pub(crate) type Ways = [bool; 3];

impl HostQueue {
    pub(crate) fn new() -> nix::Result<HostQueue> {
        let queue = HostQueue {
            kqueue: Some(create()?),
            pipe: Some(super::pipe()?),
            n_forks: fork::count(),
        };
        let (read, _) = queue.pipe();
        queue.change(read, EventFilter::EVFILT_READ, EvFlags::EV_ADD)?;
        Ok(queue)
    }

    fn kqueue(&self) -> &Kqueue {
        let kqueue = self.kqueue.as_ref();
        kqueue.expect("the queue is there until this is dropped")
    }

    /// Returns the numbers of the ends of the pipe, to read from and to write to.
    fn pipe(&self) -> (RawFd, RawFd) {
        let pipe = self.pipe.as_ref();
        let (read, write) = pipe.expect("the pipe is there until this is dropped");
        (read.as_raw_fd(), write.as_raw_fd())
    }

    /// Returns the descriptor to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.kqueue().as_fd()
    }

    /// Watches `fd` level-triggered, or changes how it is watched. `is_own` says that it is the
    /// queue or the wake-up pipe of the loop.
    ///
    /// The error is EPERM for a file on a disk, which is always ready, EBADF for a descriptor that
    /// is closed, and ENOSYS for what this queue cannot tell: exceptional conditions, which only
    /// some systems have a filter for, devices that it does not know, and on macOS the end of a
    /// pipe.
    pub(crate) fn watch(&self, fd: RawFd, ways: Ways, is_own: bool) -> nix::Result<()> {
        let [reads, writes, excepts] = ways;
        if excepts {
            return Err(Errno::ENOSYS);
        }
        // `select` says that a file is always ready; this queue says so only before its end.
        if is_on_disk(fd) {
            return Err(Errno::EPERM);
        }
        if HERE.queues_sockets_only() && !is_own && is_open(fd) && !is_socket(fd) {
            return Err(Errno::ENOSYS);
        }
        let filters = [EventFilter::EVFILT_READ, EventFilter::EVFILT_WRITE];
        for (filter, is_wanted) in filters.into_iter().zip([reads, writes]) {
            if !is_wanted {
                // Usually it was not watched before either.
                let _ = self.change(fd, filter, EvFlags::EV_DELETE);
                continue;
            }
            match self.change(fd, filter, EvFlags::EV_ADD) {
                Ok(()) => {}
                Err(errno @ (Errno::EBADF | Errno::ENOMEM)) => return Err(errno),
                Err(_) if !is_open(fd) => return Err(Errno::EBADF),
                Err(_) => return Err(Errno::ENOSYS),
            }
        }
        Ok(())
    }

    /// Stops watching `fd`, which may be closed already.
    pub(crate) fn forget(&self, fd: RawFd) {
        for filter in [EventFilter::EVFILT_READ, EventFilter::EVFILT_WRITE] {
            let _ = self.change(fd, filter, EvFlags::EV_DELETE);
        }
    }

    /// Makes the descriptor readable after that time, or at no time.
    pub(crate) fn set_timer(&self, after: Option<Duration>) -> nix::Result<()> {
        // Deleted first: some systems do not restart a timer that is added again, and a host that
        // is told of changes only needs a new one.
        let (_, write) = self.pipe();
        let _ = self.change(write, EventFilter::EVFILT_WRITE, EvFlags::EV_DELETE);
        let timer = |flags, after: Duration| {
            let (unit, data) = timer_data(after);
            KEvent::new(TIMER, EventFilter::EVFILT_TIMER, flags, unit, data, 0)
        };
        let _ = self.apply(timer(EvFlags::EV_DELETE, Duration::ZERO));
        match after {
            None => Ok(()),
            Some(Duration::ZERO) => self.change(write, EventFilter::EVFILT_WRITE, EvFlags::EV_ADD),
            Some(after) => self.apply(timer(EvFlags::EV_ADD | EvFlags::EV_ONESHOT, after)),
        }
    }

    /// Lets the kernel look again at what was ready, because a queue stays readable until then.
    /// Returns whether the timer has fired and is gone now.
    pub(crate) fn settle(&self) -> bool {
        let empty = KEvent::new(
            0,
            EventFilter::EVFILT_READ,
            EvFlags::empty(),
            FilterFlag::empty(),
            0,
            0,
        );
        // Room for one is enough. What is no longer ready is left out on the way to the first that
        // is; and if there is one, the queue is to stay readable anyway.
        let mut events = [empty];
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match self.kqueue().kevent(&[], &mut events, Some(at_once)) {
            Ok(1) => matches!(events[0].filter(), Ok(EventFilter::EVFILT_TIMER)),
            _ => false,
        }
    }

    /// Returns whether all descriptors are still ours: other code may have closed them, and others
    /// may have their numbers. A forked child does not own the descriptors of its parent.
    pub(crate) fn is_ours(&self) -> bool {
        let (read, _) = self.pipe();
        // Only a filter that is there can be enabled.
        let enabled = self.change(read, EventFilter::EVFILT_READ, EvFlags::EV_ENABLE);
        enabled.is_ok()
    }

    fn change(&self, fd: RawFd, filter: EventFilter, flags: EvFlags) -> nix::Result<()> {
        self.apply(KEvent::new(
            fd as usize,
            filter,
            flags,
            FilterFlag::empty(),
            0,
            0,
        ))
    }

    fn apply(&self, change: KEvent) -> nix::Result<()> {
        // With no room for events, a refused change is the call's own error.
        super::retry(|| self.kqueue().kevent(&[change], &mut [], None)).map(drop)
    }
}

impl Drop for HostQueue {
    fn drop(&mut self) {
        if self.is_ours() {
            return;
        }
        // A child does not inherit a queue, so its number is another file's or none's. The pipe it
        // does inherit. If it is not for a fork, other code has closed something.
        mem::forget(self.kqueue.take());
        if self.n_forks == fork::count() {
            mem::forget(self.pipe.take());
        }
    }
}

/// Returns how the kernel is told to wait for `after`, rounded up: in microseconds where it knows
/// them, else in milliseconds.
fn timer_data(after: Duration) -> (FilterFlag, isize) {
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    let (unit, unit_ns) = (FilterFlag::NOTE_USECONDS, 1_000);
    #[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
    let (unit, unit_ns) = (FilterFlag::empty(), 1_000_000);
    // A day at most: some systems refuse more. The host then turns the loop for nothing, once.
    let after = after.min(Duration::from_secs(86_400));
    let n_units = after.as_nanos().div_ceil(unit_ns).max(1);
    (unit, isize::try_from(n_units).unwrap_or(isize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn is_readable(queue: &HostQueue, limit: PollTimeout) -> bool {
        let mut fds = [PollFd::new(queue.fd(), PollFlags::POLLIN)];
        poll(&mut fds, limit).unwrap() == 1
    }

    #[test]
    fn it_is_readable_while_a_member_is_ready_and_no_longer() {
        let queue = HostQueue::new().unwrap();
        assert!(!is_readable(&queue, PollTimeout::ZERO));
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        queue
            .watch(ours.as_raw_fd(), [true, false, false], false)
            .unwrap();
        assert!(!is_readable(&queue, PollTimeout::ZERO));
        theirs.write_all(b"x").unwrap();
        assert!(!queue.settle() && is_readable(&queue, PollTimeout::ZERO));
        ours.read_exact(&mut [0]).unwrap();
        assert!(!queue.settle() && !is_readable(&queue, PollTimeout::ZERO));
        queue
            .watch(ours.as_raw_fd(), [false, true, false], false)
            .unwrap();
        assert!(is_readable(&queue, PollTimeout::ZERO), "there is room");
        queue
            .watch(ours.as_raw_fd(), [true, false, false], false)
            .unwrap();
        assert!(!queue.settle() && !is_readable(&queue, PollTimeout::ZERO));
        queue
            .watch(ours.as_raw_fd(), [false, true, false], false)
            .unwrap();
        queue.forget(ours.as_raw_fd());
        assert!(!queue.settle() && !is_readable(&queue, PollTimeout::ZERO));
    }

    #[test]
    fn a_timer_makes_it_readable_once_and_at_once_if_it_is_due() {
        let queue = HostQueue::new().unwrap();
        queue.set_timer(Some(Duration::ZERO)).unwrap();
        assert!(!queue.settle(), "being due is no timer");
        assert!(is_readable(&queue, PollTimeout::ZERO));
        queue.set_timer(None).unwrap();
        assert!(!queue.settle() && !is_readable(&queue, PollTimeout::ZERO));
        queue.set_timer(Some(Duration::from_secs(3_600))).unwrap();
        assert!(!is_readable(&queue, PollTimeout::ZERO));
        queue.set_timer(Some(Duration::from_micros(300))).unwrap();
        assert!(is_readable(&queue, PollTimeout::NONE));
        assert!(queue.settle(), "it has fired");
        assert!(!queue.settle() && !is_readable(&queue, PollTimeout::ZERO));
    }

    #[test]
    fn what_it_cannot_tell_is_refused() {
        let queue = HostQueue::new().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let urgent = queue.watch(ours.as_raw_fd(), [false, false, true], false);
        assert_eq!(urgent, Err(Errno::ENOSYS));
        let file = std::fs::File::open("/proc/self/exe").or_else(|_| std::fs::File::open("/"));
        let file = queue.watch(file.unwrap().as_raw_fd(), [true, false, false], false);
        assert_eq!(file, Err(Errno::EPERM));
        assert_eq!(
            queue.watch(9_999, [true, false, false], false),
            Err(Errno::EBADF)
        );
    }

    #[test]
    fn times_are_rounded_up_and_never_zero() {
        for (after, ms) in [(0, 1), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            let (_, n_units) = timer_data(Duration::from_nanos(after));
            let per_ms = match cfg!(any(target_vendor = "apple", target_os = "freebsd")) {
                true => 1_000,
                false => 1,
            };
            assert!(n_units >= 1 && n_units <= ms * per_ms, "{after}: {n_units}");
        }
        let (_, forever) = timer_data(Duration::MAX);
        assert!(forever >= 86_400_000);
    }
}
