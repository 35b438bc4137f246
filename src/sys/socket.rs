//! Sockets: making them, connecting, accepting, and writing without `SIGPIPE`.

use super::Errno;
use nix::libc;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The most that one call is asked to move: some systems refuse more than `INT_MAX`.
const MOST_BYTES: usize = 1 << 30;
/// The most slices that one call is given; POSIX promises 16, every system here takes 1,024.
const MOST_SLICES: usize = 1_024;
/// How many connections wait in the kernel before `accept`; it may allow fewer.
const BACKLOG: i32 = 1_024;

/// Keeps one write from raising `SIGPIPE`. Where the flag does not exist, `silence` has done it.
#[cfg(not(any(target_vendor = "apple", target_os = "aix", target_os = "nto")))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
/// Keeps one write from raising `SIGPIPE`. Where the flag does not exist, `silence` has done it.
#[cfg(any(target_vendor = "apple", target_os = "aix", target_os = "nto"))]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// Keeps every write to this socket from raising `SIGPIPE`, where that is an option of the socket.
#[cfg(target_vendor = "apple")]
pub(crate) fn silence(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: SO_NOSIGPIPE reads one int, and gets the address and size of one.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NOSIGPIPE,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(outcome).map(drop).map_err(io::Error::from)
}

/// Keeps every write to this socket from raising `SIGPIPE`, where that is an option of the socket.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn silence(_socket: impl AsFd) -> io::Result<()> {
    Ok(())
}

/// A TCP socket for addresses like `addr`.
fn tcp(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = make::socket(family, SockType::Stream)?;
    silence(&socket)?;
    Ok(socket)
}

/// A socket that listens on `addr`, which may be taken again right after a restart.
pub(crate) fn listen(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(addr)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(*addr))?;
    socket::listen(&socket, socket::Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// A socket on its way to `addr`, and whether it has arrived.
pub(crate) fn connect(addr: &SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let socket = tcp(addr)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(*addr)) {
        Ok(()) => Ok((socket, true)),
        // A signal does not stop a connection from being made.
        Err(Errno::EINPROGRESS | Errno::EINTR) => Ok((socket, false)),
        Err(errno) => Err(connect_error(errno).into()),
    }
}

/// How a connection on its way has fared; asked once it is writable.
///
/// `SO_ERROR` is read once, for reading clears it. Success there is believed only if there is a
/// peer: a socket may look writable before it is connected.
pub(crate) fn connect_outcome(socket: impl AsFd) -> io::Result<bool> {
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => match socket::getpeername::<SockaddrStorage>(socket.as_fd().as_raw_fd()) {
            Ok(_) => Ok(true),
            Err(Errno::ENOTCONN) => Ok(false),
            Err(errno) => Err(connect_error(errno).into()),
        },
        errno => Err(connect_error(Errno::from_raw(errno)).into()),
    }
}

/// What an errno of `connect` means: OpenBSD says EINVAL when asked again about a refusal, macOS
/// when the peer has gone before `getpeername`.
fn connect_error(errno: Errno) -> Errno {
    if errno == Errno::EINVAL && cfg!(any(target_os = "openbsd", target_vendor = "apple")) {
        Errno::ECONNREFUSED
    } else {
        errno
    }
}

/// The next connection and its peer, if one is waiting.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut addr = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let fd = make::accept(
        listener.as_fd().as_raw_fd(),
        addr.as_mut_ptr().cast(),
        &mut len,
    )?;
    // SAFETY: `accept` made this descriptor just now, and nobody else has its number.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    make::finish(&socket)?;
    silence(&socket)?;
    // SAFETY: the storage was zeroed and then filled in by `accept`, which set `len` to at most
    // its size: a larger address would have been cut off.
    let addr = unsafe { SockaddrStorage::from_raw(addr.as_ptr().cast(), Some(len)) };
    let addr = addr
        .as_ref()
        .and_then(std_addr)
        .ok_or(Errno::EAFNOSUPPORT)?;
    Ok((socket, addr))
}

fn std_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// Sends from `bytes` without `SIGPIPE`; returns how many were taken.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    Ok(socket::send(socket.as_fd().as_raw_fd(), bytes, NO_SIGNAL).map_err(write_error)?)
}

