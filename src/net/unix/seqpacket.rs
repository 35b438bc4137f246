//! Connections over Unix sockets that carry records: `SOCK_SEQPACKET`.
//!
//! std has no type for these sockets. [`Registered`] holds one of std's types for other Unix
//! sockets: the calls for addresses, errors and shutting down do not depend on the type of the
//! socket. No such value leaves this module.

use super::datagram::send_with;
use super::{UCred, connect};
use crate::event_loop::boundary;
use crate::fd::Registered;
use crate::net::accept::Acceptor;
use crate::net::common::impl_readiness;
use crate::sys::fd::above_stdio;
use crate::sys::socket::seqpacket;
use crate::sys::{self, socket};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll, ready};

/// A connection between two processes of this machine that carries records (`SOCK_SEQPACKET`).
///
/// As over an [`AsyncUnixStream`](super::AsyncUnixStream), everything arrives once and in order,
/// and the end of the connection is reported. As with datagrams, each [`send`](Self::send) is
/// received by one [`recv`](Self::recv), however short or long. Every operation takes `&self`, so
/// one task may receive while another sends.
///
/// Every operation may be cancelled by dropping its future: a record moves only in the poll that
/// returns ready. A connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUnixSeqpacket>();
/// ```
///
/// # Portability
/// Linux, Android, FreeBSD, DragonFly, NetBSD and OpenBSD have such sockets. On macOS, illumos and
/// Solaris, making one fails with [`Unsupported`](io::ErrorKind::Unsupported).
///
/// # Examples
/// ```
/// use fahrenheit::AsyncUnixSeqpacket;
///
/// fahrenheit::run(async {
///     let (a, b) = match AsyncUnixSeqpacket::pair() {
///         // Not on this system.
///         Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(()),
///         pair => pair?,
///     };
///     a.send(b"one record").await?;
///     a.send(b"and another").await?;
///     drop(a);
///     let mut bytes = [0; 10];
///     let record = b.recv(&mut bytes).await?;
///     assert_eq!(&bytes[..record.n_bytes], b"one record");
///     let record = b.recv(&mut bytes).await?;
///     assert!(record.truncated, "the buffer was too short, and the rest is lost");
///     assert_eq!(b.recv(&mut bytes).await?.n_bytes, 0, "the end");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[doc(alias = "SOCK_SEQPACKET")]
pub struct AsyncUnixSeqpacket {
    socket: Registered<net::UnixDatagram>,
}

/// What [`AsyncUnixSeqpacket::recv`] has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Number of bytes received; 0 at the end of the connection.
    pub n_bytes: usize,
    /// True if the record was longer than the buffer. The rest of it is lost.
    pub truncated: bool,
}

