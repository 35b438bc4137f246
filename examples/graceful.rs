//! A web server that loses no request when it is told to end: at SIGTERM or Ctrl-C it takes the
//! connections that have come, answers what was asked on all of them, and only then ends.
//!
//! Terminal 1: `cargo run --example graceful` (or `… graceful 127.0.0.1:8000`)
//! Terminal 2: `curl http://127.0.0.1:8080/`, and meanwhile `pkill -TERM -f examples/graceful`
//!
//! A connection on which nothing is asked is closed two seconds after the signal. What takes longer
//! than ten seconds is aborted, and the exit code is 1.

mod shared;

use fahrenheit::signal::{Signal, Signals};
use fahrenheit::task::Shutdown;
use fahrenheit::time::{sleep, timeout};
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, prelude::*};
use futures_util::future::{Either, select};
use futures_util::io::{BufReader, copy, sink};
use shared::{fail, say_on_stdout};
use std::{io, pin::pin, time::Duration};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n";
const WORK: Duration = Duration::from_millis(500);
const LAST_REQUEST: Duration = Duration::from_secs(2);

fn main() {
    // Before clients know the address: from then on no signal ends the program at once.
    let signals = Signals::new([Signal::TERM, Signal::INT])
        .unwrap_or_else(|error| fail(1, &format!("graceful: cannot listen to signals: {error}")));
    let listener = shared::listen("graceful", "127.0.0.1:8080");
    match fahrenheit::run(serve(listener, signals)) {
        0 => say_on_stdout("graceful: all requests are answered"),
        n_left => fail(1, &format!("graceful: {n_left} connections were aborted")),
    }
}

async fn serve(listener: AsyncTcpListener, mut signals: Signals) -> usize {
    let shutdown = Shutdown::new();
    let serve = |stream| drop(shutdown.spawn(connection(stream, shutdown.clone())));
    let signal = loop {
        match select(signals.next(), pin!(listener.accept())).await {
            Either::Left((signal, _)) => break signal.unwrap_or(Signal::TERM),
            Either::Right((Ok((stream, _)), _)) => serve(stream),
            Either::Right((Err(error), _)) => shared::say(&format!("graceful: {error}")),
        }
    };
    say_on_stdout(&format!("graceful: {signal}: finishing what was asked"));
    // For their clients, the connections in the backlog are open. Closing the listener would reset
    // them. A limit of zero would not do: `accept` may ask the kernel only in the next turn.
    while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
        serve(stream);
    }
    drop(listener);
    shutdown.finish(Duration::from_secs(10)).await
}

async fn connection(stream: AsyncTcpStream, shutdown: Shutdown) -> io::Result<u64> {
    let mut last_moment = pin!(shutdown.requested().then(|()| sleep(LAST_REQUEST)));
    // So that no client fills the memory: this much in all.
    let mut lines = BufReader::new((&stream).take(1 << 20)).lines();
    // The line is polled first: what has arrived by the last moment is answered.
    while let Either::Left((Some(line), _)) = select(lines.next(), last_moment.as_mut()).await {
        // An empty line ends a request.
        match line?.is_empty() {
            true => sleep(WORK).await,
            false => continue,
        }
        // After the signal, the client is told that this answer is the last one.
        let is_last = shutdown.is_requested();
        let next = if is_last { "close" } else { "keep-alive" };
        let answer = format!("{HEAD}Connection: {next}\r\n\r\nHello.\n");
        (&stream).write_all(answer.as_bytes()).await?;
        if is_last {
            break;
        }
    }
    // Closing with something unread would reset the connection, and lose the answer.
    (&stream).close().await?;
    timeout(Duration::from_secs(1), copy(stream, &mut sink())).await?
}
