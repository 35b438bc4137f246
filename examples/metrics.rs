//! Metrics in the text format of Prometheus at `/metrics`, and a dump of all tasks at `/dump`.
//!
//! `cargo run --example metrics` (or `cargo run --example metrics 127.0.0.1:9100`), and then
//! `curl http://127.0.0.1:9100/metrics`. A program of its own would spawn `serve` as a daemon.

#[path = "shared/prometheus.rs"]
mod prometheus;
mod shared;

use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*, time::timeout};
use futures_util::io::BufReader;
use std::{io, time::Duration};

const LIMIT: Duration = Duration::from_secs(10);

fn main() {
    let listener = shared::listen("metrics", "127.0.0.1:9100");
    // Busy and idle time and the lateness of timers need the clock.
    let builder = fahrenheit::Builder::new().track(true);
    if let Err(error) = builder.run(serve(listener)) {
        shared::fail(1, &format!("metrics: {error}"));
    }
}

async fn serve(listener: AsyncTcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let answered = async move { timeout(LIMIT, answer(stream)).await };
                fahrenheit::spawn(answered).detach();
            }
            Err(error) => shared::say(&format!("metrics: cannot accept: {error}")),
        }
    }
}

async fn answer(mut stream: AsyncTcpStream) -> io::Result<()> {
    let mut request = String::new();
    let mut lines = BufReader::new(&stream).take(8_192);
    // A request ends with an empty line.
    while lines.read_line(&mut request).await? > 2 {}
    let body = match request.split(' ').nth(1) {
        Some("/metrics") => Some(prometheus::text(&fahrenheit::metrics())),
        Some("/dump") => Some(fahrenheit::dump().to_string()),
        _ => None,
    };
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", "see /metrics and /dump\n".to_owned()),
    };
    let length = body.len();
    let head = "Content-Type: text/plain; version=0.0.4\r\nConnection: close";
    let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.close().await
}
