//! Flags of descriptors, and whether one is open at all.

use super::{Errno, create, retry};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Lends the descriptor with this number, which must not be -1, for as long as `owner` lives.
///
/// `owner` owns the descriptor, or knows of one that is registered. Other code may have closed it
/// all the same; then the number is that of no file, or of another one.
pub(super) fn lend<T>(_owner: &T, number: RawFd) -> BorrowedFd<'_> {
    // SAFETY: the number is not -1. Who closes the descriptor of an owner breaks the owner's
    // promise to others, but no memory depends on it here: a `BorrowedFd` is only ever handed to
    // system calls, which check the number, and read and write the buffers that they are given.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Returns whether `fd` names an open descriptor of this process.
pub(crate) fn is_open(fd: RawFd) -> bool {
    fcntl(lend(&fd, fd), FcntlArg::F_GETFD) != Err(Errno::EBADF)
}

/// Whether reads and writes on `fd` return at once; an error if it is not open.
pub(crate) fn is_nonblocking(fd: impl AsFd) -> nix::Result<bool> {
    let flags = retry(|| fcntl(&fd, FcntlArg::F_GETFL))?;
    Ok(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
}

/// Both flags, straight after: for what systems without `pipe2`, `accept4` and `SOCK_CLOEXEC` make,
/// and for what std has made.
///
/// A `fork` and `exec` by another thread in between takes the descriptor along; those systems
/// offer no way to close that window.
pub(crate) fn set_flags(fd: impl AsFd) -> nix::Result<()> {
    set_cloexec(&fd)?;
    let flags = OFlag::from_bits_retain(retry(|| fcntl(&fd, FcntlArg::F_GETFL))?);
    retry(|| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)))?;
    Ok(())
}

/// Moves what std has made to a number that is none of the standard streams'.
///
/// Where the program has closed one of these, the next descriptor gets its number. What other code
/// of the program prints would then be sent to a peer.
#[allow(
    dead_code,
    reason = "only what is behind a feature has std open descriptors"
)]
pub(crate) fn above_stdio<T: From<OwnedFd> + Into<OwnedFd>>(io: T) -> nix::Result<T> {
    create::above_stdio(io.into()).map(T::from)
}

/// Has reads and writes on `fd` wait, as a program expects it that gets `fd` from us.
pub(crate) fn set_blocking(fd: impl AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(retry(|| fcntl(&fd, FcntlArg::F_GETFL))?);
    retry(|| fcntl(&fd, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))).map(drop)
}

/// Keeps writes to the pipe `fd` from raising `SIGPIPE`, on systems that can do that.
pub(crate) fn silence_pipe(fd: impl AsFd) -> nix::Result<()> {
    #[cfg(any(target_vendor = "apple", target_os = "netbsd"))]
    {
        use nix::libc;
        use std::os::fd::AsRawFd;
        let on: libc::c_int = 1;
        // SAFETY: F_SETNOSIGPIPE takes an int and touches no memory of ours.
        let outcome = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETNOSIGPIPE, on) };
        Errno::result(outcome)?;
    }
    let _ = fd;
    Ok(())
}

/// Keeps `fd` out of programs that this process starts.
pub(crate) fn set_cloexec(fd: impl AsFd) -> nix::Result<()> {
    retry(|| fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))).map(drop)
}
