//! [`SimStream`]: one end of a simulated connection.

use super::options::Options;
use super::waiter::Waiter;
use super::way::{Way, reset, wake};
use crate::time::{Sleep, now, sleep_until};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Makes two connected streams whose ends have these names.
pub(super) fn connect(
    options: &Options,
    first: &Rc<str>,
    second: &Rc<str>,
) -> (SimStream, SimStream) {
    let make = |from, to| Rc::new(RefCell::new(Way::new(options.clone(), from, to)));
    let (there, back) = (make(first, second), make(second, first));
    let stream = SimStream::new(Rc::clone(&back), Rc::clone(&there), first, second);
    (stream, SimStream::new(there, back, second, first))
}

/// One end of a simulated connection; made by [`link`](super::link),
/// [`Host::connect`](super::Host::connect) and [`Listener::accept`](super::Listener::accept).
///
/// With the feature `tokio-io` it has tokio's traits for reading and writing as well.
///
/// Closing it closes the direction to the peer only, as `shutdown(2)` does; what the peer sends can
/// still be read. Dropping it closes that direction, and the writes of the peer fail from then on.
pub struct SimStream {
    pub(super) from_peer: Rc<RefCell<Way>>,
    pub(super) to_peer: Rc<RefCell<Way>>,
    local: Rc<str>,
    peer: Rc<str>,
    /// Until the next bytes arrive.
    sleep: Option<Sleep>,
}

impl SimStream {
    fn new(
        from_peer: Rc<RefCell<Way>>,
        to_peer: Rc<RefCell<Way>>,
        local: &Rc<str>,
        peer: &Rc<str>,
    ) -> SimStream {
        SimStream {
            from_peer,
            to_peer,
            local: Rc::clone(local),
            peer: Rc::clone(peer),
            sleep: None,
        }
    }

    /// Returns the address of this end, such as `client:49152`.
    pub fn local_addr(&self) -> &str {
        &self.local
    }

    /// Returns the address of the other end, such as `server:80`.
    pub fn peer_addr(&self) -> &str {
        &self.peer
    }

    /// Breaks the connection: what is on its way is lost, and reads and writes of both ends return
    /// an error of kind [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    ///
    /// # Examples
    /// ```
    /// use fahrenheit::{prelude::*, sim::{Options, link}};
    /// use std::io::ErrorKind;
    ///
    /// fahrenheit::Builder::new().virtual_clock(true).block_on(async {
    ///     let (a, mut b) = link(Options::new().cut_after(1_000));
    ///     a.reset();
    ///     let error = b.read(&mut [0; 1]).await.unwrap_err();
    ///     assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    /// })
    /// # .unwrap();
    /// ```
    pub fn reset(&self) {
        reset(&self.from_peer);
        reset(&self.to_peer);
    }

    /// Has nothing arrive at this end for `duration` from now; what is sent meanwhile comes then.
    pub fn stall(&self, duration: Duration) {
        self.from_peer.borrow_mut().stalled_until = now().checked_add(duration);
        wake(&self.from_peer);
    }

    /// Returns ready once the virtual time `at` has come.
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
        if sleep.deadline() != Some(at) {
            sleep.reset(at);
        }
        Pin::new(sleep).poll(cx)
    }

    /// Sends as much of `slices` as there is room for.
    fn poll_send<'a>(
        &self,
        cx: &mut Context<'_>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let mut way = self.to_peer.borrow_mut();
        if way.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way.end.is_some() || way.has_no_reader {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut slices = slices.filter(|bytes| !bytes.is_empty()).peekable();
        if slices.peek().is_none() {
            return Poll::Ready(Ok(0));
        }
        if way.n_buffered == way.options.buffer {
            drop(way);
            return self.wait_for_room(cx);
        }
        let mut n_sent = 0;
        for bytes in slices {
            let n = way.send(bytes);
            n_sent += n;
            if n < bytes.len() {
                break;
            }
        }
        let is_over = way.n_sent >= way.options.reset_after;
        drop(way);
        if is_over {
            self.reset();
        }
        wake(&self.to_peer);
        Poll::Ready(Ok(n_sent))
    }

    /// Has the task woken when the peer has read something.
    fn wait_for_room<T>(&self, cx: &Context<'_>) -> Poll<T> {
        // Cloned before and dropped after the borrow, because both may run foreign code.
        let room = Rc::clone(&self.to_peer.borrow().room);
        let waiter = Waiter::new(cx.waker(), &room);
        let displaced = self.to_peer.borrow_mut().writer.replace(waiter);
        drop(displaced);
        Poll::Pending
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let from_peer = Rc::clone(&self.from_peer);
            let mut way = from_peer.borrow_mut();
            if way.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let (next, now) = (way.next_arrival(), now());
            if next.is_some_and(|next| next <= now) {
                let n = way.take(bytes, now);
                drop(way);
                wake(&from_peer);
                return Poll::Ready(Ok(n));
            }
            let data = Rc::clone(&way.data);
            drop(way);
            // Cloned before and dropped after the borrow, because both may run foreign code.
            let waiter = Waiter::new(cx.waker(), &data);
            let displaced = from_peer.borrow_mut().reader.replace(waiter);
            drop(displaced);
            match next {
                Some(next) => ready!(self.poll_until(next, cx)),
                None => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, slices.iter().map(|slice| &**slice))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sent bytes arrive by themselves.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.to_peer.borrow_mut();
        if way.end.is_none() {
            let departure = way.last_departure.map_or(now(), |last| last.max(now()));
            way.end = Some(way.arrival(departure));
        }
        drop(way);
        wake(&self.to_peer);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio-io")]
impl tokio::io::AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(AsyncRead::poll_read(self, cx, buffer.initialize_unfilled()))?;
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio-io")]
crate::fd::impl_tokio_write!([], SimStream);

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStream")
            .field("local", &self.local)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut way = self.to_peer.borrow_mut();
        if way.end.is_none() {
            let departure = way.last_departure.map_or(now(), |last| last.max(now()));
            way.end = Some(way.arrival(departure));
        }
        drop(way);
        self.from_peer.borrow_mut().has_no_reader = true;
        wake(&self.to_peer);
        wake(&self.from_peer);
    }
}
