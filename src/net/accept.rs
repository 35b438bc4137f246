//! Accepting connections on every kind of listener, and waiting when descriptors run out.

use crate::event_loop::boundary;
use crate::event_loop::with;
use crate::fd::Registered;
use crate::sys::{Trigger, socket};
use crate::time::{Sleep, sleep};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// First delay before accepting again when descriptors have run out; it doubles up to
/// [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(10);
/// Maximum delay before accepting again when descriptors have run out.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of lost connections that one poll passes over, so that a peer that keeps
/// resetting connections cannot keep other tasks from running.
const MAX_LOST: usize = 32;

/// A listener of std together with what is known of a shortage of descriptors.
#[derive(Debug)]
pub(super) struct Acceptor<L> {
    listener: Registered<L>,
    /// Set while descriptors are short.
    shortage: RefCell<Option<Shortage>>,
}

/// Descriptors have run out. Accepting is tried again after a delay, or when one is closed.
#[derive(Debug)]
struct Shortage {
    /// The delay that `retry` was armed with.
    delay: Duration,
    /// Ready when accepting may be tried again.
    retry: Sleep,
    /// Number of descriptors that this thread had closed when the shortage was noted.
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

    /// Polls for the next connection, made by `accept`. Passes over connections that were lost.
    /// Returns the error when descriptors run out once, and then waits for free ones.
    pub(super) fn poll_accept<R>(
        &self,
        cx: &mut Context<'_>,
        accept: impl Fn(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        for _ in 0..MAX_LOST {
            ready!(self.poll_shortage(cx));
            let is_retry = self.shortage.borrow().is_some();
            let accept = |listener: &L| {
                if is_retry {
                    socket::check_for_free_fd(listener)?;
                }
                accept(listener)
            };
            // One connection at a time is the common case, so the next accept waits first.
            match ready!(self.listener.poll_read_with(cx, accept, |_| true)) {
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
        // More may be waiting, and `select` was not asked, so nothing else would wake this task.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pending while descriptors are short and none has been closed.
    fn poll_shortage(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out while the timer is polled, which may run foreign code that accepts as well.
        let Some(mut shortage) = self.shortage.take() else {
            return Poll::Ready(());
        };
        let closed_since = with(|l| l.n_closed) != Some(shortage.n_closed);
        let may_retry = closed_since || Pin::new(&mut shortage.retry).poll(cx).is_ready();
        self.shortage.replace(Some(shortage));
        if may_retry {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let displaced = with(|l| l.wait_for_free_fd(waker));
        drop(displaced);
        Poll::Pending
    }

    /// Notes that descriptors are short. Returns true if they were not short before.
    fn note_shortage(&self) -> bool {
        let before = self.shortage.take();
        let delay = before
            .as_ref()
            .map_or(MIN_DELAY, |s| (2 * s.delay).min(MAX_DELAY));
        let n_closed = with(|l| l.n_closed).unwrap_or(0);
        self.shortage.replace(Some(Shortage {
            delay,
            retry: sleep(delay),
            n_closed,
        }));
        before.is_none()
    }
}