impl AsyncUnixSeqpacket {
    /// Connects to the socket at `path`, on which an [`AsyncUnixSeqpacketListener`] listens.
    ///
    /// If the listener's backlog is full, which only Linux reports, this tries again after 1 ms,
    /// doubling to 50 ms, until the listener has accepted connections.
    /// [`time::timeout`](crate::time::timeout) sets a limit.
    ///
    /// # Errors
    /// `InvalidInput` if `path` is empty, too long (more than 107 bytes on Linux, 103 on the BSDs)
    /// or contains a NUL; `NotFound`; `ConnectionRefused` if no process listens there any more;
    /// EPROTOTYPE if the socket there is of another type; `Unsupported` where the system has no
    /// such sockets.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<AsyncUnixSeqpacket> {
        let addr = socket::unix::path_addr(path.as_ref())?;
        AsyncUnixSeqpacket::connect_addr(&addr).await
    }

    /// Connects to the socket at `addr`, which may be an abstract name; otherwise like
    /// [`connect`](AsyncUnixSeqpacket::connect).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; `Unsupported` where the system
    /// has no such sockets; otherwise the error of `connect(2)`: `NotFound` if there is no such
    /// file, `ConnectionRefused` if no process listens at `addr`.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect_addr(addr: &SocketAddr) -> io::Result<AsyncUnixSeqpacket> {
        boundary::debug!("connect to {addr:?}, for records");
        let connecting = AsyncUnixSeqpacket::adopt(seqpacket::unconnected()?)?;
        connect(&connecting.socket, addr).await?;
        Ok(connecting)
    }

    /// Makes two sockets that are connected to each other and have no name.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` if descriptors run out; a [`RegisterError`](crate::RegisterError) if
    /// one is beyond what this system's `select` takes; `Unsupported` where the system has no such
    /// sockets.
    #[track_caller]
    pub fn pair() -> io::Result<(AsyncUnixSeqpacket, AsyncUnixSeqpacket)> {
        let (a, b) = seqpacket::pair()?;
        Ok((AsyncUnixSeqpacket::adopt(a)?, AsyncUnixSeqpacket::adopt(b)?))
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(fd: OwnedFd) -> io::Result<AsyncUnixSeqpacket> {
        let socket = Registered::datagrams(fd.into())?;
        Ok(AsyncUnixSeqpacket { socket })
    }

    /// Sends `bytes` as one record. Returns their number.
    ///
    /// Waits while the peer has no room. Where the system does not report room for records
    /// (FreeBSD, NetBSD and OpenBSD), sending is tried again after 1 ms, doubling to 50 ms.
    ///
    /// # Errors
    /// `InvalidInput` if `bytes` is empty: the peer would take it for the end. EMSGSIZE if the
    /// record is longer than the system sends (`SO_SNDBUF`); `BrokenPipe` or `ConnectionReset` if
    /// the peer is gone.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = not_empty(bytes)?;
        send_with(&self.socket, true, |socket| socket::send(socket, bytes)).await
    }

    /// Sends `bytes` as one record, without waiting. Returns their number.
    ///
    /// # Errors
    /// `WouldBlock` if the peer has no room, on the BSDs also ENOBUFS. `InvalidInput` if `bytes` is
    /// empty; EMSGSIZE if the record is longer than the system sends; `BrokenPipe` or
    /// `ConnectionReset` if the peer is gone.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::net::AsyncUnixSeqpacket;
    /// use nix::sys::socket::{MsgFlags, recv, send};
    /// use std::{io, net::Shutdown, os::fd::AsRawFd};
    ///
    /// fahrenheit::run(async {
    ///     let (a, b) = match AsyncUnixSeqpacket::pair() {
    ///         // Not on this system.
    ///         Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
    ///         pair => pair?,
    ///     };
    ///     a.try_send(b"one")?;
    ///     let flags = MsgFlags::empty();
    ///     a.try_write_with(|fd| Ok(send(fd.as_raw_fd(), b"two", flags)?))?;
    ///     b.readable().await?;
    ///     let mut bytes = [0; 16];
    ///     assert_eq!(b.try_recv(&mut bytes)?.n_bytes, 3);
    ///     let n = b.try_read_with(|fd| Ok(recv(fd.as_raw_fd(), &mut bytes, flags)?))?;
    ///     assert_eq!(n, 3);
    ///     assert!(b.peer_addr()?.is_unnamed() && b.take_error()?.is_none());
    ///     a.shutdown(Shutdown::Write)?;
    ///
    ///     // To another thread, and back.
    ///     let b = AsyncUnixSeqpacket::from_fd(b.into_fd())?;
    ///     let _blocking = b.into_blocking_fd()?;
    ///     io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = not_empty(bytes)?;
        self.socket
            .try_write_with(|socket| socket::send(socket, bytes))
    }

    /// Receives one record into `bytes`.
    ///
    /// # Errors
    /// `ConnectionReset` if the peer has closed the connection with records of ours unread.
    ///
    /// # Cancel safety
    /// No record is lost by dropping the future.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<Record> {
        self.socket.read_with(|socket| receive(socket, bytes)).await
    }

    /// Receives one record into `bytes`, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if no record has arrived; `ConnectionReset` if the peer has closed the
    /// connection with records of ours unread.
    pub fn try_recv(&self, bytes: &mut [u8]) -> io::Result<Record> {
        self.socket.try_read_with(|socket| receive(socket, bytes))
    }

    /// Makes `call`, which receives from the socket, without waiting. `Interrupted` is retried.
    ///
    /// # Errors
    /// The errors of `call`: `WouldBlock` if there is nothing to receive. EBADF if other code
    /// closed the descriptor.
    pub fn try_read_with<R>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.socket.try_read_with(|socket| call(socket.as_fd()))
    }

    /// Makes `call`, which sends through the socket, without waiting. `Interrupted` is retried.
    ///
    /// # Errors
    /// The errors of `call`: `WouldBlock` if the peer has no room. EBADF if other code closed the
    /// descriptor.
    pub fn try_write_with<R>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.socket.try_write_with(|socket| call(socket.as_fd()))
    }

    /// Returns the address of the peer, which usually has no name.
    ///
    /// # Errors
    /// `NotConnected` if the peer is gone, on systems other than Linux.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().peer_addr()
    }

    /// Returns the identity of the process at the other end, as it was when that process connected
    /// or began to listen.
    ///
    /// # Errors
    /// `Unsupported` on systems that do not report it; `NotConnected` on some systems after the
    /// peer has closed the connection.
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let (uid, gid, pid) = socket::unix::peer(self)?;
        Ok(UCred { uid, gid, pid })
    }

    /// Returns and clears the error that the system has stored for this socket (`SO_ERROR`).
    ///
    /// # Errors
    /// `getsockopt(2)` fails only if the system is short of memory.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.get_ref().take_error()
    }

    /// Shuts down receiving, sending or both, without waiting.
    ///
    /// # Errors
    /// `NotConnected` if the peer is gone, on systems other than Linux.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }
}

