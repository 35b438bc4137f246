//! Unix sockets: their addresses, connecting without waiting, who the peer is, and passing
//! descriptors.

use super::{NO_SIGNAL, send, silence};
use crate::sys::transfer::MAX_BYTES;
use crate::sys::unix::{HERE, if_atomic_flags, is_connecting};
use crate::sys::{Errno, create};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, ControlMessage, SockType, UnixAddr};
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

/// Returns the address of `path`, or an error if the system would take it for another address.
///
/// Linux chooses a name if the path is empty, and takes a path that begins with a NUL for an
/// abstract name.
pub(crate) fn path_addr(path: &Path) -> io::Result<SocketAddr> {
    let bytes = path.as_os_str().as_bytes();
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    if bytes.is_empty() {
        return Err(invalid("the path of a socket must not be empty"));
    }
    if bytes.contains(&0) {
        return Err(invalid("the path of a socket must not contain a NUL"));
    }
    if bytes.len() > MAX_PATH {
        let text = format!(
            "the path of a socket is limited to {MAX_PATH} bytes, this one has {}",
            bytes.len()
        );
        return Err(invalid(&text));
    }
    SocketAddr::from_pathname(path)
}

/// Offset of the name in an address.
const PATH_OFFSET: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);
/// Maximum length of a path, without its final NUL: 107 bytes on Linux, 103 on macOS and the BSDs.
const MAX_PATH: usize = size_of::<libc::sockaddr_un>() - PATH_OFFSET - 1;

/// Returns `addr`, or an error if it is the address of an unnamed socket: Linux would choose a name
/// for a socket that is bound to it.
pub(crate) fn named(addr: &SocketAddr) -> io::Result<&SocketAddr> {
    raw_addr(addr).map(|_| addr)
}

/// Returns `addr` in the form that system calls take.
pub(super) fn raw_addr(addr: &SocketAddr) -> io::Result<UnixAddr> {
    if let Some(path) = addr.as_pathname() {
        return Ok(UnixAddr::new(path)?);
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt;
        if let Some(name) = addr.as_abstract_name() {
            return Ok(UnixAddr::new_abstract(name)?);
        }
    }
    let text = "cannot use the address of an unnamed socket";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Makes a stream socket that is not connected yet.
pub(crate) fn stream() -> io::Result<OwnedFd> {
    let socket = create::socket(AddressFamily::Unix, SockType::Stream)?;
    silence(&socket)?;
    Ok(socket)
}

/// The outcome of a call of [`connect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connecting {
    /// The socket is connected.
    Done,
    /// The socket will be writable when it is connected or refused.
    UnderWay,
    /// The listener's backlog is full. The socket looks writable, so only trying again later helps.
    QueueFull,
}

/// Connects `socket` to `addr`, without waiting.
///
/// Most systems connect or refuse in the call itself. On Linux, a signal that interrupts it leaves
/// the socket as it was. So the call is repeated after a signal, and if the first one did connect,
/// the second one fails with EISCONN, which means success.
pub(crate) fn connect(socket: impl AsFd, addr: &SocketAddr) -> io::Result<Connecting> {
    let addr = raw_addr(addr)?;
    let connect = || socket::connect(socket.as_fd().as_raw_fd(), &addr);
    match crate::sys::retry(connect) {
        Ok(()) | Err(Errno::EISCONN) => Ok(Connecting::Done),
        Err(Errno::EAGAIN) => Ok(Connecting::QueueFull),
        Err(errno) if is_connecting(errno) => Ok(Connecting::UnderWay),
        Err(errno) => Err(errno.into()),
    }
}

/// Accepts the next connection, if one is waiting. Also returns the address of its peer, which
/// usually has no name.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut addr = create::room_for_addr();
    let mut len = size_of_val(&addr) as libc::socklen_t;
    let socket = create::accept(listener.as_fd(), &mut addr, &mut len)?;
    // A longer address has been cut off; `len` is its whole length.
    let end = size_of_val(&addr).min(len as usize);
    // SAFETY: the storage is ours, aligned for bytes, and all of its bytes are initialised.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const addr).cast::<u8>(), end) };
    Ok((socket, std_addr(bytes.get(PATH_OFFSET..).unwrap_or(&[]))?))
}

