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
//! | [`fd_set`]`::Word` | the width of one word of an `fd_set` |
//! | [`fd_set::LIMIT`] | the first descriptor that `select` cannot take, where there is one |
//! | `select::raw` | the symbol to call |
//! | `fd::make` (a cfg alias there) | whether flags can be given when a descriptor is made |
//! | `socket::NO_SIGNAL` and `socket::silence` | how a write to a closed socket is kept from raising `SIGPIPE` |
//! | `socket::connect_error` | what an odd errno of `connect` means |
#![allow(unsafe_code)]

pub(crate) mod fd;
pub(crate) mod fd_set;
pub(crate) mod select;
pub(crate) mod socket;
pub(crate) mod wake_pipe;

pub(crate) use nix::errno::Errno;

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
