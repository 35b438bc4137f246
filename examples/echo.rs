//! An echo server with combinators: every connection is a future in one `for_each_concurrent`.
//!
//! Terminal 1: `cargo run --example echo` (or `cargo run --example echo 127.0.0.1:7000`)
//! Terminal 2: `nc 127.0.0.1 7878`, or `cargo run --example talk`; type a line, and it comes back.
//!
//! `echo_spawn` is the same server with a task per connection.

mod shared;

use fahrenheit::AsyncTcpStream;
use fahrenheit::prelude::*;
use futures_util::io::copy;
use std::io;

fn main() {
    let listener = shared::listen("echo", "127.0.0.1:7878");
    fahrenheit::run(listener.incoming().for_each_concurrent(None, echo));
}

/// Sends everything back. An error, also that of `accept`, is reported and ends nothing else.
async fn echo(stream: io::Result<AsyncTcpStream>) {
    let echoed = match stream {
        Ok(stream) => copy(&stream, &mut &stream).await,
        Err(error) => Err(error),
    };
    if let Err(error) = echoed {
        shared::say(&format!("echo: {error}"));
    }
}
