//! Unix sockets: connections; below it, listening and datagrams.

mod datagram;
mod listener;

pub use datagram::AsyncUnixDatagram;
pub use listener::AsyncUnixListener;

use super::common::wraps;
use super::split::{self, OwnedReadHalf, OwnedWriteHalf};
use super::stream::{Duplex, reads, writes};
use crate::event_loop::boundary;
use crate::event_loop::reactor::Direction;
use crate::fd::Source;
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
    // Before the socket: deregister, then close.
    source: Source,
    io: net::UnixStream,
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
        let stream = AsyncUnixStream::adopt(socket::unix::stream()?)?;
        let mut delay = DELAYS.0;
        loop {
            match socket::unix::connect(&stream.io, addr)? {
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
        stream.source.block(Direction::Read);
        Ok(stream)
    }

    async fn finish_connecting(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await?;
        while !socket::connect_outcome(&self.io)? {
            sleep(Duration::from_millis(1)).await;
            self.source.ready(Direction::Write).await?;
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

    /// Takes over a socket that is ours, non-blocking and close-on-exec.
    fn adopt(fd: OwnedFd) -> io::Result<AsyncUnixStream> {
        let io = net::UnixStream::from(fd);
        Ok(AsyncUnixStream {
            source: Source::owned(&io, Trigger::Edge)?,
            io,
        })
    }

    /// Takes over a connection of std, and makes it non-blocking.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or its descriptor is beyond what this system's `select`
    /// takes. `stream` is closed.
    pub fn from_std(stream: net::UnixStream) -> io::Result<AsyncUnixStream> {
        stream.set_nonblocking(true)?;
        socket::silence(&stream)?;
        AsyncUnixStream::adopt(stream.into())
    }

    /// Gives the connection to std. It stays non-blocking.
    pub fn into_std(self) -> net::UnixStream {
        self.io
    }

    /// The address of this end; mostly, the end that connected has none.
    ///
    /// # Errors
    /// That of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The address of the other end; mostly, the end that connected has none.
    ///
    /// # Errors
    /// That of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
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
        let (uid, gid, pid) = socket::unix::peer(&self.io)?;
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
            let call = || socket::unix::send_fds(&self.io, bytes, fds);
            let is_short = |&n: &usize| n < bytes.len();
            self.source.poll_io(Direction::Write, cx, call, is_short)
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
        poll_fn(|cx| {
            let call = || socket::unix::receive_fds(&self.io, bytes, n_most);
            self.source.poll_io(Direction::Read, cx, call, |_| false)
        })
        .await
        .map(|(n_bytes, fds, truncated)| ReceivedFds {
            n_bytes,
            fds,
            truncated,
        })
    }

    /// Waits until there is something to read: data, the end, or an error. A hint.
    ///
    /// # Errors
    /// EBADF if the descriptor was closed behind the loop's back.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn readable(&self) -> io::Result<()> {
        self.source.ready(Direction::Read).await
    }

    /// Waits until a write would take something, or fail at once. A hint.
    ///
    /// # Errors
    /// As [`readable`](AsyncUnixStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn writable(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await
    }

    /// Shuts down reading, writing, or both, at once.
    ///
    /// # Errors
    /// That of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
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

    /// The error that the system keeps for this socket, if any; asking clears it (`SO_ERROR`).
    ///
    /// # Errors
    /// That of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }
}

impl Duplex for AsyncUnixStream {
    // A read ends behind the byte that descriptors came with, and there may be more.
    const SHORT_READS_EMPTY: bool = false;

    #[allow(private_interfaces, reason = "nobody else can call it")]
    fn source(&self) -> &Source {
        &self.source
    }
}

wraps!(AsyncUnixStream, io, net::UnixStream);
reads!(AsyncUnixStream);
writes!(AsyncUnixStream);
reads!(&AsyncUnixStream);
writes!(&AsyncUnixStream);