/// Returns the address of a name that the system has written.
///
/// `nix` trusts the length that the system reports, but some systems include the final NUL in it,
/// or allow longer names than their header has room for. A name that makes no sense becomes "no
/// name", because the connection is good all the same.
fn std_addr(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let [0, name @ ..] = name {
        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    let path = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
    // For std, the empty path is the address of an unnamed socket.
    SocketAddr::from_pathname(OsStr::from_bytes(path)).or_else(|_| SocketAddr::from_pathname(""))
}

/// Returns whether a datagram was refused because the *receiver's* queue is full, while the
/// sender's socket looks writable. `is_connected` says that the receiver is the peer of the
/// sender's socket; then EAGAIN is followed by readiness.
pub(crate) fn receiver_is_full(error: &io::Error, is_connected: bool) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| {
        HERE.receiver_is_full(errno) || errno == Errno::EAGAIN && !is_connected
    })
}

/// The user id, the group id and, where the system reports it, the process id of the peer.
pub(crate) type Peer = (u32, u32, Option<u32>);

/// Returns the identity of the peer, as it was when the peer connected or began to listen.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let peer = socket::getsockopt(&socket, socket::sockopt::PeerCredentials)?;
    // 0 means that the process is in a namespace that is not visible from ours.
    let pid = u32::try_from(peer.pid()).ok().filter(|&pid| pid != 0);
    Ok((peer.uid(), peer.gid(), pid))
}

/// Returns the identity of the peer, as it was when the peer connected or began to listen.
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let (mut uid, mut gid) = (0, 0);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the call writes one number to each of two variables.
    let outcome = unsafe { libc::getpeereid(fd, &raw mut uid, &raw mut gid) };
    Errno::result(outcome)?;
    #[cfg(target_vendor = "apple")]
    let pid = socket::getsockopt(&socket, socket::sockopt::LocalPeerPid).ok();
    #[cfg(not(target_vendor = "apple"))]
    let pid: Option<libc::pid_t> = None;
    Ok((uid, gid, pid.and_then(|pid| pid.try_into().ok())))
}

/// Returns the identity of the peer, as it was when the peer connected or began to listen.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut ucred = std::ptr::null_mut();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open; with a null pointer, the call makes a `ucred_t` of its own.
    let outcome = unsafe { libc::getpeerucred(fd, &raw mut ucred) };
    Errno::result(outcome)?;
    // SAFETY: the call above has made `ucred`, which is freed below and not before.
    let uid = unsafe { libc::ucred_geteuid(ucred) };
    // SAFETY: the call above has made `ucred`, which is freed below and not before.
    let gid = unsafe { libc::ucred_getegid(ucred) };
    // SAFETY: the call above has made `ucred`, which is freed below and not before.
    let pid = unsafe { libc::ucred_getpid(ucred) };
    // SAFETY: the call above has made `ucred`, and it is not used after this.
    unsafe { libc::ucred_free(ucred) };
    Ok((uid, gid, pid.try_into().ok()))
}

/// Fails: this system has no portable way to ask for the identity of the peer.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
)))]
pub(crate) fn peer(_socket: impl AsFd) -> io::Result<Peer> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends from `bytes`, and all of `fds` with the first byte. Returns the number of bytes sent.
pub(crate) fn send_fds(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if bytes.is_empty() {
        // The call would succeed and send nothing, so the descriptors would be lost.
        let text = "descriptors can be sent only together with at least one byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if fds.is_empty() {
        return send(socket, bytes);
    }
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let slices = [IoSlice::new(&bytes[..bytes.len().min(MAX_BYTES)])];
    let fd = socket.as_fd().as_raw_fd();
    let sent = socket::sendmsg::<()>(fd, &slices, &rights, NO_SIGNAL, None);
    Ok(sent.map_err(|errno| HERE.write_error(errno))?)
}

if_atomic_flags! {
    /// Makes received descriptors close-on-exec on arrival. `libc` does not name it on Solaris.
    #[cfg(not(target_os = "solaris"))]
    const CLOSE_ON_EXEC: Option<libc::c_int> = Some(libc::MSG_CMSG_CLOEXEC);
}

#[allow(unused_imports, reason = "hidden if the flag is atomic")]
use plain::*;

/// For systems without such a flag: descriptors become close-on-exec right after they have arrived.
mod plain {
    #[allow(dead_code, reason = "hidden if the flag is atomic")]
    pub(super) const CLOSE_ON_EXEC: Option<nix::libc::c_int> = None;
}

/// Maximum number of descriptors that one message carries: 512 on macOS, 253 on Linux, fewer or as
/// many elsewhere.
const MAX_FDS: usize = 512;

