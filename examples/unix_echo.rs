//! An echo server on a Unix socket: clients have no address, but the system tells who they are.
//! Shows what to do about a path that an earlier server left behind, and removes its own.
//!
//! Terminal 1: `cargo run --example unix_echo` (or with a path: `/tmp/echo.sock`)
//! Terminal 2: `socat - UNIX-CONNECT:/tmp/unix_echo.sock`, or `nc -U /tmp/unix_echo.sock`; type a
//! line, and it comes back. Ctrl-C in terminal 1 ends the server.

mod shared;

use fahrenheit::prelude::*;
use fahrenheit::{AsyncUnixListener, AsyncUnixStream, signal};
use futures_util::future::{Either, select};
use futures_util::io::copy;
use std::io::{self, ErrorKind};
use std::pin::pin;

fn main() {
    let mut args = shared::args();
    args.extend(args.is_empty().then(|| "/tmp/unix_echo.sock".to_owned()));
    let [path] = &args[..] else {
        shared::fail(2, "usage: unix_echo [PATH]")
    };
    if path.starts_with('-') {
        shared::fail(2, "usage: unix_echo [PATH]");
    }
    // Not `run`: when the server ends, so do its connections.
    let served = fahrenheit::block_on(serve(path));
    if let Err(error) = served {
        shared::fail(1, &format!("unix_echo: {path}: {error}"));
    }
}

async fn serve(path: &str) -> io::Result<()> {
    let interrupted = signal::ctrl_c();
    let listener = listen(path).await?;
    shared::print(format!("unix_echo: listening on {path}\n").as_bytes());
    let echoes = listener.incoming().for_each_concurrent(None, echo);
    let outcome = match select(pin!(echoes), pin!(interrupted)).await {
        Either::Left(((), _)) => Ok(()),
        Either::Right((outcome, _)) => outcome,
    };
    std::fs::remove_file(path)?;
    outcome
}

/// Binds `path`, also if it is there and no process listens any more.
async fn listen(path: &str) -> io::Result<AsyncUnixListener> {
    match AsyncUnixStream::connect(path).await {
        Ok(_) => return Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    AsyncUnixListener::bind(path)
}

/// Sends everything back. An error, also that of `accept`, is reported and ends nothing else.
async fn echo(stream: io::Result<AsyncUnixStream>) {
    let echoed = async {
        let stream = stream?;
        let peer = stream.peer_cred()?;
        let pid = peer.pid().map_or("?".to_owned(), |pid| pid.to_string());
        shared::say(&format!("process {pid} of user {}", peer.uid()));
        copy(&stream, &mut &stream).await
    };
    if let Err(error) = echoed.await {
        shared::say(&format!("unix_echo: {error}"));
    }
}