/// Returns `bytes`, or an error if they would look like the end of the connection.
fn not_empty(bytes: &[u8]) -> io::Result<&[u8]> {
    if bytes.is_empty() {
        let text = "a record of no bytes would be taken for the end of the connection";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(bytes)
}

fn receive(socket: &net::UnixDatagram, bytes: &mut [u8]) -> io::Result<Record> {
    let (n_bytes, truncated) = seqpacket::receive_record(socket, bytes)?;
    Ok(Record { n_bytes, truncated })
}

/// A Unix socket that listens for connections that carry records.
///
/// Binding makes a file of type socket that stays behind when the listener is dropped: see
/// [`AsyncUnixListener`](super::AsyncUnixListener#paths-outlive-sockets).
///
/// # Examples
/// ```
/// use fahrenheit::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener};
///
/// let path = std::env::temp_dir().join(format!("records-{}.socket", std::process::id()));
/// fahrenheit::run(async {
///     let listener = match AsyncUnixSeqpacketListener::bind(&path) {
///         // Not on this system.
///         Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(()),
///         listener => listener?,
///     };
///     let client = AsyncUnixSeqpacket::connect(&path).await?;
///     let (server, _) = listener.accept().await?;
///     client.send(b"who is there?").await?;
///     let mut bytes = [0; 64];
///     let question = server.recv(&mut bytes).await?;
///     assert_eq!(&bytes[..question.n_bytes], b"who is there?");
///     std::fs::remove_file(&path)
/// })
/// # .unwrap();
/// ```
pub struct AsyncUnixSeqpacketListener {
    acceptor: Acceptor<net::UnixListener>,
}

impl AsyncUnixSeqpacketListener {
    /// Makes a socket at `path` and listens there.
    ///
    /// # Errors
    /// `InvalidInput`, and no file is made, if `path` is empty, too long (more than 107 bytes on
    /// Linux, 103 on the BSDs) or contains a NUL; `AddrInUse` if the file exists; `NotFound` if the
    /// folder does not; `PermissionDenied`; `Unsupported` where the system has no such sockets.
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<AsyncUnixSeqpacketListener> {
        AsyncUnixSeqpacketListener::bind_addr(&socket::unix::path_addr(path.as_ref())?)
    }

    /// Listens on `addr`, which may be an abstract name; otherwise like
    /// [`bind`](AsyncUnixSeqpacketListener::bind).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; `Unsupported` where the system
    /// has no such sockets; otherwise the error of `bind(2)`: `AddrInUse` if the name or the file
    /// exists, `NotFound` if the folder does not, `PermissionDenied` if no file may be made in it.
    #[track_caller]
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<AsyncUnixSeqpacketListener> {
        AsyncUnixSeqpacketListener::adopt(seqpacket::listen(addr)?)
    }

    /// Registers a listener that is non-blocking already.
    #[track_caller]
    fn adopt(fd: OwnedFd) -> io::Result<AsyncUnixSeqpacketListener> {
        let acceptor = Acceptor::new(net::UnixListener::from(fd))?;
        Ok(AsyncUnixSeqpacketListener { acceptor })
    }

    /// Waits for the next connection. Returns it with the address of its peer, which usually has no
    /// name; [`peer_cred`](AsyncUnixSeqpacket::peer_cred) identifies the peer.
    ///
    /// # Errors
    /// When descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the error is
    /// returned **once**, and later calls wait until they succeed. Other errors mean that the
    /// listener is unusable.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> io::Result<(AsyncUnixSeqpacket, SocketAddr)> {
        let accept = |io: &net::UnixListener| socket::unix::accept(io);
        let (fd, peer) = self.acceptor.accept(accept).await?;
        Ok((AsyncUnixSeqpacket::adopt(fd)?, peer))
    }

    /// [`accept`](AsyncUnixSeqpacketListener::accept) for hand-written futures.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM` of `accept(2)` if descriptors or memory run out:
    /// once, as [`accept`](AsyncUnixSeqpacketListener::accept) explains.
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AsyncUnixSeqpacket, SocketAddr)>> {
        let accept = |io: &net::UnixListener| socket::unix::accept(io);
        let accepted = ready!(self.acceptor.poll_accept(cx, accept));
        Poll::Ready(accepted.and_then(|(fd, peer)| Ok((AsyncUnixSeqpacket::adopt(fd)?, peer))))
    }
}

