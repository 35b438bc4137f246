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

use nix::libc;
use nix::unistd::getpid;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Number of forks that this process descends from, as counted by `pthread_atfork`. As wide as a
/// pointer because some processors lack atomics of 64 bits.
static N_FORKS: AtomicUsize = AtomicUsize::new(0);

/// The process for which `N_FORKS` is right.
static COUNTED_PID: AtomicI32 = AtomicI32::new(0);

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
        N_FORKS.fetch_add(1, Ordering::Relaxed);
    }
}
