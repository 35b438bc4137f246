//! Has this process been forked?
//!
//! A child shares the wake-up pipe and the kernel's queue with its parent, and has none of its
//! threads. So the owner of such a thing remembers how many forks had been counted when it was
//! made, and makes a new one in the child.
//!
//! **Invariants.** Forks are counted by `pthread_atfork(3)` and by nothing else: `vfork(2)`, whose
//! child shares its parent's memory, runs no such function and so changes nothing here. A child
//! that is made by a bare `clone(2)` system call is not noticed, and must not use this crate.
//! There is no lock, which another thread could hold at the moment of the fork.

use super::thread_bound::ThreadNumber;
use nix::libc;
use nix::unistd::getpid;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Number of forks that this process descends from, as counted by `pthread_atfork`. As wide as a
/// pointer because some processors lack atomics of 64 bits.
static N_FORKS: AtomicUsize = AtomicUsize::new(0);

/// The process for which `N_FORKS` is right.
static COUNTED_PID: AtomicI32 = AtomicI32::new(0);

/// The thread that made the last counted fork: this process began with it alone. 0 if it had no
/// number.
static FORKING_THREAD: AtomicUsize = AtomicUsize::new(0);

/// A thread, as far as forks may leave it behind: a child has only the thread that forked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HomeThread {
    number: ThreadNumber,
    /// Number of counted forks when the thread certainly existed.
    n_forks: usize,
}

impl HomeThread {
    /// Returns the calling thread. [`watch`] has been called.
    pub(crate) fn here() -> HomeThread {
        HomeThread {
            number: ThreadNumber::get(),
            n_forks: count(),
        }
    }

    /// Returns whether this process has the thread, or had it until it ended. False if the process
    /// is the child of a fork that another thread has made.
    pub(crate) fn is_in_this_process(&self) -> bool {
        // Each fork leaves one thread. So of all threads that are older than the last fork, only
        // the one that made it is left.
        self.n_forks == count() || self.number.is(FORKING_THREAD.load(Ordering::Relaxed))
    }
}

/// Number of forks that this process descends from, since [`watch`] was called.
pub(crate) fn count() -> usize {
    N_FORKS.load(Ordering::Relaxed)
}

/// Starts counting forks. Called before anything is made that a fork would share.
pub(crate) fn watch() {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // A `Once` would be shorter. But a fork while another thread is inside of its `call_once`
    // leaves it locked in the child, whose own call would wait for a thread that it does not have.
    // Two threads that come here together register the function twice, which is harmless: its
    // second call finds that the fork has been counted.
    if !IS_WATCHED.load(Ordering::SeqCst) {
        COUNTED_PID.store(getpid().as_raw(), Ordering::SeqCst);
        // SAFETY: `in_child` has the right type and does only what a child of a threaded process
        // may do. Where a shared library can be unloaded, the C library forgets the function then
        // (glibc, FreeBSD), or never unloads (musl). The only error is a lack of memory; forks
        // then go unnoticed.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        IS_WATCHED.store(true, Ordering::SeqCst);
    }
}

extern "C" fn in_child() {
    let pid = getpid().as_raw();
    if COUNTED_PID.swap(pid, Ordering::SeqCst) != pid {
        FORKING_THREAD.store(ThreadNumber::or_zero(), Ordering::Relaxed);
        N_FORKS.fetch_add(1, Ordering::Relaxed);
    }
}
