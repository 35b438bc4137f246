//! TCP: connections; below it, connecting and listening.

mod connect;
#[cfg(test)]
mod limit_tests;
mod listener;

pub use listener::AsyncTcpListener;

use super::addr::{self, ToSocketAddrs};
use super::common::wraps;
use super::split::{self, OwnedReadHalf, OwnedWriteHalf};
use super::stream::{Duplex, reads, writes};
use crate::event_loop::boundary;
use crate::event_loop::reactor::Direction;
use crate::fd::Source;
use crate::sys::{Trigger, socket};
use crate::time::{self, sleep};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A TCP connection.
///
/// Reads and writes as futures-io's `AsyncRead` and `AsyncWrite`; so does `&AsyncTcpStream`, so
/// that one task may read while another writes. Nothing is buffered: what a write returned is with
/// the kernel. `close` shuts down writing, and reading goes on; dropping closes.
///
/// Every operation may be cancelled by dropping its future: bytes move only when it is ready. A
/// connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncTcpStream>();
/// ```
///
/// [`into_std`](AsyncTcpStream::into_std) and [`from_std`](AsyncTcpStream::from_std) move it to
/// another.
///
/// # Examples
/// ```
/// use fahrenheit::{prelude::*, AsyncTcpListener, AsyncTcpStream};
///
/// fahrenheit::run(async {
///     let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
///     let mut client = AsyncTcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _peer) = listener.accept().await?;
///     client.write_all(b"hello").await?;
///     client.close().await?;
///     let mut text = String::new();
///     server.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct AsyncTcpStream {
    // Before the socket: deregister, then close.
    source: Source,
    io: net::TcpStream,
}

impl AsyncTcpStream {
    /// Connects to the first address of `addr` that answers.
    ///
    /// A host name is looked up in the blocking pool; addresses need no thread. Of several
    /// addresses the next is tried when one has failed or has been silent for 250 ms, IPv6 and IPv4
    /// in turn, as RFC 8305 ("happy eyeballs") has it. The system may try for minutes: see
    /// [`connect_timeout`](AsyncTcpStream::connect_timeout).
    ///
    /// Connecting to a port of one's own machine that nobody listens on may, very rarely, connect
    /// the socket to itself; then `local_addr` and `peer_addr` are equal.
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    #[track_caller]
    pub fn connect(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<AsyncTcpStream>> {
        let target = addr.target();
        async move { connect::connect(addr::resolve(target?).await?).await }
    }

    /// [`connect`](AsyncTcpStream::connect), for at most `limit`, the look-up included.
    ///
    /// # Errors
    /// As `connect`; of kind [`TimedOut`](io::ErrorKind::TimedOut) if the limit passes first.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect_timeout(
        addr: impl ToSocketAddrs,
        limit: Duration,
    ) -> io::Result<AsyncTcpStream> {
        time::timeout(limit, AsyncTcpStream::connect(addr)).await?
    }

