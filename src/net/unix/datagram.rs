//! Datagrams over Unix sockets.

use super::{MAX_DELAY, MIN_DELAY};
use crate::fd::Registered;
use crate::net::common::{impl_data_socket, impl_socket};
use crate::sys::fd::above_stdio;
use crate::sys::socket;
use crate::time::sleep;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

/// A Unix socket for datagrams. They arrive whole, once, and in order.
///
/// Every operation takes `&self`, so one task may receive while others send. If a datagram is
/// longer than the buffer that receives it, the rest is **lost without notice**. A length of 0 is
/// an empty datagram, never the end of anything.
///
/// Every operation may be cancelled by dropping its future: a datagram is consumed only in the poll
/// that returns it. A bound path stays behind when the socket is dropped, like that of an
/// [`AsyncUnixListener`](super::AsyncUnixListener#paths-outlive-sockets).
///
/// # When the receiver is slow
/// Nothing is lost: sending waits until the receiver has room. Where the system does not report
/// that (for [`send_to`](AsyncUnixDatagram::send_to) on Linux; always on macOS and the BSDs),
/// sending is tried again after 1 ms, doubling to 50 ms.
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
/// A socket belongs to the thread that made it;
/// [`into_std`](AsyncUnixDatagram::into_std) moves it to another:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUnixDatagram>();
/// ```
#[doc(alias = "UnixDatagram")]
pub struct AsyncUnixDatagram {
    socket: Registered<net::UnixDatagram>,
}

impl AsyncUnixDatagram {
    /// Makes a socket at `path`, which other sockets can send to.
    ///
    /// # Errors
    /// `InvalidInput`, and no file is made, if `path` is empty, too long (more than 107 bytes on
    /// Linux, 103 on macOS and the BSDs) or contains a NUL; `AddrInUse` if the file exists;
    /// `NotFound` if the folder does not; `PermissionDenied` if no file may be made in it.
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<AsyncUnixDatagram> {
        AsyncUnixDatagram::bind_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// Makes a socket at `addr`, which may be an abstract name; otherwise like
    /// [`bind`](AsyncUnixDatagram::bind).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; otherwise the error of
    /// `bind(2)`: `AddrInUse` if the name or the file exists, `NotFound` if the folder does not,
    /// `PermissionDenied` if no file may be made in it.
    #[track_caller]
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<AsyncUnixDatagram> {
        let addr = socket::unix::named(addr)?;
        AsyncUnixDatagram::from_std(above_stdio(net::UnixDatagram::bind_addr(addr)?)?)
    }

    /// Makes a socket without a name. It can send, but the receiver has no address to reply to.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` if descriptors run out, or a [`RegisterError`](crate::RegisterError) if
    /// the descriptor is beyond what this system's `select` takes.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUnixDatagram;
    /// use std::net::Shutdown;
    ///
    /// fahrenheit::run(async {
    ///     let name = format!("fahrenheit-dgram-{}", std::process::id());
    ///     let path = std::env::temp_dir().join(name);
    ///     let server = AsyncUnixDatagram::bind(&path)?;
    ///     let client = AsyncUnixDatagram::unbound()?;
    ///     client.send_to(b"by path", &path).await?;
    ///     client.send_to_addr(b"by address", &server.local_addr()?).await?;
    ///     let mut bytes = [0; 16];
    ///     assert_eq!(server.recv(&mut bytes).await?, 7);
    ///     assert_eq!(server.recv(&mut bytes).await?, 10);
    ///     client.connect(&path)?;
    ///     client.shutdown(Shutdown::Write)?;
    ///     std::fs::remove_file(&path)
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn unbound() -> io::Result<AsyncUnixDatagram> {
        AsyncUnixDatagram::from_std(above_stdio(net::UnixDatagram::unbound()?)?)
    }

    /// Makes two sockets that are connected to each other and have no name.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` if descriptors run out, or a [`RegisterError`](crate::RegisterError) if
    /// one is beyond what this system's `select` takes.
    #[track_caller]
    pub fn pair() -> io::Result<(AsyncUnixDatagram, AsyncUnixDatagram)> {
        let (a, b) = net::UnixDatagram::pair()?;
        let [a, b] = [above_stdio(a)?, above_stdio(b)?];
        let a = AsyncUnixDatagram::from_std(a)?;
        Ok((a, AsyncUnixDatagram::from_std(b)?))
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UnixDatagram) -> io::Result<AsyncUnixDatagram> {
        let socket = Registered::datagrams(socket)?;
        Ok(AsyncUnixDatagram { socket })
    }

    /// Sets the peer that [`send`](AsyncUnixDatagram::send) sends to: the socket at `path`. From
    /// then on, only datagrams of this peer are received.
    ///
    /// Connecting again changes the peer. This function is not async, because it does not wait.
    ///
    /// # Errors
    /// `InvalidInput` for a path that [`bind`](AsyncUnixDatagram::bind) does not accept either;
    /// `NotFound`; `ConnectionRefused` if no process has that socket open any more.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// Sets the peer to the socket at `addr`, which may be an abstract name; otherwise like
    /// [`connect`](AsyncUnixDatagram::connect).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; otherwise the error of
    /// `connect(2)`: `NotFound` if there is no such file, `ConnectionRefused` if no process has
    /// it open any more.
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        let addr = socket::unix::named(addr)?;
        self.socket.get_ref().connect_addr(addr)
    }

