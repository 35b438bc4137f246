//! An echo server on all cores: a thread and a loop for each, which all listen on one port.
//!
//! Terminal 1: `cargo run --example per_core` (or `… --example per_core 127.0.0.1:7000`)
//! Terminal 2: `nc 127.0.0.1 7878`: it says which thread serves it, and sends back each line.
//!
//! Ctrl-C ends all threads. Each has a socket of its own with `SO_REUSEPORT`. Linux spreads the
//! connections over them. macOS and most BSDs take the option, too, but give all connections to one
//! of them: there one thread does all the work, and `prefork` is the example to follow.

mod shared;

use fahrenheit::net::TcpSocket;
use fahrenheit::signal::{Signal, Signals};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*, task::Shutdown, time::timeout};
use futures_util::future::{Either, select};
use std::{io, net::SocketAddr, pin::pin, sync::Barrier, thread, time::Duration};

fn main() {
    let addr = shared::address("per_core", "127.0.0.1:7878");
    let fail = |error| shared::fail(1, &format!("per_core: cannot listen on {addr}: {error}"));
    serve_on_all_cores(addr).unwrap_or_else(fail);
}

fn serve_on_all_cores(addr: SocketAddr) -> io::Result<()> {
    // Bound and not listened on: if the port is 0, the system chooses one for all threads here.
    let reserved = bind(addr)?;
    let addr = reserved.local_addr()?;
    let n_threads = thread::available_parallelism()?.get();
    let ready = Barrier::new(n_threads + 1);
    let worker = |number| {
        let signals = Signals::new([Signal::INT, Signal::TERM])?;
        let listener = bind(addr)?.listen(1_024)?;
        // Every thread hears a signal that comes from now on.
        ready.wait();
        io::Result::Ok(fahrenheit::run(serve(number, listener, signals)))
    };
    thread::scope(|scope| {
        for number in 1..=n_threads {
            let fail = move |error| shared::fail(1, &format!("per_core: thread {number}: {error}"));
            scope.spawn(move || worker(number).unwrap_or_else(fail));
        }
        ready.wait();
        shared::say_on_stdout(&format!("per_core: listening on {addr}"));
    });
    Ok(())
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseport(true)?;
    socket.bind(addr).map(|()| socket)
}

async fn serve(number: usize, listener: AsyncTcpListener, mut signals: Signals) -> usize {
    let shutdown = Shutdown::new();
    let start = |stream| drop(shutdown.spawn(echo(number, stream, shutdown.clone())));
    while let Either::Right((accepted, _)) = select(signals.next(), pin!(listener.accept())).await {
        let _ = accepted.map(|(stream, _peer)| start(stream)); // `accept` waits after an error.
    }
    // For their clients, the connections in the backlog are open: closing it would reset them.
    while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
        start(stream);
    }
    shutdown.finish(Duration::from_secs(10)).await
}

async fn echo(number: usize, mut stream: AsyncTcpStream, shutdown: Shutdown) -> io::Result<()> {
    stream
        .write_all(format!("thread {number}\n").as_bytes())
        .await?;
    let (mut bytes, mut told) = ([0; 4096], pin!(shutdown.requested())); // Told to end.
    while let Either::Left((Ok(n @ 1..), _)) = select(stream.read(&mut bytes), &mut told).await {
        stream.write_all(&bytes[..n]).await?;
    }
    stream.close().await
}
