//! An echo server with `async fn` and `spawn`: every connection is a task of its own.
//!
//! Terminal 1: `cargo run --example echo_spawn` (or `… --example echo_spawn 127.0.0.1:7000`)
//! Terminal 2: `nc 127.0.0.1 7878`; type a line, and it comes back. Terminal 3: the same, at once.
//!
//! `echo` is the same server made of combinators.

mod shared;

use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use std::io;

fn main() {
    fahrenheit::run(serve(shared::listen("echo_spawn", "127.0.0.1:7878")));
}

async fn serve(listener: AsyncTcpListener) {
    loop {
        match listener.accept().await {
            // Dropping the handle detaches the task, which goes on.
            Ok((stream, _peer)) => drop(fahrenheit::spawn(connection(stream))),
            // Out of descriptors, most likely. `accept` waits until there may be some again.
            Err(error) => shared::say(&format!("echo_spawn: cannot accept: {error}")),
        }
    }
}

async fn connection(stream: AsyncTcpStream) {
    if let Err(error) = echo(stream).await {
        shared::say(&format!("echo_spawn: {error}"));
    }
}

async fn echo(mut stream: AsyncTcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return stream.close().await,
            n => stream.write_all(&bytes[..n]).await?,
        }
    }
}
