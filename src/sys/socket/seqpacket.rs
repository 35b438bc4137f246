//! Unix sockets that carry records over a connection: `SOCK_SEQPACKET`.

use super::unix::raw_addr;
use super::{BACKLOG, silence, start_listening};
use crate::sys::{Errno, create};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockType};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::SocketAddr;

/// Makes a socket that is not connected yet.
pub(crate) fn unconnected() -> io::Result<OwnedFd> {
    let made = create::socket(AddressFamily::Unix, SockType::SeqPacket);
    let socket = made.map_err(explained)?;
    silence(&socket)?;
    Ok(socket)
}

/// Makes two sockets that are connected to each other.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = create::socket_pair(SockType::SeqPacket).map_err(explained)?;
    silence(&a)?;
    silence(&b)?;
    Ok((a, b))
}

/// Makes a socket at `addr` and listens there.
pub(crate) fn listen(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let addr = raw_addr(addr)?;
    let socket = unconnected()?;
    socket::bind(socket.as_raw_fd(), &addr)?;
    start_listening(&socket, BACKLOG.unsigned_abs())?;
    Ok(socket)
}

/// Receives one record into `bytes`, without waiting. Returns the number of bytes that are in
/// `bytes` now, and whether the record had more, which are lost.
pub(crate) fn receive_record(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, bool)> {
    let fd = socket.as_fd().as_raw_fd();
    let mut slices = [IoSliceMut::new(bytes)];
    // Not even if other code has made the socket block.
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = socket::recvmsg::<()>(fd, &mut slices, None, flags)?;
    let is_truncated = received.flags.contains(MsgFlags::MSG_TRUNC);
    Ok((received.bytes, is_truncated))
}

/// Says what the errors mean that systems without these sockets return: macOS EPROTONOSUPPORT,
/// illumos and Solaris EPROTOTYPE.
fn explained(errno: Errno) -> io::Error {
    match errno {
        Errno::EPROTONOSUPPORT | Errno::EPROTOTYPE => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this system has no Unix sockets of type SOCK_SEQPACKET: {errno}"),
        ),
        errno => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_without_records_over_connections_are_told_from_a_lack_of_descriptors() {
        for errno in [Errno::EPROTONOSUPPORT, Errno::EPROTOTYPE] {
            assert_eq!(explained(errno).kind(), io::ErrorKind::Unsupported);
        }
        let error = explained(Errno::EMFILE);
        assert_eq!(error.raw_os_error(), Some(Errno::EMFILE as i32));
    }
}
