//! System calls: the only module with `unsafe`, with `libc`, and with differences between systems.
//!
//! Everything above calls safe functions from here, none of which fails with EINTR. Nearly all
//! system calls go through `nix`. Written by hand is what `nix` does not offer: `select` on sets of
//! any size, `accept` with the address of the peer, descriptors passed over a socket.
//!
//! **Invariant.** Every descriptor made here is close-on-exec and non-blocking, and closes itself.
//!
//! Systems differ in these places, and only in these; `tests/tidy` looks for others:
//!
//! | name | what differs |
//! |---|---|
//! | [`queue`] | the kernel's own queue for descriptors that live long |
//! | [`host_queue`] | whether one descriptor can stand for all that a host waits for |
//! | `exit_queue::system` | how the exit of a child process is reported |
//! | `exited::first` | whether an exited child can be found without taking its exit status |
//! | `unix::if_atomic_flags` | whether flags can be set in the call that makes a descriptor |
//! | [`unix::HERE`] | whether `select` has a limit, and what errnos and flags mean |
//! | `fd::silence_pipe` | how a write to a pipe without readers raises no `SIGPIPE` |
//! | `memory::give_back` | how freed memory is given back to the system |
//! | `select::raw` | the symbol to call |
//! | `shared::path_of`, `shared::PIPE_BUF` | how to reopen a terminal or a pipe, and its size |
//! | `shared::packet_mode` | whether a pipe may keep writes apart as packets |
//! | `signal::SIGIO`, `signal::disposition::NO_WAIT` | names that a system lacks |
//! | `socket::NO_SIGNAL`, `socket::silence` | how a write to a closed socket raises no `SIGPIPE` |
//! | `socket::options::Linger` | the option that counts in seconds |
//! | `socket::unix::raw_addr`, `socket::unix::std_addr` | whether there are abstract names |
//! | `socket::unix::peer` | how to ask for the identity of the peer |
//! | `socket::unix::CLOSE_ON_EXEC` | whether descriptors are close-on-exec when they arrive |
//!
//! `PLATFORMS.md` lists what remains different for a user.
#![allow(unsafe_code)]

/// The kernel's own queue, which costs nothing per tick for a descriptor that is watched:
/// `add`, `remove`, `wait`, and a descriptor of its own that `select` takes.
///
/// `--cfg fahrenheit_kqueue` makes Linux test the code for kqueue, on a stand-in, and
/// `--cfg fahrenheit_no_queue` what is done without a queue.
#[cfg_attr(
    any(
        all(target_os = "linux", not(any(fahrenheit_kqueue, fahrenheit_no_queue))),
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
        all(target_os = "linux", not(fahrenheit_no_queue)),
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

/// One descriptor that stands for many, for the loop of another program.
///
/// A kqueue needs the code of `queue` as well, so that Linux has one only with its stand-in.
#[cfg_attr(
    any(
        all(target_os = "linux", not(fahrenheit_kqueue)),
        target_os = "android",
    ),
    path = "sys/host_epoll.rs"
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
    path = "sys/host_kqueue.rs"
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
    path = "sys/no_host_queue.rs"
)]
pub(crate) mod host_queue;

pub(crate) mod blocking;
mod create;
#[cfg(feature = "dump")]
pub(crate) mod describe;
#[cfg(feature = "process")]
pub(crate) mod exit_queue;
#[cfg(feature = "process")]
pub(crate) mod exited;
pub(crate) mod fd;
pub(crate) mod fd_set;
pub(crate) mod fork;
#[cfg(all(target_os = "linux", fahrenheit_kqueue))]
mod kqueue_stand_in;
mod memory;
#[cfg(all(
    target_os = "linux",
    any(
        fahrenheit_kqueue,
        all(
            feature = "process",
            not(any(fahrenheit_plain_flags, fahrenheit_no_queue)),
        ),
    )
))]
mod pidfd;
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
pub(crate) mod read_buf;
pub(crate) mod select;
pub(crate) mod shared;
#[cfg(feature = "signal")]
pub(crate) mod signal;
pub(crate) mod socket;
#[cfg(feature = "process")]
pub(crate) mod stack;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod thread_bound;
pub(crate) mod transfer;
pub(crate) mod uninit;
pub(crate) mod unix;
pub(crate) mod wake_pipe;

pub(crate) use nix::errno::Errno;

/// When the kernel's queue reports a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Once whenever it becomes ready, to read or to write.
    Edge,
    /// For as long as it is ready to read.
    Level,
}

/// What the kernel's queue reports of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// The number of the descriptor that is ready.
    pub(crate) fd: std::os::fd::RawFd,
    /// The low half of the generation with which the descriptor was added.
    pub(crate) generation: u32,
    /// A read would not block.
    pub(crate) readable: bool,
    /// A write would not block.
    pub(crate) writable: bool,
    /// The peer has closed its end: after what is there to read, there is the end.
    pub(crate) hung_up: bool,
    /// Urgent data has come.
    pub(crate) urgent: bool,
}

/// Makes a pipe, and returns the ends to read from and to write to.
pub(crate) fn pipe() -> nix::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    create::pipe()
}

/// Repeats `call` while it fails with EINTR.
pub(crate) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Repeats `call`, whose errors are those of std, while it fails with EINTR.
pub(crate) fn retry_io<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
