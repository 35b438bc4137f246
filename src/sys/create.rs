//! Creates descriptors that are non-blocking and close-on-exec from the start, and never 0, 1 or 2.
//!
//! A program that was started with closed standard streams, or has closed them, must not find our
//! pipe behind its `stdout()`: what it prints would wake the loop, or be read by it. So a number
//! below 3 is exchanged for a higher one at once.
//!
//! Most systems take both flags along in the call that makes the descriptor. The others (macOS,
//! AIX, Haiku, QNX) get them straight after, by [`plain`]; there, another thread's `fork` and
//! `exec` in between takes the descriptor along, and those systems offer no way to close that
//! window.
//!
//! `plain` is compiled and tested everywhere. Where the flags come along, the functions of the
//! same name in this file itself hide it.

use super::Errno;
use super::unix::if_atomic_flags;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[allow(unused_imports, reason = "hidden where the flags come along")]
pub(super) use plain::*;

/// Returns room for the address that [`accept`] writes. Until then it is that of no family.
pub(super) fn room_for_addr() -> libc::sockaddr_storage {
    // SAFETY: all zeroes is a valid `sockaddr_storage`, on every system.
    unsafe { std::mem::zeroed() }
}

/// The first number that is no standard stream.
const FIRST: RawFd = 3;

/// Returns whether `fd` is none of the numbers of stdin, stdout and stderr.
pub(super) fn is_above_stdio(fd: RawFd) -> bool {
    fd >= FIRST
}

/// Exchanges a number below 3 for a higher one. The flags stay as they are: `O_NONBLOCK` belongs to
/// the open file, and close-on-exec is set again.
pub(super) fn above_stdio(fd: OwnedFd) -> nix::Result<OwnedFd> {
    if is_above_stdio(fd.as_raw_fd()) {
        return Ok(fd);
    }
    // std duplicates with F_DUPFD_CLOEXEC and a minimum of 3, for this very reason.
    let error = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    fd.try_clone().map_err(error)
}

/// Owns the descriptor with this number, which a system call has just returned to this crate.
/// Exchanges a number below 3 for a higher one.
pub(super) fn own(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: no other code knows the number yet, so no other code owns the descriptor.
    above_stdio(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Exchanges a number below 3 for a higher one, unless there is no other to be had: what a peer has
/// sent cannot be received again.
#[cfg(feature = "unix")]
pub(super) fn above_stdio_if_possible(fd: OwnedFd) -> OwnedFd {
    match is_above_stdio(fd.as_raw_fd()) {
        true => fd,
        false => fd.try_clone().unwrap_or(fd),
    }
}

if_atomic_flags! {
    const FLAGS: libc::c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

    /// A socket without an address.
    pub(super) fn socket(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
        let flags = SockFlag::from_bits_retain(FLAGS);
        above_stdio(nix::sys::socket::socket(family, kind, flags, None)?)
    }

    /// Two Unix sockets that are connected to each other.
    #[cfg(any(feature = "unix", test))]
    pub(super) fn socket_pair(kind: SockType) -> nix::Result<(OwnedFd, OwnedFd)> {
        let flags = SockFlag::from_bits_retain(FLAGS);
        let (a, b) = nix::sys::socket::socketpair(AddressFamily::Unix, kind, None, flags)?;
        Ok((above_stdio(a)?, above_stdio(b)?))
    }

    /// The next connection, if one is waiting. The peer's address goes to `addr`, which has room
    /// for `len` bytes; `len` is then its length.
    pub(super) fn accept(
        listener: BorrowedFd<'_>,
        addr: &mut libc::sockaddr_storage,
        len: &mut libc::socklen_t,
    ) -> nix::Result<OwnedFd> {
        let addr = std::ptr::from_mut(addr).cast();
        // SAFETY: `addr` is a buffer of ours, and the callers give its size in `len`.
        let fd = Errno::result(unsafe { libc::accept4(listener.as_raw_fd(), addr, len, FLAGS) })?;
        own(fd)
    }

    /// The ends of a pipe, to read and to write.
    pub(super) fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
        use nix::fcntl::OFlag;
        match nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
            // Old kernels and translation layers know the symbol and not the call.
            Err(Errno::ENOSYS) => plain::pipe(),
            Ok((read, write)) => Ok((above_stdio(read)?, above_stdio(write)?)),
            Err(errno) => Err(errno),
        }
    }
}

/// Creates descriptors where the calls take no flags: the flags are set right afterwards.
#[allow(dead_code, reason = "hidden where the flags come along")]
mod plain {
    use super::super::fd::set_flags;
    use super::*;

    pub(in super::super) fn socket(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
        let socket = nix::sys::socket::socket(family, kind, SockFlag::empty(), None)?;
        let socket = above_stdio(socket)?;
        set_flags(&socket)?;
        Ok(socket)
    }

    pub(in super::super) fn socket_pair(kind: SockType) -> nix::Result<(OwnedFd, OwnedFd)> {
        let (family, flags) = (AddressFamily::Unix, SockFlag::empty());
        let (a, b) = nix::sys::socket::socketpair(family, kind, None, flags)?;
        let (a, b) = (above_stdio(a)?, above_stdio(b)?);
        set_flags(&a)?;
        set_flags(&b)?;
        Ok((a, b))
    }

    pub(in super::super) fn accept(
        listener: BorrowedFd<'_>,
        addr: &mut libc::sockaddr_storage,
        len: &mut libc::socklen_t,
    ) -> nix::Result<OwnedFd> {
        let addr = std::ptr::from_mut(addr).cast();
        // SAFETY: `addr` is a buffer of ours, and the callers give its size in `len`.
        let fd = Errno::result(unsafe { libc::accept(listener.as_raw_fd(), addr, len) })?;
        let socket = own(fd)?;
        set_flags(&socket)?;
        Ok(socket)
    }

    pub(in super::super) fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = nix::unistd::pipe()?;
        let (read, write) = (above_stdio(read)?, above_stdio(write)?);
        set_flags(&read)?;
        set_flags(&write)?;
        Ok((read, write))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fd::is_nonblocking;
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn has_both_flags(fd: &OwnedFd) -> bool {
        let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        flags & libc::FD_CLOEXEC != 0 && is_nonblocking(fd).unwrap()
    }

    #[test]
    fn every_descriptor_has_both_flags_with_and_without_the_calls_that_give_them() {
        for pair in [pipe().unwrap(), plain::pipe().unwrap()] {
            assert!(has_both_flags(&pair.0) && has_both_flags(&pair.1));
        }
        for make in [socket_pair, plain::socket_pair] {
            let pair = make(SockType::Datagram).unwrap();
            assert!(has_both_flags(&pair.0) && has_both_flags(&pair.1));
        }
        for make in [socket, plain::socket] {
            assert!(has_both_flags(
                &make(AddressFamily::Inet, SockType::Stream).unwrap()
            ));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        type Accept = fn(
            BorrowedFd<'_>,
            &mut libc::sockaddr_storage,
            &mut libc::socklen_t,
        ) -> nix::Result<OwnedFd>;
        for accept in [accept as Accept, plain::accept] {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut addr = room_for_addr();
            let mut len = size_of_val(&addr) as libc::socklen_t;
            assert!(has_both_flags(
                &accept(listener.as_fd(), &mut addr, &mut len).unwrap()
            ));
            assert_eq!(len as usize, size_of::<libc::sockaddr_in>());
        }
    }
}
