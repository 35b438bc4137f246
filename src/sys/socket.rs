//! Sockets: listening, connecting, accepting, and moving bytes without `SIGPIPE`.

pub(crate) mod options;
#[cfg(feature = "unix")]
pub(crate) mod seqpacket;
#[cfg(feature = "unix")]
pub(crate) mod unix;

pub(crate) use options::{keepalive, linger, set_keepalive, set_linger};

use super::select::is_ready;
use super::transfer::MAX_BYTES;
use super::{Errno, create, retry};
use crate::sys::unix::{HERE, is_connecting};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{SockaddrIn, SockaddrIn6};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// Number of bytes that a blocking socket takes without blocking if `select` reports that it is
/// writable: the smallest PIPE_BUF that POSIX allows, and a quarter of macOS's `SO_SNDLOWAT`.
const MAX_BYTES_WHEN_READY: usize = 512;
/// Maximum number of connections that wait in the kernel before `accept`. The kernel may allow
/// fewer.
const BACKLOG: libc::c_int = 1_024;

/// Keeps one write from raising `SIGPIPE`. POSIX has had this flag since 2008, but `nix` does not
/// name it on every system. macOS has no such flag; there, [`silence`] sets an option instead.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_NOSIGNAL);
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// Keeps every write to this socket from raising `SIGPIPE`, on systems where no flag does so for
/// one write. Connections inherit it from the listener that accepts them.
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
        match Errno::result(outcome) {
            // macOS sets no option on a connection that the peer has reset. The socket is good all
            // the same: it can be read, and a write fails without a signal.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    let _ = socket;
    Ok(())
}

/// Returns whether `fd` is a socket, and not a pipe, a terminal or a file.
#[allow(dead_code, reason = "only kqueue asks")]
pub(crate) fn is_socket(fd: RawFd) -> bool {
    // A connection that was reset may have no name any more, but it is still a socket.
    !matches!(
        socket::getsockname::<SockaddrStorage>(fd),
        Err(Errno::ENOTSOCK | Errno::EBADF)
    )
}

/// Calls `call` with `addr` in the form that `bind` and `connect` take.
///
/// The length is exactly that of the address family. illumos refuses any other, and nix's
/// `SockaddrStorage` gives 128 on systems whose addresses carry no length.
fn with_raw_addr<R>(addr: &SocketAddr, call: impl FnOnce(&dyn SockaddrLike) -> R) -> R {
    match addr {
        SocketAddr::V4(addr) => call(&SockaddrIn::from(*addr)),
        SocketAddr::V6(addr) => call(&SockaddrIn6::from(*addr)),
    }
}

/// Makes a TCP socket of the address family of `addr`.
pub(crate) fn tcp(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = create::socket(family, SockType::Stream)?;
    silence(&socket)?;
    Ok(socket)
}

/// Makes a socket that listens on `addr`, which may be bound again right after a restart.
pub(crate) fn listen(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(addr)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(&socket, addr)?;
    start_listening(&socket, BACKLOG.unsigned_abs())?;
    Ok(socket)
}

/// Gives `socket` the local address `addr`.
pub(crate) fn bind(socket: impl AsFd, addr: &SocketAddr) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    Ok(with_raw_addr(addr, |addr| socket::bind(fd, addr))?)
}

/// Has the kernel accept connections to `socket`, of which up to `backlog` wait for [`accept`].
pub(crate) fn start_listening(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // `nix` refuses more than the header's SOMAXCONN, which is 128 with musl, on macOS and the
    // BSDs, although their kernels allow more. A number that is too large is cut by the kernel.
    // SAFETY: `listen` touches no memory of ours.
    Errno::result(unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) })?;
    Ok(())
}

/// Makes a socket and begins to connect it to `addr`. Also returns whether it is connected already.
pub(crate) fn connect(addr: &SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let socket = tcp(addr)?;
    let is_connected = start_connecting(&socket, addr)?;
    Ok((socket, is_connected))
}

/// Begins to connect `socket` to `addr`. Returns whether it is connected already.
pub(crate) fn start_connecting(socket: impl AsFd, addr: &SocketAddr) -> io::Result<bool> {
    let fd = socket.as_fd().as_raw_fd();
    // A call that is repeated after a signal fails with EALREADY: the connection is under way.
    let connect = |addr: &dyn SockaddrLike| retry(|| socket::connect(fd, addr));
    match with_raw_addr(addr, connect) {
        Ok(()) => Ok(true),
        Err(errno) if is_connecting(errno) => Ok(false),
        Err(errno) => Err(HERE.connect_error(errno).into()),
    }
}

