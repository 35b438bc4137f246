//! Unix sockets: their addresses, connecting without waiting, who the peer is, and passing
//! descriptors.

use super::{NO_SIGNAL, send, silence};
use crate::sys::transfer::MAX_BYTES;
use crate::sys::unix::{HERE, is_connecting, where_flags_come_along};
use crate::sys::{Errno, create};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, ControlMessage, SockType, UnixAddr};
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

/// The address of `path`, or what is wrong with it: nothing the system would take for another one.
///
/// Linux takes an empty path for "choose a name for me", and a path that begins with a NUL for an
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
    if bytes.len() > MOST_PATH {
        let text = format!(
            "the path of a socket is limited to {MOST_PATH} bytes, this one has {}",
            bytes.len()
        );
        return Err(invalid(&text));
    }
    SocketAddr::from_pathname(path)
}

/// Where the name is in an address.
const PATH_AT: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);
/// The longest path, by the header: 107 bytes on Linux, 103 on macOS and the BSDs, and a NUL.
const MOST_PATH: usize = size_of::<libc::sockaddr_un>() - PATH_AT - 1;

/// `addr`, if it is that of a socket with a name: Linux would choose one for a socket that is bound
/// to another.
pub(crate) fn named(addr: &SocketAddr) -> io::Result<&SocketAddr> {
    raw_addr(addr).map(|_| addr)
}

/// The same address for a system call.
fn raw_addr(addr: &SocketAddr) -> io::Result<UnixAddr> {
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
    let text = "the address of a socket without a name is none";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// A stream socket that is to be connected.
pub(crate) fn stream() -> io::Result<OwnedFd> {
    let socket = create::socket(AddressFamily::Unix, SockType::Stream)?;
    silence(&socket)?;
    Ok(socket)
}

/// How far a call of [`connect`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connecting {
    /// It is connected.
    Done,
    /// It will be writable when it is connected or refused.
    UnderWay,
    /// The listener's queue is full. The socket will *look* writable: only trying later helps.
    QueueFull,
}

/// Connects `socket` to `addr`, without waiting.
///
/// Most systems connect or refuse in the call itself, and a signal that cuts it short leaves the
/// socket as it was: asking whether it is connected would say EINVAL on Linux. So it is tried
/// again, and then EISCONN is success.
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

/// The next connection and its peer, if one is waiting. A peer without a name is the rule.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all zeroes is a valid `sockaddr_storage`: that of no family.
    let mut addr: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&addr) as libc::socklen_t;
    let socket = create::accept(listener.as_fd(), &mut addr, &mut len)?;
    silence(&socket).map_err(|errno| HERE.accepted_error(errno))?;
    // A longer address has been cut off, and `len` says how long it was.
    let end = size_of_val(&addr).min(len as usize);
    // SAFETY: the storage is ours, aligned for bytes, and all of its bytes are initialised.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const addr).cast::<u8>(), end) };
    Ok((socket, std_addr(bytes.get(PATH_AT..).unwrap_or(&[]))?))
}

/// The address of the name that the system has written, for users.
///
/// Not by `nix`, which believes the lengths that it gets: some systems count in the NUL at the end,
/// or allow longer names than their header has room for. What is not understood has no name: the
/// connection is good all the same.
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
    // The empty path is how std spells "no name".
    SocketAddr::from_pathname(OsStr::from_bytes(path)).or_else(|_| SocketAddr::from_pathname(""))
}

/// Whether a datagram was not taken because the *receiver's* queue is full, of which the sender's
/// readiness may not tell: the socket would look writable. `connected` says whether the system knew
/// the receiver before.
pub(crate) fn receiver_is_full(error: &io::Error, connected: bool) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| HERE.receiver_is_full(errno) || errno == Errno::EAGAIN && !connected)
}

/// The user, the group and, where the system says so, the process at the other end.
pub(crate) type Peer = (u32, u32, Option<u32>);

/// Who the peer was when it connected, or listened.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let peer = socket::getsockopt(&socket, socket::sockopt::PeerCredentials)?;
    // No process has the number 0: it lives in a namespace that this one cannot see.
    let pid = u32::try_from(peer.pid()).ok().filter(|&pid| pid != 0);
    Ok((peer.uid(), peer.gid(), pid))
}

/// Who the peer was when it connected, or listened.
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
    // SAFETY: the descriptor is open, and the call writes one number each to two places of ours.
    let outcome = unsafe { libc::getpeereid(fd, &raw mut uid, &raw mut gid) };
    Errno::result(outcome)?;
    #[cfg(target_vendor = "apple")]
    let pid = socket::getsockopt(&socket, socket::sockopt::LocalPeerPid).ok();
    #[cfg(not(target_vendor = "apple"))]
    let pid: Option<libc::pid_t> = None;
    Ok((uid, gid, pid.and_then(|pid| pid.try_into().ok())))
}

