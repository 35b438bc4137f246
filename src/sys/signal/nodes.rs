//! The listeners, as the signal handler sees them: a list of nodes, each with atomic flags and the
//! writing end of a pipe.
//!
//! The flag says which signal was raised; the byte in the pipe only says that there is a flag. The
//! handler sets the flag, *then* writes; the listener empties the pipe, *then* takes the flags. So
//! a full pipe loses nothing, no kind of signal can push another one out, and after the last signal
//! of a kind the listener always looks once more.
//!
//! # Forks
//! A child must hear what it is sent from its first instruction on, and must not hear what its
//! parent was sent. In between, in the C library's `fork`, the child runs before any function of
//! ours does; and a child of `vfork` runs in its parent's memory. A handler cannot tell one from
//! the other. So it notes the signal together with the number of the process in [`EARLY`], which
//! only a process of that number looks at.
//!
//! **Invariants.** A node is never freed, so the handler may walk the list at any time. A pipe is
//! closed only when no handler can be about to write to it.

use super::gate::Gate;
use super::published::Published;
use super::set::{N_SIGNALS, N_WORDS, Set};
use crate::sys::fd::lend;
use crate::sys::wake_pipe::file_of;
use crate::sys::{Errno, fork, retry};
use nix::libc::{self, c_int};
use nix::unistd::getpid;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// How long the end of a listener waits for a handler on another thread that is between looking at
/// the node and writing to its pipe: that takes a microsecond, unless the thread is preempted.
const MAX_YIELDS: usize = 100;
const MAX_SLEEPS: usize = 500;
const SLEEP: Duration = Duration::from_millis(1);

/// One listener's entry in the list that the handler walks. Reused when the listener is gone.
pub(super) struct Node {
    is_used: AtomicBool,
    /// Leads the handler to the writing end of the listener's pipe.
    gate: Gate,
    /// The signals that the listener wants, as one bit each.
    wanted: [AtomicU32; N_WORDS],
    /// The signals that have been raised and not been taken.
    raised: [AtomicU32; N_WORDS],
    /// What file the writing end of the pipe is.
    file: AtomicUsize,
    /// Number of counted forks when the pipe was made: in a child, it is still the parent's.
    n_forks: AtomicUsize,
    next: Published<Node>,
}

static FIRST: Published<Node> = Published::none();

/// The process whose signals the nodes hold.
static OWN_PID: AtomicI32 = AtomicI32::new(0);

/// For each signal, the last process that it was raised in while `OWN_PID` was another's.
static EARLY: [AtomicI32; N_SIGNALS] = [const { AtomicI32::new(0) }; N_SIGNALS];

fn all() -> impl Iterator<Item = &'static Node> {
    std::iter::successors(FIRST.get(), |node| node.next.get())
}

/// Tells every listener that wants the signal. May be called by a signal handler only.
pub(super) fn tell_all(number: usize) {
    let pid = getpid().as_raw();
    if OWN_PID.load(Ordering::SeqCst) != pid {
        // Nothing else may be written: if this is a child of `vfork`, the flags and the pipes are
        // those of its parent, who would take the child's signal for its own.
        EARLY[number].store(pid, Ordering::SeqCst);
        return;
    }
    for node in all() {
        node.tell(number / 32, 1 << (number % 32));
    }
}

/// Has forks noticed. Called before the handler is installed.
pub(super) fn watch_forks() -> nix::Result<()> {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // First, because functions of a child run in the order of registration: when ours runs, the
    // fork has been counted.
    fork::watch();
    // No `Once`, for the reason given in `fork::watch`; registering twice is harmless here, too.
    if !IS_WATCHED.load(Ordering::SeqCst) {
        OWN_PID.store(getpid().as_raw(), Ordering::SeqCst);
        // SAFETY: both functions have the right type and only read and write atomics; the C library
        // forgets them if the shared library that they are in can be unloaded.
        let outcome = unsafe { libc::pthread_atfork(Some(before_fork), None, Some(in_child)) };
        if outcome != 0 {
            return Err(Errno::from_raw(outcome));
        }
        IS_WATCHED.store(true, Ordering::SeqCst);
    }
    Ok(())
}

extern "C" fn before_fork() {
    // Else the child might take a signal of an earlier process that had the number it will get.
    EARLY.iter().for_each(|pid| pid.store(0, Ordering::SeqCst));
}

/// The first thing in a child of `fork`: forgets what was raised in the parent and which handlers
/// were at work on its other threads, and keeps what was raised in the child.
extern "C" fn in_child() {
    let pid = getpid().as_raw();
    if OWN_PID.load(Ordering::SeqCst) == pid {
        return;
    }
    for node in all() {
        node.gate.forget_handlers();
        for word in &node.raised {
            word.store(0, Ordering::SeqCst);
        }
    }
    // In this order. A handler that interrupts this thread before the store notes its signal in
    // `EARLY`, which is read below; one that comes after it sets the flags by itself.
    OWN_PID.store(pid, Ordering::SeqCst);
    for (number, early) in EARLY.iter().enumerate() {
        if early.load(Ordering::SeqCst) == pid {
            all().for_each(|node| node.tell(number / 32, 1 << (number % 32)));
        }
    }
}

