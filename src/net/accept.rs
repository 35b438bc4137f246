//! Accepting, the same for every kind of listener, and what to do when descriptors run out.

use crate::event_loop::boundary;
use crate::event_loop::with;
use crate::fd::Registered;
use crate::sys::{Trigger, socket};
use crate::time::{Sleep, sleep};
use futures_util::stream::{FusedStream, Stream};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The first delay after descriptors have run out, and the longest; it doubles in between.
const DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// So many lost connections in a row are passed over before the other tasks get a turn.
const MOST_LOST: usize = 32;

/// A listener of std, and whether descriptors are short.
#[derive(Debug)]
pub(super) struct Acceptor<L> {
    listener: Registered<L>,
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

impl<L: AsFd> Acceptor<L> {
    /// Registers a listener that is non-blocking already.
    #[track_caller]
    pub(super) fn new(listener: L) -> io::Result<Acceptor<L>> {
        Ok(Acceptor {
            listener: Registered::new(listener, Trigger::Level)?,
            shortage: RefCell::new(None),
        })
    }

    pub(super) fn get_ref(&self) -> &L {
        self.listener.get_ref()
    }

    pub(super) fn into_inner(self) -> L {
        self.listener.into_inner()
    }

    /// What `accept` returns for the next connection. One that was lost is passed over; a shortage
    /// is an error once, and then waited for.
    pub(super) fn poll_accept<R>(
        &self,
        cx: &mut Context<'_>,
        accept: impl Fn(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        for _ in 0..MOST_LOST {
            ready!(self.poll_shortage(cx));
            // One connection at a time is the common case, so the next accept waits first.
            match ready!(self.listener.poll_read_with(cx, &accept, |_| true)) {
                Err(error) if socket::is_one_lost_connection(&error) => {
                    boundary::debug!("a connection was lost before it was accepted: {error}");
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
        let displaced = with(|l| l.wait_for_free_fd(waker));
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
}

/// A listener whose connections come as a stream.
///
/// In a private module, so that nobody else can implement it.
pub trait Listen {
    /// What it accepts.
    type Connection;

    /// The next connection, without its address.
    fn poll_next_connection(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Connection>>;
}

/// The stream of `incoming`, for every kind of listener.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a, L = super::AsyncTcpListener> {
    pub(super) listener: &'a L,
}

impl<L: Listen> Stream for Incoming<'_, L> {
    type Item = io::Result<L::Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_next_connection(cx).map(Some)
    }
}

impl<L: Listen> FusedStream for Incoming<'_, L> {
    fn is_terminated(&self) -> bool {
        false
    }
}
