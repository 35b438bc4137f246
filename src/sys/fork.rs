//! Has this process been forked?
//!
//! A child shares the wake-up pipe and the kernel's queue with its parent, and has none of its
//! threads. So whoever holds such a thing remembers how many forks had been counted when it was
//! made, and makes a new one in the child. A `fork` that does not go through libc is not noticed,
//! until the child is sent a signal that somebody listens to.

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

// As wide as a pointer: not every processor has atomics of 64 bits.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// The process for which `FORKS` is right.
static HERE: AtomicI32 = AtomicI32::new(0);

/// What the signal handler's part of the crate does first in a child.
static IN_CHILD: OnceLock<fn()> = OnceLock::new();

/// Has `f` called in each forked child before anything else of this crate runs there. `f` may do
/// only what a signal handler may do. Only the first call has an effect.
pub(super) fn set_in_child(f: fn()) {
    let _ = IN_CHILD.set(f);
}

/// How many forks lie between the first process and this one, as far as we were there to count.
pub(crate) fn count() -> usize {
    FORKS.load(Ordering::Relaxed)
}

/// Begins to count. Called before anything is made that a fork would share.
pub(crate) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        HERE.store(nix::unistd::getpid().as_raw(), Ordering::SeqCst);
        // SAFETY: `in_child` is a function of the right type that is never unloaded before the
        // process ends, and does nothing that a child of a threaded process must not do.
        // Its only error is a lack of memory; then forks go unnoticed, as they would without it.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

extern "C" fn in_child() {
    notice();
}

/// Counts the fork if this is a child in which nobody has done so yet. A signal handler may call
/// this, and has to: the first thing that runs in a child may be a handler.
pub(super) fn notice() {
    let here = nix::unistd::getpid().as_raw();
    if HERE.load(Ordering::SeqCst) == here {
        return;
    }
    // A child has one thread, so with its signals held back nothing else runs meanwhile.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    if HERE.swap(here, Ordering::SeqCst) != here {
        FORKS.fetch_add(1, Ordering::Relaxed);
        if let Some(in_child) = IN_CHILD.get() {
            in_child();
        }
    }
    if let Ok(before) = before {
        // Cannot fail: the call that took these away has just succeeded.
        let _ = before.thread_set_mask();
    }
}
