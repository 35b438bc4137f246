//! Unix sockets: connections. Below it, listening, datagrams, and connections that carry records.

mod datagram;
mod listener;
mod seqpacket;

pub use datagram::AsyncUnixDatagram;
pub use listener::AsyncUnixListener;
pub use seqpacket::{AsyncUnixSeqpacket, AsyncUnixSeqpacketListener, Record};

use super::common::{impl_data_socket, impl_socket, impl_try_io};
use super::stream::Duplex;
use crate::event_loop::boundary;
use crate::fd::{Registered, impl_async_io, impl_read_uninit};
use crate::sys::fd::above_stdio;
use crate::sys::socket::unix::Connecting;
use crate::sys::{Trigger, socket};
use crate::time::sleep;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// First delay before another attempt at a full queue; it doubles up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(1);
/// Maximum delay before another attempt at a full queue.
const MAX_DELAY: Duration = Duration::from_millis(50);

/// A connection between two processes of this machine.
///
/// Implements `AsyncRead` and `AsyncWrite` of futures-io. So does `&AsyncUnixStream`, so that one
/// task may read while another writes. Nothing is buffered. `close` shuts down writing and leaves
/// reading open; dropping the stream closes both directions.
///
/// Every operation may be cancelled by dropping its future: bytes and descriptors move only in the
/// poll that returns ready. A connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUnixStream>();
/// ```
///
/// [`into_std`](AsyncUnixStream::into_std) and [`from_std`](AsyncUnixStream::from_std) move it to
/// another thread.
///
/// # Examples
/// ```
/// use fahrenheit::{prelude::*, AsyncUnixStream};
///
/// fahrenheit::run(async {
///     let (mut a, mut b) = AsyncUnixStream::pair()?;
///     a.write_all(b"hello").await?;
///     a.close().await?;
///     let mut text = String::new();
///     b.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[doc(alias = "UnixStream")]
pub struct AsyncUnixStream {
    socket: Registered<net::UnixStream>,
}

/// The identity of the peer of a connection, as reported by the system. The peer cannot forge it.
///
/// Returned by [`AsyncUnixStream::peer_cred`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UCred {
    uid: u32,
    gid: u32,
    pid: Option<u32>,
}

impl UCred {
    /// Returns the effective user id of the peer.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the effective group id of the peer.
    ///
    /// # Examples
    /// ```
    /// let (a, _b) = fahrenheit::AsyncUnixStream::pair()?;
    /// let peer = a.peer_cred()?;
    /// println!("user {}, group {}, process {:?}", peer.uid(), peer.gid(), peer.pid());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns the id of the process that connected or listened; `None` on systems that do not
    /// report it.
    ///
    /// That process may have ended since, and its id may have been reused.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// What [`AsyncUnixStream::recv_fds`] has received.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReceivedFds {
    /// Number of bytes received; 0 at the end of the stream, or if the buffer was empty.
    pub n_bytes: usize,
    /// The descriptors that came with the bytes; they are close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// True if the peer sent more descriptors than were asked for, or than this process may open.
    /// The surplus is closed.
    pub truncated: bool,
}

/// Connects `socket`, which is not connected yet, to `addr`.
async fn connect<T: AsFd>(socket: &Registered<T>, addr: &SocketAddr) -> io::Result<()> {
    let mut delay = MIN_DELAY;
    loop {
        match socket::unix::connect(socket.get_ref(), addr)? {
            Connecting::Done => return Ok(()),
            Connecting::UnderWay => break,
            // The socket looks writable although it is not connected, so waiting until it is
            // ready would not wait at all.
            Connecting::QueueFull => sleep(delay).await,
        }
        delay = (2 * delay).min(MAX_DELAY);
    }
    socket.writable().await?;
    while !socket::connect_outcome(socket.get_ref())? {
        // Writable but not connected: without a pause, this loop would take a whole core.
        sleep(MIN_DELAY).await;
        socket.writable().await?;
    }
    Ok(())
}

