//! The floor: the same servers as loops written by hand, on `epoll` and on `select`.
//!
//! Both share the connection below, which makes no call that the kernel did not ask for: one
//! `recv` when readable, one `send`, and interest in writing only after a short write.

mod epoll;
mod select;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::rows::{Load, Row};
use crate::server::pattern;

pub(crate) use self::epoll::serve as serve_epoll;
pub(crate) use self::select::serve as serve_select;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq)]
enum Wants {
    Read,
    Write,
    Close,
}

struct Connection {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// What is still to be written of the buffer.
    pending: std::ops::Range<usize>,
    streams: bool,
}

impl Connection {
    fn new(fd: OwnedFd, row: &Row, load: Load) -> Connection {
        let streams = matches!(load, Load::Stream);
        let size = row.buffer();
        Connection {
            fd,
            buffer: if streams {
                pattern(size)
            } else {
                vec![0; size]
            },
            pending: 0..0,
            streams,
        }
    }

    fn turn(&mut self) -> Wants {
        if self.pending.is_empty() {
            let mut word = [0];
            let read = match self.streams {
                true => recv(self.fd.as_raw_fd(), &mut word, MsgFlags::empty()),
                false => recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()),
            };
            match read {
                Ok(0) => return Wants::Close,
                Ok(n) => self.pending = 0..if self.streams { self.buffer.len() } else { n },
                Err(Errno::EAGAIN) => return Wants::Read,
                Err(_) => return Wants::Close,
            }
        }
        self.write()
    }

    fn write(&mut self) -> Wants {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match send(
            self.fd.as_raw_fd(),
            &self.buffer[self.pending.clone()],
            flags,
        ) {
            Ok(n) => self.pending.start += n,
            Err(Errno::EAGAIN) => return Wants::Write,
            Err(_) => return Wants::Close,
        }
        if self.pending.is_empty() && self.streams {
            self.pending = 0..self.buffer.len();
        }
        if self.pending.is_empty() {
            Wants::Read
        } else {
            Wants::Write
        }
    }
}

fn accept(listener: RawFd) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = accept4(listener, flags).ok()?;
    // SAFETY: accept4 has just made this descriptor, and nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