/// Who the peer was when it connected, or listened.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut ucred = std::ptr::null_mut();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open; with a null pointer, the call makes a `ucred_t` of its own.
    let outcome = unsafe { libc::getpeerucred(fd, &raw mut ucred) };
    Errno::result(outcome)?;
    // SAFETY: the call above has made it, and nobody has freed it.
    let uid = unsafe { libc::ucred_geteuid(ucred) };
    // SAFETY: as above.
    let gid = unsafe { libc::ucred_getegid(ucred) };
    // SAFETY: as above.
    let pid = unsafe { libc::ucred_getpid(ucred) };
    // SAFETY: as above; it is not used again.
    unsafe { libc::ucred_free(ucred) };
    Ok((uid, gid, pid.try_into().ok()))
}

/// Who the peer is; nothing portable tells it here.
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

/// Sends from `bytes` together with `fds`; returns how many bytes were taken, all descriptors with
/// the first of them.
pub(crate) fn send_fds(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if bytes.is_empty() {
        // Nothing would be sent, and the system would not say so.
        let text = "descriptors travel with at least one byte";
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

where_flags_come_along! {
    /// Makes received descriptors close-on-exec on arrival. `libc` has no name for it on Solaris.
    #[cfg(not(target_os = "solaris"))]
    const CLOSE_ON_EXEC: Option<libc::c_int> = Some(libc::MSG_CMSG_CLOEXEC);
}

#[allow(unused_imports, reason = "hidden where the flag comes along")]
use plain::*;

/// Where no such flag comes along: it is set straight after.
mod plain {
    #[allow(dead_code, reason = "hidden where the flag comes along")]
    pub(super) const CLOSE_ON_EXEC: Option<nix::libc::c_int> = None;
}

/// Receives into `bytes`, and at most `n_most` descriptors; returns how many bytes came, the
/// descriptors, and whether there were more of these, which are closed.
///
/// Every descriptor that arrives is owned before anything else can fail. The system has closed what
/// did not fit into the room that it was given; the room is rounded up, so a descriptor too many
/// may arrive, and is closed here.
pub(crate) fn receive_fds(
    socket: impl AsFd,
    bytes: &mut [u8],
    n_most: usize,
) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    // No system sends more at once, and no sum overflows.
    let n_most = n_most.min(1_024);
    // SAFETY: it only computes with its argument.
    let room = unsafe { libc::CMSG_SPACE((n_most * size_of::<RawFd>()) as libc::c_uint) } as usize;
    // In words of `cmsghdr`'s alignment.
    let mut control = vec![0_u64; room.div_ceil(size_of::<u64>())];
    let mut slice = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len().min(MAX_BYTES),
    };
    // SAFETY: all zeroes is a valid `msghdr`: one without address, data and control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = room as _;
    let fd = socket.as_fd().as_raw_fd();
    let flags = CLOSE_ON_EXEC.unwrap_or(0);
    // SAFETY: the message names one slice and one buffer, both ours, alive and of the sizes given.
    let n_bytes = Errno::result(unsafe { libc::recvmsg(fd, &raw mut message, flags) })?;
    let mut fds = rights(&message);
    if CLOSE_ON_EXEC.is_none() {
        fds.iter().try_for_each(crate::sys::fd::set_cloexec)?;
    }
    let truncated = message.msg_flags & libc::MSG_CTRUNC != 0 || fds.len() > n_most;
    fds.truncate(n_most);
    let n_bytes = n_bytes.try_into().unwrap_or(0);
    Ok((n_bytes, fds, truncated))
}

/// The descriptors in the control data that `recvmsg` has just written to `message`.
fn rights(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the control data is as `recvmsg` left it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it is a whole header in the control data, which is aligned for it.
        let (level, kind, len) = unsafe {
            let header = &*header;
            (
                header.cmsg_level,
                header.cmsg_type,
                header.cmsg_len as usize,
            )
        };
        // SAFETY: it only adds to the pointer.
        let data = unsafe { libc::CMSG_DATA(header) };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let len = len.saturating_sub(data as usize - header as usize);
            for index in 0..len / size_of::<RawFd>() {
                // SAFETY: the header says that so many numbers follow, in the same buffer.
                let place = unsafe { data.cast::<RawFd>().add(index) };
                // SAFETY: as above; the alignment is not taken for granted.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the system has just made this descriptor for us, and told nobody else.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
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
    fn j8_paths_are_refused_when_they_are_empty_or_long_or_hold_a_nul() {
        assert!([103, 107].contains(&MOST_PATH), "{MOST_PATH}");
        for len in [0, 1, 103, 104, 105, 106, 107, 108, 109, 4_096] {
            let path = "p".repeat(len);
            let outcome = path_addr(Path::new(&path));
            assert_eq!(outcome.is_ok(), (1..=MOST_PATH).contains(&len), "{len}");
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
    fn j8_names_are_understood_however_long_the_system_says_they_are() {
        for name in [&b"/a"[..], b"/a\0", b"/a\0\0\0", b"/a\0/b"] {
            let addr = std_addr(name).unwrap();
            assert_eq!(addr.as_pathname(), Some(Path::new("/a")));
            assert_eq!(named(&addr).unwrap().as_pathname(), addr.as_pathname());
        }
        let longer = [b'p'; MOST_PATH + 1];
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
