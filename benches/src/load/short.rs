//! Connections that live for one request.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::echo::fill;
use super::{Clock, PATIENCE, Target, too_slow, wrong};
use crate::rows::REQUEST;
use crate::sample::Sample;
use crate::sys;

/// Always this many connections at a time, each at its own step.
pub(super) fn run(target: Target, parallel: usize) -> io::Result<Sample> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut serial = 0;
    let mut slots = Vec::new();
    let mut clock = Clock::start(target);
    for slot in 0..parallel {
        slots.push(match clock.begin() {
            true => Some(Short::open(target, &epoll, slot, &mut serial)?),
            false => None,
        });
    }
    let mut events = [EpollEvent::empty(); 64];
    let patience = EpollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
    loop {
        let n = epoll.wait(&mut events, patience)?;
        if n == 0 {
            return Err(too_slow());
        }
        for event in &events[..n] {
            let slot = event.data() as usize;
            let Some(short) = &mut slots[slot] else {
                continue;
            };
            match short.step()? {
                Step::More => {}
                Step::Answered => {
                    if parallel == 1 {
                        clock.pause();
                    }
                    short.stream.shutdown(Shutdown::Write)?;
                }
                Step::Closed => {
                    clock.count(short.began.elapsed());
                    slots[slot] = None;
                    if clock.begin() {
                        if parallel == 1 {
                            clock.pause();
                        }
                        slots[slot] = Some(Short::open(target, &epoll, slot, &mut serial)?);
                    }
                }
            }
        }
        if let Some(sample) = clock.tick(Instant::now())? {
            return Ok(sample);
        }
    }
}

/// What a connection has come to.
enum Step {
    /// The reply is not whole.
    More,
    /// The reply is whole.
    Answered,
    /// The server has closed after the whole reply.
    Closed,
}

struct Short {
    stream: TcpStream,
    serial: u64,
    got: usize,
    began: Instant,
}

impl Short {
    fn open(target: Target, epoll: &Epoll, slot: usize, serial: &mut u64) -> io::Result<Short> {
        *serial += 1;
        let began = Instant::now();
        let stream = sys::connect(target.port, *serial as usize)?;
        let mut request = [0; REQUEST];
        fill(&mut request, *serial);
        if send(stream.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)? != REQUEST {
            return Err(wrong("a request was written in part"));
        }
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))?;
        Ok(Short {
            stream,
            serial: *serial,
            got: 0,
            began,
        })
    }

    /// Reads what there is.
    fn step(&mut self) -> io::Result<Step> {
        let (mut reply, mut expected) = ([0; REQUEST + 1], [0; REQUEST]);
        let fd = self.stream.as_raw_fd();
        let n = match recv(
            fd,
            &mut reply[..=REQUEST - self.got],
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(0) if self.got == REQUEST => return Ok(Step::Closed),
            Ok(0) => return Err(wrong("the server closed before its reply was whole")),
            Ok(n) => n,
            Err(Errno::EAGAIN) => return Ok(Step::More),
            Err(error) => return Err(error.into()),
        };
        fill(&mut expected, self.serial);
        if self.got + n > REQUEST || reply[..n] != expected[self.got..self.got + n] {
            return Err(wrong("a reply is not its request"));
        }
        self.got += n;
        Ok(match self.got == REQUEST {
            true => Step::Answered,
            false => Step::More,
        })
    }
}
