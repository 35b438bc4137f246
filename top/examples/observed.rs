//! An echo server that can be looked into while it runs.
//!
//! Terminal 1: `cargo run -p fahrenheit-top --example observed -- 127.0.0.1:7878 /tmp/echo.socket`
//! Terminal 2: `nc 127.0.0.1 7878`; type a line, and it comes back.
//! Terminal 3: `cargo run -p fahrenheit-top -- /tmp/echo.socket`
//!
//! `untracked` as a third argument leaves out what needs a clock; `-` as the path opens no socket.

use fahrenheit::diagnostics::serve;
use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream, Builder, task};
use std::io::{self, Write};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (addr, path, is_tracked) = match &args[..] {
        [addr, path] => (addr, path, true),
        [addr, path, word] if word == "untracked" => (addr, path, false),
        _ => {
            let text = "usage: observed ADDRESS:PORT PATH [untracked]";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let listener = AsyncTcpListener::bind(addr)?;
    writeln!(
        io::stdout(),
        "observed: listening on {}",
        listener.local_addr()?
    )?;
    let main = async {
        let _server = match path.as_str() {
            "-" => None,
            path => Some(serve(path)?),
        };
        accept(listener).await
    };
    Builder::new().track(is_tracked).run(main)?
}

async fn accept(listener: AsyncTcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let task = task::Builder::new().name(format!("echo {peer}"));
        task.spawn(echo(stream)).detach();
    }
}

async fn echo(mut stream: AsyncTcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return stream.close().await,
            n => stream.write_all(&bytes[..n]).await?,
        }
    }
}