/// Implements what a connection and its listener have in common.
macro_rules! impl_fd_socket {
    ($type:ident { $field:ident }) => {
        impl $type {
            /// Takes over a socket, which must be of type `SOCK_SEQPACKET`, and makes it
            /// non-blocking.
            ///
            /// # Errors
            /// If `fcntl(2)` fails, or a [`RegisterError`](crate::RegisterError) if the descriptor
            /// is beyond what this system's `select` takes. The socket is closed then.
            #[track_caller]
            pub fn from_fd(fd: OwnedFd) -> io::Result<$type> {
                let fd = above_stdio(fd)?;
                sys::fd::set_flags(&fd)?;
                socket::silence(&fd)?;
                $type::adopt(fd)
            }

            /// Converts into a descriptor, which is still non-blocking.
            pub fn into_fd(self) -> OwnedFd {
                self.$field.into_inner().into()
            }

            /// Converts into a descriptor that blocks, as other programs expect it.
            ///
            /// # Errors
            /// `fcntl(2)` fails only if other code closed the descriptor.
            pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
                let fd = self.into_fd();
                sys::fd::set_blocking(&fd)?;
                Ok(fd)
            }

            /// Returns the address that this socket is bound to. It need not have a name.
            ///
            /// # Errors
            /// `getsockname(2)` fails only if the system is short of memory.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.$field.get_ref().local_addr()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("fd", &self.as_raw_fd())
                    .field("local", &self.local_addr().ok())
                    .finish()
            }
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.$field.get_ref().as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    };
}

impl_readiness!(AsyncUnixSeqpacket { socket });
impl_fd_socket!(AsyncUnixSeqpacket { socket });
impl_fd_socket!(AsyncUnixSeqpacketListener { acceptor });
