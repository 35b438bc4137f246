//! Listening for TCP connections.

use super::AsyncTcpStream;
use crate::net::accept::{Acceptor, Incoming, Listen};
use crate::net::addr::{self, ToSocketAddrs};
use crate::net::common::impl_socket;
use crate::sys::socket;
use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};
use std::task::{Context, Poll, ready};

/// A TCP socket that listens for connections.
///
/// # Examples
/// ```
/// use fahrenheit::{prelude::*, AsyncTcpListener};
///
/// let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
/// println!("listening on {}", listener.local_addr()?);
/// let mut incoming = listener.incoming().take(0);
/// assert!(fahrenheit::run(incoming.next()).is_none());
/// # std::io::Result::Ok(())
/// ```
pub struct AsyncTcpListener {
    acceptor: Acceptor<net::TcpListener>,
}

impl AsyncTcpListener {
    /// Listens on the first address of `addr` that can be had; port 0 lets the system choose.
    ///
    /// Not async, as nothing waits; but a host *name* is looked up in place, and blocks. The
    /// address may be taken again right after a restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried: `AddrInUse`, `PermissionDenied`…
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<AsyncTcpListener> {
        let mut last = addr::none();
        for addr in addr::resolve_now(addr.target()?)? {
            match socket::listen(&addr).and_then(|fd| AsyncTcpListener::adopt(fd.into())) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Registers a listener that is non-blocking already.
    #[track_caller]
    fn adopt(listener: net::TcpListener) -> io::Result<AsyncTcpListener> {
        let acceptor = Acceptor::new(listener)?;
        Ok(AsyncTcpListener { acceptor })
    }

    /// How many routers a packet may cross (`IP_TTL`); connections inherit it.
    ///
    /// # Errors
    /// That of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.acceptor.get_ref().ttl()
    }

    /// Sets how many routers a packet may cross.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.acceptor.get_ref().set_ttl(hops)
    }

    /// Waits for the next connection; returns it and the address of its peer.
    ///
    /// Connections that were lost before they could be accepted are passed over.
    ///
    /// # Errors
    /// When descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the error is
    /// returned **once**; further calls wait, and try again when this crate closes a descriptor on
    /// this thread, or after 10 ms, doubling to 1 s. So a loop that logs the error and goes on
    /// costs nothing and recovers by itself. Other errors mean that the listener is unusable.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> io::Result<(AsyncTcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// `accept` for hand-written futures.
    ///
    /// # Errors
    /// As [`accept`](AsyncTcpListener::accept).
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AsyncTcpStream, SocketAddr)>> {
        let accepted = ready!(self.acceptor.poll_accept(cx, |io| socket::accept(io)));
        Poll::Ready(accepted.and_then(|(fd, peer)| Ok((AsyncTcpStream::fresh(fd)?, peer))))
    }

    /// The connections to come, as a stream that never ends.
    ///
    /// Its items are those of [`accept`](AsyncTcpListener::accept), errors included: go on after
    /// one.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

impl Listen for AsyncTcpListener {
    type Connection = AsyncTcpStream;

    fn poll_next_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncTcpStream>> {
        self.poll_accept(cx).map_ok(|(stream, _)| stream)
    }
}

impl_socket!(AsyncTcpListener { acceptor }, net::TcpListener, SocketAddr);
