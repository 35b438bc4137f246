//! Connections over loopback, and addresses that do not answer.

use fahrenheit::prelude::*;
use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Two ends of a TCP connection over loopback, made by std and given to this thread's loop.
pub(crate) fn tcp_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    for end in [&a, &b] {
        end.set_nodelay(true).unwrap();
    }
    let [a, b] = [a, b].map(|end| AsyncTcpStream::from_std(end).unwrap());
    (a, b)
}

/// Two ends of a TCP connection over loopback, made by the functions of the crate.
pub(crate) async fn connected_pair() -> (AsyncTcpStream, AsyncTcpStream) {
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    let (client, server) = futures_util::join!(
        AsyncTcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (client.unwrap(), server.unwrap().0)
}

/// An address that refuses connections for as long as this lives: that of a listener that was
/// closed.
///
/// A socket that is bound but does not listen would do on Linux, but macOS and NetBSD do not even
/// answer a connection to it. A connection that the listener accepted keeps the port from others,
/// because the listener was made without SO_REUSEADDR.
pub(crate) struct Refusing {
    _client: std::net::TcpStream,
    _server: std::net::TcpStream,
    pub(crate) addr: SocketAddr,
}

impl Refusing {
    pub(crate) fn new() -> Refusing {
        use nix::sys::socket::*;
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let socket = socket(family, kind, SockFlag::empty(), None).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(fd, &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let addr = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let (server, _) = listener.accept().unwrap();
        Refusing {
            _client: client,
            _server: server,
            addr,
        }
    }
}

/// An address that does not answer at all: its queue of connections is full.
pub(crate) async fn silent() -> (AsyncTcpListener, Vec<AsyncTcpStream>) {
    use nix::sys::socket::{Backlog, listen};
    let listener = AsyncTcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    let limit = Duration::from_millis(200);
    while let Ok(stream) = AsyncTcpStream::connect_timeout(addr, limit).await {
        queue.push(stream);
        assert!(queue.len() < 2_000, "the queue never fills");
    }
    (listener, queue)
}

/// Sends back what it gets until the end.
pub(crate) async fn echo(stream: AsyncTcpStream) -> io::Result<u64> {
    let mut bytes = [0; 4096];
    let mut n_echoed = 0;
    loop {
        let n = (&stream).read(&mut bytes).await?;
        if n == 0 {
            return Ok(n_echoed);
        }
        (&stream).write_all(&bytes[..n]).await?;
        n_echoed += n as u64;
    }
}

/// Has `stream` echo `n_rounds` words, and checks each.
pub(crate) async fn talk(stream: &AsyncTcpStream, n_rounds: u32) -> io::Result<()> {
    let mut stream = stream;
    for round in 0..n_rounds {
        let word = round.wrapping_mul(2_654_435_761).to_be_bytes();
        stream.write_all(&word).await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        assert_eq!(back, word, "round {round}");
    }
    Ok(())
}

/// `n_clients` connections at once, each with `n_rounds` echoes, served on this loop. Connections
/// are closed in an orderly way.
pub(crate) async fn exchange(n_clients: usize, n_rounds: u32) -> io::Result<()> {
    let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = fahrenheit::spawn(async move {
        let mut echoes = Vec::new();
        for _ in 0..n_clients {
            echoes.push(fahrenheit::spawn(echo(listener.accept().await?.0)));
        }
        for each in echoes {
            assert_eq!(each.await.unwrap()?, 4 * u64::from(n_rounds));
        }
        io::Result::Ok(())
    });
    let clients: Vec<_> = (0..n_clients)
        .map(|_| {
            fahrenheit::spawn(async move {
                let mut stream = AsyncTcpStream::connect(addr).await?;
                talk(&stream, n_rounds).await?;
                stream.close().await?;
                assert_eq!(stream.read(&mut [0]).await?, 0);
                io::Result::Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap()?;
    }
    server.await.unwrap()
}

/// Sends one byte and waits for it to come back.
pub(crate) async fn round_trip(stream: &mut AsyncTcpStream) {
    let mut byte = [0];
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"x");
}

/// Starts an echo task and makes round trips to it for `time`; returns how many.
pub(crate) async fn round_trips_in(time: Duration) -> usize {
    let (mut near, far) = tcp_pair();
    drop(fahrenheit::spawn(echo(far)));
    let start = Instant::now();
    let mut n_trips = 0;
    while start.elapsed() < time {
        round_trip(&mut near).await;
        n_trips += 1;
    }
    n_trips
}
