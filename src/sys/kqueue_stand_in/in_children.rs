//! Closes the queues of the parent in a child of `fork`, as a BSD does by not handing them down.

use nix::libc;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptors of one queue of this process, or -1. A fixed table of atomics, because the
/// handler that reads it in a child may take no lock and no memory.
#[derive(Debug)]
pub(super) struct Place {
    outer: AtomicI32,
    inner: [AtomicI32; 4],
}

static PLACES: [Place; 512] = [const {
    Place {
        outer: AtomicI32::new(-1),
        inner: [const { AtomicI32::new(-1) }; 4],
    }
}; 512];

impl Place {
    /// Takes a free place for the queue whose outer descriptor is `outer`.
    pub(super) fn take(outer: RawFd) -> Option<&'static Place> {
        let order = Ordering::SeqCst;
        let take = |place: &&Place| {
            place
                .outer
                .compare_exchange(-1, outer, order, order)
                .is_ok()
        };
        PLACES.iter().find(take)
    }

    pub(super) fn note_inner(&self, fds: [RawFd; 4]) {
        for (noted, fd) in self.inner.iter().zip(fds) {
            noted.store(fd, Ordering::SeqCst);
        }
    }

    pub(super) fn give_back(&self) {
        self.inner
            .iter()
            .for_each(|fd| fd.store(-1, Ordering::SeqCst));
        self.outer.store(-1, Ordering::SeqCst);
    }

    /// True if the number is still that of the queue: it watches the epoll of its first filter.
    fn is_intact(&self) -> bool {
        let outer = self.outer.load(Ordering::SeqCst);
        let inner = self.inner[0].load(Ordering::SeqCst);
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: the kernel reads one event, which is on this stack; it refuses numbers that are
        // not open or not epolls. The event is what was set when the queue was made.
        0 == unsafe { libc::epoll_ctl(outer, libc::EPOLL_CTL_MOD, inner, &raw mut event) }
    }
}

/// From now on, a child of `fork` begins by closing the queues of its parent.
pub(super) fn close_queues() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` has the right type, is never unloaded, and makes only system calls
        // that a child of a threaded process may make.
        let outcome = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(outcome, 0, "no memory for a fork handler");
    });
}

extern "C" fn in_child() {
    for place in &PLACES {
        if place.outer.load(Ordering::SeqCst) >= 0 && place.is_intact() {
            for fd in std::iter::once(&place.outer).chain(&place.inner) {
                // The number is the queue's: the child cannot be out of step with the table.
                let _ = nix::unistd::close(fd.load(Ordering::SeqCst));
            }
        }
        place.give_back();
    }
}
