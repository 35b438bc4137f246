//! One connection that carries as much as it can, out of the server or through it.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use super::{Clock, PATIENCE, Target, too_slow, wrong};
use crate::sample::Sample;
use crate::server::pattern;
use crate::sys;

/// `echo`: everything received was sent from here; otherwise the server makes it up itself.
pub(super) fn run(target: Target, size: usize, echo: bool) -> io::Result<Sample> {
    let mut pipe = Pipe::open(target, size)?;
    let mut clock = Clock::start(target);
    if !echo {
        send(pipe.stream.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL)?;
    }
    let mut counted = 0;
    let mut last = Instant::now();
    loop {
        let mut wanted = PollFlags::POLLIN;
        if echo && !pipe.send()? {
            wanted |= PollFlags::POLLOUT;
        }
        if !pipe.receive()? {
            let patience = PollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(pipe.stream.as_fd(), wanted)];
            if poll(&mut fds, patience)? == 0 {
                return Err(too_slow());
            }
        }
        let now = Instant::now();
        while counted + size as u64 <= pipe.received {
            counted += size as u64;
            // Of a chunk one can only say how long after the one before it came.
            clock.count(
                std::mem::replace(&mut last, now)
                    .elapsed()
                    .max(Duration::from_nanos(1)),
            );
        }
        if let Some(sample) = clock.tick(now)? {
            return Ok(sample);
        }
    }
}

struct Pipe {
    stream: TcpStream,
    /// Two lengths of the pattern, so that any chunk of it is one slice.
    pattern: Vec<u8>,
    size: usize,
    sent: u64,
    received: u64,
    buffer: Vec<u8>,
}

impl Pipe {
    fn open(target: Target, size: usize) -> io::Result<Pipe> {
        let stream = sys::connect(target.port, 0)?;
        sys::reset_on_close(&stream)?;
        let once = pattern(size);
        Ok(Pipe {
            stream,
            pattern: [once.clone(), once].concat(),
            size,
            sent: 0,
            received: 0,
            buffer: vec![0; size],
        })
    }

    /// False when the kernel takes no more for now.
    fn send(&mut self) -> io::Result<bool> {
        let at = (self.sent % self.size as u64) as usize;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(
            self.stream.as_raw_fd(),
            &self.pattern[at..at + self.size],
            flags,
        ) {
            Ok(n) => self.sent += n as u64,
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// False when there is nothing to read for now.
    fn receive(&mut self) -> io::Result<bool> {
        let fd = self.stream.as_raw_fd();
        let n = match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(wrong("the server closed a busy connection")),
            Ok(n) => n,
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let at = (self.received % self.size as u64) as usize;
        if self.buffer[..n] != self.pattern[at..at + n] {
            return Err(wrong("the stream has other bytes"));
        }
        self.received += n as u64;
        Ok(true)
    }
}
