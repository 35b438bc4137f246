//! A level-triggered `epoll` loop.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::AsRawFd;

use super::{Connection, Wants, accept};
use crate::rows::{Load, Row};
use crate::server::listen;

pub(crate) fn serve(row: &Row, load: Load) -> io::Result<()> {
    let listener = listen()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, event(Wants::Read, listener.as_raw_fd()))?;
    let mut connections: Vec<Option<(Connection, Wants)>> = Vec::new();
    let mut events = [EpollEvent::empty(); 1024];
    loop {
        let n = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for ready in &events[..n] {
            let fd = ready.data() as i32;
            if fd == listener.as_raw_fd() {
                if let Some(fd) = accept(fd) {
                    epoll.add(&fd, event(Wants::Read, fd.as_raw_fd()))?;
                    let index = fd.as_raw_fd() as usize;
                    if connections.len() <= index {
                        connections.resize_with(index + 1, || None);
                    }
                    connections[index] = Some((Connection::new(fd, row, load), Wants::Read));
                }
                continue;
            }
            let slot = &mut connections[fd as usize];
            let Some((connection, wanted)) = slot else {
                continue;
            };
            let wants = connection.turn();
            if wants == Wants::Close {
                *slot = None;
            } else if wants != *wanted {
                *wanted = wants;
                epoll.modify(&connection.fd, &mut event(wants, fd))?;
            }
        }
    }
}

fn event(wants: Wants, fd: i32) -> EpollEvent {
    let flags = match wants {
        Wants::Write => EpollFlags::EPOLLOUT,
        _ => EpollFlags::EPOLLIN,
    };
    EpollEvent::new(flags, fd as u64)
}
