//! TCP: connecting, listening, reading, writing, and the two halves of a connection.

use super::addr::{self, ToSocketAddrs};
use crate::fd::Source;
use crate::reactor::Direction;
use crate::runtime::with;
use crate::sys::{Trigger, socket};
use crate::time::{self, Sleep, sleep};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::stream::{FusedStream, Stream};
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A TCP connection.
///
/// Reads and writes as futures-io's `AsyncRead` and `AsyncWrite`; so does `&AsyncTcpStream`, so that
/// one task may read while another writes. Nothing is buffered: what a write returned is with the
/// kernel. `close` shuts down writing, and reading goes on; dropping closes.
///
/// Every operation may be cancelled by dropping its future: bytes move only when it is ready. A
/// connection belongs to the thread that made it:
///
/// ```compile_fail
/// fn must_be_send<T: Send>() {}
/// must_be_send::<fahrenheit::AsyncTcpStream>();
/// ```
///
/// [`into_std`](AsyncTcpStream::into_std) and [`from_std`](AsyncTcpStream::from_std) move it to
/// another.
///
/// # Examples
/// ```
/// use fahrenheit::{prelude::*, AsyncTcpListener, AsyncTcpStream};
///
/// fahrenheit::run(async {
///     let listener = AsyncTcpListener::bind("127.0.0.1:0")?;
///     let mut client = AsyncTcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _peer) = listener.accept().await?;
///     client.write_all(b"hello").await?;
///     client.close().await?;
///     let mut text = String::new();
///     server.read_to_string(&mut text).await?;
///     assert_eq!(text, "hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct AsyncTcpStream {
    // Before the socket: deregister, then close.
    source: Source,
    io: net::TcpStream,
}

impl AsyncTcpStream {
    /// Connects to the first address of `addr` that answers.
    ///
    /// A host name is looked up in the blocking pool; addresses need no thread. Several addresses
    /// are tried in turn, each for as long as the system tries, which may be minutes: see
    /// [`connect_timeout`](AsyncTcpStream::connect_timeout).
    ///
    /// Connecting to a port of one's own machine that nobody listens on may, very rarely, connect
    /// the socket to itself; then `local_addr` and `peer_addr` are equal.
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    #[track_caller]
    pub fn connect(addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<AsyncTcpStream>> {
        let target = addr.target();
        async move {
            let mut last = addr::none();
            for addr in addr::resolve(target?).await? {
                match AsyncTcpStream::connect_one(addr).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }

    /// [`connect`](AsyncTcpStream::connect), for at most `limit`, the look-up included.
    ///
    /// # Errors
    /// As `connect`; of kind [`TimedOut`](io::ErrorKind::TimedOut) if the limit passes first.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect_timeout(
        addr: impl ToSocketAddrs,
        limit: Duration,
    ) -> io::Result<AsyncTcpStream> {
        time::timeout(limit, AsyncTcpStream::connect(addr)).await?
    }

    async fn connect_one(addr: SocketAddr) -> io::Result<AsyncTcpStream> {
        log::debug!("connect to {addr}");
        let (fd, mut connected) = socket::connect(&addr)?;
        let stream = AsyncTcpStream::fresh(fd)?;
        while !connected {
            stream.source.ready(Direction::Write).await?;
            connected = socket::connect_outcome(&stream.io)?;
            if !connected {
                // Writable and not connected: `select` would say so again and again.
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(stream)
    }

    /// Takes over a socket that is ours, non-blocking and close-on-exec.
    fn adopt(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let io = net::TcpStream::from(fd);
        Ok(AsyncTcpStream {
            source: Source::owned(&io, Trigger::Edge)?,
            io,
        })
    }

    /// Takes over a connection that was made just now. Its peer has hardly sent anything yet, so
    /// the first read waits before it asks.
    fn fresh(fd: OwnedFd) -> io::Result<AsyncTcpStream> {
        let stream = AsyncTcpStream::adopt(fd)?;
        stream.source.block(Direction::Read);
        Ok(stream)
    }

    /// Takes over a connection of std, and makes it non-blocking.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or its descriptor is beyond what this system's `select`
    /// takes. `stream` is closed.
    pub fn from_std(stream: net::TcpStream) -> io::Result<AsyncTcpStream> {
        stream.set_nonblocking(true)?;
        socket::silence(&stream)?;
        AsyncTcpStream::adopt(stream.into())
    }

    /// Gives the connection to std. It stays non-blocking.
    pub fn into_std(self) -> net::TcpStream {
        self.io
    }

    /// The address of this end.
    ///
    /// # Errors
    /// That of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// That of the system: for one, if the connection has been reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Reads without taking: the next read returns the same bytes. Returns 0 at the end.
    ///
    /// # Errors
    /// As a read.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // Never short: what is peeked at is still there to be read.
        let mut call = || self.io.peek(bytes);
        poll_fn(|cx| {
            self.source
                .poll_io(Direction::Read, cx, &mut call, |_| false)
        })
        .await
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
    /// As [`readable`](AsyncTcpStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn writable(&self) -> io::Result<()> {
        self.source.ready(Direction::Write).await
    }

    /// Waits for urgent ("out-of-band") data.
    ///
    /// # Errors
    /// As [`readable`](AsyncTcpStream::readable).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn exceptional(&self) -> io::Result<()> {
        self.source.ready(Direction::Except).await
    }

    /// Shuts down reading, writing, or both, at once.
    ///
    /// # Errors
    /// That of the system: `NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// That of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.nodelay()
    }

    /// Sets whether small writes are sent at once, instead of being gathered for a moment.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.io.set_nodelay(on)
    }

