//! Listening, and what to do when descriptors run out.

use super::AsyncTcpStream;
use crate::fd::Source;
use crate::net::addr::{self, ToSocketAddrs};
use crate::reactor::Direction;
use crate::runtime::with;
use crate::sys::{Trigger, socket};
use crate::time::{Sleep, sleep};
use futures_util::stream::{FusedStream, Stream};
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
    /// Not async, as nothing waits; but a host *name* is looked up in place, and blocks. The
    /// address may be taken again right after a restart (`SO_REUSEADDR`).
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
    /// Its items are those of [`accept`](AsyncTcpListener::accept), errors included: go on after
    /// one.
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
