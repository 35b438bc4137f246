//! Sockets: create them, connecting, accepting, and writing without `SIGPIPE`.

pub(crate) mod unix;

use super::transfer::MAX_BYTES;
use super::{Errno, create, retry};
use crate::sys::unix::{HERE, is_connecting};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

// In seconds everywhere. Apple's plain option counts in ticks of a hundredth.
#[cfg(not(target_vendor = "apple"))]
use sockopt::Linger;
#[cfg(target_vendor = "apple")]
use sockopt::LingerSec as Linger;

/// How many connections wait in the kernel before `accept`; it may allow fewer.
const BACKLOG: libc::c_int = 1_024;

/// Keeps one write from raising `SIGPIPE`: POSIX has the flag since 2008. Where `nix` or macOS do
/// not have it, the number may still be there, or [`silence`] has done it for all writes.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_NOSIGNAL);
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// Keeps every write to this socket from raising `SIGPIPE`, where no flag does so for one write.
pub(crate) fn silence(socket: impl AsFd) -> nix::Result<()> {
    #[cfg(target_vendor = "apple")]
    {
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
        Errno::result(outcome)?;
    }
    let _ = socket;
    Ok(())
}

/// Whether `fd` is a socket, and not a pipe, a terminal or a file.
#[allow(dead_code, reason = "only kqueue asks")]
pub(crate) fn is_socket(fd: RawFd) -> bool {
    // A reset connection may have no name any more, and is a socket still.
    !matches!(
        socket::getsockname::<SockaddrStorage>(fd),
        Err(Errno::ENOTSOCK | Errno::EBADF)
    )
}

/// A TCP socket for addresses like `addr`.
fn tcp(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = create::socket(family, SockType::Stream)?;
    silence(&socket)?;
    Ok(socket)
}

/// A socket that listens on `addr`, which may be taken again right after a restart.
pub(crate) fn listen(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(addr)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(*addr))?;
    // Not by `nix`, which refuses more than the header's SOMAXCONN: 128 with musl, on macOS and the
    // BSDs. The kernel takes as much of it as it likes.
    // SAFETY: `listen` touches no memory of ours.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

/// A socket on its way to `addr`, and whether it has arrived.
pub(crate) fn connect(addr: &SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let socket = tcp(addr)?;
    // Asked again after a signal, the system says that the connection is under way (EALREADY).
    let addr = SockaddrStorage::from(*addr);
    match retry(|| socket::connect(socket.as_raw_fd(), &addr)) {
        Ok(()) => Ok((socket, true)),
        Err(errno) if is_connecting(errno) => Ok((socket, false)),
        Err(errno) => Err(HERE.connect_error(errno).into()),
    }
}

/// How a connection on its way has fared; asked once it is writable.
///
/// `SO_ERROR` is read once, for reading clears it. Success there is believed only if there is a
/// peer: a socket may look writable before it is connected, and the BSDs have been seen to lose the
/// error. If there is no peer, a look at the data tells "not yet" from "no more", or every wait
/// after a lost error would end at once, for ever.
pub(crate) fn connect_outcome(socket: impl AsFd) -> io::Result<bool> {
    let fd = socket.as_fd().as_raw_fd();
    let failed = |errno| Err(HERE.connect_error(errno).into());
    let errno = getsockopt(&socket, sockopt::SocketError)?;
    if errno != 0 {
        return failed(Errno::from_raw(errno));
    }
    match socket::getpeername::<SockaddrStorage>(fd) {
        Ok(_) => return Ok(true),
        Err(Errno::ENOTCONN) => {}
        Err(errno) => return failed(errno),
    }
    match socket::recv(fd, &mut [0], MsgFlags::MSG_PEEK) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(errno) => failed(errno),
    }
}

/// The next connection and its peer, if one is waiting.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all zeroes is a valid `sockaddr_storage`: that of no family.
    let mut addr: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&addr) as libc::socklen_t;
    let socket = create::accept(listener.as_fd(), &mut addr, &mut len)?;
    silence(&socket).map_err(|errno| HERE.accepted_error(errno))?;
    Ok((socket, peer(&addr, len)?))
}

/// The address that `accept` wrote, `len` bytes of it.
fn peer(addr: &libc::sockaddr_storage, len: libc::socklen_t) -> nix::Result<SocketAddr> {
    if len == 0 {
        // macOS and some BSDs return a connection that the peer has reset already, without address.
        return Err(Errno::ECONNABORTED);
    }
    // SAFETY: the storage is ours and initialised, and `len` is at most its size: a larger address
    // has been cut off.
    let addr = unsafe { SockaddrStorage::from_raw(std::ptr::from_ref(addr).cast(), Some(len)) };
    addr.as_ref().and_then(std_addr).ok_or(Errno::EINVAL)
}

