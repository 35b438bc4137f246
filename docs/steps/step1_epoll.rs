//! Step 1: an echo server on a hand-written epoll loop. The program itself remembers how far each
//! connection has got.
//!
//! `cargo run --bin step1_epoll 127.0.0.1:7878`

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// What the loop has to remember of one connection between two events.
struct Connection {
    stream: TcpStream,
    /// Bytes that were read and are not written yet. While there are any, nothing more is read.
    pending: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7878".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    // The number that comes back with an event: the descriptor.
    let listener_key = listener.as_raw_fd() as u64;
    epoll.add(
        &listener,
        EpollEvent::new(EpollFlags::EPOLLIN, listener_key),
    )?;
    let mut connections = BTreeMap::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let n_events = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..n_events] {
            let key = event.data();
            if key == listener_key {
                accept(&listener, &epoll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&key) {
                match go_on(connection) {
                    // What to wait for next depends on what could not be done now.
                    Ok(true) => {
                        let flags = match connection.pending.is_empty() {
                            true => EpollFlags::EPOLLIN,
                            false => EpollFlags::EPOLLOUT,
                        };
                        epoll.modify(&connection.stream, &mut EpollEvent::new(flags, key))?;
                    }
                    // Closing the descriptor takes it out of the epoll.
                    Ok(false) | Err(_) => drop(connections.remove(&key)),
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut BTreeMap<u64, Connection>,
) -> io::Result<()> {
    let stream = match listener.accept() {
        Ok((stream, _peer)) => stream,
        // The client has gone already.
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    stream.set_nonblocking(true)?;
    let key = stream.as_raw_fd() as u64;
    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
    connections.insert(
        key,
        Connection {
            stream,
            pending: Vec::new(),
        },
    );
    Ok(())
}

/// Reads or writes until the call would block. Returns false at the end of the input.
fn go_on(connection: &mut Connection) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        let reads = connection.pending.is_empty();
        let moved = match reads {
            true => connection.stream.read(&mut buffer),
            false => connection.stream.write(&connection.pending),
        };
        match moved {
            Ok(0) => return Ok(false),
            Ok(n) if reads => connection.pending.extend_from_slice(&buffer[..n]),
            Ok(n) => drop(connection.pending.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
