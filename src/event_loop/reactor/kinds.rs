//! The words in which the rest of the crate talks to the reactor.

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
    #[default]
    Auto,
    /// `select` for all: no kernel object but the wake-up pipe. The environment variable
    /// `FAHRENHEIT_POLLER=select` does the same to every loop that starts after.
    Select,
}

/// What a task waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    /// Urgent data on a socket, packet mode of a pty.
    Except,
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
    /// Make the call.
    Try,
    /// Make the call, and if it would block, once more: the kernel's queue tells of a change once,
    /// so a `WouldBlock` must not be believed lightly.
    TryTwice,
    /// Make the call, the first since the queue said that the descriptor is ready. If it would
    /// block all the same, no edge need follow: wait in `select`, which looks at the state.
    TryHinted,
    /// Wait first: the call would.
    Wait,
    /// Fail with EBADF.
    Dead,
}

/// A descriptor that was closed behind the loop.
#[derive(Debug)]
pub(crate) struct ClosedFd {
    pub(crate) fd: RawFd,
    pub(crate) place: &'static Location<'static>,
    pub(crate) waiters: Vec<Waker>,
}
