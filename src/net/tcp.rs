//! TCP: connections. Below it, connecting and listening.

mod connect;
#[cfg(test)]
mod limit_tests;
mod listener;
mod socket;

pub use listener::AsyncTcpListener;
pub use socket::TcpSocket;

use super::addr::{self, ToSocketAddrs};
use super::common::{impl_data_socket, impl_options, impl_socket, impl_try_io};
use super::stream::Duplex;
use crate::event_loop::boundary;
use crate::fd::{Registered, impl_async_io, impl_read_uninit};
use crate::sys::{Trigger, socket as sys_socket};
use crate::time::{self, sleep};
use std::future::Future;
use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A TCP connection.
///
/// Implements `AsyncRead` and `AsyncWrite` of futures-io. So does `&AsyncTcpStream`, so that one
/// task may read while another writes. Nothing is buffered: the kernel has what a write returned.
/// `close` shuts down writing and leaves reading open; dropping the stream closes both directions.
///
/// Every operation may be cancelled by dropping its future: bytes move only in the poll that
/// returns ready. A connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncTcpStream>();
/// ```
///
/// [`into_std`](AsyncTcpStream::into_std) and [`from_std`](AsyncTcpStream::from_std) move it to
/// another thread.
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
#[doc(alias = "TcpStream")]
pub struct AsyncTcpStream {
    socket: Registered<net::TcpStream>,
}

impl AsyncTcpStream {
    /// Connects to the first address of `addr` that answers.
    ///
    /// A host name is looked up in the blocking pool; addresses need no thread. If there are
    /// several addresses, the next one is tried when an attempt has failed or has not been answered
    /// for 250 ms, IPv6 and IPv4 in turn (RFC 8305, "happy eyeballs"). The system may try for
    /// minutes: [`connect_timeout`](AsyncTcpStream::connect_timeout) sets a limit.
    ///
    /// An attempt to connect to a local port without a listener may, very rarely, connect the
    /// socket to itself; then `local_addr` and `peer_addr` are equal.
    ///
    /// # Errors
    /// The error of the look-up, or that of `connect(2)` for the last address tried:
    /// `ConnectionRefused` if no process listens there, `TimedOut` if no answer comes,
    /// `NetworkUnreachable` or `HostUnreachable` if there is no way to it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    #[track_caller]
    pub fn connect(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<AsyncTcpStream>> {
        let target = addr.target();
        async move {
            let addrs = addr::resolve(target?).await?;
            connect::first_to_connect(addrs, AsyncTcpStream::connect_one).await
        }
    }

    /// [`connect`](AsyncTcpStream::connect) for at most `limit`, including the look-up.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if the limit passes first. Otherwise the error of the
    /// look-up, or that of `connect(2)` for the last address tried: `ConnectionRefused` if no
    /// process listens there, `NetworkUnreachable` or `HostUnreachable` if there is no way to it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
    /// use std::{future::poll_fn, io, time::Duration};
    ///
    /// fahrenheit::run(async {
    ///     let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    ///     let addr = listener.local_addr()?;
    ///     let client = AsyncTcpStream::connect_timeout(addr, Duration::from_secs(5)).await?;
    ///     let (server, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    ///     assert_eq!(client.peer_addr()?, server.local_addr()?);
    ///
    ///     // Reading and writing step by step, as a future written by hand does.
    ///     assert_eq!(client.try_write(b"hello")?, 5);
    ///     server.readable().await?;
    ///     let mut bytes = [0; 16];
    ///     assert_eq!(server.peek(&mut bytes).await?, 5);
    ///     assert_eq!(server.try_read(&mut bytes)?, 5);
    ///     let nothing = server.try_read_with(|socket| socket.peek(&mut bytes));
    ///     assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    ///     poll_fn(|cx| client.poll_writable(cx)).await?;
    ///     client.writable().await?;
    ///     client.try_write_with(|mut socket| io::Write::write(&mut socket, b"more"))?;
    ///     poll_fn(|cx| server.poll_readable(cx)).await?;
    ///     assert!(server.take_error()?.is_none());
    ///
    ///     // To code that wants a socket of std, and back.
    ///     let socket = client.into_blocking_std()?;
    ///     let client = AsyncTcpStream::from_std(socket)?;
    ///     let _nonblocking = client.into_std();
    ///     io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn connect_timeout(
        addr: impl ToSocketAddrs,
        limit: Duration,
    ) -> io::Result<AsyncTcpStream> {
        time::timeout(limit, AsyncTcpStream::connect(addr)).await?
    }

    async fn connect_one(addr: SocketAddr) -> io::Result<AsyncTcpStream> {
        boundary::debug!("connect to {addr}");
        let (fd, connected) = sys_socket::connect(&addr)?;
        AsyncTcpStream::finish_connecting(fd, connected).await
    }

