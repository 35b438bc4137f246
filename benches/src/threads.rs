//! Servers with two threads, for the rows on all cores. What a connection's task does is the same
//! code as in the servers with one thread.

use fahrenheit::net::TcpSocket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::{process, thread};

use crate::rows::{Load, Row};
use crate::runtimes::Fahrenheit;
use crate::server::{announce, serve_on};

/// Threads of each server, workers for tokio.
const N_THREADS: usize = 2;

/// A listener's backlog that no load of these rows fills.
const BACKLOG: u32 = 1_024;

/// One loop of this crate per thread, each with a socket of its own on one port. The system
/// chooses the thread of a connection, which stays there.
pub(crate) fn serve_fahrenheit(row: &'static Row, load: Load) -> io::Result<()> {
    let first = listen_beside((Ipv4Addr::LOCALHOST, 0).into())?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < N_THREADS {
        listeners.push(listen_beside(addr)?);
    }
    // All sockets are listening before the first client connects: the system spreads connections
    // over those that listen at that moment.
    announce(&listeners[0])?;
    let serve = move |listener| {
        if let Err(error) = serve_on::<Fahrenheit>(listener, row, load) {
            // Without this, the other thread would go on, and this one's clients would wait.
            eprintln!("{error}");
            process::exit(1);
        }
    };
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || serve(listener));
        }
    });
    Ok(())
}

/// Listens on an address on which other sockets of this process may listen, too.
fn listen_beside(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket.listen(BACKLOG)?.into_std())
}

/// tokio's multi-thread runtime with one socket. Every task, also the one that accepts, can move
/// from one worker to another.
#[cfg(feature = "tokio-multi-thread")]
pub(crate) fn serve_tokio(row: &'static Row, _: Load) -> io::Result<()> {
    use crate::runtimes::{Net, Tokio};

    let listener = crate::server::listen()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(N_THREADS)
        .enable_all()
        .build()?;
    // The future of `block_on` runs on the main thread, which would be a third one.
    let accepting = runtime.spawn(async move {
        let listener = Tokio::listener(listener)?;
        loop {
            let stream = Tokio::accept(&listener).await?;
            tokio::spawn(crate::server::echo::<Tokio>(stream, row.buffer()));
        }
    });
    runtime.block_on(accepting)?
}