    /// How many routers a packet may cross (`IP_TTL`).
    ///
    /// # Errors
    /// That of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.ttl()
    }

    /// Sets how many routers a packet may cross: 1 to 255.
    ///
    /// # Errors
    /// That of the system: `InvalidInput` for other numbers.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.set_ttl(hops)
    }

    /// How closing treats data that has not been sent (`SO_LINGER`).
    ///
    /// # Errors
    /// That of the system.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(socket::linger(&self.io)?.map(Duration::from_secs))
    }

    /// Sets how closing treats data that has not been sent. `None`, the default: it is sent in the
    /// background. Zero: it is thrown away, and the connection is reset.
    ///
    /// Counted in whole seconds, rounded up. Anything above zero makes *dropping* the connection
    /// block the thread for as long, which is hardly ever wanted.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        let up = |linger: Duration| {
            linger
                .as_secs()
                .saturating_add(u64::from(linger.subsec_nanos() > 0))
        };
        socket::set_linger(&self.io, linger.map(up))
    }

    /// Whether a silent peer is asked now and then whether it still lives (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// That of the system.
    pub fn keepalive(&self) -> io::Result<bool> {
        socket::keepalive(&self.io)
    }

    /// Sets whether a silent peer is asked now and then whether it still lives.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        socket::set_keepalive(&self.io, on)
    }

    /// The error that the system keeps for this socket, if any; asking clears it (`SO_ERROR`).
    ///
    /// # Errors
    /// That of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.take_error()
    }

    /// Splits the connection into halves that may go to different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Rc::new(self);
        (
            OwnedReadHalf(Rc::clone(&stream)),
            OwnedWriteHalf { stream, open: true },
        )
    }

    fn poll_read_ref(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len();
        let call = || (&self.io).read(bytes);
        self.source
            .poll_io(Direction::Read, cx, call, |&n| 0 < n && n < len)
    }

    fn poll_read_vectored_ref(
        &self,
        cx: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let call = || (&self.io).read_vectored(slices);
        self.source
            .poll_io(Direction::Read, cx, call, |&n| 0 < n && n < len)
    }

    fn poll_write_ref(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let call = || socket::send(&self.io, bytes);
        self.source
            .poll_io(Direction::Write, cx, call, |&n| n < bytes.len())
    }

    fn poll_write_vectored_ref(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Not short when it takes less: so many slices may be more than one call takes.
        let call = || socket::send_vectored(&self.io, slices);
        self.source.poll_io(Direction::Write, cx, call, |_| false)
    }

    /// Shuts down writing. That it is done already, or that the peer is gone, is no error.
    fn close_write(&self) -> io::Result<()> {
        match self.io.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }
}