    /// Waits until the socket `fd`, which is connecting, is connected.
    async fn finish_connecting(fd: OwnedFd, mut connected: bool) -> io::Result<AsyncTcpStream> {
        let stream = AsyncTcpStream::new_connection(fd)?;
        while !connected {
            stream.writable().await?;
            connected = sys_socket::connect_outcome(&stream)?;
            if !connected {
                // The socket is writable but not connected, so `select` would report it again at
                // once: without a pause, this loop would take a whole core.
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

    /// Registers a connection that was made just now.
    fn new_connection(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let socket = Registered::new_connection(fd.into())?;
        Ok(AsyncTcpStream { socket })
    }

    /// Reads without consuming: the next read returns the same bytes. Returns 0 at the end.
    ///
    /// # Errors
    /// The error of `recv(2)`: `ConnectionReset` if the peer has reset the connection, `TimedOut`
    /// if it no longer answers. EBADF if other code closed the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            // As a read into an empty buffer. The system would wait for data.
            return Ok(0);
        }
        self.socket.read_with(|socket| socket.peek(bytes)).await
    }

    /// Waits for urgent ("out-of-band") data.
    ///
    /// # Errors
    /// EBADF if other code closed the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
    /// use nix::sys::socket::{MsgFlags, send};
    /// use std::os::fd::AsRawFd;
    ///
    /// fahrenheit::run(async {
    ///     let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    ///     let client = AsyncTcpStream::connect(listener.local_addr()?).await?;
    ///     let (server, _peer) = listener.accept().await?;
    ///     send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB)?;
    ///     server.exceptional().await
    /// })
    /// # .unwrap();
    /// ```
    #[doc(alias("MSG_OOB", "POLLPRI"))]
    pub async fn exceptional(&self) -> io::Result<()> {
        self.socket.exceptional().await
    }

    /// Shuts down reading, writing or both, without waiting.
    ///
    /// # Errors
    /// `NotConnected` if the connection has been reset.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncTcpListener, AsyncTcpStream};
    /// use std::{net::Shutdown, time::Duration};
    ///
    /// fahrenheit::run(async {
    ///     let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
    ///     let stream = AsyncTcpStream::connect(listener.local_addr()?).await?;
    ///     stream.set_keepalive(true)?;
    ///     assert!(stream.keepalive()?);
    ///     // Closing resets the connection.
    ///     stream.set_linger(Some(Duration::ZERO))?;
    ///     assert_eq!(stream.linger()?, Some(Duration::ZERO));
    ///     stream.shutdown(Shutdown::Write)
    /// })
    /// # .unwrap();
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// Returns how long closing waits for unsent data (`SO_LINGER`).
    ///
    /// # Errors
    /// `getsockopt(2)` fails only if the system is short of memory.
    #[doc(alias = "SO_LINGER")]
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(sys_socket::linger(self)?.map(Duration::from_secs))
    }

    /// Sets how long closing waits for unsent data (`SO_LINGER`).
    ///
    /// With `None`, the default, the system sends the data in the background. With zero, it
    /// discards the data and resets the connection. With anything else, *dropping* the connection
    /// blocks the thread for up to that time, which is rarely wanted. The system counts in whole
    /// seconds; parts of a second are rounded up.
    ///
    /// # Errors
    /// macOS returns `InvalidInput` if the peer has reset the connection.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        sys_socket::set_linger(self, linger.map(whole_seconds))
    }

    /// Returns whether TCP keepalive probes are enabled (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// `getsockopt(2)` fails only if the system is short of memory.
    #[doc(alias = "SO_KEEPALIVE")]
    pub fn keepalive(&self) -> io::Result<bool> {
        sys_socket::keepalive(self)
    }

    /// Enables or disables TCP keepalive probes (`SO_KEEPALIVE`), by which the system notices that
    /// an idle peer is gone.
    ///
    /// # Errors
    /// macOS returns `InvalidInput` if the peer has reset the connection.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        sys_socket::set_keepalive(self, on)
    }
}

/// Returns `linger` in whole seconds, rounded up: zero would discard unsent data.
fn whole_seconds(linger: Duration) -> u64 {
    let part = u64::from(linger.subsec_nanos() > 0);
    linger.as_secs().saturating_add(part)
}

impl_options! {
    AsyncTcpStream { socket }:
    nodelay, set_nodelay: bool,
        "whether small writes are sent at once instead of being gathered for a moment",
        "TCP_NODELAY";
    ttl, set_ttl: u32,
        "the maximum number of routers that a packet may pass, 1 to 255", "IP_TTL";
}

impl Duplex for AsyncTcpStream {
    type Socket = net::TcpStream;

    #[allow(private_interfaces, reason = "the trait is sealed")]
    fn registered(&self) -> &Registered<net::TcpStream> {
        &self.socket
    }
}

impl_socket!(AsyncTcpStream { socket }, net::TcpStream, SocketAddr);
impl_data_socket!(AsyncTcpStream { socket }, net::TcpStream, SocketAddr);
impl_try_io!(AsyncTcpStream { socket });
impl_read_uninit!([AsyncTcpStream], "AsyncTcpStream", stream => stream.socket);
impl_async_io!(
    AsyncRead for [AsyncTcpStream, &AsyncTcpStream],
    stream => stream.socket
);
impl_async_io!(
    AsyncWrite for [AsyncTcpStream, &AsyncTcpStream],
    stream => stream.socket, close => stream.close_write()
);
