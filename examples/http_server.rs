//! A small HTTP/1.1 server for GET and HEAD: keep-alive, pipelining, limits.
//!
//! Terminal 1: `cargo run --release --example http_server` (or `… http_server 127.0.0.1:8000`)
//! Terminal 2: `curl -v http://127.0.0.1:8080/`, or `wrk -t1 -c50 -d5 http://127.0.0.1:8080/`
//!
//! Every page is the same, and there is no `Date`, as of a server without a clock.

mod shared;

use fahrenheit::{AsyncTcpStream, prelude::*, time::timeout};
use futures_util::io::{copy, sink};
use std::io;
use std::time::Duration;

fn main() {
    let listener = shared::listen("http_server", "127.0.0.1:8080");
    fahrenheit::run(listener.incoming().for_each(async |stream| match stream {
        // Clients go away as they like: how a connection ended does not matter.
        Ok(stream) => drop(fahrenheit::spawn(connection(stream))),
        Err(error) => shared::say(&format!("http_server: cannot accept: {error}")),
    }));
}

async fn connection(mut stream: AsyncTcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut bytes, mut keep) = (Vec::new(), [0; 4096], true);
    while keep {
        let end = input.windows(4).position(|four| four == b"\r\n\r\n");
        if end.is_some() || input.len() > 8192 {
            let head: Vec<u8> = input.drain(..end.map_or(0, |end| end + 4)).collect();
            let response;
            (response, keep) = respond(&String::from_utf8_lossy(&head));
            stream.write_all(response.as_bytes()).await?;
        } else {
            let n_read = timeout(Duration::from_secs(30), stream.read(&mut bytes)).await??;
            input.extend_from_slice(&bytes[..n_read]);
            keep = n_read > 0;
        }
    }
    // Closing with something unread would reset the connection, and lose the response.
    stream.close().await?;
    timeout(Duration::from_secs(1), copy(stream, &mut sink())).await??;
    Ok(())
}

/// The response to a request's head, and whether the connection goes on after it.
fn respond(head: &str) -> (String, bool) {
    let mut lines = head.lines();
    let request: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let (mut has_host, mut keep) = (false, true);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match &name.to_ascii_lowercase()[..] {
            "host" => has_host = true,
            "connection" => keep &= !value.to_ascii_lowercase().contains("close"),
            // The body would be taken for the next request: the connection ends instead.
            "content-length" | "transfer-encoding" => keep = false,
            _ => {}
        }
    }
    let (status, text) = match request[..] {
        ["GET" | "HEAD", _, "HTTP/1.1"] if has_host => ("200 OK", "Hello.\n"),
        ["GET" | "HEAD", _, "HTTP/1.0"] => ("200 OK", "Hello.\n"),
        [_, _, "HTTP/1.1"] if has_host => ("405 Method Not Allowed\r\nAllow: GET, HEAD", ""),
        _ => ("400 Bad Request", "Not a request, or too long.\n"),
    };
    keep &= status == "200 OK" && request[2] == "HTTP/1.1";
    let next = if keep { "keep-alive" } else { "close" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: {next}");
    let shown = if request[0] == "HEAD" { "" } else { text };
    let n = text.len();
    (
        format!("{head}\r\nContent-Length: {n}\r\n\r\n{shown}"),
        keep,
    )
}
