//! The kernel's queue on macOS and the BSDs: `kqueue(2)`.
//!
//! Linux compiles this only with `--cfg fahrenheit_kqueue`, for tests, on a stand-in for the calls.

#[cfg(target_os = "linux")]
use super::kqueue_stand_in::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use super::select::Waited;
use super::socket::is_socket;
use super::unix::HERE;
use super::{Errno, Event, Trigger};
use nix::libc;
#[cfg(not(target_os = "linux"))]
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// So many events are taken in one call; more wait for the next tick.
const MOST_EVENTS: usize = 256;

/// Descriptors that the kernel watches for us, and room for what it says.
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
        let kqueue = Kqueue::new()?;
        super::fd::set_cloexec(kqueue.as_fd())?;
        let empty = change(0, EventFilter::EVFILT_READ, EvFlags::empty(), 0);
        Ok(Queue {
            kqueue,
            events: vec![empty; MOST_EVENTS],
        })
    }

    /// The queue's own descriptor, which is readable when there are events.
    pub(crate) fn fd(&self) -> RawFd {
        self.kqueue.as_fd().as_raw_fd()
    }

    /// Watches `fd`, in both directions with `Edge` and to read with `Level`.
    pub(crate) fn add(&self, fd: RawFd, generation: u32, trigger: Trigger) -> nix::Result<()> {
        if trigger == Trigger::Edge && HERE.queues_sockets_only() && !is_socket(fd) {
            return Err(Errno::EINVAL);
        }
        let flags = match trigger {
            Trigger::Level => EvFlags::EV_ADD,
            Trigger::Edge => EvFlags::EV_ADD | EvFlags::EV_CLEAR,
        };
        self.change(change(fd, EventFilter::EVFILT_READ, flags, generation))?;
        if trigger == Trigger::Edge {
            let write = change(fd, EventFilter::EVFILT_WRITE, flags, generation);
            if let Err(errno) = self.change(write) {
                self.remove(fd);
                return Err(errno);
            }
        }
        Ok(())
    }

    /// Gives up this process's share of a queue that belongs to its parent.
    pub(crate) fn leave_to_parent(self) {
        // A child does not inherit the queue: there is nothing behind the number, or something
        // else.
        std::mem::forget(self);
    }

    /// Stops watching `fd`. It may be gone already, when somebody else has closed it.
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
            Err(Errno::EBADF) => Waited::BadFd,
            Err(errno) => Waited::Trouble(errno),
        }
    }
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
    })
}