    async fn connect_one(addr: SocketAddr) -> io::Result<AsyncTcpStream> {
        boundary::debug!("connect to {addr}");
        let (fd, mut connected) = socket::connect(&addr)?;
        let stream = AsyncTcpStream::fresh(fd)?;
        while !connected {
            stream.source.ready(Direction::Write).await?;
            connected = socket::connect_outcome(&stream.io)?;
            if !connected {
                // Writable and not connected: `select` would say so again and again.
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(stream)
    }

    /// Takes over a socket that is ours, non-blocking and close-on-exec.
    fn adopt(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let io = net::TcpStream::from(fd);
        Ok(AsyncTcpStream {
            source: Source::owned(&io, Trigger::Edge)?,
            io,
        })
    }

    /// Takes over a connection that was made just now. Its peer has hardly sent anything yet, so
    /// the first read waits before it asks.
    fn fresh(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let stream = AsyncTcpStream::adopt(fd)?;
        stream.source.block(Direction::Read);
        Ok(stream)
    }

    /// Takes over a connection of std, and makes it non-blocking.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or its descriptor is beyond what this system's `select`
    /// takes. `stream` is closed.
    pub fn from_std(stream: net::TcpStream) -> io::Result<AsyncTcpStream> {
        stream.set_nonblocking(true)?;
        socket::silence(&stream)?;
        AsyncTcpStream::adopt(stream.into())
    }

    /// Gives the connection to std. It stays non-blocking.
    pub fn into_std(self) -> net::TcpStream {
        self.io
    }

    /// The address of this end.
    ///
    /// # Errors
    /// That of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// That of the system: for one, if the connection has been reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Reads without taking: the next read returns the same bytes. Returns 0 at the end.
    ///
    /// # Errors
    /// As a read.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // Never short: what is peeked at is still there to be read.
        let mut call = || self.io.peek(bytes);
        poll_fn(|cx| {
            self.source
                .poll_io(Direction::Read, cx, &mut call, |_| false)
        })
        .await
    }

    /// Waits until there is something to read: data, the end, or an error. A hint.
    ///
    /// # Errors
    /// EBADF if the descriptor was closed behind the loop's back.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn readable(&self) -> io::Result<()> {
        self.source.ready(Direction::Read).await
    }

    /// Waits until a write would take something, or fail at once. A hint.
    ///
    /// # Errors
    /// As [`readable`](AsyncTcpStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn writable(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await
    }

    /// Waits for urgent ("out-of-band") data.
    ///
    /// # Errors
    /// As [`readable`](AsyncTcpStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn exceptional(&self) -> io::Result<()> {
        self.source.ready(Direction::Except).await
    }

    /// Shuts down reading, writing, or both, at once.
    ///
    /// # Errors
    /// That of the system: `NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// That of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.nodelay()
    }

    /// Sets whether small writes are sent at once, instead of being gathered for a moment.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.io.set_nodelay(on)
    }

    /// How many routers a packet may cross (`IP_TTL`).
    ///
    /// # Errors
    /// That of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.ttl()
    }

    /// Sets how many routers a packet may cross: 1 to 255.
    ///
    /// # Errors
    /// That of the system: `InvalidInput` for other numbers.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.set_ttl(hops)
    }

    /// How closing treats data that has not been sent (`SO_LINGER`).
    ///
    /// # Errors
    /// That of the system.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(socket::linger(&self.io)?.map(Duration::from_secs))
    }

    /// Sets how closing treats data that has not been sent. `None`, the default: it is sent in the
    /// background. Zero: it is thrown away, and the connection is reset.
    ///
    /// Counted in whole seconds, rounded up. Anything above zero makes *dropping* the connection
    /// block the thread for as long, which is hardly ever wanted.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        let up = |linger: Duration| {
            linger
                .as_secs()
                .saturating_add(u64::from(linger.subsec_nanos() > 0))
        };
        socket::set_linger(&self.io, linger.map(up))
    }

    /// Whether a silent peer is asked now and then whether it still lives (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// That of the system.
    pub fn keepalive(&self) -> io::Result<bool> {
        socket::keepalive(&self.io)
    }

    /// Sets whether a silent peer is asked now and then whether it still lives.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        socket::set_keepalive(&self.io, on)
    }

    /// Splits the connection into halves that may go to different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::split(self)
    }

    /// The error that the system keeps for this socket, if any; asking clears it (`SO_ERROR`).
    ///
    /// # Errors
    /// That of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }
}

impl Duplex for AsyncTcpStream {
    const SHORT_READS_EMPTY: bool = true;

    #[allow(private_interfaces, reason = "nobody else can call it")]
    fn source(&self) -> &Source {
        &self.source
    }
}

wraps!(AsyncTcpStream, io, net::TcpStream);
reads!(AsyncTcpStream);
writes!(AsyncTcpStream);
reads!(&AsyncTcpStream);
writes!(&AsyncTcpStream);