impl AsyncUnixStream {
    /// Connects to the socket at `path`.
    ///
    /// If the listener's backlog is full, which only Linux reports, this tries again after 1 ms,
    /// doubling to 50 ms, until the listener has accepted connections.
    /// [`time::timeout`](crate::time::timeout) sets a limit.
    ///
    /// # Errors
    /// `InvalidInput` if `path` is empty, too long (more than 107 bytes on Linux, 103 on macOS and
    /// the BSDs) or contains a NUL; `NotFound`; `ConnectionRefused` if no process listens there any
    /// more and, on systems other than Linux, if the listener's backlog is full.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<AsyncUnixStream> {
        let addr = socket::unix::path_addr(path.as_ref())?;
        AsyncUnixStream::connect_addr(&addr).await
    }

    /// Connects to the socket at `addr`, which may be an abstract name; otherwise like
    /// [`connect`](AsyncUnixStream::connect).
    ///
    /// # Errors
    /// `InvalidInput` if `addr` is the address of an unnamed socket; otherwise the error of
    /// `connect(2)`: `NotFound` if there is no such file, `ConnectionRefused` if no process listens
    /// at `addr` and, on systems other than Linux, if the listener's backlog is full.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect_addr(addr: &SocketAddr) -> io::Result<AsyncUnixStream> {
        boundary::debug!("connect to {addr:?}");
        let stream = AsyncUnixStream::new_connection(socket::unix::stream()?)?;
        connect(&stream.socket, addr).await?;
        Ok(stream)
    }

    /// Makes two sockets that are connected to each other and have no name.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` if descriptors run out, or a [`RegisterError`](crate::RegisterError) if
    /// one is beyond what this system's `select` takes.
    #[track_caller]
    pub fn pair() -> io::Result<(AsyncUnixStream, AsyncUnixStream)> {
        let (a, b) = net::UnixStream::pair()?;
        let [a, b] = [above_stdio(a)?, above_stdio(b)?];
        Ok((AsyncUnixStream::from_std(a)?, AsyncUnixStream::from_std(b)?))
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UnixStream) -> io::Result<AsyncUnixStream> {
        let socket = Registered::new(socket, Trigger::Edge)?;
        Ok(AsyncUnixStream { socket })
    }

    /// Registers a connection that was made just now, or is about to be made.
    fn new_connection(fd: OwnedFd) -> io::Result<AsyncUnixStream> {
        let socket = Registered::new_connection(fd.into())?;
        Ok(AsyncUnixStream { socket })
    }

    /// Returns the identity of the process at the other end, as it was when that process connected
    /// or began to listen.
    ///
    /// # Errors
    /// `Unsupported` on systems that do not report it; `NotConnected` on some systems after the
    /// peer has closed the connection.
    ///
    /// # Portability
    /// The process id is known on Linux, macOS, illumos and Solaris.
    ///
    /// # Examples
    /// ```
    /// let (a, _b) = fahrenheit::AsyncUnixStream::pair()?;
    /// println!("connected to user {}", a.peer_cred()?.uid());
    /// # std::io::Result::Ok(())
    /// ```
    #[doc(alias("SO_PEERCRED", "getpeereid"))]
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let (uid, gid, pid) = socket::unix::peer(self)?;
        Ok(UCred { uid, gid, pid })
    }

    /// Sends `bytes` and, with the first of them, duplicates of `fds`. Returns the number of bytes
    /// sent.
    ///
    /// Send the rest by [`write_all`](futures_util::io::AsyncWriteExt::write_all): all of `fds` are
    /// sent when this returns. The peer gets descriptors of its own for the same open files, and
    /// shares their offset and their `O_NONBLOCK` flag. It must receive them by
    /// [`recv_fds`](AsyncUnixStream::recv_fds): an ordinary read closes descriptors that come with
    /// the bytes.
    ///
    /// # Errors
    /// `InvalidInput` if `bytes` is empty, or if there are more descriptors than the system sends
    /// at once (253 on Linux); `ETOOMANYREFS` if too many descriptors have been sent and not yet
    /// received; otherwise the error of `sendmsg(2)`: EPIPE or ECONNRESET if the peer has closed
    /// the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has been sent.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::AsyncUnixStream;
    /// use std::{fs::File, io::Read, os::fd::AsFd};
    ///
    /// fahrenheit::run(async {
    ///     let (a, b) = AsyncUnixStream::pair()?;
    ///     let zeros = File::open("/dev/zero")?;
    ///     a.send_fds(b"zeros", &[zeros.as_fd()]).await?;
    ///
    ///     let mut bytes = [0; 16];
    ///     let mut received = b.recv_fds(&mut bytes, 1).await?;
    ///     assert_eq!(&bytes[..received.n_bytes], b"zeros");
    ///     let mut zeros = File::from(received.fds.remove(0));
    ///     zeros.read_exact(&mut bytes)?;
    ///     assert_eq!(bytes, [0; 16]);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[doc(alias("SCM_RIGHTS", "sendmsg"))]
    pub async fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        poll_fn(|cx| {
            let call = |socket: &net::UnixStream| socket::unix::send_fds(socket, bytes, fds);
            let sent = self.socket.poll_write_with(cx, call, |_| false);
            // macOS may have no buffer for it although the socket is writable.
            Registered::<net::UnixStream>::or_wait(sent, cx)
        })
        .await
    }

    /// Receives bytes, and up to `max_fds` descriptors that were sent with one of them.
    ///
    /// A read ends at a byte that descriptors came with, so that it is clear which bytes they
    /// belong to. Always ask for as many as the peer may send, and check
    /// [`truncated`](ReceivedFds::truncated).
    ///
    /// # Errors
    /// The error of `recvmsg(2)`: ECONNRESET if the peer has closed the connection with bytes of
    /// ours unread; EMFILE on macOS if this process may open no more descriptors.
    ///
    /// # Cancel safety
    /// Neither bytes nor descriptors are lost by dropping the future.
    ///
    /// # Portability
    /// On macOS, Solaris and some rarer systems, a descriptor becomes close-on-exec only after it
    /// has arrived: a `fork` and `exec` by another thread in between passes it on.
    #[doc(alias("SCM_RIGHTS", "recvmsg"))]
    pub async fn recv_fds(&self, bytes: &mut [u8], max_fds: usize) -> io::Result<ReceivedFds> {
        let call = |socket: &_| socket::unix::receive_fds(socket, bytes, max_fds);
        let (n_bytes, fds, truncated) = self.socket.read_with(call).await?;
        Ok(ReceivedFds {
            n_bytes,
            fds,
            truncated,
        })
    }

    /// Shuts down reading, writing or both, without waiting.
    ///
    /// # Errors
    /// `NotConnected` if the peer is gone, on systems other than Linux.
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{AsyncUnixStream, prelude::*};
    /// use std::net::Shutdown;
    ///
    /// fahrenheit::run(async {
    ///     let (a, mut b) = AsyncUnixStream::pair()?;
    ///     a.shutdown(Shutdown::Write)?;
    ///     assert_eq!(b.read(&mut [0; 16]).await?, 0, "the end");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }
}

impl Duplex for AsyncUnixStream {
    type Socket = net::UnixStream;

    #[allow(private_interfaces, reason = "the trait is sealed")]
    fn registered(&self) -> &Registered<net::UnixStream> {
        &self.socket
    }
}

impl_socket!(AsyncUnixStream { socket }, net::UnixStream, SocketAddr);
impl_data_socket!(AsyncUnixStream { socket }, net::UnixStream, SocketAddr);
impl_try_io!(AsyncUnixStream { socket });
impl_read_uninit!([AsyncUnixStream], "AsyncUnixStream", stream => stream.socket);
impl_async_io!(
    AsyncRead for [AsyncUnixStream, &AsyncUnixStream],
    stream => stream.socket
);
impl_async_io!(
    AsyncWrite for [AsyncUnixStream, &AsyncUnixStream],
    stream => stream.socket, close => stream.close_write()
);
