//! The kernel's queue on macOS and the BSDs: `kqueue(2)`.
//!
//! Two things that a kqueue could do are left out, each for a reason:
//! - Wakes come through the pipe, and not by EVFILT_USER. `select` needs the pipe in any case while
//!   any descriptor is young; a signal handler may write to it, and knows no queue; and not every
//!   BSD has the filter.
//! - The number of bytes that EVFILT_READ reports does not replace the guess that a TCP read which
//!   took less than it was offered has emptied the socket. The guess is wrong only behind urgent
//!   data, and there macOS counts up to that data only.
//!
//! Linux compiles this only with `--cfg fahrenheit_kqueue`, for tests, on a stand-in for the calls.

use super::create::is_above_stdio;
use super::fd::lend;
#[cfg(target_os = "linux")]
use super::kqueue_stand_in::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use super::select::Waited;
use super::socket::is_socket;
use super::unix::HERE;
use super::{Errno, Event, Trigger};
use nix::libc;
#[cfg(not(target_os = "linux"))]
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use nix::sys::stat::{SFlag, fstat};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// Maximum number of events taken in one call; more wait for the next turn.
const MAX_EVENTS: usize = 256;

/// Descriptors that the kernel watches for us, and room for the events that it reports.
pub(crate) struct Queue {
    kqueue: Kqueue,
    events: Vec<KEvent>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("fd", &self.fd()).finish()
    }
}

impl Queue {
    pub(crate) fn new() -> nix::Result<Queue> {
        let kqueue = create()?;
        let empty = change(0, EventFilter::EVFILT_READ, EvFlags::empty(), 0);
        Ok(Queue {
            kqueue,
            events: vec![empty; MAX_EVENTS],
        })
    }

    /// Returns the queue's own descriptor, which is readable when there are events.
    pub(crate) fn fd(&self) -> RawFd {
        self.kqueue.as_fd().as_raw_fd()
    }

    /// Room to write is not reported unless [`report_room`](Queue::report_room) asks for it.
    pub(crate) const REPORTS_ROOM_ON_REQUEST: bool = true;

    /// Watches `fd` to read.
    pub(crate) fn add(&self, fd: RawFd, generation: u32, trigger: Trigger) -> nix::Result<()> {
        // Listeners, which are sockets on every system, are the only ones that are level-triggered.
        if trigger == Trigger::Edge {
            if HERE.queues_sockets_only() && !is_socket(fd) {
                return Err(Errno::EINVAL);
            }
            if is_on_disk(fd) {
                return Err(Errno::EPERM);
            }
        }
        let flags = match trigger {
            Trigger::Level => EvFlags::EV_ADD,
            Trigger::Edge => EvFlags::EV_ADD | EvFlags::EV_CLEAR,
        };
        self.change(change(fd, EventFilter::EVFILT_READ, flags, generation))
    }

    /// Has the next wait report, once, that there is room to write, now or later.
    ///
    /// A filter that stays would also report each time that the peer has taken something, although
    /// hardly a task ever waits for that: on NetBSD, seven waits of ten ended so.
    pub(crate) fn report_room(&self, fd: RawFd, generation: u32) -> nix::Result<()> {
        let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
        self.change(change(fd, EventFilter::EVFILT_WRITE, flags, generation))
    }

    /// Returns whether the file behind `fd` is watched, to read or to write. It is not if other
    /// code has closed the descriptor, and put another file behind its number.
    pub(crate) fn watches(&self, fd: RawFd, to_write: bool) -> bool {
        let filter = match to_write {
            true => EventFilter::EVFILT_WRITE,
            false => EventFilter::EVFILT_READ,
        };
        // Only a filter that is there can be enabled. If it is ready, that counts as an edge, so
        // this is asked only of descriptors that are ready and waited for.
        let enabled = self.change(change(fd, filter, EvFlags::EV_ENABLE, 0));
        matches!(enabled, Ok(()) | Err(Errno::EBADF))
    }

    /// Gives up this process's share of a queue that belongs to its parent.
    pub(crate) fn leave_to_parent(self, _pipe: RawFd) {
        // A child does not inherit the queue: there is nothing behind the number, or something
        // else.
        std::mem::forget(self);
    }

    /// Returns whether this is still the queue that watches the wake-up pipe `pipe`: other code may
    /// have closed its descriptor, and something else may have the number now.
    pub(crate) fn is_ours(&self, pipe: RawFd) -> bool {
        // Only a filter that is there can be enabled.
        let enable = change(pipe, EventFilter::EVFILT_READ, EvFlags::EV_ENABLE, 0);
        self.change(enable).is_ok()
    }

    /// Stops watching `fd`, which may be closed already.
    pub(crate) fn remove(&self, fd: RawFd) {
        for filter in [EventFilter::EVFILT_READ, EventFilter::EVFILT_WRITE] {
            let _ = self.change(change(fd, filter, EvFlags::EV_DELETE, 0));
        }
    }

