//! A program that owns its loop, and waits in it for one descriptor that stands for the whole
//! executor: with `poll(2)` here, and in the same way with epoll, GLib, calloop or tokio. There is
//! no second thread and no `unsafe`. On Linux and Android; `host_loop` works on every Unix.
//!
//! Terminal 1: `cargo run --example host_one_fd` (or `… --example host_one_fd 127.0.0.1:7000`);
//! press Enter to hear how it goes, Ctrl-D to end
//! Terminal 2: `nc 127.0.0.1 7878`, or `cargo run --example talk`; type a line, and it comes back.

mod shared;

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, interest_fd, turn};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::Duration;
use std::{cell::Cell, io, rc::Rc};

fn main() {
    let listener = shared::listen("host_one_fd", "127.0.0.1:7878");
    let n_served = Rc::new(Cell::new(0));
    fahrenheit::spawn(serve(listener, Rc::clone(&n_served))).detach();
    if let Err(error) = host(&n_served) {
        shared::fail(1, &format!("host_one_fd: {error}"));
    }
}

/// The host, until the end of stdin.
fn host(n_served: &Cell<usize>) -> io::Result<()> {
    let stdin = io::stdin();
    loop {
        let guest = interest_fd()?;
        let mut fds = [
            PollFd::new(guest.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if fds[1].any().unwrap_or(false) {
            if nix::unistd::read(&stdin, &mut [0; 4096])? == 0 {
                return Ok(());
            }
            shared::print(format!("{} served\n", n_served.get()).as_bytes());
        }
        turn(Some(Duration::ZERO))?;
    }
}

/// The guest: tasks as in any other program.
async fn serve(listener: AsyncTcpListener, n_served: Rc<Cell<usize>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => fahrenheit::spawn(echo(stream, Rc::clone(&n_served))).detach(),
            Err(error) => shared::say(&format!("host_one_fd: cannot accept: {error}")),
        }
    }
}

async fn echo(stream: AsyncTcpStream, n_served: Rc<Cell<usize>>) {
    // Clients go away as they like.
    let _ = futures_util::io::copy(&stream, &mut &stream).await;
    n_served.set(n_served.get() + 1);
}
