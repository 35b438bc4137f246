//! Simulated connections, for tests: feature `sim`.
//!
//! [`link`] makes two connected streams in memory, which behave as a network does: data takes its
//! time, a slow reader slows down the writer, connections break. Time is that of
//! [`time::now`](crate::time::now), chance that of [`Builder::seed`](crate::Builder::seed). So with
//! a [virtual clock](crate::Builder::virtual_clock) a test that sleeps for hours takes a moment,
//! and with a seed it can be repeated exactly.
//!
//! A client and a server that are written for any stream (`impl AsyncRead + AsyncWrite`) run over
//! such a link as they do over TCP.

use crate::event_loop::boundary;
use crate::event_loop::shuffle;
use crate::time::{Sleep, now, sleep_until};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// How a link behaves, in both directions.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let slow = fahrenheit::sim::Options::new()
///     .latency(Duration::from_millis(40))
///     .jitter(Duration::from_millis(10))
///     .bandwidth(125_000);
/// # drop(slow);
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    latency: Duration,
    jitter: Duration,
    bandwidth: Option<u64>,
    buffer: usize,
    cut_after: u64,
    reset_after: u64,
}

impl Options {
    /// A link without latency that never breaks, and holds 64 KiB in each direction.
    pub fn new() -> Options {
        Options {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            buffer: 64 * 1024,
            cut_after: u64::MAX,
            reset_after: u64::MAX,
        }
    }

    /// Sets how long each byte takes to arrive.
    pub fn latency(mut self, latency: Duration) -> Options {
        self.latency = latency;
        self
    }

    /// Sets by how much the latency of each write is longer, at most. The seed of the loop decides;
    /// without a seed there is no jitter. Bytes do not overtake each other.
    pub fn jitter(mut self, jitter: Duration) -> Options {
        self.jitter = jitter;
        self
    }

    /// Sets how many bytes can be sent in a second.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Options {
        self.bandwidth = Some(bytes_per_second.max(1));
        self
    }

    /// Sets how many bytes may be on their way in one direction, including those that have arrived
    /// and were not read, before writes wait. At least one.
    pub fn buffer(mut self, n_bytes: usize) -> Options {
        self.buffer = n_bytes.max(1);
        self
    }

    /// Has everything that one side sends after `n_bytes` get lost, without an error, as if a cable
    /// were cut.
    pub fn cut_after(mut self, n_bytes: u64) -> Options {
        self.cut_after = n_bytes;
        self
    }

    /// Has the connection reset once one side has sent `n_bytes`.
    pub fn reset_after(mut self, n_bytes: u64) -> Options {
        self.reset_after = n_bytes;
        self
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

/// Makes two connected streams.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use fahrenheit::{prelude::*, sim, time};
///
/// let latency = Duration::from_secs(1);
/// fahrenheit::Builder::new().virtual_clock(true).run(async move {
///     let (mut client, mut server) = sim::link(sim::Options::new().latency(latency));
///     let start = time::now();
///     client.write_all(b"hello").await?;
///     client.close().await?;
///     let mut text = String::new();
///     server.read_to_string(&mut text).await?;
///     assert_eq!((text.as_str(), time::now() - start), ("hello", latency));
///     std::io::Result::Ok(())
/// })
/// # .unwrap().unwrap();
/// ```
pub fn link(options: Options) -> (SimStream, SimStream) {
    let make = || Rc::new(RefCell::new(Way::new(options.clone())));
    let (there, back) = (make(), make());
    let first = SimStream::new(Rc::clone(&back), Rc::clone(&there));
    (first, SimStream::new(there, back))
}

/// One direction of a link.
struct Way {
    options: Options,
    /// What is on its way or was not read yet, with the time at which it arrives.
    segments: VecDeque<(Instant, VecDeque<u8>)>,
    /// Number of bytes that writes have sent, and that reads have not taken.
    n_buffered: usize,
    /// Number of bytes sent so far.
    n_sent: u64,
    /// When the last byte has left, and when it arrives.
    last_departure: Option<Instant>,
    last_arrival: Option<Instant>,
    /// When the end arrives, once the writer has closed.
    end: Option<Instant>,
    /// Nothing arrives before this time.
    stalled_until: Option<Instant>,
    is_reset: bool,
    /// The stream that reads has been dropped.
    has_no_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn new(options: Options) -> Way {
        Way {
            options,
            segments: VecDeque::new(),
            n_buffered: 0,
            n_sent: 0,
            last_departure: None,
            last_arrival: None,
            end: None,
            stalled_until: None,
            is_reset: false,
            has_no_reader: false,
            reader: None,
            writer: None,
        }
    }

    /// Sends as many of `bytes` as there is room for, and returns their number.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.options.buffer - self.n_buffered);
        let now = now();
        let departure = self.last_departure.map_or(now, |last| last.max(now));
        let transfer = self.options.bandwidth.map_or(Duration::ZERO, |bandwidth| {
            Duration::from_nanos((n as u64).saturating_mul(1_000_000_000) / bandwidth)
        });
        self.last_departure = Some(departure + transfer);
        let arrival = self.arrival(departure + transfer);
        self.n_buffered += n;
        // What is lost on the way keeps its room: no acknowledgement ever frees it.
        let left = self.options.cut_after.saturating_sub(self.n_sent);
        let n_arriving = usize::try_from(left).unwrap_or(usize::MAX).min(n);
        self.n_sent += n as u64;
        if n_arriving > 0 {
            let segment = bytes[..n_arriving].iter().copied().collect();
            self.segments.push_back((arrival, segment));
        }
        n
    }

    /// Returns when something arrives that leaves at `departure`.
    fn arrival(&mut self, departure: Instant) -> Instant {
        let jitter = usize::try_from(self.options.jitter.as_nanos()).unwrap_or(usize::MAX);
        let jitter = Duration::from_nanos(shuffle::below(jitter.saturating_add(1)) as u64);
        let arrival = departure + self.options.latency + jitter;
        // A stream keeps the order of its bytes.
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        arrival
    }

    /// Returns when there is something to read, or the end; `None` if nothing is on its way.
    fn next_arrival(&self) -> Option<Instant> {
        let is_cut = self.n_sent > self.options.cut_after;
        let end = self.end.filter(|_| !is_cut);
        let next = self.segments.front().map(|(at, _)| *at).or(end)?;
        Some(self.stalled_until.map_or(next, |until| until.max(next)))
    }

    /// Moves bytes that have arrived by `now` into `bytes`.
    fn take(&mut self, bytes: &mut [u8], now: Instant) -> usize {
        let mut n = 0;
        while let Some((at, segment)) = self.segments.front_mut() {
            if *at > now || n == bytes.len() {
                break;
            }
            let n_taken = segment.len().min(bytes.len() - n);
            for byte in bytes[n..n + n_taken].iter_mut() {
                *byte = segment.pop_front().unwrap_or_default();
            }
            n += n_taken;
            if segment.is_empty() {
                self.segments.pop_front();
            }
        }
        self.n_buffered -= n;
        n
    }
}