impl Node {
    fn new() -> Node {
        Node {
            is_used: AtomicBool::new(true),
            gate: Gate::new(),
            wanted: [const { AtomicU32::new(0) }; N_WORDS],
            raised: [const { AtomicU32::new(0) }; N_WORDS],
            file: AtomicUsize::new(0),
            n_forks: AtomicUsize::new(0),
            next: Published::none(),
        }
    }

    /// Returns a node that no listener uses, and takes it.
    pub(super) fn acquire() -> &'static Node {
        let order = Ordering::SeqCst;
        let is_free = |node: &&Node| {
            let taken = node.is_used.compare_exchange(false, true, order, order);
            taken.is_ok()
        };
        if let Some(node) = all().find(is_free) {
            return node;
        }
        let node: &'static Node = Box::leak(Box::new(Node::new()));
        loop {
            let first = FIRST.get();
            node.next.set(first);
            if FIRST.replace(first, node) {
                return node;
            }
        }
    }

    /// Has the handler tell this node of the signals in `set`, and write to `pipe` as long as that
    /// number stands for `file`.
    pub(super) fn open(&self, set: Set, pipe: RawFd, file: usize) {
        for index in 0..N_WORDS {
            self.wanted[index].store(set.word(index), Ordering::Relaxed);
            self.raised[index].store(0, Ordering::Relaxed);
        }
        self.file.store(file, Ordering::Relaxed);
        self.n_forks.store(fork::count(), Ordering::Relaxed);
        self.gate.open(pipe);
    }

    /// Has the handler leave this node alone. Returns false if a handler may be about to write to
    /// the pipe, which must then stay open for good.
    pub(super) fn close(&self) -> bool {
        // A handler that is inside is on another thread: one that interrupted this thread would
        // have returned. But it may never end: another handler, with a `siglongjmp` in it, may have
        // interrupted it. Then a pipe and a node are lost, which is better than a thread that waits
        // for ever, or a byte in a descriptor that by then is another file's.
        let is_closed = self.gate.close(|attempt| {
            match attempt < MAX_YIELDS {
                true => std::thread::yield_now(),
                false => std::thread::sleep(SLEEP),
            }
            attempt < MAX_YIELDS + MAX_SLEEPS
        });
        if is_closed {
            self.is_used.store(false, Ordering::SeqCst);
        }
        is_closed
    }

    /// What the handler does for this listener.
    fn tell(&self, index: usize, bit: u32) {
        self.gate.enter(|pipe| {
            if self.wanted[index].load(Ordering::Relaxed) & bit == 0 {
                return;
            }
            self.raised[index].fetch_or(bit, Ordering::SeqCst);
            // In a child that has not renewed its pipe, the byte would wake the parent. The
            // listener looks at the flags by itself when it renews the pipe.
            if !self.is_from_before_fork() {
                write_byte(pipe, self.file.load(Ordering::SeqCst));
            }
        });
    }

    /// Takes the signals that have been raised since the last call.
    pub(super) fn take(&self) -> Set {
        let words = (0..N_WORDS).map(|index| {
            let raised = self.raised[index].swap(0, Ordering::SeqCst);
            u128::from(raised) << (32 * index)
        });
        Set::from_bits(words.sum())
    }

    /// True in a child of `fork` whose pipe is still shared with its parent.
    pub(super) fn is_from_before_fork(&self) -> bool {
        self.n_forks.load(Ordering::SeqCst) != fork::count()
    }

    /// Notes that the pipe is this process's own, after `n_forks` forks, and what file it is.
    pub(super) fn set_renewed(&self, n_forks: usize, file: usize) {
        self.file.store(file, Ordering::SeqCst);
        self.n_forks.store(n_forks, Ordering::SeqCst);
    }
}

/// Makes a pipe readable that is open as long as a handler is inside of its node. If the pipe is
/// full, it is readable already; a signal handler can do nothing about other errors.
fn write_byte(pipe: c_int, file: usize) {
    // The pipe is closed only after `Node::close` has seen that no handler is inside.
    let pipe = lend(&pipe, pipe);
    // Other code may have closed the pipe and opened a file that has its number. The byte would
    // damage that file. The flag is set, so the signal is taken when the listener is next polled.
    if file_of(pipe) != Ok(file) {
        return;
    }
    let _ = retry(|| nix::unistd::write(pipe, &[1]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_ends_although_a_handler_never_left_its_node() {
        let node = Node::new();
        node.gate.open(0);
        node.gate.enter(|_| {
            assert!(!node.close(), "the pipe must not be closed");
            assert!(node.is_used.load(Ordering::SeqCst), "nor the node reused");
        });
        assert!(node.close());
        assert!(!node.is_used.load(Ordering::SeqCst));
    }
}