impl fmt::Debug for AsyncTcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl TryFrom<net::TcpStream> for AsyncTcpStream {
    type Error = io::Error;

    fn try_from(stream: net::TcpStream) -> io::Result<AsyncTcpStream> {
        AsyncTcpStream::from_std(stream)
    }
}

impl AsFd for AsyncTcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsRawFd for AsyncTcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

/// Implements reading for a type with a `stream()`.
macro_rules! reads {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_read_ref(cx, bytes)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_read_vectored_ref(cx, slices)
            }
        }
    };
}

/// Implements writing for a type with a `stream()`.
macro_rules! writes {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_write_ref(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_write_vectored_ref(cx, slices)
            }

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.stream().close_write())
            }
        }
    };
}

impl AsyncTcpStream {
    fn stream(&self) -> &AsyncTcpStream {
        self
    }
}

reads!(AsyncTcpStream);
writes!(AsyncTcpStream);
reads!(&AsyncTcpStream);
writes!(&AsyncTcpStream);

/// The reading half of a connection. The connection is closed when both halves are dropped.
#[derive(Debug)]
pub struct OwnedReadHalf(Rc<AsyncTcpStream>);

/// The writing half of a connection. Dropping it shuts down writing, so that the peer reads the end.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Rc<AsyncTcpStream>,
    /// Whether dropping it shuts down writing.
    open: bool,
}

/// Two halves that are not of one connection; both are given back.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same connection")
    }
}

impl std::error::Error for ReuniteError {}

impl OwnedReadHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    #[allow(
        clippy::missing_panics_doc,
        reason = "a connection has exactly two halves"
    )]
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<AsyncTcpStream, ReuniteError> {
        if !Rc::ptr_eq(&self.0, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        Ok(Rc::try_unwrap(self.0).expect("a connection has two halves"))
    }

    fn stream(&self) -> &AsyncTcpStream {
        &self.0
    }
}

impl OwnedWriteHalf {
    /// As [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    /// The halves, if they are not of one connection.
    pub fn reunite(self, read: OwnedReadHalf) -> Result<AsyncTcpStream, ReuniteError> {
        read.reunite(self)
    }

    /// Drops this half without shutting down writing.
    pub fn forget(mut self) {
        self.open = false;
    }

    fn stream(&self) -> &AsyncTcpStream {
        &self.stream
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.open {
            // The peer may have gone, which is its right.
            let _ = self.stream.close_write();
        }
    }
}

/// The connection that this is a half of: its addresses, options and `peek`.
impl AsRef<AsyncTcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &AsyncTcpStream {
        &self.0
    }
}

/// The connection that this is a half of: its addresses and options.
impl AsRef<AsyncTcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &AsyncTcpStream {
        &self.stream
    }
}

reads!(OwnedReadHalf);
writes!(OwnedWriteHalf);

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
    // Before the socket: deregister, then close.
    source: Source,
    io: net::TcpListener,
    shortage: RefCell<Option<Shortage>>,
}

/// Descriptors have run out: accepting is tried again after a while, or when one is closed.
#[derive(Debug)]
struct Shortage {
    delay: Duration,
    retry: Sleep,
    /// How many descriptors had been closed when it was noted.
    n_closed: u64,
}

/// The first delay after descriptors have run out, and the longest; it doubles in between.
const DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// So many lost connections in a row are passed over before the other tasks get a turn.
const MOST_LOST: usize = 32;

