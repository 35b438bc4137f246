//! A master that forks three workers, which serve one listener: each says who it is, and echoes.
//!
//! Terminal 1: `cargo run --example prefork` (or `… --example prefork 127.0.0.1:7000`)
//! Terminal 2: `nc 127.0.0.1 7878`, or `cargo run --example talk`; type a line, and it comes back.
//! Terminal 3: `kill -HUP PID` of the master replaces the workers: new ones accept, the old ones
//! stay until their clients have gone, and no connection is refused. `kill PID` ends it all.
//!
//! Shows that a loop goes on in both processes after a `fork` inside of it.
#![allow(unsafe_code)]

mod shared;

use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*, time::sleep};
use futures_util::{future, io::copy};
use nix::sys::signal::{Signal::SIGTERM, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::{io, pin::pin, process, time::Duration};

fn main() {
    let listener = shared::listen("prefork", "127.0.0.1:7878");
    if let Err(error) = fahrenheit::run(master(&listener)) {
        shared::fail(1, &format!("prefork: {error}"));
    }
}

async fn master(listener: &AsyncTcpListener) -> io::Result<()> {
    let mut signals = Signals::new([Signal::CHLD, Signal::HUP, Signal::INT, Signal::TERM])?;
    let (mut workers, mut old, mut ending) = (Vec::new(), Vec::new(), false);
    loop {
        while workers.len() < 3 && !ending {
            // SAFETY: this process has one thread, so no lock is held by another one.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => workers.push(child),
                ForkResult::Child => return worker(listener, signals).await,
            }
        }
        // The new ones are there: now the old ones may go.
        for pid in old.drain(..) {
            kill(pid, SIGTERM)?;
        }
        match signals.next().await {
            Some(Signal::CHLD) if bury(&mut workers) && ending => return Ok(()),
            Some(Signal::CHLD) => sleep(Duration::from_millis(100)).await, // Not too fast.
            Some(Signal::HUP) if !ending => old = std::mem::take(&mut workers),
            _ => (ending, old) = (true, std::mem::take(&mut workers)),
        }
    }
}

/// Forgets the workers that have ended. Returns whether no child is left at all.
fn bury(workers: &mut Vec<Pid>) -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)).map(|status| status.pid()) {
            Ok(Some(ended)) => workers.retain(|pid| *pid != ended),
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Accepts until it is told to end, and then gives its clients ten seconds to go.
async fn worker(listener: &AsyncTcpListener, mut signals: Signals) -> io::Result<()> {
    let told = async move { while signals.next().await == Some(Signal::HUP) {} }.shared();
    let served = listener.incoming().take_until(told.clone());
    let late = told.then(|()| sleep(Duration::from_secs(10)));
    future::select(pin!(served.for_each_concurrent(None, echo)), pin!(late)).await;
    process::exit(0)
}

/// Clients go away as they like: how a connection ended does not matter.
async fn echo(stream: io::Result<AsyncTcpStream>) {
    if let Ok(mut stream) = stream {
        let name = format!("worker {}\n", process::id());
        let greeted = stream.write_all(name.as_bytes()).await;
        drop(greeted.and(copy(&stream, &mut &stream).await));
    }
}
