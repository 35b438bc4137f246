//! Unix sockets: connections; below it, listening and datagrams.

mod datagram;
mod listener;

pub use datagram::AsyncUnixDatagram;
pub use listener::AsyncUnixListener;

use super::common::{impl_data_socket, impl_socket};
use super::split::{self, OwnedReadHalf, OwnedWriteHalf};
use super::stream::Duplex;
use crate::event_loop::boundary;
use crate::fd::{Registered, impl_async_io};
use crate::sys::socket::unix::Connecting;
use crate::sys::{Trigger, socket};
use crate::time::sleep;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// The first delay after a queue was full, and the longest; it doubles in between.
const DELAYS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A connection between two processes of this machine.
///
/// Reads and writes as futures-io's `AsyncRead` and `AsyncWrite`; so does `&AsyncUnixStream`, so
/// that one task may read while another writes. Nothing is buffered. `close` shuts down writing,
/// and reading goes on; dropping closes.
///
/// Every operation may be cancelled by dropping its future: bytes and descriptors move only when it
/// is ready. A connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncUnixStream>();
/// ```
///
/// [`into_std`](AsyncUnixStream::into_std) and [`from_std`](AsyncUnixStream::from_std) move it to
/// another.
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
pub struct AsyncUnixStream {
    socket: Registered<net::UnixStream>,
}

/// Who is at the other end of a connection, as the system says and nobody can forge.
///
/// Returned by [`AsyncUnixStream::peer_cred`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UCred {
    uid: u32,
    gid: u32,
    pid: Option<u32>,
}

impl UCred {
    /// The number of the peer's effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of the peer's effective group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The number of the process that connected, or listened; `None` where the system does not say.
    ///
    /// By now that process may have ended, and its number belong to another.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// What [`AsyncUnixStream::recv_fds`] has received.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReceivedFds {
    /// How many bytes; 0 is the end, or there was no room for any.
    pub n_bytes: usize,
    /// The descriptors that came with them, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// There were more descriptors than were asked for, or than this process may open. They are
    /// closed.
    pub truncated: bool,
}

