//! Connections that stay: some always busy, some always idle.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::{Clock, PATIENCE, Target, too_slow, wrong};
use crate::sample::Sample;
use crate::sys;

/// Number of clients that connect before the first of them is used: less than any backlog.
const GROUP: usize = 64;

pub(super) fn run(
    target: Target,
    active: usize,
    idle: usize,
    size: usize,
    report: impl FnOnce(Sample),
) -> io::Result<()> {
    let silent = open(target, active..active + idle, size)?;
    let streams = open(target, 0..active, size)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut busy = Vec::with_capacity(active);
    let mut clock = Clock::start(target);
    for (index, stream) in streams.into_iter().enumerate() {
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        let mut connection = Busy {
            stream,
            got: 0,
            serial: index as u64,
            sent: Instant::now(),
        };
        if clock.begin() {
            connection.ask(size)?;
        }
        busy.push(connection);
    }
    let sample = measure(clock, &epoll, &mut busy, size)?;
    check(silent.iter().step_by(53), size)?;
    report(sample);
    Ok(())
}

/// Opens connections and uses each once, so that the server has surely accepted it.
pub(super) fn open(
    target: Target,
    serials: Range<usize>,
    size: usize,
) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(serials.len());
    for start in serials.clone().step_by(GROUP) {
        let end = serials.end.min(start + GROUP);
        let from = streams.len();
        for serial in start..end {
            let stream = sys::connect(target.port, serial)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            sys::reset_on_close(&stream)?;
            streams.push(stream);
        }
        check(streams[from..].iter(), size)?;
    }
    Ok(streams)
}

/// One request on each of these connections, in two passes.
pub(super) fn check<'a>(
    streams: impl Iterator<Item = &'a TcpStream>,
    size: usize,
) -> io::Result<()> {
    let streams: Vec<_> = streams.collect();
    let mut request = vec![0; size];
    let mut reply = vec![0; size];
    for (serial, mut stream) in streams.iter().copied().enumerate() {
        fill(&mut request, serial as u64);
        stream.write_all(&request)?;
    }
    for (serial, mut stream) in streams.iter().copied().enumerate() {
        fill(&mut request, serial as u64);
        stream.read_exact(&mut reply)?;
        if request != reply {
            return Err(wrong("an idle connection sent back other bytes"));
        }
    }
    Ok(())
}

/// Bytes that tell which request they belong to.
pub(super) fn fill(request: &mut [u8], serial: u64) {
    let start = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (i, chunk) in request.chunks_mut(8).enumerate() {
        let word = start.wrapping_add(i as u64).to_le_bytes();
        chunk.copy_from_slice(&word[8 - chunk.len()..]);
    }
}

struct Busy {
    stream: TcpStream,
    got: usize,
    serial: u64,
    sent: Instant,
}

impl Busy {
    fn ask(&mut self, size: usize) -> io::Result<()> {
        let mut request = [0; 4096];
        let request = &mut request[..size];
        fill(request, self.serial);
        self.sent = Instant::now();
        self.got = 0;
        // One request fits in any socket buffer, and it is the only one under way.
        match send(self.stream.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL)? {
            n if n == size => Ok(()),
            _ => Err(wrong("a request was written in part")),
        }
    }

    /// True when the reply is whole.
    fn listen(&mut self, size: usize) -> io::Result<bool> {
        let (mut reply, mut expected) = ([0; 4096], [0; 4096]);
        let fd = self.stream.as_raw_fd();
        let n = match recv(fd, &mut reply[..size - self.got], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(wrong("the server closed a busy connection")),
            Ok(n) => n,
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        fill(&mut expected[..size], self.serial);
        if reply[..n] != expected[self.got..self.got + n] {
            return Err(wrong("a reply is not its request"));
        }
        self.got += n;
        Ok(self.got == size)
    }
}

fn measure(mut clock: Clock, epoll: &Epoll, busy: &mut [Busy], size: usize) -> io::Result<Sample> {
    let mut events = [EpollEvent::empty(); 1024];
    let patience = EpollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
    let lone = busy.len() == 1;
    loop {
        let n = epoll.wait(&mut events, patience)?;
        if n == 0 {
            return Err(too_slow());
        }
        for event in &events[..n] {
            let connection = &mut busy[event.data() as usize];
            if connection.listen(size)? {
                clock.count(connection.sent.elapsed());
                connection.serial = connection.serial.wrapping_add(0x1_0001);
                if clock.begin() {
                    if lone {
                        clock.pause();
                    }
                    connection.ask(size)?;
                }
            }
        }
        if let Some(sample) = clock.tick(Instant::now())? {
            return Ok(sample);
        }
    }
}
