//! A TCP socket that is set up before it connects or listens.

use super::{AsyncTcpListener, AsyncTcpStream, whole_seconds};
use crate::sys::socket::{self, options};
use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A TCP socket that neither connects nor listens yet.
///
/// Some options have to be set, and a source address has to be chosen, before a socket connects or
/// listens. For everything else there are [`AsyncTcpStream::connect`] and
/// [`AsyncTcpListener::bind`].
///
/// It works as the type of this name in tokio does. No option is set unless the program sets it;
/// so a server that is to be restarted needs [`set_reuseaddr`](TcpSocket::set_reuseaddr). The
/// socket belongs to no loop yet, so it may be sent to another thread.
///
/// # Examples
/// ```
/// use fahrenheit::{net::TcpSocket, prelude::*};
///
/// fahrenheit::run(async {
///     let server = TcpSocket::new_v4()?;
///     server.set_reuseaddr(true)?;
///     server.bind("127.0.0.1:0".parse().unwrap())?;
///     let listener = server.listen(16)?;
///
///     let client = TcpSocket::new_v4()?;
///     client.bind("127.0.0.1:0".parse().unwrap())?;
///     let source = client.local_addr()?;
///     let mut client = client.connect(listener.local_addr()?).await?;
///     let (_server, peer) = listener.accept().await?;
///     assert_eq!(peer, source);
///     client.close().await
/// })
/// # .unwrap();
/// ```
pub struct TcpSocket {
    /// Not connected, but std's type has the calls that every TCP socket has.
    socket: net::TcpStream,
}

impl TcpSocket {
    /// Creates a socket for IPv4.
    ///
    /// # Errors
    /// `socket(2)` fails if no descriptor is left.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Creates a socket for IPv6.
    ///
    /// # Errors
    /// `socket(2)` fails if no descriptor is left, or the system has no IPv6.
    ///
    /// # Examples
    /// ```no_run
    /// use fahrenheit::net::TcpSocket;
    /// use std::time::Duration;
    ///
    /// let socket = TcpSocket::new_v6()?;
    /// socket.set_nodelay(true)?;
    /// assert!(socket.nodelay()?);
    /// socket.set_linger(Some(Duration::from_secs(1)))?;
    /// assert_eq!(socket.linger()?, Some(Duration::from_secs(1)));
    /// socket.set_reuseaddr(true)?;
    /// socket.set_reuseport(true)?;
    /// assert!(socket.reuseaddr()? && socket.reuseport()?);
    /// socket.set_send_buffer_size(64 << 10)?;
    /// socket.set_recv_buffer_size(64 << 10)?;
    /// println!("{} bytes to send", socket.send_buffer_size()?);
    /// println!("{} bytes to receive", socket.recv_buffer_size()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new((Ipv6Addr::UNSPECIFIED, 0).into())
    }

    fn new(any_addr: SocketAddr) -> io::Result<TcpSocket> {
        let socket = socket::tcp(&any_addr)?.into();
        Ok(TcpSocket { socket })
    }

    /// Gives the socket a local address: the one to listen on, or the source address of the
    /// connection. With port 0 the system chooses a port.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` if no interface has the address; `PermissionDenied` for
    /// ports below 1024 (`bind(2)`).
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        socket::bind(&self.socket, &addr)
    }

    /// Connects the socket to `addr`.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `NetworkUnreachable` and the others of `connect(2)`;
    /// `AddrNotAvailable` if there is a connection from the source address to `addr` already.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<AsyncTcpStream> {
        let connected = socket::start_connecting(&self.socket, &addr)?;
        AsyncTcpStream::finish_connecting(OwnedFd::from(self.socket), connected).await
    }

    /// Listens for connections. Up to `backlog` of them wait in the kernel to be accepted; the
    /// system may allow fewer.
    ///
    /// Without [`bind`](TcpSocket::bind), the system chooses a port, on all interfaces.
    ///
    /// # Errors
    /// `AddrInUse` if another socket listens on the address (`listen(2)`), or a
    /// [`RegisterError`](crate::RegisterError) if the descriptor is beyond what this system's
    /// `select` takes.
    #[track_caller]
    pub fn listen(self, backlog: u32) -> io::Result<AsyncTcpListener> {
        socket::start_listening(&self.socket, backlog)?;
        AsyncTcpListener::adopt(OwnedFd::from(self.socket).into())
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// `getsockname(2)` fails only if the system is short of memory.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns how long closing the connection waits for unsent data (`SO_LINGER`).
    ///
    /// # Errors
    /// `getsockopt(2)` fails only if the system is short of memory.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(socket::linger(&self.socket)?.map(Duration::from_secs))
    }

    /// Sets how long closing the connection waits for unsent data (`SO_LINGER`), as
    /// [`AsyncTcpStream::set_linger`] does.
    ///
    /// # Errors
    /// `setsockopt(2)` fails only if the system is short of memory.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        socket::set_linger(&self.socket, linger.map(whole_seconds))
    }

    /// Returns whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// `getsockopt(2)` fails only if the system is short of memory.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.nodelay()
    }

    /// Sets whether small writes are sent at once instead of being gathered for a moment
    /// (`TCP_NODELAY`).
    ///
    /// # Errors
    /// `setsockopt(2)` fails only if the system is short of memory.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.set_nodelay(on)
    }
}

/// Implements a getter and a setter for each of the options listed, by the functions of
/// `sys::socket::options` that have these names.
macro_rules! impl_options {
    ($($getter:ident, $setter:ident: $value:ty, $what:literal, $option:literal;)*) => {
        impl TcpSocket {
            $(
                #[doc(alias = $option)]
                #[doc = concat!("Returns ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// `getsockopt(2)` fails if the system does not know the option.
                pub fn $getter(&self) -> io::Result<$value> {
                    options::$getter(&self.socket)
                }

                #[doc = concat!("Sets ", $what, " (`", $option, "`).")]
                ///
                /// # Errors
                /// `setsockopt(2)` fails if the system does not know the option, or does not
                /// accept the value.
                pub fn $setter(&self, value: $value) -> io::Result<()> {
                    options::$setter(&self.socket, value)
                }
            )*
        }
    };
}

impl_options! {
    reuseaddr, set_reuseaddr: bool,
        "whether the address can be bound while old connections to it are still closing",
        "SO_REUSEADDR";
    reuseport, set_reuseport: bool,
        "whether several sockets may be bound to one address, and share its connections",
        "SO_REUSEPORT";
    keepalive, set_keepalive: bool,
        "whether TCP keepalive probes are enabled", "SO_KEEPALIVE";
    recv_buffer_size, set_recv_buffer_size: u32,
        "the size of the receive buffer in bytes, which Linux doubles when it is set",
        "SO_RCVBUF";
    send_buffer_size, set_send_buffer_size: u32,
        "the size of the send buffer in bytes, which Linux doubles when it is set",
        "SO_SNDBUF";
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("local_addr", &self.local_addr().ok())
            .field("fd", &self.as_raw_fd())
            .finish()
    }
}
