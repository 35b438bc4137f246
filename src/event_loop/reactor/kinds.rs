//! The types in which the rest of the crate talks to the reactor.

use super::waiters::WaitKey;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::task::Waker;

/// How the loop waits for descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Poller {
    /// `select` for young descriptors, the kernel's queue (epoll, kqueue) for those that have
    /// waited a few times. The default. Where there is no such queue, or it cannot be had, all stay
    /// in `select`.
    ///
    /// Other code may close a descriptor that a task waits for, or put another file behind its
    /// number by `dup2`. Operations go on with the new file, as in std. A descriptor that is closed
    /// is noticed within about 2 seconds while the loop is busy, within 30 while it is idle, and so
    /// is a new file that is ready.
    #[default]
    Auto,
    /// `select` for all: no kernel object but the wake-up pipe. The environment variable
    /// `FAHRENHEIT_POLLER=select` does the same to every loop that starts after.
    ///
    /// A descriptor that other code closes or replaces while the loop sleeps is noticed when
    /// something else ends that sleep: a `select` that is under way does not see it.
    Select,
}

/// What a task waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Until there is something to read.
    Read,
    /// Until there is room to write.
    Write,
    /// Until there is urgent data on a socket, or a pty in packet mode has changed.
    Except,
}

impl Direction {
    pub(super) const ALL: [Direction; 3] = [Direction::Read, Direction::Write, Direction::Except];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Read => "to read",
            Direction::Write => "to write",
            Direction::Except => "exceptional",
        })
    }
}

/// One registration of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) fd: RawFd,
    pub(super) generation: u64,
}

/// What an operation through a token should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Make the call once, and believe a `WouldBlock`.
    Try,
    /// Make the call, and if it would block, once more: the kernel's queue reports a change once,
    /// so a single `WouldBlock` is confirmed by a second call.
    TryTwice,
    /// Make the call, the first since the descriptor was reported as ready.
    TryHinted,
    /// Make the call, the first since the descriptor was reported as ready, and say if it succeeds:
    /// it was reported as ready before, and the call said `WouldBlock`.
    TryDoubted,
    /// Wait first: the call would block.
    Wait,
    /// Fail with EBADF: the descriptor was closed, or is no longer registered.
    Dead,
}

/// How the entry of a waiting task is found again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    /// A future owns its entry, and has this one already.
    Future(Option<WaitKey>),
    /// A trait method has nothing that could own an entry: it is found by the waker.
    Waker,
}

/// What became of an interest.
#[derive(Debug)]
pub(crate) struct Added {
    /// Names the entry, which may be an older one that serves as well.
    pub(crate) key: Option<WaitKey>,
    /// The waker that is in no entry, to be dropped: the one of an entry that was replaced, or the
    /// new one if the task waits already.
    pub(crate) unused: Option<Waker>,
    /// Wakers to be woken, so that live ones register again.
    pub(crate) woken: Vec<Waker>,
}

/// A descriptor that was closed by other code.
#[derive(Debug)]
pub(crate) struct ClosedFd {
    pub(crate) fd: RawFd,
    /// Where the user registered it.
    pub(crate) place: &'static Location<'static>,
    /// The tasks that were waiting for it, to be woken with EBADF.
    pub(crate) waiters: Vec<Waker>,
}