/// Receives into `bytes`, and up to `max_fds` descriptors. Returns the number of bytes, the
/// descriptors, and whether there were more descriptors, which are closed.
///
/// There is always room for as many descriptors as a message can carry, and the surplus is closed
/// here. If the room were smaller, macOS would leave the surplus open without telling its numbers,
/// so that a peer could fill the table of descriptors, and NetBSD would drop all of them.
pub(crate) fn receive_fds(
    socket: impl AsFd,
    bytes: &mut [u8],
    max_fds: usize,
) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    // SAFETY: the macro only computes with its argument.
    let room = unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as libc::c_uint) } as usize;
    // In words with the alignment of `cmsghdr`.
    let mut control = vec![0_u64; room.div_ceil(size_of::<u64>())];
    let mut slice = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len().min(MAX_BYTES),
    };
    // SAFETY: all zeroes is a valid `msghdr`: one without address, data and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = room as _;
    let fd = socket.as_fd().as_raw_fd();
    let flags = CLOSE_ON_EXEC.unwrap_or(0);
    // SAFETY: the message names one slice and one buffer, both ours, alive and of the sizes given.
    let outcome = Errno::result(unsafe { libc::recvmsg(fd, &raw mut message, flags) });
    let n_bytes = outcome.map_err(|errno| HERE.receive_fds_error(errno))?;
    // From here on every descriptor is owned, so it is closed even if something fails.
    let mut fds = rights(&message);
    if CLOSE_ON_EXEC.is_none() {
        fds.iter().try_for_each(crate::sys::fd::set_cloexec)?;
    }
    // The system sets MSG_CTRUNC if this process may not open all of them.
    let truncated = message.msg_flags & libc::MSG_CTRUNC != 0 || fds.len() > max_fds;
    fds.truncate(max_fds);
    let n_bytes = n_bytes.try_into().unwrap_or(0);
    Ok((n_bytes, fds, truncated))
}

/// Takes ownership of the descriptors in the control data that `recvmsg` has written to `message`.
fn rights(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: `message` describes control data that `recvmsg` has written and nothing has changed.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: `header` is not null, so a whole header is there, and the data is aligned for it.
        let (level, kind, len) = unsafe {
            let header = &*header;
            (
                header.cmsg_level,
                header.cmsg_type,
                header.cmsg_len as usize,
            )
        };
        // SAFETY: the macro only adds to the pointer.
        let data = unsafe { libc::CMSG_DATA(header) };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let len = len.saturating_sub(data as usize - header as usize);
            for index in 0..len / size_of::<RawFd>() {
                let place = data.cast::<RawFd>().wrapping_add(index);
                // SAFETY: by its length, the header is followed by more than `index` numbers, and
                // the read needs no alignment.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the system has just made this descriptor, and only this code knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                fds.push(create::above_stdio_if_possible(fd));
            }
        }
        // SAFETY: `header` is in the control data of `message`.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_refused_when_they_are_empty_or_long_or_hold_a_nul() {
        assert!([103, 107].contains(&MAX_PATH), "{MAX_PATH}");
        for len in [0, 1, 103, 104, 105, 106, 107, 108, 109, 4_096] {
            let path = "p".repeat(len);
            let outcome = path_addr(Path::new(&path));
            assert_eq!(outcome.is_ok(), (1..=MAX_PATH).contains(&len), "{len}");
            match outcome {
                Ok(addr) => assert_eq!(addr.as_pathname(), Some(Path::new(&path))),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
            }
        }
        for path in ["\0", "\0abstract", "a\0b", "a\0"] {
            let error = path_addr(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains("NUL"), "{path:?}: {error}");
        }
    }

    #[test]
    fn names_are_understood_however_long_the_system_says_they_are() {
        for name in [&b"/a"[..], b"/a\0", b"/a\0\0\0", b"/a\0/b"] {
            let addr = std_addr(name).unwrap();
            assert_eq!(addr.as_pathname(), Some(Path::new("/a")));
            assert_eq!(named(&addr).unwrap().as_pathname(), addr.as_pathname());
        }
        let longer = [b'p'; MAX_PATH + 1];
        for name in [&[], &longer[..]] {
            let addr = std_addr(name).unwrap();
            assert!(addr.is_unnamed());
            assert!(named(&addr).is_err());
        }
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let addr = std_addr(b"\0a\0b").unwrap();
            assert_eq!(addr.as_abstract_name(), Some(&b"a\0b"[..]));
            assert!(named(&addr).is_ok());
        }
    }
}
