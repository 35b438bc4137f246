//! The way of a signal handler to the pipe of one listener, which the listener can close.
//!
//! Knows nothing of signals, and makes no system call. `tests/loom` tries every order in which the
//! handler and the end of the listener can meet.
//!
//! **Invariant.** After [`Gate::close`] has returned true, no handler uses the pipe.

use crate::sys::sync::{AtomicI32, AtomicUsize, Ordering};
use std::os::fd::RawFd;

pub(crate) struct Gate {
    /// The writing end of the listener's pipe; -1 if the gate is closed.
    pipe: AtomicI32,
    /// Number of handlers that may be about to use the pipe.
    n_inside: AtomicUsize,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate {
            pipe: AtomicI32::new(-1),
            n_inside: AtomicUsize::new(0),
        }
    }

    pub(crate) fn open(&self, pipe: RawFd) {
        self.pipe.store(pipe, Ordering::SeqCst);
    }

    /// Calls `f` with the pipe, unless the gate is closed. The only method for signal handlers.
    pub(crate) fn enter(&self, f: impl FnOnce(RawFd)) {
        // First the count, then the pipe: whoever closes the gate does both in the other order, so
        // one of the two sees what the other did.
        self.n_inside.fetch_add(1, Ordering::AcqRel);
        let pipe = self.pipe.load(Ordering::Acquire);
        if pipe >= 0 {
            f(pipe);
        }
        self.n_inside.fetch_sub(1, Ordering::AcqRel);
    }

    /// Lets no more handlers in, and calls `wait` again and again, with the number of times that it
    /// was called before, until no handler is inside.
    ///
    /// Returns false if `wait` returns false first: a handler may then still use the pipe.
    pub(crate) fn close(&self, mut wait: impl FnMut(usize) -> bool) -> bool {
        self.pipe.store(-1, Ordering::Release);
        // Adding nothing is a write. A handler that adds itself after this write has read it, and
        // sees with it that the pipe is gone; a load would not make sure of that.
        for attempt in 0.. {
            if self.n_inside.fetch_add(0, Ordering::AcqRel) == 0 {
                return true;
            }
            if !wait(attempt) {
                break;
            }
        }
        false
    }

    /// In a child of `fork`: forgets the handlers of threads that only the parent has.
    pub(crate) fn forget_handlers(&self) {
        self.n_inside.store(0, Ordering::SeqCst);
    }
}
