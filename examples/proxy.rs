//! A TCP proxy: both ways at once, and the end of one direction leaves the other open.
//!
//! Terminal 1: `cargo run --example echo`
//! Terminal 2: `cargo run --example proxy 127.0.0.1:7000 localhost:7878`
//! Terminal 3: `echo hello | nc -N 127.0.0.1 7000`
//!
//! The target may be a name; it is looked up once, at the start.

mod shared;

use fahrenheit::AsyncTcpStream;
use fahrenheit::net::lookup_host;
use fahrenheit::prelude::*;
use futures_util::{future::try_join, io::copy};
use std::io;
use std::net::SocketAddr;

const USAGE: &str = "usage: proxy ADDRESS:PORT TARGET:PORT";

fn main() {
    let args = shared::args();
    match &args[..] {
        [addr, target] if target.contains(':') => fahrenheit::run(serve(addr, target)),
        _ => shared::fail(2, USAGE),
    }
}

async fn serve(addr: &str, target: &str) {
    let targets: Vec<_> = match lookup_host(target).await {
        Ok(targets) => targets.collect(),
        Err(error) => shared::fail(1, &format!("proxy: cannot find {target}: {error}")),
    };
    let listener = shared::listen_on("proxy", addr).unwrap_or_else(|| shared::fail(2, USAGE));
    let pass_on = async |client| {
        if let Err(error) = proxy(client, &targets).await {
            shared::say(&format!("proxy: {error}"));
        }
    };
    listener.incoming().for_each_concurrent(None, pass_on).await;
}

/// Passes on both ways until both have ended, or until one fails.
async fn proxy(client: io::Result<AsyncTcpStream>, targets: &[SocketAddr]) -> io::Result<()> {
    let client = client?;
    let server = AsyncTcpStream::connect(targets).await?;
    try_join(one_way(&client, &server), one_way(&server, &client)).await?;
    Ok(())
}

async fn one_way(from: &AsyncTcpStream, mut to: &AsyncTcpStream) -> io::Result<()> {
    copy(from, &mut to).await?;
    // Shuts down this direction; the other one goes on.
    to.close().await
}
