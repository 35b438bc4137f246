//! Listening for TCP connections.

use super::AsyncTcpStream;
use crate::net::accept::Acceptor;
use crate::net::addr::{self, ToSocketAddrs};
use crate::net::common::{impl_options, impl_socket};
use crate::sys::socket;
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
#[doc(alias = "TcpListener")]
pub struct AsyncTcpListener {
    acceptor: Acceptor<net::TcpListener>,
}

impl AsyncTcpListener {
    /// Listens on the first address of `addr` that is available; port 0 lets the system choose one.
    ///
    /// The address may be bound again right after a restart of the program (`SO_REUSEADDR`). This
    /// function is not async, because binding does not wait; but a host *name* is looked up on this
    /// thread, which blocks it.
    ///
    /// # Errors
    /// The error of the look-up, or that of `bind(2)` for the last address tried: `AddrInUse` if
    /// another socket listens there, `AddrNotAvailable` if this machine does not have the address,
    /// `PermissionDenied` for ports below 1,024 without the privilege.
    #[track_caller]
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<AsyncTcpListener> {
        let mut last_error = addr::no_address();
        for addr in addr::resolve_now(addr.target()?)? {
            match socket::listen(&addr).and_then(|fd| AsyncTcpListener::adopt(fd.into())) {
                Ok(listener) => return Ok(listener),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Registers a listener that is non-blocking already.
    #[track_caller]
    pub(super) fn adopt(listener: net::TcpListener) -> io::Result<AsyncTcpListener> {
        let acceptor = Acceptor::new(listener)?;
        Ok(AsyncTcpListener { acceptor })
    }

    /// Waits for the next connection. Returns it with the address of its peer.
    ///
    /// Connections that were lost before they could be accepted are passed over.
    ///
    /// # Errors
    /// When descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the error is
    /// returned **once**; later calls wait and try again when this crate closes a descriptor on
    /// this thread, or after 10 ms, doubling to 1 s. So a loop that logs the error and continues
    /// costs nothing and recovers by itself.
    ///
    /// `PermissionDenied` (a sandbox, or a rule of a firewall) and errors of the network such as
    /// `NetworkDown` usually concern one connection, which is passed over. If each of 32 calls in a
    /// row fails with one of them, it is returned. `accept` of std and tokio returns the first.
    ///
    /// Other errors mean that the listener is unusable.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    #[doc(alias = "accept4")]
    pub async fn accept(&self) -> io::Result<(AsyncTcpStream, SocketAddr)> {
        let accept = |io: &net::TcpListener| socket::accept(io);
        let (fd, peer) = self.acceptor.accept(accept).await?;
        Ok((AsyncTcpStream::new_connection(fd)?, peer))
    }

    /// [`accept`](AsyncTcpListener::accept) for hand-written futures.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM` of `accept(2)` if descriptors or memory run out:
    /// once, as [`accept`](AsyncTcpListener::accept) explains.
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AsyncTcpStream, SocketAddr)>> {
        let accepted = ready!(self.acceptor.poll_accept(cx, |io| socket::accept(io)));
        Poll::Ready(accepted.and_then(|(fd, peer)| {
            let stream = AsyncTcpStream::new_connection(fd)?;
            Ok((stream, peer))
        }))
    }
}

impl_options! {
    AsyncTcpListener { acceptor }:
    ttl, set_ttl: u32,
        "the maximum number of routers that a packet of an accepted connection may pass", "IP_TTL";
}

impl_socket!(AsyncTcpListener { acceptor }, net::TcpListener, SocketAddr);
