//! The servers, written once for every runtime: one task for each connection.

use std::io;
use std::net::TcpListener;

use crate::rows::{Load, Row};
use crate::runtimes::Net;

/// What is sent by the streaming server, over and over, 64 KiB at a time.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// Binds a listener on loopback and tells the parent its port, and the id of this process, which
/// is another than that of the child that the parent started if a tracer is between them.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    announce(&listener)?;
    Ok(listener)
}

/// Tells the parent the port of this listener, and the id of this process.
pub(crate) fn announce(listener: &TcpListener) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    println!("port {port} pid {}", std::process::id());
    Ok(())
}

/// Serves until the process is ended from outside.
pub(crate) fn serve<N: Net>(row: &'static Row, load: Load) -> io::Result<()> {
    serve_on::<N>(listen()?, row, load)
}

/// Serves the connections of `listener` until the process is ended from outside.
pub(crate) fn serve_on<N: Net>(
    listener: TcpListener,
    row: &'static Row,
    load: Load,
) -> io::Result<()> {
    N::block_on(async move {
        let listener = N::listener(listener)?;
        loop {
            let stream = N::accept(&listener).await?;
            match load {
                Load::Stream => N::detach(stream_out::<N>(stream, row.buffer())),
                _ => N::detach(echo::<N>(stream, row.buffer())),
            }
        }
    })
}

/// Sends back what comes, until the client closes its half or the connection fails.
pub(crate) async fn echo<N: Net>(mut stream: N::Stream, size: usize) {
    let mut buffer = vec![0; size];
    loop {
        let (read, filled) = N::read(&mut stream, buffer).await;
        let Ok(n @ 1..) = read else { return };
        let (written, emptied) = N::write(&mut stream, filled, n).await;
        if written.is_err() {
            return;
        }
        buffer = emptied;
    }
}

async fn stream_out<N: Net>(mut stream: N::Stream, size: usize) {
    let (read, _) = N::read(&mut stream, vec![0; 1]).await;
    let mut buffer = pattern(size);
    while read.is_ok() {
        let (written, same) = N::write(&mut stream, buffer, size).await;
        if written.is_err() {
            return;
        }
        buffer = same;
    }
}
