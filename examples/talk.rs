//! A client for the other examples: sends what you type, and prints what the server answers.
//!
//! Terminal 1: `cargo run --example echo`
//! Terminal 2: `cargo run --example talk` (or `cargo run --example talk 127.0.0.1:7000`); type a
//! line. Ctrl-D ends your side, and the program ends with the server's.

mod shared;

use fahrenheit::io::{stdin, stdout};
use fahrenheit::{AsyncTcpStream, prelude::*};
use futures_util::future::{Either, select};
use futures_util::io::copy;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

fn main() {
    let addr = shared::address("talk", "127.0.0.1:7878");
    if let Err(error) = fahrenheit::run(talk(addr)) {
        shared::fail(1, &format!("talk: {addr}: {error}"));
    }
}

async fn talk(addr: SocketAddr) -> io::Result<()> {
    let stream = AsyncTcpStream::connect(addr).await?;
    let send = pin!(async {
        copy(stdin()?, &mut &stream).await?;
        // Tells the server that no more comes; it may still answer.
        (&stream).close().await
    });
    let receive = pin!(async { copy(&stream, &mut stdout()?).await });
    // The end of the server ends the program, even if there is more to type.
    match select(receive, send).await {
        Either::Left((received, _)) => received.map(drop),
        Either::Right((sent, receive)) => {
            sent?;
            receive.await.map(drop)
        }
    }
}
