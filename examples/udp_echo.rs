//! A UDP echo server: one socket, one task, no connections. What a datagram says comes back in one.
//!
//! Terminal 1: `cargo run --example udp_echo` (or with an address: `127.0.0.1:7000`)
//! Terminal 2: `socat - UDP:127.0.0.1:7878`, or `nc -u 127.0.0.1 7878`; type a line, and it comes
//! back.

use fahrenheit::AsyncUdpSocket;
use std::process::exit;

fn main() {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7878".to_owned());
    if args.next().is_some() || addr.starts_with('-') {
        eprintln!("usage: udp_echo [ADDRESS:PORT]");
        exit(2);
    }
    let socket = AsyncUdpSocket::bind(&addr).unwrap_or_else(|error| {
        eprintln!("udp_echo: cannot bind to {addr}: {error}");
        exit(1);
    });
    let addr = socket.local_addr().map_or(addr, |addr| addr.to_string());
    println!("udp_echo: receiving on {addr}; try: socat - UDP:{addr}");
    fahrenheit::run(serve(&socket));
}

async fn serve(socket: &AsyncUdpSocket) {
    // No datagram is longer.
    let mut bytes = [0; 65_535];
    loop {
        let echoed = match socket.recv_from(&mut bytes).await {
            Ok((n, from)) => socket.send_to(&bytes[..n], from).await,
            Err(error) => Err(error),
        };
        // One client's trouble is not the end of the others.
        if let Err(error) = echoed {
            eprintln!("udp_echo: {error}");
        }
    }
}
