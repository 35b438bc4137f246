//! A value that three nodes keep, and writers that change it on all of them.
//!
//! Neither side knows what it runs over: any stream will do. A node has a lock, which a writer
//! takes before it writes, so that the nodes never disagree for longer than a write takes.

use fahrenheit::prelude::*;
use fahrenheit::sim::{Net, Options};
use fahrenheit::{Event, task, time};
use futures_util::future::try_join_all;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// In which order a writer takes the locks of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    /// One after the other, the same way in every writer.
    OneByOne,
    /// All at once, which is faster, and the planted fault: each of two writers may get the lock of
    /// another node first. Then they wait for each other for ever.
    AllAtOnce,
}

/// What a writer asks a node for. The second byte is the value.
const LOCK: u8 = b'L';
const WRITE: u8 = b'W';
const UNLOCK: u8 = b'U';

/// One node: a value, and a lock that one connection at a time can hold.
struct Node {
    value: Cell<u8>,
    is_locked: Cell<bool>,
    unlocked: Event,
}

impl Node {
    fn new() -> io::Result<Node> {
        Ok(Node {
            value: Cell::new(0),
            is_locked: Cell::new(false),
            unlocked: Event::new()?,
        })
    }

    /// Serves one writer until it closes the connection.
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut request = [0; 2];
        while stream.read(&mut request[..1]).await? > 0 {
            stream.read_exact(&mut request[1..]).await?;
            match request {
                [LOCK, _] => {
                    while self.is_locked.replace(true) {
                        self.unlocked.wait().await?;
                    }
                }
                [WRITE, value] => self.value.set(value),
                [UNLOCK, _] => {
                    self.is_locked.set(false);
                    self.unlocked.notify()?;
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            stream.write_all(b".").await?;
        }
        Ok(())
    }
}

/// Sends one request, and waits for the answer.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: [u8; 2],
) -> io::Result<()> {
    stream.write_all(&request).await?;
    stream.read_exact(&mut [0]).await
}

/// Writes a value to all nodes, to each of which `streams` has a connection.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    streams: &mut [S],
    value: u8,
    locking: Locking,
) -> io::Result<()> {
    match locking {
        Locking::OneByOne => {
            for stream in streams.iter_mut() {
                ask(stream, [LOCK, 0]).await?;
            }
        }
        Locking::AllAtOnce => {
            try_join_all(streams.iter_mut().map(|s| ask(s, [LOCK, 0]))).await?;
        }
    }
    try_join_all(streams.iter_mut().map(|s| ask(s, [WRITE, value]))).await?;
    try_join_all(streams.iter_mut().map(|s| ask(s, [UNLOCK, 0]))).await?;
    Ok(())
}

/// The test: two writers, who begin 8 ms after each other, write over a network on which a message
/// takes 5 to 15 ms. Then all nodes have to have the same value.
pub(crate) async fn two_writers(locking: Locking) -> io::Result<()> {
    const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
    let ms = Duration::from_millis;
    let net = Net::new(Options::new().latency(ms(5)).jitter(ms(10)));
    let mut nodes = Vec::new();
    for name in NODES {
        let node = Rc::new(Node::new()?);
        let listener = net.host(name).listen(80)?;
        nodes.push(Rc::clone(&node));
        let accepts = async move {
            while let Ok(stream) = listener.accept().await {
                let node = Rc::clone(&node);
                let serves = task::Builder::new().name(name);
                serves
                    .spawn(async move { node.serve(stream).await })
                    .detach();
            }
        };
        task::Builder::new().name(name).spawn(accepts).detach();
    }
    let start = time::now() + ms(100);
    let mut writers = Vec::new();
    for number in [1, 2] {
        let name = format!("writer-{number}");
        let host = net.host(&name);
        let writes = async move {
            let addrs = NODES.map(|name| format!("{name}:80"));
            let mut streams = try_join_all(addrs.iter().map(|addr| host.connect(addr))).await?;
            time::sleep_until(start + u32::from(number) * ms(8)).await;
            write(&mut streams, number, locking).await
        };
        writers.push(task::Builder::new().name(name).spawn(writes));
    }
    for writer in writers {
        writer.await.map_err(io::Error::other)??;
    }
    let values: Vec<_> = nodes.iter().map(|node| node.value.get()).collect();
    assert!(
        values.iter().all(|value| *value == values[0]),
        "the nodes disagree: {values:?}"
    );
    Ok(())
}
