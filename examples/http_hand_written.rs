//! A `Future` written by hand: an HTTP request that goes on a little with every `poll`.
//!
//! Terminal 1: `python3 -m http.server 8000 --bind 127.0.0.1`
//! Terminal 2: `cargo run --example http_hand_written localhost:8000 /Cargo.toml`
//!
//! The answer goes to stdout, head included; the steps go to stderr.

mod shared;

use fahrenheit::{AsyncTcpStream, prelude::*};
use shared::{fail, say};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pub(crate) fn main() {
    let args = shared::args();
    let (addr, path) = match &args[..] {
        [addr, path] if addr.contains(':') && path.starts_with('/') => (addr, path),
        _ => fail(2, "usage: http_hand_written HOST:PORT /PATH"),
    };
    let get = HttpGet::new(addr, path);
    say("made: nothing has happened yet");
    match fahrenheit::run(get) {
        Ok(answer) => shared::print(answer.as_bytes()),
        Err(error) => fail(1, &format!("http_hand_written: {addr}: {error}")),
    }
}

/// Asks for a page when it is polled; is ready with the whole answer.
pub(crate) struct HttpGet {
    connecting: Pin<Box<dyn Future<Output = io::Result<AsyncTcpStream>>>>,
    stream: Option<AsyncTcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl HttpGet {
    pub(crate) fn new(addr: &str, path: &str) -> HttpGet {
        HttpGet {
            connecting: Box::pin(AsyncTcpStream::connect(addr.to_owned())),
            stream: None,
            request: format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n").into(),
            answer: Vec::new(),
        }
    }
}

impl Future for HttpGet {
    type Output = io::Result<String>;

    /// Goes on where the last poll stopped. `ready!` returns `Pending` when it meets that: whoever
    /// said so has kept the waker of `cx`, by which the loop knows whom to poll again, and when.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        say("poll");
        let this = &mut *self;
        let stream = match &mut this.stream {
            Some(stream) => stream,
            None => this
                .stream
                .insert(ready!(this.connecting.as_mut().poll(cx))?),
        };
        while !this.request.is_empty() {
            let n_sent = ready!(Pin::new(&mut *stream).poll_write(cx, &this.request))?;
            this.request.drain(..n_sent);
        }
        let mut bytes = [0; 4096];
        loop {
            let n_read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut bytes))?;
            say(&format!("{n_read} bytes"));
            if n_read == 0 {
                return Poll::Ready(Ok(String::from_utf8_lossy(&this.answer).into_owned()));
            }
            this.answer.extend_from_slice(&bytes[..n_read]);
        }
    }
}
