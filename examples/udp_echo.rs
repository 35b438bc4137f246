//! A UDP echo server: one socket, one task, no connections. What a datagram says comes back in one.
//!
//! Terminal 1: `cargo run --example udp_echo` (or with an address: `127.0.0.1:7000`)
//! Terminal 2: `socat - UDP:127.0.0.1:7878`, or `nc -u 127.0.0.1 7878`; type a line, and it comes
//! back.

mod shared;

use fahrenheit::AsyncUdpSocket;
use std::net::SocketAddr;

fn main() {
    let mut args = shared::args();
    args.extend(args.is_empty().then(|| "127.0.0.1:7878".to_owned()));
    let addr: Option<SocketAddr> = args[0].parse().ok().filter(|_| args.len() == 1);
    let Some(addr) = addr else {
        shared::fail(2, "usage: udp_echo [ADDRESS:PORT]")
    };
    let socket = AsyncUdpSocket::bind(addr).unwrap_or_else(|error| {
        shared::fail(1, &format!("udp_echo: cannot bind to {addr}: {error}"))
    });
    let addr = socket.local_addr().unwrap_or(addr);
    let text = format!("udp_echo: listening on {addr}; try: socat - UDP:{addr}\n");
    shared::print(text.as_bytes());
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
            shared::say(&format!("udp_echo: {error}"));
        }
    }
}
