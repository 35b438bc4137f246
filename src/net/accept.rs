//! Accepting connections on every kind of listener, and waiting when descriptors run out.

use crate::event_loop::reactor::WaitKey;
use crate::event_loop::{boundary, with};
use crate::fd::Registered;
use crate::sys::Trigger;
use crate::sys::socket::{self, AcceptError};
use crate::time::{self, Sleep, sleep_until};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

/// The first delay after descriptors have run out. It doubles up to the maximum.
const MIN_DELAY: Duration = Duration::from_millis(10);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of lost connections passed over in a row before the other tasks get a turn. An
/// error that may be one connection's, and comes as often, is the listener's and is returned.
const MAX_LOST: usize = 32;

/// Callers of `poll_accept` that wait during a shortage are woken early once there are this many,
/// or twice as many as at the last time: those that live come back, and the others are gone.
const MIN_PURGE: usize = 64;

/// A listener of std together with what is known of a shortage of descriptors.
#[derive(Debug)]
pub(super) struct Acceptor<L> {
    listener: Registered<L>,
    shortage: Cell<Option<Shortage>>,
    /// Callers of `poll_accept` that wait for a shortage to end. They have nothing that could own a
    /// timer, so they share one.
    polling: Arc<Polling>,
    retry: RefCell<Retry>,
}

/// Descriptors have run out: accepting is tried again after a while, or when one is closed. It is
/// one task that tries, however many wait.
#[derive(Debug, Clone, Copy)]
struct Shortage {
    delay: Duration,
    next_try: Instant,
    /// Number of descriptors that had been closed when the shortage was noted.
    n_closed: u64,
}

/// Wakes all callers of `poll_accept` that wait for a shortage to end. It is what their timer and
/// their entry wake, so none of them depends on another one being polled.
#[derive(Debug)]
struct Polling {
    wakers: Mutex<Vec<Waker>>,
    purge_at: AtomicUsize,
}

impl Default for Polling {
    fn default() -> Polling {
        Polling {
            wakers: Mutex::default(),
            purge_at: AtomicUsize::new(MIN_PURGE),
        }
    }
}

impl Polling {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waker: &Waker) {
        if self.lock().iter().any(|known| known.will_wake(waker)) {
            return;
        }
        // Cloned with nothing locked: it is foreign code.
        let waker = waker.clone();
        let mut wakers = self.lock();
        wakers.push(waker);
        let limit = self.purge_at.load(Ordering::Relaxed);
        if wakers.len() >= limit {
            drop(wakers);
            self.wake_all();
            self.purge_at.store(2 * limit, Ordering::Relaxed);
        }
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.lock());
        let limit = self.purge_at.load(Ordering::Relaxed) / 2;
        self.purge_at.store(limit.max(MIN_PURGE), Ordering::Relaxed);
        wakers.into_iter().for_each(boundary::wake);
    }
}

impl Wake for Polling {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

/// What one task that waits for a shortage to end has of its own: a timer, and an entry among
/// those that wait for a free descriptor. Both leave with it, and no other task depends on them.
#[derive(Debug, Default)]
struct Retry {
    timer: Option<Sleep>,
    entry: Option<WaitKey>,
}

impl Retry {
    /// Pending until the time of the next try, or until a descriptor has been closed.
    fn poll(&mut self, shortage: Shortage, cx: &mut Context<'_>) -> Poll<()> {
        if with(|l| l.n_closed) != Some(shortage.n_closed) {
            return Poll::Ready(());
        }
        let timer = self
            .timer
            .take_if(|timer| timer.deadline() == Some(shortage.next_try));
        let timer = self
            .timer
            .insert(timer.unwrap_or_else(|| sleep_until(shortage.next_try)));
        if Pin::new(timer).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let entry = self.entry;
        let is_waiting = entry.map(|key| with(|l| l.free_fds.is_waiting(key, cx.waker())));
        if is_waiting != Some(Some(true)) {
            self.leave();
            let waker = cx.waker().clone();
            self.entry = with(|l| l.free_fds.add(waker));
        }
        Poll::Pending
    }

