//! Datagrams over Unix sockets.

use super::DELAYS;
use crate::fd::Registered;
use crate::net::common::{impl_data_socket, impl_socket};
use crate::sys::{Trigger, socket};
use crate::time::sleep;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

/// A Unix socket for datagrams: they arrive whole, once, and in order.
///
/// Every operation takes `&self`, so one task may receive while others send. A datagram that is
/// longer than the bytes given to receive it is **cut off**, and nothing says so. A length of 0 is
/// an empty datagram, and never an end.
///
/// Every operation may be cancelled by dropping its future: a datagram is taken in the same poll
/// that returns it. A bound path stays behind when the socket is dropped, as that of an
/// [`AsyncUnixListener`](super::AsyncUnixListener#paths-outlive-sockets) does.
///
/// # When the receiver is slow
/// Nothing is lost: sending waits until the receiver has room. Where the system does not tell when
/// that is (for [`send_to`](AsyncUnixDatagram::send_to) on Linux, always on macOS and the BSDs), it
/// is tried again after 1 ms at first, and 50 ms at most.
///
/// # Examples
/// ```
/// use fahrenheit::AsyncUnixDatagram;
///
/// fahrenheit::run(async {
///     let (a, b) = AsyncUnixDatagram::pair()?;
///     a.send(b"ping").await?;
///     let mut bytes = [0; 16];
///     let n = b.recv(&mut bytes).await?;
///     assert_eq!(&bytes[..n], b"ping");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// It belongs to the thread that made it; [`into_std`](AsyncUnixDatagram::into_std) moves it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUnixDatagram>();
/// ```
pub struct AsyncUnixDatagram {
    socket: Registered<net::UnixDatagram>,
}

impl AsyncUnixDatagram {
    /// Makes a socket at `path`, which others can send to.
    ///
    /// # Errors
    /// As [`AsyncUnixListener::bind`](super::AsyncUnixListener::bind).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<AsyncUnixDatagram> {
        AsyncUnixDatagram::bind_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// As [`bind`](AsyncUnixDatagram::bind), by an address that may be an abstract name.
    ///
    /// # Errors
    /// As `bind`; `InvalidInput` for the address of a socket without a name.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<AsyncUnixDatagram> {
        let addr = socket::unix::named(addr)?;
        AsyncUnixDatagram::from_std(net::UnixDatagram::bind_addr(addr)?)
    }

    /// A socket without a name: it can send, and nobody can answer.
    ///
    /// # Errors
    /// If descriptors run out, or are beyond what this system's `select` takes.
    pub fn unbound() -> io::Result<AsyncUnixDatagram> {
        AsyncUnixDatagram::from_std(net::UnixDatagram::unbound()?)
    }

    /// Two sockets without a name, connected to each other.
    ///
    /// # Errors
    /// As [`unbound`](AsyncUnixDatagram::unbound).
    pub fn pair() -> io::Result<(AsyncUnixDatagram, AsyncUnixDatagram)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((
            AsyncUnixDatagram::from_std(a)?,
            AsyncUnixDatagram::from_std(b)?,
        ))
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UnixDatagram) -> io::Result<AsyncUnixDatagram> {
        let socket = Registered::new(socket, Trigger::Edge)?;
        Ok(AsyncUnixDatagram { socket })
    }

    /// Sets the peer that [`send`](AsyncUnixDatagram::send) goes to: the socket at `path`. Only the
    /// peer is received from, then.
    ///
    /// Not async, as nothing waits. Connecting again changes the peer.
    ///
    /// # Errors
    /// `InvalidInput` for a path that [`bind`](AsyncUnixDatagram::bind) refuses, too; `NotFound`;
    /// `ConnectionRefused` if nobody has that socket open any more.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// As [`connect`](AsyncUnixDatagram::connect), to a socket that may have an abstract name.
    ///
    /// # Errors
    /// As `connect`; `InvalidInput` for the address of a socket without a name.
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.socket
            .get_ref()
            .connect_addr(socket::unix::named(addr)?)
    }

    /// Sends one datagram to the peer; returns its length.
    ///
    /// # Errors
    /// `NotConnected` without a peer; `ConnectionRefused` if it is gone; `EMSGSIZE` if the datagram
    /// is longer than the system sends.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_with(true, |socket| socket::send(socket, bytes))
            .await
    }

    /// Sends one datagram to the socket at `path`; returns its length.
    ///
    /// # Errors
    /// `InvalidInput` for a path that [`bind`](AsyncUnixDatagram::bind) refuses, too; `NotFound`;
    /// else as [`send`](AsyncUnixDatagram::send). macOS and the BSDs refuse it on a connected
    /// socket (`EISCONN`).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let addr = socket::unix::path_addr(path.as_ref())?;
        self.send_to_addr(bytes, &addr).await
    }

    /// As [`send_to`](AsyncUnixDatagram::send_to), to a socket that may have an abstract name: for
    /// one, that of [`recv_from`](AsyncUnixDatagram::recv_from).
    ///
    /// # Errors
    /// As `send_to`; `InvalidInput` for the address of a socket without a name.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to_addr(&self, bytes: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        let addr = socket::unix::named(addr)?;
        self.send_with(false, |socket| socket.send_to_addr(bytes, addr))
            .await
    }

    /// Makes `call` until the receiver has room. `connected` says whether the system knows the
    /// receiver, so that readiness may tell of it.
    async fn send_with(
        &self,
        connected: bool,
        call: impl Fn(&net::UnixDatagram) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let call = |socket: &_| match call(socket) {
            Err(error) if socket::unix::receiver_is_full(&error, connected) => Ok(None),
            outcome => outcome.map(Some),
        };
        let mut delay = DELAYS.0;
        loop {
            if let Some(n) = self.socket.write_with(call).await? {
                return Ok(n);
            }
            sleep(delay).await;
            delay = (2 * delay).min(DELAYS.1);
        }
    }

    /// Receives one datagram; returns its length, or that of `bytes` if it was longer.
    ///
    /// # Errors
    /// That of the system: for one, `ConnectionReset`, once, after the peer has gone.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.recv(bytes)).await
    }

    /// Receives one datagram; returns its length, or that of `bytes` if it was longer, and the
    /// sender, who may have no name.
    ///
    /// # Errors
    /// As [`recv`](AsyncUnixDatagram::recv).
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .read_with(|socket| socket.recv_from(bytes))
            .await
    }

    /// Shuts down receiving, sending, or both, at once.
    ///
    /// # Errors
    /// That of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }
}

impl_socket!(AsyncUnixDatagram { socket }, net::UnixDatagram, SocketAddr);
impl_data_socket!(AsyncUnixDatagram { socket }, SocketAddr);
