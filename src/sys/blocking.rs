//! What may be asked of a descriptor that blocks, without blocking.
//!
//! `select` reports a descriptor as writable when there is room for *something*. How much that is
//! depends on its kind.

use super::fd::is_nonblocking;
use super::shared::PIPE_BUF;
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;

/// A stream socket counts as writable at the latest when this much of its smallest buffer is free.
const MAX_SOCKET_WRITE: usize = 512;

/// A descriptor on which calls block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocking {
    max_write: usize,
}

impl Blocking {
    /// Returns `None` if `fd` does not block, and an error if it is not open.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> nix::Result<Option<Blocking>> {
        if is_nonblocking(fd)? {
            return Ok(None);
        }
        let max_write = match fstat(fd)?.st_mode & libc::S_IFMT {
            libc::S_IFIFO => PIPE_BUF,
            // A datagram must not be cut.
            libc::S_IFSOCK if is_stream(fd) => MAX_SOCKET_WRITE,
            libc::S_IFCHR if fd.is_terminal() => 1,
            // A regular file never makes a caller wait, but for the disk.
            libc::S_IFREG | libc::S_IFSOCK => usize::MAX,
            _ => PIPE_BUF,
        };
        Ok(Some(Blocking { max_write }))
    }

    /// Returns the length of a write that does not block once `select` has reported the descriptor
    /// as writable.
    pub(crate) fn max_write(self) -> usize {
        self.max_write
    }
}

fn is_stream(socket: BorrowedFd<'_>) -> bool {
    getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream)
}