/// Wakes who waits for this direction of a link, with nothing borrowed.
fn wake(way: &RefCell<Way>) {
    let mut borrowed = way.borrow_mut();
    let waiters = [borrowed.reader.take(), borrowed.writer.take()];
    drop(borrowed);
    waiters.into_iter().flatten().for_each(boundary::wake);
}

/// One end of a link; made by [`link`].
///
/// Closing it closes the direction to the peer only, as `shutdown(2)` does; what the peer sends can
/// still be read. Dropping it closes that direction, and the writes of the peer fail from then on.
pub struct SimStream {
    from_peer: Rc<RefCell<Way>>,
    to_peer: Rc<RefCell<Way>>,
    /// Until the next bytes arrive.
    sleep: Option<Sleep>,
}

impl SimStream {
    fn new(from_peer: Rc<RefCell<Way>>, to_peer: Rc<RefCell<Way>>) -> SimStream {
        SimStream {
            from_peer,
            to_peer,
            sleep: None,
        }
    }

    /// Breaks the connection: what is on its way is lost, and reads and writes of both ends return
    /// an error of kind [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    pub fn reset(&self) {
        for way in [&self.from_peer, &self.to_peer] {
            way.borrow_mut().is_reset = true;
            wake(way);
        }
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
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let from_peer = Rc::clone(&self.from_peer);
            // Cloned before and dropped after the borrow, because both may run foreign code.
            let waker = cx.waker().clone();
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
            let displaced = way.reader.replace(waker);
            drop(way);
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
        let waker = cx.waker().clone();
        let mut way = self.to_peer.borrow_mut();
        if way.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way.end.is_some() || way.has_no_reader {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.n_buffered == way.options.buffer && !bytes.is_empty() {
            let displaced = way.writer.replace(waker);
            drop(way);
            drop(displaced);
            return Poll::Pending;
        }
        let n = way.send(bytes);
        let is_over = way.n_sent >= way.options.reset_after;
        drop(way);
        if is_over {
            self.reset();
        }
        wake(&self.to_peer);
        Poll::Ready(Ok(n))
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

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStream").finish_non_exhaustive()
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
