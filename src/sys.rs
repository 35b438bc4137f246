//! The cellar: the only place that knows `unsafe`, `libc` and one Unix from another.
//!
//! Everything above calls safe functions from here and sees no `EINTR`. Nearly all system calls
//! go through `nix`; what is written by hand is what `nix` has no word for: `select` on sets of
//! any size, and `accept` with the peer's address.
//!
//! **Invariant.** Every descriptor made here is close-on-exec and non-blocking, and closes itself.
//!
//! What differs between systems is decided by these names, and nowhere else:
//!
//! | name | what it decides |
//! |---|---|
//! | [`queue`] | the kernel's own queue for descriptors that live long |
//! | `exit_queue::system` | how the exits of child processes are heard of |
//! | `unix::where_flags_come_along` | whether flags can be given when a descriptor is made |
//! | [`unix::HERE`] | whether `select` has a limit, and what odd errnos mean |
//! | `fd_set::Word` | the width of one word of an `fd_set`, taken from libc |
//! | `select::raw` | the symbol to call |
//! | `shared::path_of` | how a terminal or a pipe is opened anew |
//! | `socket::NO_SIGNAL`, `socket::silence` | how a write to a closed socket raises no `SIGPIPE` |
//! | `socket::unix::peer` | how the user at the other end is asked for |
//! | `socket::unix::CLOSE_ON_EXEC` | whether descriptors are close-on-exec when they arrive |
//!
//! `PLATFORMS.md` lists what remains different for a user.
#![allow(unsafe_code)]

/// The kernel's own queue, which costs nothing per tick for a descriptor that is watched:
/// `add`, `remove`, `wait`, and a descriptor of its own that `select` takes.
///
/// `--cfg fahrenheit_kqueue` makes Linux test the code for kqueue, on a stand-in.
#[cfg_attr(
    any(
        all(target_os = "linux", not(fahrenheit_kqueue)),
        target_os = "android",
    ),
    path = "sys/epoll.rs"
)]
#[cfg_attr(
    any(
        all(target_os = "linux", fahrenheit_kqueue),
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    ),
    path = "sys/kqueue.rs"
)]
#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    )),
    path = "sys/no_queue.rs"
)]
pub(crate) mod queue;

mod create;
pub(crate) mod exit_queue;
pub(crate) mod exited;
pub(crate) mod fd;
pub(crate) mod fd_set;
pub(crate) mod fork;
#[cfg(all(target_os = "linux", fahrenheit_kqueue))]
mod kqueue_stand_in;
#[cfg(all(target_os = "linux", not(fahrenheit_plain_flags)))]
mod pidfd;
pub(crate) mod select;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod stack;
pub(crate) mod sync;
pub(crate) mod transfer;
pub(crate) mod unix;
pub(crate) mod wake_pipe;

pub(crate) use nix::errno::Errno;

/// When the kernel's queue speaks of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Once whenever it becomes ready, to read or to write.
    Edge,
    /// For as long as it is ready to read.
    Level,
}

/// What the kernel's queue says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) fd: std::os::fd::RawFd,
    /// The low half of the generation with which the descriptor was added.
    pub(crate) generation: u32,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its end: after what is there to read, there is the end.
    pub(crate) hung_up: bool,
}

/// The ends of a new pipe, to read and to write.
pub(crate) fn pipe() -> nix::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    create::pipe()
}

/// Repeats `call` for as long as a signal cuts it short.
pub(crate) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// `retry` for calls of std, which report errors as `io::Error`.
pub(crate) fn retry_io<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