impl AsyncTcpListener {
    /// Listens on the first address of `addr` that can be had; port 0 lets the system choose.
    ///
    /// Not async, as nothing waits; but a host *name* is looked up in place, and blocks. The address
    /// may be taken again right after a restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// That of the look-up, or of the last address that was tried: `AddrInUse`, `PermissionDenied`…
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<AsyncTcpListener> {
        let mut last = addr::none();
        for addr in addr::resolve_now(addr.target()?)? {
            match socket::listen(&addr).and_then(AsyncTcpListener::adopt) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn adopt(fd: OwnedFd) -> io::Result<AsyncTcpListener> {
        let io = net::TcpListener::from(fd);
        Ok(AsyncTcpListener {
            source: Source::owned(&io, Trigger::Level)?,
            io,
            shortage: RefCell::new(None),
        })
    }

    /// Takes over a listener of std, and makes it non-blocking.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or its descriptor is beyond what this system's `select`
    /// takes. `listener` is closed.
    pub fn from_std(listener: net::TcpListener) -> io::Result<AsyncTcpListener> {
        listener.set_nonblocking(true)?;
        AsyncTcpListener::adopt(listener.into())
    }

    /// Gives the listener to std. It stays non-blocking.
    pub fn into_std(self) -> net::TcpListener {
        self.io
    }

    /// The address that is listened on, with the port that the system chose.
    ///
    /// # Errors
    /// That of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// How many routers a packet may cross (`IP_TTL`); connections inherit it.
    ///
    /// # Errors
    /// That of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.ttl()
    }

    /// Sets how many routers a packet may cross.
    ///
    /// # Errors
    /// That of the system.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.set_ttl(hops)
    }

    /// Waits for the next connection; returns it and the address of its peer.
    ///
    /// Connections that were lost before they could be accepted are passed over.
    ///
    /// # Errors
    /// When descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), the error is
    /// returned **once**; further calls wait, and try again when this crate closes a descriptor on
    /// this thread, or after 10 ms, doubling to 1 s. So a loop that logs the error and goes on costs
    /// nothing and recovers by itself. Other errors mean that the listener is unusable.
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
        for _ in 0..MOST_LOST {
            ready!(self.poll_shortage(cx));
            let call = || socket::accept(&self.io);
            // Short: one connection at a time is the common case.
            let outcome = ready!(self.source.poll_io(Direction::Read, cx, call, |_| true));
            let outcome = outcome.and_then(|(fd, peer)| Ok((AsyncTcpStream::fresh(fd)?, peer)));
            match outcome {
                Err(error) if socket::is_one_lost_connection(&error) => {
                    log::debug!("a connection was lost before it was accepted: {error}");
                }
                Err(error) if socket::is_shortage(&error) => {
                    if self.note_shortage() {
                        return Poll::Ready(Err(error));
                    }
                }
                outcome => {
                    self.shortage.replace(None);
                    return Poll::Ready(outcome);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pending while descriptors are short and none has been closed.
    fn poll_shortage(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out meanwhile: polling the timer may run foreign code.
        let Some(mut shortage) = self.shortage.take() else {
            return Poll::Ready(());
        };
        let closed_since = with(|l| l.n_closed) != Some(shortage.n_closed);
        let over = closed_since || Pin::new(&mut shortage.retry).poll(cx).is_ready();
        self.shortage.replace(Some(shortage));
        if over {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let displaced = with(|l| l.starve(waker));
        drop(displaced);
        Poll::Pending
    }

    /// Notes that descriptors are short; whether that is news.
    fn note_shortage(&self) -> bool {
        let before = self.shortage.take();
        let delay = before
            .as_ref()
            .map_or(DELAYS.0, |s| (2 * s.delay).min(DELAYS.1));
        let n_closed = with(|l| l.n_closed).unwrap_or(0);
        self.shortage.replace(Some(Shortage {
            delay,
            retry: sleep(delay),
            n_closed,
        }));
        before.is_none()
    }

    /// The connections to come, as a stream that never ends.
    ///
    /// Its items are those of [`accept`](AsyncTcpListener::accept), errors included: go on after one.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

impl fmt::Debug for AsyncTcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl TryFrom<net::TcpListener> for AsyncTcpListener {
    type Error = io::Error;

    fn try_from(listener: net::TcpListener) -> io::Result<AsyncTcpListener> {
        AsyncTcpListener::from_std(listener)
    }
}

impl AsFd for AsyncTcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsRawFd for AsyncTcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

/// The stream of [`AsyncTcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a AsyncTcpListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<AsyncTcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener
            .poll_accept(cx)
            .map(|outcome| Some(outcome.map(|(stream, _)| stream)))
    }
}

impl FusedStream for Incoming<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}
