//! Listening for connections over Unix sockets.

use super::AsyncUnixStream;
use crate::net::accept::Acceptor;
use crate::net::common::impl_socket;
use crate::sys::fd::above_stdio;
use crate::sys::socket;
use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll, ready};

/// A Unix socket that listens for connections.
///
/// # Paths outlive sockets
/// Binding makes a file of type socket, and **nothing removes it** when the listener is dropped or
/// the process ends: the next `bind` fails with `AddrInUse`. Connecting shows whether a process
/// still listens there:
///
/// ```
/// use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
/// use std::{fs, io, path::Path};
///
/// async fn listen(path: &Path) -> io::Result<AsyncUnixListener> {
///     match AsyncUnixStream::connect(path).await {
///         // No process listens there: the file was left behind.
///         Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
///         // `NotFound`, as expected, or an error that `bind` will return as well.
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
/// Two processes that start at once may both find that no process listens; a lock file prevents
/// that. Abstract names, which Linux has, leave nothing behind:
/// see [`bind_addr`](AsyncUnixListener::bind_addr).
#[doc(alias = "UnixListener")]
pub struct AsyncUnixListener {
    acceptor: Acceptor<net::UnixListener>,
}

impl AsyncUnixListener {
    /// Makes a socket at `path` and listens there.
    ///
    /// The permissions of the folder decide who may connect and, on Linux and most other systems,
    /// those of the file, which the umask determines at first.
    ///
    /// # Errors
    /// `InvalidInput`, and no file is made, if `path` is empty, too long (more than 107 bytes on
    /// Linux, 103 on macOS and the BSDs) or contains a NUL; `AddrInUse` if the file exists;
    /// `NotFound` if the folder does not; `PermissionDenied` if no file may be made in it.
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<AsyncUnixListener> {
        AsyncUnixListener::bind_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// Listens on `addr`, which may be an abstract name; otherwise like
    /// [`bind`](AsyncUnixListener::bind).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; otherwise the error of
    /// `bind(2)`: `AddrInUse` if the name or the file exists, `NotFound` if the folder does not,
    /// `PermissionDenied` if no file may be made in it.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
    /// use std::os::unix::net::SocketAddr;
    ///
    /// let path = std::env::temp_dir().join(format!("example-{}.socket", std::process::id()));
    /// // On Linux, `SocketAddrExt::from_abstract_name` makes a name that leaves no file.
    /// let addr = SocketAddr::from_pathname(&path)?;
    /// let listener = AsyncUnixListener::bind_addr(&addr)?;
    /// fahrenheit::run(async {
    ///     AsyncUnixStream::connect_addr(&addr).await?;
    ///     listener.accept().await
    /// })?;
    /// std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<AsyncUnixListener> {
        let addr = socket::unix::named(addr)?;
        AsyncUnixListener::from_std(above_stdio(net::UnixListener::bind_addr(addr)?)?)
    }

    /// Registers a listener that is non-blocking already.
    #[track_caller]
    fn adopt(listener: net::UnixListener) -> io::Result<AsyncUnixListener> {
        let acceptor = Acceptor::new(listener)?;
        Ok(AsyncUnixListener { acceptor })
    }

    /// Waits for the next connection. Returns it with the address of its peer, which usually has no
    /// name; [`peer_cred`](AsyncUnixStream::peer_cred) identifies the peer.
    ///
    /// Connections that were lost before they could be accepted are passed over.
    ///
    /// # Errors
    /// When descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the error is
    /// returned **once**; later calls wait and try again, like those of
    /// [`AsyncTcpListener::accept`](crate::AsyncTcpListener::accept). `PermissionDenied`, from a
    /// sandbox, is returned if each of 32 calls in a row fails with it. Other errors mean that the
    /// listener is unusable.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> io::Result<(AsyncUnixStream, SocketAddr)> {
        let accept = |io: &net::UnixListener| socket::unix::accept(io);
        let (fd, peer) = self.acceptor.accept(accept).await?;
        Ok((AsyncUnixStream::new_connection(fd)?, peer))
    }

    /// [`accept`](AsyncUnixListener::accept) for hand-written futures.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM` of `accept(2)` if descriptors or memory run out:
    /// once, as [`accept`](AsyncUnixListener::accept) explains.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixListener, AsyncUnixStream};
    /// use std::future::poll_fn;
    ///
    /// fahrenheit::run(async {
    ///     let name = format!("fahrenheit-accept-{}", std::process::id());
    ///     let path = std::env::temp_dir().join(name);
    ///     let listener = AsyncUnixListener::bind(&path)?;
    ///     let _client = AsyncUnixStream::connect(&path).await?;
    ///     let (_server, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    ///     std::fs::remove_file(&path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AsyncUnixStream, SocketAddr)>> {
        let accept = |io: &net::UnixListener| socket::unix::accept(io);
        let accepted = ready!(self.acceptor.poll_accept(cx, accept));
        Poll::Ready(accepted.and_then(|(fd, peer)| {
            let stream = AsyncUnixStream::new_connection(fd)?;
            Ok((stream, peer))
        }))
    }
}

impl_socket!(
    AsyncUnixListener { acceptor },
    net::UnixListener,
    SocketAddr
);
