//! An echo server with combinators: every connection is a future in one `for_each_concurrent`.
//!
//! Terminal 1: `cargo run --example echo` (or `… --example echo 127.0.0.1:7000`)
//! Terminal 2: `nc 127.0.0.1 7878`, type a line, and it comes back; or `socat - TCP:127.0.0.1:7878`.

use fahrenheit::AsyncTcpListener;
use fahrenheit::prelude::*;
use futures_util::io::copy;
use std::process::exit;

fn main() {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7878".to_owned());
    if args.next().is_some() || addr.starts_with('-') {
        eprintln!("usage: echo [ADDRESS:PORT]");
        exit(2);
    }
    let listener = AsyncTcpListener::bind(&addr).unwrap_or_else(|error| {
        eprintln!("echo: cannot listen on {addr}: {error}");
        exit(1);
    });
    let addr = listener.local_addr().map_or(addr, |addr| addr.to_string());
    println!(
        "echo: listening on {addr}; try: nc {}",
        addr.replace(':', " ")
    );
    fahrenheit::run(serve(&listener));
}

async fn serve(listener: &AsyncTcpListener) {
    let echo = async |stream: std::io::Result<fahrenheit::AsyncTcpStream>| {
        let echoed = match stream {
            Ok(stream) => copy(&stream, &mut &stream).await,
            Err(error) => Err(error),
        };
        if let Err(error) = echoed {
            eprintln!("echo: {error}");
        }
    };
    listener.incoming().for_each_concurrent(None, echo).await;
}