    fn change(&self, change: KEvent) -> nix::Result<()> {
        // With no room for events, a refused change is the call's own error.
        super::retry(|| self.kqueue.kevent(&[change], &mut [], None)).map(drop)
    }

    /// Waits for events, for at most `wait`, and hands each to `each`.
    pub(crate) fn wait(&mut self, wait: Option<Duration>, mut each: impl FnMut(Event)) -> Waited {
        let limit = wait.map(|wait| libc::timespec {
            tv_sec: wait.as_secs().min(86_400) as _,
            tv_nsec: wait.subsec_nanos() as _,
        });
        match self.kqueue.kevent(&[], &mut self.events, limit) {
            Ok(n_events) => {
                self.events[..n_events]
                    .iter()
                    .filter_map(event)
                    .for_each(&mut each);
                Waited::Ready(n_events)
            }
            Err(Errno::EINTR) => Waited::Ready(0),
            // The others if the number is something else by now.
            Err(Errno::EBADF | Errno::EINVAL | Errno::ENOTTY) => Waited::BadFd,
            Err(errno) => Waited::Trouble(errno),
        }
    }
}

/// Creates a queue that is close-on-exec and has none of the numbers of the standard streams.
pub(super) fn create() -> nix::Result<Kqueue> {
    // A queue cannot be moved to another number: the BSDs do not duplicate one. Those that are too
    // low are kept until there is one that is not.
    let mut low = Vec::new();
    let kqueue = loop {
        let kqueue = Kqueue::new()?;
        if is_above_stdio(kqueue.as_fd().as_raw_fd()) {
            break kqueue;
        }
        low.push(kqueue);
    };
    super::fd::set_cloexec(kqueue.as_fd())?;
    Ok(kqueue)
}

/// Returns true for a file that never waits for anything but a disk.
///
/// The BSDs watch these, too, but say nothing of one that has been read to its end, where a read
/// does not wait either. `select` says of each that it is ready, as epoll says that it cannot be
/// watched.
pub(super) fn is_on_disk(fd: RawFd) -> bool {
    let kind = fstat(lend(&fd, fd)).map(|found| found.st_mode & SFlag::S_IFMT.bits());
    let on_disk = [SFlag::S_IFREG, SFlag::S_IFDIR, SFlag::S_IFBLK].map(|kind| kind.bits());
    kind.is_ok_and(|kind| on_disk.contains(&kind))
}

fn change(fd: RawFd, filter: EventFilter, flags: EvFlags, generation: u32) -> KEvent {
    KEvent::new(
        fd as usize,
        filter,
        flags,
        FilterFlag::empty(),
        0,
        generation as isize,
    )
}

fn event(event: &KEvent) -> Option<Event> {
    let filter = event.filter().ok()?;
    let ended = event
        .flags()
        .intersects(EvFlags::EV_EOF | EvFlags::EV_ERROR);
    Some(Event {
        fd: RawFd::try_from(event.ident()).ok()?,
        generation: event.udata() as u32,
        readable: filter == EventFilter::EVFILT_READ,
        writable: filter == EventFilter::EVFILT_WRITE,
        hung_up: ended && filter == EventFilter::EVFILT_READ,
        // Not watched: a look at the parked descriptors finds what comes behind urgent data.
        urgent: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// What the queue reports now: descriptor, readable, writable.
    fn pending(queue: &mut Queue) -> Vec<(RawFd, bool, bool)> {
        let mut events = Vec::new();
        let each = |event: Event| events.push((event.fd, event.readable, event.writable));
        let waited = queue.wait(Some(Duration::ZERO), each);
        assert_eq!(waited, Waited::Ready(events.len()));
        events
    }

    #[test]
    fn room_to_write_is_reported_once_and_only_if_it_is_asked_for() {
        let mut queue = Queue::new().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let fd = ours.as_raw_fd();
        queue.add(fd, 7, Trigger::Edge).unwrap();
        assert_eq!(pending(&mut queue), []);
        for _ in 0..2 {
            queue.report_room(fd, 7).unwrap();
            assert_eq!(pending(&mut queue), [(fd, false, true)]);
            assert_eq!(pending(&mut queue), []);
        }
        queue.report_room(fd, 7).unwrap();
        queue.remove(fd);
        assert_eq!(pending(&mut queue), []);
    }

    #[test]
    fn files_on_a_disk_are_refused_and_other_files_are_not() {
        let queue = Queue::new().unwrap();
        let add = |fd: RawFd| queue.add(fd, 1, Trigger::Edge);
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let directory = std::fs::File::open("/").unwrap();
        // A system that queues sockets only does not ask what else a descriptor is.
        let refusal = match HERE.queues_sockets_only() {
            true => Errno::EINVAL,
            false => Errno::EPERM,
        };
        for file in [file, directory] {
            assert_eq!(add(file.as_raw_fd()), Err(refusal));
        }
        if !HERE.queues_sockets_only() {
            let (read, _write) = super::super::pipe().unwrap();
            assert_eq!(add(read.as_raw_fd()), Ok(()));
        }
    }
}