impl AsyncUnixStream {
    /// Connects to the socket at `path`.
    ///
    /// Linux refuses to queue more connections than the listener has asked for. This then tries
    /// again, after 1 ms at first and 50 ms at most, until the listener has accepted some:
    /// [`time::timeout`](crate::time::timeout) sets a limit.
    ///
    /// # Errors
    /// `InvalidInput` if `path` is empty, too long (more than 107 bytes on Linux, 103 on macOS and
    /// the BSDs) or has a NUL in it; `NotFound`; `ConnectionRefused` if nobody listens there any
    /// more, and on other systems than Linux also if the listener's queue is full.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<AsyncUnixStream> {
        let addr = socket::unix::path_addr(path.as_ref())?;
        AsyncUnixStream::connect_addr(&addr).await
    }

    /// As [`connect`](AsyncUnixStream::connect), to a socket that may have an abstract name.
    ///
    /// # Errors
    /// As `connect`; `InvalidInput` for the address of a socket without a name.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect_addr(addr: &SocketAddr) -> io::Result<AsyncUnixStream> {
        boundary::debug!("connect to {addr:?}");
        let stream = AsyncUnixStream::adopt(socket::unix::stream()?.into())?;
        let mut delay = DELAYS.0;
        loop {
            match socket::unix::connect(&stream, addr)? {
                Connecting::Done => break,
                Connecting::UnderWay => {
                    stream.finish_connecting().await?;
                    break;
                }
                // The socket looks writable and is not connected: readiness is no help.
                Connecting::QueueFull => sleep(delay).await,
            }
            delay = (2 * delay).min(DELAYS.1);
        }
        // The peer has hardly sent anything yet.
        stream.socket.assume_empty();
        Ok(stream)
    }

    async fn finish_connecting(&self) -> io::Result<()> {
        self.socket.writable().await?;
        while !socket::connect_outcome(self)? {
            sleep(Duration::from_millis(1)).await;
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// Two ends of a connection without a name.
    ///
    /// # Errors
    /// If descriptors run out, or are beyond what this system's `select` takes.
    pub fn pair() -> io::Result<(AsyncUnixStream, AsyncUnixStream)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((AsyncUnixStream::from_std(a)?, AsyncUnixStream::from_std(b)?))
    }

    /// Registers a socket that is non-blocking already.
    #[track_caller]
    fn adopt(socket: net::UnixStream) -> io::Result<AsyncUnixStream> {
        let socket = Registered::new(socket, Trigger::Edge)?;
        Ok(AsyncUnixStream { socket })
    }

    /// Who was at the other end when it connected, or when it began to listen.
    ///
    /// # Errors
    /// That of the system; `Unsupported` where it cannot be asked.
    ///
    /// # Portability
    /// The process is known on Linux, macOS, illumos and Solaris.
    ///
    /// # Examples
    /// ```
    /// let (a, _b) = fahrenheit::AsyncUnixStream::pair()?;
    /// println!("connected to user {}", a.peer_cred()?.uid());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<UCred> {
        let (uid, gid, pid) = socket::unix::peer(self)?;
        Ok(UCred { uid, gid, pid })
    }

    /// Sends `bytes`, and copies of `fds` with the first of them; returns how many bytes were
    /// taken.
    ///
    /// The rest is for [`write_all`](futures_util::io::AsyncWriteExt::write_all); `fds` are on
    /// their way once this is ready. The peer gets descriptors of its own for the same open files,
    /// and shares their offset and their `O_NONBLOCK` flag. The peer has to
    /// [`recv_fds`](AsyncUnixStream::recv_fds): an ordinary read closes what comes with the bytes.
    ///
    /// # Errors
    /// `InvalidInput` if `bytes` is empty, and for more descriptors than the system sends at once
    /// (253 on Linux); `ETOOMANYREFS` if too many are on their way; else as a write.
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
    pub async fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        poll_fn(|cx| {
            let call = |socket: &_| socket::unix::send_fds(socket, bytes, fds);
            self.socket.poll_write_with(cx, call, |&n| n < bytes.len())
        })
        .await
    }

    /// Receives bytes, and at most `n_most` descriptors that were sent with one of them.
    ///
    /// A read never goes on behind a byte with descriptors: they belong to the bytes that came with
    /// them. Always ask for as many as the peer may send, and look at
    /// [`truncated`](ReceivedFds::truncated).
    ///
    /// # Errors
    /// As a read.
    ///
    /// # Cancel safety
    /// Neither bytes nor descriptors are lost by dropping the future.
    ///
    /// # Portability
    /// On macOS, Solaris and rarer systems, a descriptor is made close-on-exec right after it has
    /// arrived, and another thread's `fork` and `exec` in between takes it along.
    pub async fn recv_fds(&self, bytes: &mut [u8], n_most: usize) -> io::Result<ReceivedFds> {
        let call = |socket: &_| socket::unix::receive_fds(socket, bytes, n_most);
        let (n_bytes, fds, truncated) = self.socket.read_with(call).await?;
        Ok(ReceivedFds {
            n_bytes,
            fds,
            truncated,
        })
    }

    /// Shuts down reading, writing, or both, at once.
    ///
    /// # Errors
    /// That of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// Splits the connection into halves that may go to different tasks.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = fahrenheit::AsyncUnixStream::pair()?;
    /// let (read, write) = stream.into_split();
    /// let stream = read.reunite(write).expect("the halves are of one connection");
    /// # drop(stream);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        split::split(self)
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
impl_data_socket!(AsyncUnixStream { socket }, SocketAddr);
impl_async_io!(
    AsyncRead for [AsyncUnixStream, &AsyncUnixStream],
    stream => stream.socket
);
impl_async_io!(
    AsyncWrite for [AsyncUnixStream, &AsyncUnixStream],
    stream => stream.socket, close => stream.close_write()
);
