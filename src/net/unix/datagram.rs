//! Datagrams over Unix sockets.

use super::DELAYS;
use crate::event_loop::reactor::Direction;
use crate::fd::Source;
use crate::net::common::wraps;
use crate::sys::{Trigger, socket};
use crate::time::sleep;
use std::future::poll_fn;
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
    // Before the socket: deregister, then close.
    source: Source,
    io: net::UnixDatagram,
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

    /// Takes over a socket of std, and makes it non-blocking.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or its descriptor is beyond what this system's `select`
    /// takes. `socket` is closed.
    pub fn from_std(socket: net::UnixDatagram) -> io::Result<AsyncUnixDatagram> {
        socket.set_nonblocking(true)?;
        socket::silence(&socket)?;
        Ok(AsyncUnixDatagram {
            source: Source::owned(&socket, Trigger::Edge)?,
            io: socket,
        })
    }

    /// Gives the socket to std. It stays non-blocking.
    pub fn into_std(self) -> net::UnixDatagram {
        self.io
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
        self.io.connect_addr(socket::unix::named(addr)?)
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
        self.send_with(true, || socket::send(&self.io, bytes)).await
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
        self.send_with(false, || self.io.send_to_addr(bytes, addr))
            .await
    }

    /// Makes `call` until the receiver has room. `connected` says whether the system knows the
    /// receiver, so that readiness may tell of it.
    async fn send_with(
        &self,
        connected: bool,
        call: impl Fn() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let call = || match call() {
            Err(error) if socket::unix::receiver_is_full(&error, connected) => Ok(None),
            outcome => outcome.map(Some),
        };
        let mut delay = DELAYS.0;
        loop {
            let sent = poll_fn(|cx| self.source.poll_io(Direction::Write, cx, call, |_| false));
            if let Some(n) = sent.await? {
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
        self.take_with(|| self.io.recv(bytes)).await
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
        self.take_with(|| self.io.recv_from(bytes)).await
    }

    /// Never short: a datagram says nothing about whether there is another.
    async fn take_with<R>(&self, mut call: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        poll_fn(|cx| {
            self.source
                .poll_io(Direction::Read, cx, &mut call, |_| false)
        })
        .await
    }

    /// Waits until there is something to receive: a datagram or an error. A hint.
    ///
    /// # Errors
    /// EBADF if the descriptor was closed behind the loop's back.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn readable(&self) -> io::Result<()> {
        self.source.ready(Direction::Read).await
    }

    /// Waits until the system would take a datagram from this socket. A hint: the receiver may have
    /// no room all the same.
    ///
    /// # Errors
    /// As [`readable`](AsyncUnixDatagram::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn writable(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// That of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The peer of [`connect`](AsyncUnixDatagram::connect).
    ///
    /// # Errors
    /// `NotConnected` if there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Shuts down receiving, sending, or both, at once.
    ///
    /// # Errors
    /// That of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// The error that the system keeps for this socket, if any; asking clears it (`SO_ERROR`).
    ///
    /// # Errors
    /// That of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }
}

wraps!(AsyncUnixDatagram, io, net::UnixDatagram);