fn std_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// Receives into `bytes`; returns how many came, 0 at the end.
pub(crate) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    let len = bytes.len().min(MAX_BYTES);
    let fd = socket.as_fd().as_raw_fd();
    Ok(socket::recv(fd, &mut bytes[..len], MsgFlags::empty())?)
}

/// `receive` on a socket that may block, without waiting.
pub(crate) fn receive_now(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    let len = bytes.len().min(MAX_BYTES);
    let fd = socket.as_fd().as_raw_fd();
    Ok(socket::recv(fd, &mut bytes[..len], MsgFlags::MSG_DONTWAIT)?)
}

/// Receives into several slices.
pub(crate) fn receive_vectored(
    socket: impl AsFd,
    slices: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    Ok(nix::sys::uio::readv(socket, slices)?)
}

/// Shuts down writing, so that the peer reads the end.
pub(crate) fn shutdown_write(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    Ok(socket::shutdown(fd, socket::Shutdown::Write)?)
}

/// Sends from `bytes` without `SIGPIPE`; returns how many were taken.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    Ok(socket::send(socket.as_fd().as_raw_fd(), bytes, NO_SIGNAL)
        .map_err(|errno| HERE.write_error(errno))?)
}

/// `send` on a socket that may block, without waiting.
pub(crate) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    let flags = NO_SIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(socket::send(socket.as_fd().as_raw_fd(), bytes, flags)
        .map_err(|errno| HERE.write_error(errno))?)
}

/// Sends from several slices without `SIGPIPE`, which `writev` cannot do.
pub(crate) fn send_vectored(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let sent = socket::sendmsg::<()>(fd, slices, &[], NO_SIGNAL, None);
    Ok(sent.map_err(|errno| HERE.write_error(errno))?)
}

/// Sets how `close` treats unsent data: `None`, in the background; zero, by throwing it away and
/// resetting the connection.
pub(crate) fn set_linger(socket: impl AsFd, linger: Option<u64>) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: linger.is_some().into(),
        // An `int` on most systems, an `unsigned short` on Cygwin.
        l_linger: linger
            .unwrap_or(0)
            .try_into()
            .unwrap_or(libc::c_ushort::MAX.into()),
    };
    Ok(setsockopt(&socket, Linger, &linger)?)
}

/// The setting of [`set_linger`], in seconds.
pub(crate) fn linger(socket: impl AsFd) -> io::Result<Option<u64>> {
    let linger = getsockopt(&socket, Linger)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sockets_are_told_from_pipes_and_files() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(is_socket(listener.as_raw_fd()) && is_socket(unix.as_raw_fd()));
        let (read, write) = create::pipe().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for fd in [read.as_raw_fd(), write.as_raw_fd(), file.as_raw_fd(), -1] {
            assert!(!is_socket(fd), "{fd}");
        }
    }

    #[test]
    fn e4_a_socket_that_is_neither_connected_nor_connecting_has_failed() {
        // It is writable, says SO_ERROR 0 and has no peer: what a lost error looks like.
        let socket = tcp(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let error = connect_outcome(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn e4_a_connection_is_there_or_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (socket, _) = connect(&addr).unwrap();
        while !connect_outcome(&socket).unwrap() {}
        drop((socket, listener));
        let refused = connect(&addr).and_then(|(socket, _)| {
            loop {
                if connect_outcome(&socket)? {
                    return Ok(());
                }
            }
        });
        let kind = refused.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    }

    /// Linux lets a connection wait in SYN-SENT while the listener's queue is full.
    #[cfg(target_os = "linux")]
    #[test]
    fn e4_a_connection_that_is_under_way_is_asked_about_again() {
        let listener = tcp(&"127.0.0.1:0".parse().unwrap()).unwrap();
        socket::bind(
            listener.as_raw_fd(),
            &socket::SockaddrIn::new(127, 0, 0, 1, 0),
        )
        .unwrap();
        socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
        let addr = TcpListener::from(listener.try_clone().unwrap())
            .local_addr()
            .unwrap();
        let sockets: Vec<_> = (0..8).map(|_| connect(&addr).unwrap().0).collect();
        let outcomes: Vec<_> = sockets
            .iter()
            .map(|s| connect_outcome(s).unwrap())
            .collect();
        assert!(outcomes.contains(&false), "{outcomes:?}");
    }

    #[test]
    fn e15_a_connection_without_address_counts_as_lost() {
        // SAFETY: all zeroes is a valid `sockaddr_storage`.
        let nowhere: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let error = io::Error::from(peer(&nowhere, 0).unwrap_err());
        assert!(is_one_lost_connection(&error));
        let error = io::Error::from(peer(&nowhere, 16).unwrap_err());
        assert!(!is_one_lost_connection(&error) && !is_shortage(&error));
    }
}
