//! One direction of a simulated connection: what is on its way, and when it arrives.

use super::options::Options;
use super::waiter::{Waiter, wake_all};
use crate::time::now;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One direction of a link.
pub(super) struct Way {
    pub(super) options: Options,
    /// What is on its way or was not read yet, with the time at which it arrives.
    segments: VecDeque<(Instant, VecDeque<u8>)>,
    /// Number of bytes that writes have sent, and that reads have not taken.
    pub(super) n_buffered: usize,
    /// Number of bytes sent so far.
    pub(super) n_sent: u64,
    /// When the last byte has left, and when it arrives.
    pub(super) last_departure: Option<Instant>,
    last_arrival: Option<Instant>,
    /// When the end arrives, once the writer has closed.
    pub(super) end: Option<Instant>,
    /// Nothing arrives before this time.
    pub(super) stalled_until: Option<Instant>,
    /// Nothing arrives at all: the hosts are separated from each other.
    pub(super) is_separated: bool,
    pub(super) is_reset: bool,
    /// The stream that reads has been dropped.
    pub(super) has_no_reader: bool,
    pub(super) reader: Option<Waiter>,
    pub(super) writer: Option<Waiter>,
    /// What a reader and a writer wait for, for dumps.
    pub(super) data: Rc<str>,
    pub(super) room: Rc<str>,
}

impl Way {
    pub(super) fn new(options: Options, from: &str, to: &str) -> Way {
        Way {
            options,
            segments: VecDeque::new(),
            n_buffered: 0,
            n_sent: 0,
            last_departure: None,
            last_arrival: None,
            end: None,
            stalled_until: None,
            is_separated: false,
            is_reset: false,
            has_no_reader: false,
            reader: None,
            writer: None,
            data: format!("data from {from} to {to}").into(),
            room: format!("room to send from {from} to {to}").into(),
        }
    }

    /// Sends as many of `bytes` as there is room for, and returns their number.
    pub(super) fn send(&mut self, bytes: &[u8]) -> usize {
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
    pub(super) fn arrival(&mut self, departure: Instant) -> Instant {
        let arrival = departure + self.options.draw_delay();
        // A stream keeps the order of its bytes.
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        arrival
    }

    /// Returns when there is something to read, or the end; `None` if nothing is on its way.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        if self.is_separated {
            return None;
        }
        let is_cut = self.n_sent > self.options.cut_after;
        let end = self.end.filter(|_| !is_cut);
        let next = self.segments.front().map(|(at, _)| *at).or(end)?;
        Some(self.stalled_until.map_or(next, |until| until.max(next)))
    }

    /// Moves bytes that have arrived by `now` into `bytes`.
    pub(super) fn take(&mut self, bytes: &mut [u8], now: Instant) -> usize {
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

/// Wakes the tasks that wait for this direction of a link, with nothing borrowed.
pub(super) fn wake(way: &RefCell<Way>) {
    let mut borrowed = way.borrow_mut();
    let waiters = [borrowed.reader.take(), borrowed.writer.take()];
    drop(borrowed);
    wake_all(waiters.into_iter().flatten());
}

/// Lets nothing arrive any more, or again. What is on its way is then sent once more, as TCP does.
pub(super) fn set_separated(way: &RefCell<Way>, is_separated: bool) {
    let mut borrowed = way.borrow_mut();
    if borrowed.is_separated && !is_separated {
        let arrival = now() + borrowed.options.draw_delay();
        let stalled_until = borrowed.stalled_until.unwrap_or(arrival);
        borrowed.stalled_until = Some(stalled_until.max(arrival));
    }
    borrowed.is_separated = is_separated;
    drop(borrowed);
    wake(way);
}

/// Breaks one direction of a connection.
pub(super) fn reset(way: &RefCell<Way>) {
    way.borrow_mut().is_reset = true;
    wake(way);
}