/// Returns whether a connection that was under way is now connected. To be asked once the socket is
/// writable.
///
/// `SO_ERROR` is read once, because reading clears it. Success there is believed only if there is a
/// peer: a socket may look writable before it is connected, and the BSDs have been seen to lose the
/// error. Without a peer, an attempt to read distinguishes "not yet" from "failed": after a lost
/// error every wait would end at once, for ever.
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
    connected_by_read(socket::recv(fd, &mut [0], MsgFlags::MSG_PEEK)).or_else(failed)
}

/// What a read from a socket that has no peer means: is it connected, still connecting (`false`),
/// or has connecting failed?
fn connected_by_read(outcome: nix::Result<usize>) -> nix::Result<bool> {
    match outcome {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        // macOS and the BSDs report the end of the stream, and not ENOTCONN as Linux does.
        Ok(0) => Err(Errno::ENOTCONN),
        // There is data, so it was connected. That the peer is gone shows when it is read.
        Ok(_) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Fails as `accept` would if no descriptor is free, on systems where `accept` would lose the
/// connection. To be called before a connection is accepted after such a failure.
pub(crate) fn check_for_free_fd(listener: impl AsFd) -> io::Result<()> {
    match HERE.loses_connection_without_free_fd() {
        true => try_free_fd(listener),
        false => Ok(()),
    }
}

/// Takes a descriptor and gives it back at once.
fn try_free_fd(listener: impl AsFd) -> io::Result<()> {
    listener.as_fd().try_clone_to_owned().map(drop)
}

/// Accepts the next connection, if one is waiting. Also returns the address of its peer.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut addr = create::room_for_addr();
    let mut len = size_of_val(&addr) as libc::socklen_t;
    let socket = create::accept(listener.as_fd(), &mut addr, &mut len)?;
    Ok((socket, peer(&addr, len)?))
}

/// Returns the address of which `accept` has written `len` bytes.
fn peer(addr: &libc::sockaddr_storage, len: libc::socklen_t) -> nix::Result<SocketAddr> {
    if len == 0 {
        // macOS and some BSDs return connections that the peer has reset already, without address.
        return Err(Errno::ECONNABORTED);
    }
    // The length is that of the whole address, also if not all of it had room. Addresses of the
    // families that are listened to always have.
    let len = len.min(size_of_val(addr) as libc::socklen_t);
    // SAFETY: the storage is ours and initialised, and `len` is at most its size.
    let addr = unsafe { SockaddrStorage::from_raw(std::ptr::from_ref(addr).cast(), Some(len)) };
    addr.as_ref().and_then(std_addr).ok_or(Errno::EINVAL)
}

fn std_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// Receives into `bytes`, without waiting. Returns the number of bytes received, 0 at the end.
///
/// Not even from a socket that blocks: `O_NONBLOCK` belongs to the open file, and code that has a
/// duplicate, or another process, may take it away at any time.
pub(crate) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    let len = bytes.len().min(MAX_BYTES);
    let fd = socket.as_fd().as_raw_fd();
    Ok(socket::recv(fd, &mut bytes[..len], MsgFlags::MSG_DONTWAIT)?)
}

/// Receives into several slices, without waiting.
pub(crate) fn receive_vectored(
    socket: impl AsFd,
    slices: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let received = socket::recvmsg::<()>(fd, slices, None, MsgFlags::MSG_DONTWAIT)?;
    Ok(received.bytes)
}

/// Shuts down writing, so that the peer reads the end.
pub(crate) fn shutdown_write(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    Ok(socket::shutdown(fd, socket::Shutdown::Write)?)
}

/// Sends from `bytes` without `SIGPIPE`, and without waiting, as [`receive`] does. Returns the
/// number of bytes sent.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    send_with(socket, bytes, NO_SIGNAL | MsgFlags::MSG_DONTWAIT)
}

/// Sends on a socket that is known to block, without waiting.
pub(crate) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    match HERE.waits_despite_dontwait() {
        true => send_if_ready(socket, bytes),
        false => send(socket, bytes),
    }
}

/// Sends on a blocking socket only what fits without waiting, for systems whose `send` does not
/// know `MSG_DONTWAIT`.
fn send_if_ready(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    if !is_ready(&socket, true) {
        return Err(Errno::EAGAIN.into());
    }
    let len = bytes.len().min(MAX_BYTES_WHEN_READY);
    send_with(socket, &bytes[..len], NO_SIGNAL)
}