    /// Sends one datagram to the peer. Returns its length.
    ///
    /// # Errors
    /// `NotConnected` without a peer; `ConnectionRefused` if the peer is gone; `EMSGSIZE` if the
    /// datagram is longer than the system sends.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        send_with(&self.socket, true, |socket| socket::send(socket, bytes)).await
    }

    /// Sends one datagram to the socket at `path`. Returns its length.
    ///
    /// # Errors
    /// `InvalidInput` for a path that [`bind`](AsyncUnixDatagram::bind) does not accept either;
    /// otherwise the error of `sendto(2)`: `NotFound` if there is no such file,
    /// `ConnectionRefused` if no process has it open any more, `EMSGSIZE` if the datagram is longer
    /// than the system sends, `EISCONN` on macOS and the BSDs if this socket is connected.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let addr = socket::unix::path_addr(path.as_ref())?;
        self.send_to_addr(bytes, &addr).await
    }

    /// Sends one datagram to the socket at `addr`, which may be an abstract name or the address
    /// returned by [`recv_from`](AsyncUnixDatagram::recv_from). Returns its length.
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; otherwise the error of
    /// `sendto(2)`: `NotFound` if there is no such file, `ConnectionRefused` if no process has it
    /// open any more, `EMSGSIZE` if the datagram is longer than the system sends, and `EISCONN` on
    /// macOS and the BSDs if this socket is connected.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send_to_addr(&self, bytes: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        let addr = socket::unix::named(addr)?;
        send_with(&self.socket, false, |socket| {
            socket.send_to_addr(bytes, addr)
        })
        .await
    }

    /// Receives one datagram. Returns its length, or that of `bytes` if the datagram was longer.
    ///
    /// # Errors
    /// `ConnectionReset`, once, after the peer has closed its socket.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read_with(|socket| socket.recv(bytes)).await
    }

    /// Receives one datagram. Returns its length, or that of `bytes` if the datagram was longer,
    /// and the address of the sender, which may have no name.
    ///
    /// # Errors
    /// `ConnectionReset`, once, after the peer has closed its socket.
    ///
    /// # Cancel safety
    /// No datagram is lost by dropping the future.
    pub async fn recv_from(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .read_with(|socket| socket.recv_from(bytes))
            .await
    }

    /// Shuts down receiving, sending or both, without waiting.
    ///
    /// # Errors
    /// `NotConnected` if the socket has no peer.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }
}

/// Makes `call` until the receiver has room.
///
/// `is_connected` says that `call` sends to the peer that the socket is connected to. Only then
/// does the system know whose room to report when it reports that the socket is writable.
pub(super) async fn send_with<T: AsFd>(
    socket: &Registered<T>,
    is_connected: bool,
    call: impl Fn(&T) -> io::Result<usize>,
) -> io::Result<usize> {
    let call = |socket: &_| match call(socket) {
        Err(error) if socket::unix::receiver_is_full(&error, is_connected) => Ok(None),
        outcome => outcome.map(Some),
    };
    let mut delay = MIN_DELAY;
    loop {
        if let Some(n) = socket.write_with(call).await? {
            return Ok(n);
        }
        sleep(delay).await;
        delay = (2 * delay).min(MAX_DELAY);
    }
}

impl_socket!(AsyncUnixDatagram { socket }, net::UnixDatagram, SocketAddr);
impl_data_socket!(AsyncUnixDatagram { socket }, net::UnixDatagram, SocketAddr);
