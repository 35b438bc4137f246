//! Listening for connections over Unix sockets.

use super::AsyncUnixStream;
use crate::net::accept::{Acceptor, Incoming, Listen};
use crate::net::common::impl_socket;
use crate::sys::socket;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll, ready};

/// A Unix socket that listens for connections.
///
/// # Paths outlive sockets
/// Binding makes a file of type socket, and **nothing removes it** when the listener is dropped or
/// the process ends: the next `bind` fails with `AddrInUse`. Whether somebody still listens there
/// shows by connecting:
///
/// ```
/// use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
/// use std::{fs, io, path::Path};
///
/// async fn listen(path: &Path) -> io::Result<AsyncUnixListener> {
///     match AsyncUnixStream::connect(path).await {
///         // Nobody does: it was left behind.
///         Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
///         // `NotFound`, as it should be, or an error that `bind` will meet as well.
///         Err(_) => {}
///         Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
///     }
///     AsyncUnixListener::bind(path)
/// }
/// # let path = std::env::temp_dir().join(format!("fahrenheit-doc-{}", std::process::id()));
/// # drop(AsyncUnixListener::bind(&path).unwrap());
/// # assert!(AsyncUnixListener::bind(&path).is_err());
/// # fahrenheit::run(listen(&path)).unwrap();
/// # fs::remove_file(path).unwrap();
/// ```
///
/// Two processes that start at once may both come to that conclusion; a lock file excludes that.
/// Abstract names, which Linux has, leave nothing behind:
/// see [`bind_addr`](AsyncUnixListener::bind_addr).
pub struct AsyncUnixListener {
    acceptor: Acceptor<net::UnixListener>,
}

impl AsyncUnixListener {
    /// Makes a socket at `path`, and listens there.
    ///
    /// Who may connect is decided by the permissions of the folder and, on Linux and most others,
    /// of the file: by the umask, at first.
    ///
    /// # Errors
    /// `InvalidInput`, and nothing is made, if `path` is empty, too long (more than 107 bytes on
    /// Linux, 103 on macOS and the BSDs) or has a NUL in it; `AddrInUse` if there is a file;
    /// `NotFound` if there is no such folder; `PermissionDenied`…
    pub fn bind(path: impl AsRef<Path>) -> io::Result<AsyncUnixListener> {
        AsyncUnixListener::bind_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// As [`bind`](AsyncUnixListener::bind), by an address that may be an abstract name.
    ///
    /// # Errors
    /// As `bind`; `InvalidInput` for the address of a socket without a name.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
    /// use std::os::unix::net::SocketAddr;
    ///
    /// let path = std::env::temp_dir().join(format!("example-{}.socket", std::process::id()));
    /// // On Linux, `SocketAddrExt::from_abstract_name` gives one that leaves no file.
    /// let addr = SocketAddr::from_pathname(&path)?;
    /// let listener = AsyncUnixListener::bind_addr(&addr)?;
    /// fahrenheit::run(async {
    ///     AsyncUnixStream::connect_addr(&addr).await?;
    ///     listener.accept().await
    /// })?;
    /// std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<AsyncUnixListener> {
        let addr = socket::unix::named(addr)?;
        AsyncUnixListener::from_std(net::UnixListener::bind_addr(addr)?)
    }

    /// Registers a listener that is non-blocking already.
    #[track_caller]
    fn adopt(listener: net::UnixListener) -> io::Result<AsyncUnixListener> {
        let acceptor = Acceptor::new(listener)?;
        Ok(AsyncUnixListener { acceptor })
    }

    /// Waits for the next connection; returns it and the address of its peer, which mostly has
    /// none. [`peer_cred`](AsyncUnixStream::peer_cred) tells who it is.
    ///
    /// Connections that were lost before they could be accepted are passed over.
    ///
    /// # Errors
    /// As [`AsyncTcpListener::accept`](crate::AsyncTcpListener::accept): when descriptors run out,
    /// the error is returned **once**, and further calls wait and try again. Other errors mean that
    /// the listener is unusable.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> io::Result<(AsyncUnixStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// `accept` for hand-written futures.
    ///
    /// # Errors
    /// As [`accept`](AsyncUnixListener::accept).
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AsyncUnixStream, SocketAddr)>> {
        let accept = |io: &net::UnixListener| socket::unix::accept(io);
        let accepted = ready!(self.acceptor.poll_accept(cx, accept));
        Poll::Ready(accepted.and_then(|(fd, peer)| {
            let stream = AsyncUnixStream::adopt(fd.into())?;
            // The peer has hardly sent anything yet.
            stream.socket.assume_empty();
            Ok((stream, peer))
        }))
    }

    /// The connections to come, as a stream that never ends.
    ///
    /// Its items are those of [`accept`](AsyncUnixListener::accept), errors included: go on after
    /// one.
    pub fn incoming(&self) -> Incoming<'_, AsyncUnixListener> {
        Incoming { listener: self }
    }
}

impl Listen for AsyncUnixListener {
    type Connection = AsyncUnixStream;

    fn poll_next_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncUnixStream>> {
        self.poll_accept(cx).map_ok(|(stream, _)| stream)
    }
}

impl_socket!(
    AsyncUnixListener { acceptor },
    net::UnixListener,
    SocketAddr
);