fn send_with(socket: impl AsFd, bytes: &[u8], flags: MsgFlags) -> io::Result<usize> {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    let sent = socket::send(socket.as_fd().as_raw_fd(), bytes, flags);
    Ok(sent.map_err(|errno| HERE.write_error(errno))?)
}

/// Sends from several slices without `SIGPIPE`, which `writev` cannot do.
pub(crate) fn send_vectored(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let flags = NO_SIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = socket::sendmsg::<()>(fd, slices, &[], flags, None);
    Ok(sent.map_err(|errno| HERE.write_error(errno))?)
}

/// What an error of `accept` concerns, by "Error handling" in `accept(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// One connection that is gone already, so that the next one may be accepted at once.
    LostConnection,
    /// Usually one connection. But a network that is down, and a sandbox that forbids the call, say
    /// so for ever.
    PerhapsLost,
    /// Descriptors or memory have run out.
    Shortage,
    /// The listener. Among these is EOPNOTSUPP, although the manual lists it with the errors of
    /// connections: it is what `accept` always says of a socket that cannot listen, such as a
    /// datagram socket.
    Listener,
}

impl AcceptError {
    pub(crate) fn of(error: &io::Error) -> AcceptError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNABORTED | Errno::EPROTO | Errno::ETIMEDOUT | Errno::ECONNRESET) => {
                AcceptError::LostConnection
            }
            Some(
                Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENETUNREACH
                | Errno::EPERM,
            ) => AcceptError::PerhapsLost,
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                AcceptError::Shortage
            }
            _ => AcceptError::Listener,
        }
    }
}

/// Returns whether `error` means that a write should be tried again later although the socket is
/// writable: the system is short of network buffers, and does not report when it has more.
pub(crate) fn is_out_of_buffers(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| HERE.is_out_of_buffers(errno))
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
    fn a_socket_that_is_neither_connected_nor_connecting_has_failed() {
        // It is writable, says SO_ERROR 0 and has no peer: what a lost error looks like.
        let socket = tcp(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let error = connect_outcome(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn a_connection_whose_error_was_lost_reads_as_ended_or_unconnected_and_has_failed() {
        // macOS and the BSDs; Linux.
        for read in [Ok(0), Err(Errno::ENOTCONN)] {
            assert_eq!(connected_by_read(read), Err(Errno::ENOTCONN));
        }
        let reset = Errno::ECONNRESET;
        assert_eq!(connected_by_read(Err(reset)), Err(reset));
        assert_eq!(connected_by_read(Err(Errno::EAGAIN)), Ok(false));
        assert_eq!(connected_by_read(Ok(1)), Ok(true));
    }

    #[test]
    fn addresses_have_exactly_the_length_of_their_family() {
        let len = |addr: &str| with_raw_addr(&addr.parse().unwrap(), |addr| addr.len() as usize);
        assert_eq!(len("127.0.0.1:80"), size_of::<libc::sockaddr_in>());
        assert_eq!(len("[::1]:80"), size_of::<libc::sockaddr_in6>());
    }

    /// As macOS needs it, whose `send` does not know `MSG_DONTWAIT`.
    #[test]
    fn a_blocking_socket_is_filled_without_waiting_also_without_dontwait() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let c = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let d = listener.accept().unwrap();
        // All are blocking: a call that waits hangs here, since no one reads.
        for socket in [a.as_fd(), c.as_fd()] {
            let mut n_sent = 0;
            let error = loop {
                match send_if_ready(socket, &[0; 100_000]) {
                    Ok(n) => n_sent += n,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert!(n_sent >= 10_000, "{n_sent}");
        }
        drop((b, d));
    }

    #[test]
    fn a_free_descriptor_is_looked_for_and_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..10_000 {
            // A descriptor that is kept would soon be one too many.
            try_free_fd(&listener).unwrap();
        }
        assert!(check_for_free_fd(&listener).is_ok());
    }

    #[test]
    fn connecting_returns_a_connection_or_connection_refused() {
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
    fn a_connection_that_is_under_way_is_asked_about_again() {
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
    fn a_connection_without_address_counts_as_lost() {
        let nowhere = create::room_for_addr();
        let error = io::Error::from(peer(&nowhere, 0).unwrap_err());
        assert_eq!(AcceptError::of(&error), AcceptError::LostConnection);
        let error = io::Error::from(peer(&nowhere, 16).unwrap_err());
        assert_eq!(AcceptError::of(&error), AcceptError::Listener);
    }
}
