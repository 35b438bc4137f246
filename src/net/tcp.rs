//! TCP: connections; below it, connecting and listening.

mod connect;
#[cfg(test)]
mod limit_tests;
mod listener;

pub use listener::AsyncTcpListener;

use super::addr::{self, ToSocketAddrs};
use super::common::{impl_data_socket, impl_socket};
use super::split::{self, OwnedReadHalf, OwnedWriteHalf};
use super::stream::Duplex;
use crate::event_loop::boundary;
use crate::fd::{Registered, impl_async_io};
use crate::sys::{Trigger, socket};
use crate::time::{self, sleep};
use std::future::Future;
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
    socket: Registered<net::TcpStream>,
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
            stream.writable().await?;
            connected = socket::connect_outcome(&stream)?;
            if !connected {
                // Writable and not connected: `select` would say so again and again.
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(stream)
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::TcpStream) -> io::Result<AsyncTcpStream> {
        let socket = Registered::new(socket, Trigger::Edge)?;
        Ok(AsyncTcpStream { socket })
    }

    /// Takes over a connection that was made just now. Its peer has hardly sent anything yet, so
    /// the first read waits before it asks.
    fn fresh(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let stream = AsyncTcpStream::adopt(fd.into())?;
        stream.socket.assume_empty();
        Ok(stream)
    }

    /// Reads without taking: the next read returns the same bytes. Returns 0 at the end.
    ///
    /// # Errors
    /// As a read.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.peek(bytes)).await
    }

    /// Waits for urgent ("out-of-band") data.
    ///
    /// # Errors
    /// As [`readable`](AsyncTcpStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn exceptional(&self) -> io::Result<()> {
        self.socket.exceptional().await
    }

    /// Shuts down reading, writing, or both, at once.
    ///
    /// # Errors
    /// That of the system: `NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// That of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.get_ref().nodelay()
    }

    /// Sets whether small writes are sent at once, instead of being gathered for a moment.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.get_ref().set_nodelay(on)
    }

    /// How many routers a packet may cross (`IP_TTL`).
    ///
    /// # Errors
    /// That of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket.get_ref().ttl()
    }

    /// Sets how many routers a packet may cross: 1 to 255.
    ///
    /// # Errors
    /// That of the system: `InvalidInput` for other numbers.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.socket.get_ref().set_ttl(hops)
    }

    /// How closing treats data that has not been sent (`SO_LINGER`).
    ///
    /// # Errors
    /// That of the system.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(socket::linger(self)?.map(Duration::from_secs))
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
        socket::set_linger(self, linger.map(up))
    }

    /// Whether a silent peer is asked now and then whether it still lives (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// That of the system.
    pub fn keepalive(&self) -> io::Result<bool> {
        socket::keepalive(self)
    }

    /// Sets whether a silent peer is asked now and then whether it still lives.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        socket::set_keepalive(self, on)
    }

    /// Splits the connection into halves that may go to different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::split(self)
    }
}

impl Duplex for AsyncTcpStream {
    type Socket = net::TcpStream;

    #[allow(private_interfaces, reason = "the trait is sealed")]
    fn registered(&self) -> &Registered<net::TcpStream> {
        &self.socket
    }
}

impl_socket!(AsyncTcpStream { socket }, net::TcpStream, SocketAddr);
impl_data_socket!(AsyncTcpStream { socket }, SocketAddr);
impl_async_io!(
    AsyncRead for [AsyncTcpStream, &AsyncTcpStream],
    stream => stream.socket
);
impl_async_io!(
    AsyncWrite for [AsyncTcpStream, &AsyncTcpStream],
    stream => stream.socket, close => stream.close_write()
);
