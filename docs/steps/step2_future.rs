//! Step 2: the state of a connection becomes a `Future`, and the compiler writes the state machine.
//! The executor is too simple: it polls every future again and again.
//!
//! `cargo run --bin step2_future 127.0.0.1:7878`

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// A future of any type that ends without a value.
type Task = Pin<Box<dyn Future<Output = ()>>>;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7878".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);

    let mut tasks: Vec<Task> = Vec::new();
    // Nothing is ever woken here, so a waker that does nothing is enough.
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Ok((stream, _peer)) = listener.accept() {
            stream.set_nonblocking(true)?;
            tasks.push(Box::pin(async {
                // An error ends this connection and no other.
                let _ = echo(stream).await;
            }));
        }
        tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
        // Without this the loop takes a whole core. With it, every answer comes late. The next
        // step waits for the descriptors instead.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads like a program with a thread for each connection.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let n = attempt(|| stream.read(&mut buffer)).await?;
        if n == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < n {
            written += attempt(|| stream.write(&buffer[written..n])).await?;
        }
    }
}

/// Makes a call until it no longer says `WouldBlock`.
async fn attempt<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    poll_fn(|_cx| match call() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    })
    .await
}
