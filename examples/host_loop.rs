//! A program that owns its loop: `poll(2)` by hand, for a timer and stdin, and in the same call for
//! the executor, which serves an echo. There is no second thread.
//!
//! Terminal 1: `cargo run --example host_loop` (or `… --example host_loop 127.0.0.1:7000`); press
//! Enter to hear how it goes, Ctrl-D to end
//! Terminal 2: `nc 127.0.0.1 7878`, or `cargo run --example talk`; type a line, and it comes back.
//!
//! The contract is in the documentation of `fahrenheit::turn`.
#![allow(unsafe_code)]

mod shared;

use fahrenheit::{AsyncTcpListener, interest, prelude::*, turn};
use nix::{errno::Errno, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use std::{cell::Cell, io, rc::Rc};

const BEAT: Duration = Duration::from_millis(100);

fn main() {
    let listener = shared::listen("host_loop", "127.0.0.1:7878");
    let n_served = Rc::new(Cell::new(0));
    drop(fahrenheit::spawn(serve(listener, Rc::clone(&n_served))));
    if let Err(error) = host(&n_served) {
        shared::fail(1, &format!("host_loop: {error}"));
    }
}

/// The guest: tasks as in any other program.
async fn serve(listener: AsyncTcpListener, n_served: Rc<Cell<usize>>) {
    let echo = async |stream: io::Result<_>| match stream {
        Ok(stream) => {
            // Clients go away as they like.
            let _ = futures_util::io::copy(&stream, &mut &stream).await;
            n_served.set(n_served.get() + 1);
        }
        Err(error) => shared::say(&format!("host_loop: cannot accept: {error}")),
    };
    listener.incoming().for_each_concurrent(None, echo).await;
}

/// The host, until the end of stdin.
fn host(n_served: &Cell<usize>) -> io::Result<()> {
    let (stdin, mut n_beats, mut next_beat) = (io::stdin(), 0, Instant::now() + BEAT);
    loop {
        if wait(stdin.as_fd(), next_beat)? {
            if nix::unistd::read(&stdin, &mut [0; 4096])? == 0 {
                return Ok(());
            }
            shared::print(format!("{n_beats} beats, {} served\n", n_served.get()).as_bytes());
        }
        if Instant::now() >= next_beat {
            (n_beats, next_beat) = (n_beats + 1, next_beat + BEAT);
        }
        turn(Some(Duration::ZERO))?;
    }
}

/// The only place that blocks. Returns whether there is something to read on stdin.
fn wait(stdin: BorrowedFd<'_>, next_beat: Instant) -> io::Result<bool> {
    let (read, write) = (poll::PollFlags::POLLIN, poll::PollFlags::POLLOUT);
    let guest = interest();
    let mut all = vec![poll::PollFd::new(stdin, read)];
    // No task here waits for an exceptional condition, so `guest.except` is empty.
    for (fds, flags) in [(&guest.read, read), (&guest.write, write)] {
        // SAFETY: no task runs, and so none of these is closed, before `poll` has returned.
        let fds = fds.iter().map(|&fd| unsafe { BorrowedFd::borrow_raw(fd) });
        all.extend(fds.map(|fd| poll::PollFd::new(fd, flags)));
    }
    let left = next_beat.saturating_duration_since(Instant::now());
    let left = guest.time_left().map_or(left, |guest| guest.min(left));
    // In milliseconds, rounded up; a beat is not too long for `poll`.
    let left = poll::PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000));
    match poll::poll(&mut all, left.unwrap_or(poll::PollTimeout::ZERO)) {
        Err(errno) if errno != Errno::EINTR => Err(errno.into()),
        _ => Ok(all[0].any().unwrap_or(false)),
    }
}
