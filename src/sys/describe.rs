//! What a descriptor is, in words, for people who look into a running loop.

use super::Errno;
use super::fd::{is_open, lend};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt;

/// Describes the file behind `fd`: `tcp 127.0.0.1:41022` for a connection with that peer,
/// `tcp listener 0.0.0.0:80`, `pipe`, `terminal`, and so on.
pub(crate) fn describe(fd: RawFd) -> String {
    if !is_open(fd) {
        return "closed".to_owned();
    }
    match getsockname::<SockaddrStorage>(fd) {
        Ok(local) => describe_socket(fd, &local),
        Err(Errno::ENOTSOCK) => describe_file(fd).to_owned(),
        // macOS and the BSDs say EINVAL of a connection that was reset.
        Err(_) => "socket".to_owned(),
    }
}

fn describe_socket(fd: RawFd, local: &SockaddrStorage) -> String {
    let socket = lend(&fd, fd);
    let kind = getsockopt(&socket, sockopt::SockType);
    let kind = match (local.family(), kind) {
        (Some(AddressFamily::Inet | AddressFamily::Inet6), Ok(SockType::Stream)) => "tcp",
        (Some(AddressFamily::Inet | AddressFamily::Inet6), Ok(SockType::Datagram)) => "udp",
        (Some(AddressFamily::Unix), Ok(SockType::Stream)) => "unix",
        (Some(AddressFamily::Unix), Ok(SockType::Datagram)) => "unix datagram",
        (Some(AddressFamily::Unix), Ok(SockType::SeqPacket)) => "unix seqpacket",
        _ => "socket",
    };
    if getsockopt(&socket, sockopt::AcceptConn) == Ok(true) {
        return format!("{kind} listener {}", describe_addr(local));
    }
    match getpeername::<SockaddrStorage>(fd) {
        Ok(peer) => format!("{kind} {}", describe_addr(&peer)),
        Err(_) => format!("{kind} from {}, not connected", describe_addr(local)),
    }
}

fn describe_addr(addr: &SockaddrStorage) -> String {
    match addr.as_unix_addr() {
        // A socket of `socketpair` and most clients have no name.
        Some(unix) if unix.path().is_none() => "unnamed".to_owned(),
        // A peer chooses the path of its own socket. What it writes there must not reach the
        // terminal of a person who prints a dump, nor end the line.
        _ => addr.to_string().replace(char::is_control, "?"),
    }
}

fn describe_file(fd: RawFd) -> &'static str {
    let borrowed = lend(&fd, fd);
    if borrowed.is_terminal() {
        return "terminal";
    }
    // A duplicate, because std asks for the metadata only of a file that it owns.
    let file = borrowed.try_clone_to_owned().map(File::from);
    let Ok(metadata) = file.and_then(|file| file.metadata()) else {
        return "descriptor";
    };
    match metadata.file_type() {
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_file() => "file",
        kind if kind.is_dir() => "directory",
        kind if kind.is_char_device() => "character device",
        kind if kind.is_block_device() => "block device",
        // A queue, a timer or an event of the kernel, which have no type.
        _ => "kernel object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn sockets_are_described_by_kind_and_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_addr = udp.local_addr().unwrap();
        let (unix, _peer) = UnixStream::pair().unwrap();
        let described = describe(listener.as_raw_fd());
        assert_eq!(described, format!("tcp listener {addr}"));
        assert_eq!(describe(stream.as_raw_fd()), format!("tcp {addr}"));
        let described = describe(udp.as_raw_fd());
        assert_eq!(described, format!("udp from {udp_addr}, not connected"));
        assert_eq!(describe(unix.as_raw_fd()), "unix unnamed");
    }

    #[test]
    fn a_peer_cannot_put_control_characters_into_its_description() {
        let folder = std::env::temp_dir().join(format!("describe-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("a\n\u{1b}[2Jb");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let described = describe(listener.as_raw_fd());
        std::fs::remove_dir_all(&folder).unwrap();
        let expected = format!("unix listener {}/a??[2Jb", folder.display());
        assert_eq!(described, expected);
    }

    #[test]
    fn files_are_described_by_type() {
        let (read, _write) = crate::sys::pipe().unwrap();
        assert_eq!(describe(read.as_raw_fd()), "pipe");
        let file = File::open("/dev/null").unwrap();
        assert_eq!(describe(file.as_raw_fd()), "character device");
        assert_eq!(describe(RawFd::MAX), "closed");
    }
}