    /// No longer waits for a free descriptor.
    fn leave(&mut self) {
        if let Some(key) = self.entry.take() {
            // Dropped here, with nothing borrowed.
            drop(with(|l| l.free_fds.remove(key)));
        }
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<L: AsFd> Acceptor<L> {
    /// Registers a listener that is non-blocking already.
    #[track_caller]
    pub(super) fn new(listener: L) -> io::Result<Acceptor<L>> {
        Ok(Acceptor {
            listener: Registered::new(listener, Trigger::Level)?,
            shortage: Cell::new(None),
            polling: Arc::default(),
            retry: RefCell::default(),
        })
    }

    pub(super) fn get_ref(&self) -> &L {
        self.listener.get_ref()
    }

    pub(super) fn into_inner(self) -> L {
        self.listener.into_inner()
    }

    /// Returns what `accept` returns for the next connection. One that was lost is passed over; a
    /// shortage is an error once, and then waited for.
    pub(super) async fn accept<R>(&self, accept: impl Fn(&L) -> io::Result<R>) -> io::Result<R> {
        let mut waiter = self.listener.read_waiter();
        let mut retry = Retry::default();
        poll_fn(|cx| {
            // One connection at a time is the common case, so the next accept waits first.
            let mut call = |cx: &mut Context<'_>, is_retry| {
                waiter.poll_io(cx, || self.try_accept(is_retry, &accept), |_| true)
            };
            let mut until_over = |cx: &mut Context<'_>, shortage| retry.poll(shortage, cx);
            self.poll_accept_by(cx, &mut call, &mut until_over)
        })
        .await
    }

    /// [`accept`](Acceptor::accept) for callers that have nothing but a waker.
    pub(super) fn poll_accept<R>(
        &self,
        cx: &mut Context<'_>,
        accept: impl Fn(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut call = |cx: &mut Context<'_>, is_retry| {
            let call = |_: &L| self.try_accept(is_retry, &accept);
            self.listener.poll_read_with(cx, call, |_| true)
        };
        let mut until_over = |cx: &mut Context<'_>, shortage| self.poll_retry(cx, shortage);
        self.poll_accept_by(cx, &mut call, &mut until_over)
    }

    /// Accepts once. A retry during a shortage finds out first whether there is a descriptor.
    fn try_accept<R>(&self, is_retry: bool, accept: impl Fn(&L) -> io::Result<R>) -> io::Result<R> {
        if is_retry {
            socket::check_for_free_fd(self.get_ref())?;
        }
        accept(self.get_ref())
    }

    fn poll_accept_by<R>(
        &self,
        cx: &mut Context<'_>,
        call: &mut dyn FnMut(&mut Context<'_>, bool) -> Poll<io::Result<R>>,
        until_over: &mut dyn FnMut(&mut Context<'_>, Shortage) -> Poll<()>,
    ) -> Poll<io::Result<R>> {
        for n_lost in 1..=MAX_LOST {
            let shortage = self.shortage.get();
            if let Some(shortage) = shortage {
                ready!(until_over(cx, shortage));
            }
            match ready!(call(cx, shortage.is_some())) {
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::PerhapsLost if n_lost == MAX_LOST => {
                        return Poll::Ready(Err(error));
                    }
                    AcceptError::LostConnection | AcceptError::PerhapsLost => {
                        boundary::debug!("a connection was lost before it was accepted: {error}");
                    }
                    AcceptError::Shortage if !self.note_shortage() => {}
                    AcceptError::Shortage => return Poll::Ready(Err(error)),
                    AcceptError::Listener => {
                        self.shortage.set(None);
                        return Poll::Ready(Err(error));
                    }
                },
                accepted => {
                    self.shortage.set(None);
                    return Poll::Ready(accepted);
                }
            }
        }
        // More may be waiting, and `select` was not asked, so nothing else would wake this task.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// [`Retry::poll`] for a task that is known only by its waker.
    fn poll_retry(&self, cx: &mut Context<'_>, shortage: Shortage) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.polling));
        let polled = self
            .retry
            .borrow_mut()
            .poll(shortage, &mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.polling.add(cx.waker());
        }
        polled
    }

    /// Notes that descriptors are short. Returns whether that is news.
    fn note_shortage(&self) -> bool {
        let before = self.shortage.get();
        let delay = before.map_or(MIN_DELAY, |s| (2 * s.delay).min(MAX_DELAY));
        self.shortage.set(Some(Shortage {
            delay,
            next_try: time::now() + delay,
            n_closed: with(|l| l.n_closed).unwrap_or(0),
        }));
        before.is_none()
    }
}