/// Sends from several slices without `SIGPIPE`, which `writev` cannot do.
///
/// Slices and bytes past what one call takes are left for the next.
pub(crate) fn send_vectored(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut n_bytes = 0;
    let fitting = slices.iter().take(MOST_SLICES).take_while(|slice| {
        n_bytes += slice.len();
        n_bytes <= MOST_BYTES
    });
    let n_fitting = fitting.count();
    if n_fitting == 0 {
        return slices.first().map_or(Ok(0), |slice| send(socket, slice));
    }
    let fd = socket.as_fd().as_raw_fd();
    let sent = socket::sendmsg::<()>(fd, &slices[..n_fitting], &[], NO_SIGNAL, None);
    Ok(sent.map_err(write_error)?)
}

/// macOS says EPROTOTYPE to a write that races with the peer's close.
fn write_error(errno: Errno) -> Errno {
    if errno == Errno::EPROTOTYPE && cfg!(target_vendor = "apple") {
        Errno::ECONNRESET
    } else {
        errno
    }
}

/// Sets how `close` treats unsent data: `None`, in the background; zero, by throwing it away and
/// resetting the connection.
pub(crate) fn set_linger(socket: impl AsFd, linger: Option<u64>) -> io::Result<()> {
    let seconds = linger.unwrap_or(0).min(i32::MAX as u64) as libc::c_int;
    let linger = libc::linger {
        l_onoff: linger.is_some().into(),
        l_linger: seconds,
    };
    Ok(setsockopt(&socket, sockopt::Linger, &linger)?)
}

/// The setting of [`set_linger`], in seconds.
pub(crate) fn linger(socket: impl AsFd) -> io::Result<Option<u64>> {
    let linger = getsockopt(&socket, sockopt::Linger)?;
    Ok((linger.l_onoff != 0).then(|| u64::try_from(linger.l_linger).unwrap_or(0)))
}

/// Sets whether a silent peer is asked now and then whether it still lives.
pub(crate) fn set_keepalive(socket: impl AsFd, on: bool) -> io::Result<()> {
    Ok(setsockopt(&socket, sockopt::KeepAlive, &on)?)
}

/// The setting of [`set_keepalive`].
pub(crate) fn keepalive(socket: impl AsFd) -> io::Result<bool> {
    Ok(getsockopt(&socket, sockopt::KeepAlive)?)
}

/// Systems that take the flags along when a descriptor is made.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
))]
mod make {
    use super::*;
    use nix::sys::socket::SockFlag;

    pub(super) fn socket(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        super::socket::socket(family, kind, flags, None)
    }

    pub(super) fn accept(
        fd: libc::c_int,
        addr: *mut libc::sockaddr,
        len: &mut libc::socklen_t,
    ) -> nix::Result<libc::c_int> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the caller gives an address buffer of `*len` bytes that nobody else uses.
        Errno::result(unsafe { libc::accept4(fd, addr, len, flags) })
    }

    pub(super) fn finish(_socket: &OwnedFd) -> nix::Result<()> {
        Ok(())
    }
}

/// Systems that do not.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
)))]
mod make {
    use super::*;
    use nix::sys::socket::SockFlag;

    pub(super) fn socket(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
        let socket = super::socket::socket(family, kind, SockFlag::empty(), None)?;
        super::super::fd::set_flags(&socket)?;
        Ok(socket)
    }

    pub(super) fn accept(
        fd: libc::c_int,
        addr: *mut libc::sockaddr,
        len: &mut libc::socklen_t,
    ) -> nix::Result<libc::c_int> {
        // SAFETY: the caller gives an address buffer of `*len` bytes that nobody else uses.
        Errno::result(unsafe { libc::accept(fd, addr, len) })
    }

    pub(super) fn finish(socket: &OwnedFd) -> nix::Result<()> {
        super::super::fd::set_flags(socket)
    }
}

/// Whether `error` of `accept` concerns one connection that has gone already (`accept(2)`, "Error
/// handling"), so that the next may be tried at once.
pub(crate) fn is_one_lost_connection(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::ECONNABORTED
                | Errno::EPROTO
                | Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH
                | Errno::ETIMEDOUT
                | Errno::ECONNRESET
                | Errno::EPERM
        )
    )
}

/// Whether `error` means that descriptors or memory have run out.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
